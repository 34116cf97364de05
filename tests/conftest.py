"""What every test may ask for."""

import jax
import pytest


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


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """Where sets are made once for all tests; nothing may damage them."""
    return str(tmp_path_factory.mktemp("data"))
