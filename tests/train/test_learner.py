"""The learner descends the loss and spends nothing on what is frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.train import learner, optimizers

WIDTH = 5
BATCH = {"x": np.ones((4, WIDTH), np.float32)}


def make_system(layers=3):
    def init(key, batch):
        del batch
        keys = jax.random.split(key, layers)
        return {
            f"layer_{i}": {"kernel": jax.random.normal(keys[i], (WIDTH, WIDTH))}
            for i in range(layers)
        }

    def loss(params, batch, key):
        del key
        x = batch["x"]
        for i in range(layers):
            x = x @ params[f"layer_{i}"]["kernel"]
        return jnp.mean(x**2), {"peak": jnp.max(x)}

    return base.System(init, loss, {})


def make(trainable, **options):
    config = optimizers.OptimizerConfig(schedule="constant")
    made = learner.make_learner(
        make_system(), config, 10, trainable=trainable, **options
    )
    return base.Learner(jax.jit(made.init), jax.jit(made.step))


def count_products(trainable):
    method = make(trainable)
    state = jax.eval_shape(method.init, jax.random.key(0), BATCH)
    step = method.step.lower(state, BATCH, jax.random.key(0))
    return step.compile().as_text().count(" dot(")


def test_frozen_parameters_stay_bit_for_bit_and_others_move(key):
    method = make("layer_2/.*")
    state = method.init(key, BATCH)
    after, metrics = method.step(state, BATCH, key)
    for name in ("layer_0", "layer_1"):
        np.testing.assert_array_equal(
            state.params[name]["kernel"], after.params[name]["kernel"]
        )
    moved = after.params["layer_2"]["kernel"] - state.params["layer_2"]["kernel"]
    assert np.all(np.abs(moved) > 0)
    assert int(after.step) == 1
    assert set(metrics) == {"loss", "grad_norm", "peak"}


def test_gradient_of_frozen_layers_is_never_computed():
    # Three products forward; backward the last layer needs one, and each layer before
    # it two: one for its kernel and one to reach it.
    assert count_products("layer_2/.*") == 4
    assert count_products("layer_1/.*|layer_2/.*") == 6


def test_grad_norm_is_that_of_the_trainable_part_before_clipping(key):
    method = make("layer_0/.*")
    state = method.init(key, BATCH)
    _, metrics = method.step(state, BATCH, key)
    gradient = jax.grad(lambda p: make_system().loss(p, BATCH, key)[0])(state.params)
    expected = np.linalg.norm(gradient["layer_0"]["kernel"])
    assert float(metrics["grad_norm"]) == pytest.approx(expected, rel=1e-5)
    assert expected > optimizers.OptimizerConfig().clip_norm


def test_warm_start_goes_over_the_drawn_parameters(key):
    given = {"layer_1": {"kernel": np.full((WIDTH, WIDTH), 7.0, np.float32)}}
    drawn = make(".*").init(key, BATCH).params
    params = make(".*", warm_start=given).init(key, BATCH).params
    np.testing.assert_array_equal(params["layer_1"]["kernel"], 7.0)
    np.testing.assert_array_equal(
        params["layer_0"]["kernel"], drawn["layer_0"]["kernel"]
    )
