"""Every way to run the experts against a plain loop, in value and gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import moe

T, D, F, N, K = 37, 6, 10, 5, 2

RUNS = {
    "dense": moe.run_dense,
    "grouped": moe.run_grouped,
    "buckets": moe.run_buckets,
    "buckets of 3": functools.partial(moe.run_buckets, block=3),
}


def _weights(case, rng):
    """Weights [T, N] of a router of this kind, at most K of a row not zero."""
    bias = {"skewed": 3.0 * np.arange(N), "collapsed": np.array([90, 80, 0, 0, 0])}
    probs = jax.nn.softmax(rng.normal(size=(T, N)) + bias.get(case, 0.0))
    weights = np.array(moe.select_top_k(probs, top_k=K))
    if case == "sparse":  # whole rows, and the second choices of others
        weights[rng.random(T) < 0.3] = 0
        weights[weights < 0.4] = 0
    if case == "nobody":
        weights[:] = 0
    return weights


@pytest.fixture(scope="module")
def values():
    """A jitted ``(run, x, weights, kernels) -> (out, gradients)`` for each run."""

    def loss(run, x, weights, kernels):
        out = run(x, jnp.where(weights == 0, 0, weights), kernels, K)
        return jnp.sum(jnp.sin(out)), out

    def value(run):
        one = jax.value_and_grad(functools.partial(loss, run), (0, 1, 2), has_aux=True)
        return jax.jit(one)

    return {name: value(run) for name, run in RUNS.items()}


def _by_loop(x, weights, kernels):
    """Token by token and expert by expert, in float64."""
    x, weights, *kernels = (np.asarray(a, np.float64) for a in (x, weights, *kernels))
    out = np.zeros_like(x)
    for t, i in np.argwhere(weights):
        gate, up, down = (kernel[i] for kernel in kernels)
        g = x[t] @ gate
        out[t] += weights[t, i] * ((g / (1 + np.exp(-g)) * (x[t] @ up)) @ down)
    return out


@pytest.mark.parametrize("case", ["random", "skewed", "collapsed", "sparse", "nobody"])
def test_all_paths_equal_a_loop_over_tokens_and_one_another(case, values):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, D)).astype(np.float32)
    shapes = moe.Kernels((N, D, F), (N, D, F), (N, F, D))
    kernels = moe.Kernels(*(rng.normal(size=s).astype(np.float32) for s in shapes))
    weights = _weights(case, rng)
    expected = _by_loop(x, weights, kernels)
    (_, _), wanted = values["dense"](x, weights, kernels)
    for name, value in values.items():
        (_, out), gradients = value(x, weights, kernels)
        np.testing.assert_allclose(out, expected, atol=2e-4, err_msg=name)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, atol=2e-3, err_msg=name),
            gradients,
            wanted,
        )
    assert case == "nobody" or np.abs(wanted[2].gate).max() > 0.1


@pytest.mark.parametrize("count", [1, 2])
def test_few_tokens_as_in_decoding(count, values):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, D)).astype(np.float32)
    shapes = moe.Kernels((N, D, F), (N, D, F), (N, F, D))
    kernels = moe.Kernels(*(rng.normal(size=s).astype(np.float32) for s in shapes))
    weights = _weights("random", rng)[:count]
    for name in ("grouped", "buckets"):
        out = jax.jit(RUNS[name], static_argnums=3)(x, weights, kernels, K)
        np.testing.assert_allclose(out, _by_loop(x, weights, kernels), atol=1e-4)


def test_paths_map_over_seeds():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 8, D)).astype(np.float32)
    shapes = moe.Kernels((N, D, F), (N, D, F), (N, F, D))
    kernels = moe.Kernels(*(rng.normal(size=s).astype(np.float32) for s in shapes))
    weights = np.stack([_weights("skewed", rng)[:8] for _ in range(3)])
    run = functools.partial(moe.run_buckets, max_experts=K, block=2)
    out = jax.jit(jax.vmap(run, (0, 0, None)))(x, weights, kernels)
    expected = [_by_loop(x[i], weights[i], kernels) for i in range(3)]
    np.testing.assert_allclose(out, expected, atol=1e-4)


def test_bfloat16_stays_bfloat16_and_close():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(T, D)).astype(np.float32)
    shapes = moe.Kernels((N, D, F), (N, D, F), (N, F, D))
    kernels = moe.Kernels(*(0.4 * rng.normal(size=s) for s in shapes))
    weights = _weights("random", rng)
    halved = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (x, kernels))
    for name, run in RUNS.items():
        out = jax.jit(run, static_argnums=3)(halved[0], weights, halved[1], K)
        assert out.dtype == jnp.bfloat16, name
        expected = _by_loop(x, weights, kernels)
        np.testing.assert_allclose(out.astype(np.float32), expected, atol=0.1)


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="path must be one of auto, dense"):
        moe.run_experts(None, None, None, K, path="sparse")
