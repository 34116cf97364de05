"""The optimizer clips, decays and freezes what it says it does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from m3jax.train import optimizers


def make_params():
    return {
        "net": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0)},
        "frozen": {"kernel": jnp.full((4, 4), 2.0)},
    }


def make(params=None, steps=100, trainable=".*", **fields):
    settings = {"schedule": "constant", "weight_decay": 0.0, **fields}
    config = optimizers.OptimizerConfig(**settings)
    return optimizers.make_optimizer(config, steps, params or make_params(), trainable)


def update_once(optimizer, gradients):
    """Returns the updates and the state after one step from ``make_params()``."""

    @jax.jit
    def run(gradients, params):
        return optimizer.update(gradients, optimizer.init(params), params)

    return run(gradients, make_params())


def test_warmup_is_linear_and_cosine_ends_at_zero():
    config = optimizers.OptimizerConfig(learning_rate=0.4, warmup_steps=10)
    rate = optimizers.make_schedule(config, 110)
    assert [float(rate(n)) for n in (0, 5, 10)] == pytest.approx([0.0, 0.2, 0.4])
    half, end = float(rate(60)), float(rate(110))
    assert (half, end) == (pytest.approx(0.2), pytest.approx(0.0, abs=1e-7))


def test_constant_schedule_stays():
    config = optimizers.OptimizerConfig(learning_rate=0.4, schedule="constant")
    rate = optimizers.make_schedule(config, 10)
    assert [float(rate(n)) for n in (0, 5, 10, 99)] == pytest.approx([0.4] * 4)


def test_weight_decay_shrinks_matrices_alone():
    optimizer = make(learning_rate=0.1, weight_decay=0.5)
    zeros = jax.tree.map(jnp.zeros_like, make_params())
    updates, _ = update_once(optimizer, zeros)
    np.testing.assert_allclose(updates["net"]["kernel"], -0.1 * 0.5 * 2.0, rtol=1e-6)
    np.testing.assert_array_equal(updates["net"]["bias"], 0.0)


def test_first_update_is_the_learning_rate_against_the_sign():
    optimizer = make(learning_rate=0.1, clip_norm=float("inf"))
    gradients = jax.tree.map(lambda p: p if p.ndim == 2 else -p, make_params())
    updates, _ = update_once(optimizer, gradients)
    np.testing.assert_allclose(updates["net"]["kernel"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates["net"]["bias"], 0.1, rtol=1e-5)


def test_gradient_is_clipped_by_the_norm_of_what_trains():
    optimizer = make(clip_norm=0.5, b1=0.9, trainable="net/.*")
    _, state = update_once(optimizer, jax.tree.map(lambda p: 1e3 * p, make_params()))
    # Adam's first mean is (1 - b1) times the clipped gradient.
    means = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    mean_norm = np.sqrt(sum(np.sum(np.square(m)) for m in means if np.all(m > 1e-3)))
    assert mean_norm == pytest.approx(0.1 * 0.5, rel=1e-5)


def test_frozen_parameters_have_no_state_and_zero_updates():
    optimizer = make(trainable="net/.*", weight_decay=0.1)
    updates, state = update_once(optimizer, make_params())
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert sizes == [3, 3, 6, 6], "mean and square of net/bias and net/kernel alone"
    np.testing.assert_array_equal(updates["frozen"]["kernel"], 0.0)


def test_pattern_without_a_match_lists_top_level_paths():
    with pytest.raises(ValueError, match="'lora/.*' matches no.*frozen, net"):
        make(trainable="lora/.*")


@pytest.mark.parametrize(
    "field",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"schedule": "linear"},
        {"warmup_steps": -1},
        {"weight_decay": -0.1},
        {"clip_norm": 0.0},
        {"b1": 1.0},
        {"b2": -0.5},
    ],
)
def test_senseless_field_is_named(field):
    with pytest.raises(ValueError, match=f"optimizer.{next(iter(field))} must be"):
        make(**field)


def test_muon_orthogonalises_matrices_and_leaves_the_rest_to_adamw():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def matrix():
        left, _, right = np.linalg.svd(rng.normal(size=(6, 6)))
        return jnp.asarray(left @ np.diag(np.linspace(0.3, 1.0, 6)) @ right, "float32")

    params = {
        "net": {"kernel": matrix(), "bias": draw(6)},
        "layers": {"kernel": jnp.stack([matrix(), matrix()])},  # stacked over depth
        "embedder": {"embedding": draw(6, 6)},
    }
    fields = {"name": "muon", "clip_norm": float("inf"), "learning_rate": 0.01}
    optimizer = make(params, muon_learning_rate=1.0, **fields)
    updates, _ = optimizer.update(params, optimizer.init(params), params)

    matrices = [updates["net"]["kernel"], *updates["layers"]["kernel"]]
    for matrix in matrices:
        # Five Newton-Schulz steps bring values from [0.3, 1] to within 0.4 of one.
        values = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(values, 1.0, atol=0.4)
    for leaf in (updates["net"]["bias"], updates["embedder"]["embedding"]):
        # The first step of Adam goes as far in every direction, and downhill. Nesterov
        # momentum lengthens it from the rate to less than twice that.
        steps = -np.asarray(leaf) * np.sign(
            params["net"]["bias"] if leaf.ndim == 1 else params["embedder"]["embedding"]
        )
        np.testing.assert_allclose(steps, steps.mean(), rtol=1e-3)
        assert 0.01 <= steps.mean() < 0.02


def test_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match=r"optimizer\.name .*adamw, muon"):
        make(name="sgd")


def test_stacked_biases_and_scales_do_not_decay():
    params = {
        "layers": {"kernel": jnp.ones((2, 3, 3)), "bias": jnp.ones((2, 3))},
        "norm": {"scale": jnp.ones((2, 3))},
    }
    optimizer = make(params, weight_decay=0.5, learning_rate=0.1)
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(nothing, optimizer.init(params), params)
    np.testing.assert_allclose(updates["layers"]["kernel"], -0.05, rtol=1e-6)
    assert not np.any(updates["layers"]["bias"])
    assert not np.any(updates["norm"]["scale"])


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_accumulated_gradients_are_one_update_by_their_mean(schedule):
    config = optimizers.OptimizerConfig(
        schedule=schedule, weight_decay=0.0, clip_norm=float("inf")
    )
    params, grads = {"w": jnp.array([1.0, -2.0])}, [3.0, 1.0]
    apart = optimizers.make_optimizer(
        dataclasses.replace(config, accumulate=2), 4, params
    )
    state, moved = apart.init(params), params
    for scale in grads:
        updates, state = apart.update(
            {"w": jnp.array([scale, 0.5])}, state, moved, value=jnp.float32(1.0)
        )
        moved = optax.apply_updates(moved, updates)
    whole = optimizers.make_optimizer(config, 4, params)
    updates, _ = whole.update(
        {"w": jnp.array([2.0, 0.5])}, whole.init(params), params, value=jnp.float32(1.0)
    )
    np.testing.assert_allclose(
        moved["w"], optax.apply_updates(params, updates)["w"], rtol=1e-6
    )


def test_plateau_lowers_the_rate_when_the_loss_stays_and_not_while_it_falls():
    config = optimizers.OptimizerConfig(
        schedule="plateau", plateau_factor=0.5, plateau_patience=20, weight_decay=0.0
    )
    params = {"w": jnp.ones(())}
    optimizer = optimizers.make_optimizer(config, 100, params)

    def last_step(losses):
        state = optimizer.init(params)
        for loss in losses:
            updates, state = optimizer.update(
                {"w": jnp.ones(())}, state, params, value=jnp.float32(loss)
            )
        return -float(updates["w"])

    falling = last_step(np.linspace(2.0, 1.0, 45))
    assert falling == pytest.approx(config.learning_rate, rel=1e-3)
    assert last_step(np.ones(45)) == pytest.approx(falling / 2, rel=1e-3)
