"""Arrays that take long to compute and are the same every time: kept on disk.

A set of arrays is named by a digest of all that decides it: what its maker says, the
versions of the packages, and the source of m3jax itself, so that no change of the code
finds what older code made.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from m3jax.files import locks
from m3jax.train import environment, typed_json


def root() -> pathlib.Path:
    """``$M3JAX_CACHE_DIR``, else ``m3jax/kept`` below the user's cache directory."""
    chosen = os.environ.get("M3JAX_CACHE_DIR")
    caches = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(chosen or pathlib.Path(caches) / "m3jax" / "kept").expanduser()


def arrays(
    name: str, about: Any, make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """What ``make`` gives, made once for all processes of this machine.

    Args:
      name: of the set, for people.
      about: JSON values of all that decides it besides the code.
      make: gives name -> array.

    Returns:
      Name -> array. Where nothing can be written it is made each time.
    """
    text = typed_json.dumps([about, environment.versions(), _source()])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = root() / f"{name}-{digest}" / "arrays.npz"
    if (found := _read(path)) is not None:
        return found
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # made each time where nothing can be kept
            stack.enter_context(locks.waited_for(path.parent))
        if (found := _read(path)) is not None:  # another process was first
            return found
        made = {key: np.asarray(array) for key, array in make().items()}
        with contextlib.suppress(OSError):
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **made)
            os.replace(temporary, path)
    return made


def _read(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """The arrays; None if they are not there, or damaged: zip files have checksums."""
    try:
        with np.load(path) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


@functools.cache
def _source() -> str:
    """A digest of the package's source."""
    package = pathlib.Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
