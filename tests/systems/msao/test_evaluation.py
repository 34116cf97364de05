"""Scores of the probes against the truth of EdgeScenes."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn import metrics

from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes
from m3jax.ops import hashing
from m3jax.systems import msao
from m3jax.systems.msao import evaluation, parts, probes
from m3jax.testing import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = msao.Config(
    sizes=tiny.scene_sizes(), num_audio_tokens=2, num_hashes=64, relevance_dim=4
)


@pytest.fixture(scope="module")
def case():
    settings = scenes.SceneSettings(skills=scenes.SKILLS, video=True)
    arrays = pipeline.as_arrays(dataset.Fresh(settings, 5, 42))
    system = CONFIG.make_system()
    params = jax.jit(system.init)(jax.random.key(0), arrays)
    return system, params, arrays


def test_everything_is_scored_with_its_heuristic_beside_it(case):
    _, params, arrays = case
    found = evaluation.scores(CONFIG, params, arrays, arrays)
    assert {name: set(row) for name, row in found.items()} == {
        "patch AUC": {"probe", "local variance", "contrast"},
        "needed modality accuracy": {"probe", "naive Bayes"},
        "static frame AUC": {"probe", "frame difference"},
    }
    # These frames repeat to the bit, so both rules find all of them.
    assert found["static frame AUC"]["frame difference"] == 1.0
    assert found["static frame AUC"]["probe"] > 0.9
    assert found["needed modality accuracy"]["naive Bayes"] == 1.0


def test_patch_auc_is_that_of_scikit_learn(case):
    system, params, arrays = case
    importance = evaluation.probe(system, params, arrays, batch_size=20)["importance"]
    expected = metrics.roc_auc_score(arrays["object_mask"].ravel(), importance.ravel())
    found = evaluation.patch_auc(importance, arrays["object_mask"])
    assert found == pytest.approx(expected, abs=1e-6)


def test_needed_accuracy_on_a_hand_case():
    needs = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    relevance = {
        "text": np.ones(4),
        "image": np.array([0.9, 0.1, 0.5, 0.6]),
        "audio": np.array([0.1, 0.9, 0.2, 0.0]),
    }
    found = evaluation.needed_accuracy(relevance, needs)
    assert found == {"image": 0.75, "audio": 0.75, "all": 0.5}


def test_the_threshold_is_stored_with_the_parameters_and_used(case):
    system, params, arrays = case
    tuned = evaluation.calibrated(system, params, arrays, percentile=70.0)
    found = evaluation.probe(system, tuned, arrays)
    expected = np.percentile(found["importance"], 70.0)
    assert float(tuned["thresholds"]["spatial"]) == pytest.approx(expected, rel=1e-5)
    mean = found["spatial_sparsity"].mean()
    assert mean == pytest.approx(0.7, abs=2 / found["importance"].size)
    weight = CONFIG.mas.spatial_weight
    np.testing.assert_allclose(
        found["mas"]["image"],
        1 - found["relevance"]["image"] * (1 - weight * found["spatial_sparsity"]),
        rtol=1e-5,
    )
    assert jax.tree.structure(tuned) == jax.tree.structure(params)


def test_no_gradient_moves_the_threshold(case):
    system, params, arrays = case
    batch = {name: arrays[name][:2] for name in system.reads}
    loss = jax.grad(lambda p: system.loss(p, batch, jax.random.key(0))[0])
    grad = jax.jit(loss)(params)
    assert float(grad["thresholds"]["spatial"]) == 0.0


def test_similarity_estimates_the_angle_between_frames(case):
    """K hashes of one pair: within a binomial's spread of 1 - angle / pi."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3, 5, 24)).astype(np.float32)
    features[:, 2] = features[:, 1]
    planes = hashing.random_planes(jax.random.key(2), 4096, 24)
    found = probes.similarity(features, planes)
    p = hashing.agreement_probability(features[:, 1:], features[:, :-1])
    spread = np.sqrt(p * (1 - p) / 4096)
    assert (np.abs(found - p) <= 4 * spread + 1e-6).all()
    np.testing.assert_array_equal(found[:, 1], 1.0)


def test_equal_seeds_give_both_ends_equal_hashes():
    first, second = parts.Parts(CONFIG), parts.Parts(CONFIG)
    other = parts.Parts(dataclasses.replace(CONFIG, hash_seed=1))
    np.testing.assert_array_equal(first.planes, second.planes)
    assert (first.planes != other.planes).any()
