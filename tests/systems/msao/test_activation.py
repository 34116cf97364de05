"""Modality activation sparsity: its bounds, its limits, and where the paper differs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.systems.msao import activation

DEFAULT = activation.Config()


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("normalisation", activation.NORMALISATIONS)
def test_it_lies_between_nought_and_one(literal, normalisation):
    rng = np.random.default_rng(0)
    config = activation.Config(literal=literal, normalisation=normalisation)
    shares = activation.relevance(3 * rng.normal(size=(500, 3)), normalisation)
    rho, sim = rng.random((2, 500, 3))
    found = activation.sparsity(config, shares, np.round(rho), np.round(sim))
    assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6


@pytest.mark.parametrize("count", [2, 3, 5])
def test_equally_vital_modalities_have_none(count):
    shares = activation.relevance(jnp.full(count, 1.7))
    np.testing.assert_array_equal(activation.sparsity(DEFAULT, shares), np.zeros(count))


@pytest.mark.parametrize(("count", "printed"), [(2, 0.5), (3, 2 / 3)])
def test_as_printed_they_would_have_much(count, printed):
    """E.4 point 2: a softmax over K equal scores is 1 / K."""
    config = activation.Config(normalisation="softmax")
    shares = activation.relevance(jnp.full(count, 1.7), config.normalisation)
    np.testing.assert_allclose(activation.sparsity(config, shares), printed, rtol=1e-6)


def test_one_that_is_never_asked_for_may_be_left_out():
    shares = activation.relevance(jnp.array([40.0, -60.0]))
    found = activation.sparsity(DEFAULT, shares, jnp.array([0.0, 0.3]))
    np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-6)


def test_all_background_that_never_moves_may_be_left_out():
    assert float(activation.sparsity(DEFAULT, 1.0, 1.0, 1.0)) == pytest.approx(1.0)


def test_motion_makes_it_less_dispensable_and_as_printed_more():
    """E.4 point 1."""
    literal = activation.Config(literal=True)
    gap = {
        name: activation.sparsity(config, 0.8, 0.2, similarity=0.9)
        - activation.sparsity(config, 0.8, 0.2, similarity=0.1)
        for name, config in {"ours": DEFAULT, "printed": literal}.items()
    }
    assert gap["ours"] > 0 > gap["printed"]
    # equation 7 with numbers: 1 - 0.8 (1 - 0.6 * 0.2 - 0.4 * 0.1)
    printed = activation.sparsity(literal, 0.8, 0.2, similarity=0.9)
    assert float(printed) == pytest.approx(1 - 0.8 * (1 - 0.12 - 0.04))


def test_relevance_does_not_overflow_and_passes_a_gradient():
    assert activation.relevance(jnp.array([500.0, -500.0])).tolist() == [1.0, 0.0]
    grad = jax.grad(lambda a: activation.relevance(a)[1])(jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(grad, [-np.exp(-1), np.exp(-1)], rtol=1e-6)


def test_spatial_sparsity_is_the_share_below_the_threshold():
    importance = jnp.arange(8.0).reshape(1, 2, 4) / 8
    assert activation.spatial_sparsity(importance, 0.25).tolist() == [0.25]


@pytest.mark.parametrize("percentile", [0.0, 12.5, 70.0, 100.0])
def test_the_calibrated_threshold_is_the_percentile(percentile):
    rng = np.random.default_rng(1)
    importance = rng.random((500, 8, 8)).astype(np.float32)
    found = activation.calibrate(importance, percentile)
    expected = np.percentile(importance.astype(np.float64), percentile)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_so_many_of_the_calibration_set_lie_below_it():
    importance = jax.random.uniform(jax.random.key(2), (500, 8, 8))
    tau = activation.calibrate(importance)
    rho = activation.spatial_sparsity(importance, tau)
    assert float(jnp.mean(rho)) == pytest.approx(0.7, abs=1.5 / importance.size)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_weight": -0.1},
        {"spatial_weight": 0.7, "temporal_weight": 0.4},
        {"normalisation": "sum"},
    ],
)
def test_what_makes_no_sense_is_named(wrong):
    with pytest.raises(ValueError, match=f"system.mas.{next(iter(wrong))}"):
        activation.Config(**wrong).validate()
