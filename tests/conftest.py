"""What every test may ask for."""

import math
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture
def key() -> jax.Array:
    """The root key of a test; split it, or fold a number in, for more."""
    return jax.random.key(0)


@pytest.fixture(scope="module")
def quick_compilation():
    """Halves the time that XLA takes, for programs that run for milliseconds."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def cache_settings_restored() -> Iterator[None]:
    """Undoes what ``cache.enable_compilation_cache`` sets."""
    names = [
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """Where sets are made once for all tests; nothing may damage them."""
    return str(tmp_path_factory.mktemp("data"))


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
