"""Where a user's caches and data lie, in a container without a home too."""

import os
import pathlib
import tempfile

_KINDS = {
    "cache": ("XDG_CACHE_HOME", (".cache",)),
    "data": ("XDG_DATA_HOME", (".local", "share")),
}


def own(kind: str, *below: str) -> pathlib.Path:
    """A folder of m3jax among the user's own; makes nothing.

    Args:
      kind: "cache" or "data", by the XDG base directory specification.
      *below: parts of the path below m3jax's folder there.

    Returns:
      Such as ``~/.cache/m3jax/compiled``. Where there is no home, as for a user id that
      the system does not know, it lies below the folder for temporary files.

    Example:
      >>> own("cache", "compiled").parts[-2:]
      ('m3jax', 'compiled')
    """
    variable, usual = _KINDS[kind]
    chosen = os.environ.get(variable)
    try:
        root = pathlib.Path(chosen) if chosen else pathlib.Path.home().joinpath(*usual)
    except RuntimeError:  # no home
        root = pathlib.Path(tempfile.gettempdir(), f"{kind}-{os.getuid()}")
    return root.joinpath("m3jax", *below)
