"""The drafts that are shipped, on real scenes, against decoding with them."""

import jax
import numpy as np
import pytest

from m3jax.costs import speculative_rounds
from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes
from m3jax.experiments import running
from m3jax.foundation import early_exit, generalist
from m3jax.nn import flops, generation, speculation
from m3jax.nn.speculation import policies
from m3jax.systems.msao import agreement

pytestmark = pytest.mark.usefixtures("quick_compilation")

GAMMA, NUM = 3, 12
READ = ("image", "audio", "question", "answer")


@pytest.fixture(scope="module")
def case():
    """The target before it describes pictures, what it says, and the examples."""
    asked = scenes.SceneSettings(skills=("describe",))
    batch = pipeline.as_arrays(dataset.Fresh(asked, 7, NUM, "test"), None, READ)
    large = running.load("generalist")
    config = large.config.system

    @jax.jit
    def say(params, batch):
        target = generalist.party(config, params, batch)
        words = generation.generate(
            *(target.decoder, target.params, target.embeds, target.mask),
            batch["answer"].shape[1],
        )
        return target, words

    return (*say(large.params, batch), batch)


def draft_of(name, target, batch):
    found = running.load(name)
    config = found.config.system
    if name == "edge_exit":
        return early_exit.draft(config, found.params, target)
    return jax.jit(lambda params: generalist.party(config, params, batch))(found.params)


def test_the_target_describes_most_pictures_right(case):
    _, words, batch = case
    there = batch["answer"] != 0
    assert np.mean(np.all((words == batch["answer"]) | ~there, axis=1)) > 0.6


@pytest.mark.parametrize(
    ("name", "least"),
    [("edge_draft", 0.6), pytest.param("edge_exit", 0.3, marks=pytest.mark.slow)],
)
def test_rounds_on_real_answers_are_those_of_decoding(case, name, least):
    target, words, batch = case
    draft = draft_of(name, target, batch)
    found = jax.jit(agreement.measure)(target, draft, words)
    agrees, entropy, valid = map(np.asarray, found)
    assert agrees[valid].mean() > least
    rounds = speculative_rounds.of_agreement(agrees, entropy, valid, draft_length=GAMMA)
    run = jax.jit(speculation.speculate, static_argnums=(2, 3))
    decoded = run(target, draft, words.shape[1], policies.fixed(GAMMA))
    np.testing.assert_array_equal(decoded.words, words)
    counts = decoded.counts
    np.testing.assert_array_equal(rounds.accepted.sum(axis=1), counts.accepted)
    np.testing.assert_array_equal(rounds.valid.sum(axis=1), counts.calls)
    np.testing.assert_array_equal(rounds.emitted().sum(axis=1), counts.emitted)


def test_a_small_draft_takes_less_than_a_fifth_of_the_targets_operations():
    large, small = (
        running.load(name).config.system.sizes for name in ("generalist", "edge_draft")
    )
    own, whole = (
        flops.decoder(sizes.decoder_config(), 1, num_scored=1, num_slots=48)
        for sizes in (small, large)
    )
    assert own < whole / 5
