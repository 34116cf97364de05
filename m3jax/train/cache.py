"""The persistent compilation cache: the second start of a run compiles nothing."""

import os
import pathlib

import jax
from jax.experimental.compilation_cache import compilation_cache

from m3jax.files import homes


def enable_compilation_cache(
    directory: str | os.PathLike[str] | None = None,
) -> pathlib.Path | None:
    """Keeps compiled programs on disk and finds them again at the next start.

    Args:
      directory: where; None takes ``JAX_COMPILATION_CACHE_DIR`` if set, else
        ``m3jax/compiled`` below the user's cache directory.

    Returns:
      The directory in use, or None where none can be written; then a run only starts
      more slowly.
    """
    named = directory or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        chosen = pathlib.Path(named or homes.own("cache", "compiled")).expanduser()
        chosen.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a "~" without a home is a RuntimeError
        return None
    if not os.access(chosen, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(chosen))
    # Small programs count too: a start consists of many of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # JAX looks once for a cache; this makes it look again, as in a notebook.
    compilation_cache.reset_cache()
    return chosen
