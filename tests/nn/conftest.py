"""Fixtures shared by the tests of the networks."""

import math

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_params():
    """``make(module, *args)``: variables of the right shapes, none at its default.

    Drawn by NumPy, so that nothing is compiled, and with biases and scales that differ
    from zero and one, so that a test sees whether they are used.
    """

    def make(module, *args, seed=0, gain=1.0):
        rng = np.random.default_rng(seed)

        def draw(path, leaf):
            values = rng.normal(size=leaf.shape).astype(np.float32)
            if path[-1].key == "scale":
                return 1 + 0.2 * values
            if path[-1].key == "kernel":
                return gain * values / math.sqrt(leaf.shape[-2])
            return 0.2 * gain * values

        shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
        return jax.tree.map_with_path(draw, shapes)

    return make
