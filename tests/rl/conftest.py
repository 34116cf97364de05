"""Programs compiled once, however many loops run them."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from m3jax.train import cache


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Keeps compiled programs on disk while the tests of a module run."""
    names = [
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    cache.enable_compilation_cache(tmp_path_factory.mktemp("compiled"))
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
