"""A stretch of steps does what the steps do one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.train import scanned


def make_learner():
    def init(key, batch):
        del batch
        return base.TrainState(jnp.int32(0), jax.random.normal(key, (3,)), ())

    def step(state, batch, key):
        noise = 0.1 * jax.random.normal(key, (3,))
        error = jnp.mean(batch["x"], axis=0) - state.params + noise
        state = state._replace(step=state.step + 1, params=state.params + 0.1 * error)
        return state, {"loss": jnp.sum(error**2)}

    return base.Learner(init, step)


def test_a_stretch_equals_its_steps():
    learner = make_learner()
    examples = {"x": np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)}
    rows = scanned.draw_rows(10, 4, 6, seed=1)
    key = jax.random.key(2)
    first = learner.init(jax.random.key(0), examples)
    expected, step = first, jax.jit(learner.step)
    losses = []
    for row in rows:
        batch = {"x": examples["x"][row]}
        expected, metrics = step(
            expected, batch, jax.random.fold_in(key, expected.step)
        )
        losses.append(float(metrics["loss"]))
    stretch = scanned.make_stretch(learner)
    state, _ = stretch(jax.tree.map(jnp.array, first), examples, rows[:2], key)
    state, metrics = stretch(state, examples, rows[2:], key)
    np.testing.assert_allclose(state.params, expected.params, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], losses[2:], rtol=1e-5)


def test_every_example_comes_once_before_any_comes_again():
    rows = scanned.draw_rows(12, 4, 9, seed=0)
    assert rows.shape == (9, 4) and rows.dtype == np.int32
    for epoch in np.split(rows, 3):
        assert sorted(epoch.ravel()) == list(range(12))
    assert (rows != scanned.draw_rows(12, 4, 9, seed=1)).any()
    np.testing.assert_array_equal(rows, scanned.draw_rows(12, 4, 9, seed=0))


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="at least 1, got 0, 4 and 9"):
        scanned.draw_rows(0, 4, 9, seed=0)
