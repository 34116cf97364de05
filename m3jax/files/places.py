"""Places that results go to: found unwritable before the work, not after it."""

import os
import pathlib
import tempfile

from m3jax.files import disk


def writable(place: str | os.PathLike[str], what: str) -> pathlib.Path:
    """The absolute path of a folder that can be written; makes nothing.

    The folder need not be there yet: then the nearest one above must be writable. A
    file without a name is written there, so that a read-only file system is found too.

    Args:
      place: the folder.
      what: what names it, such as "--workdir".

    Raises:
      ValueError: the place has no name, or is none of this machine's folders.
      NotADirectoryError: it is a file, or lies below one.
      PermissionError: it can't be written.

    Example:
      >>> writable("", "--out")
      Traceback (most recent call last):
      ...
      ValueError: --out is empty; name a directory, such as runs/mine
    """
    chosen = above = disk.local(place, what)
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(f"{what}={place}: {above} is a file, not a directory")
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PermissionError(
            f"{what}={place} can't be written ({reason}: {above}); name another one"
        ) from error
    return chosen
