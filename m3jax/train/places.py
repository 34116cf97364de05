"""Places that results go to, looked at before any work is done."""

import os
import pathlib
import re
import tempfile


def check(flag: str, place: str | os.PathLike[str]) -> None:
    """Refuses a folder that can't be written, and makes nothing.

    The folder need not be there yet: then the nearest one above must be writable. A
    nameless file is written there, so that a read-only file system is found too.

    Args:
      flag: that names the place, such as "workdir".
      place: the folder.

    Raises:
      ValueError: the place has no name, or is none of this machine's folders.
      NotADirectoryError: it is a file, or lies below one.
      PermissionError: it can't be written.

    Example:
      >>> check("out", "")
      Traceback (most recent call last):
      ...
      ValueError: --out is empty; name a folder
    """
    text = os.fspath(place)
    if not text.strip():
        raise ValueError(f"--{flag} is empty; name a folder")
    if re.match(r"\w+://", text):
        raise ValueError(
            f"--{flag}={text} is no folder of this machine; write to a local one, and"
            " copy it from there"
        )
    folder = pathlib.Path(text).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"--{flag}={text}: {folder} is a file, not a folder")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PermissionError(
            f"--{flag}={text} can't be written ({reason} in {folder}); name another"
            " folder"
        ) from error
