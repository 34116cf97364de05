"""What every test may ask for."""

from collections.abc import Iterator

import jax
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
