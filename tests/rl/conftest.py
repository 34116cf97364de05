"""Programs compiled once, however many loops run them."""

import pytest

from m3jax.train import cache


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory, cache_settings_restored):
    """Keeps compiled programs on disk while the tests of a module run."""
    cache.enable_compilation_cache(tmp_path_factory.mktemp("compiled"))
