"""Files written whole or not at all, and a full disk as one clear error."""

import contextlib
import errno
import itertools
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(OSError):
    """A file found no room; what was written before it is untouched."""

    def __init__(self, what: str, path: str | os.PathLike[str]):
        super().__init__(
            errno.ENOSPC,
            f"no room on disk for {what}; free some space, then go on with --resume",
            str(path),
        )


def local(path: str | os.PathLike[str], what: str) -> pathlib.Path:
    """The path, absolute, of a place that m3jax can read and write.

    Args:
      path: the place; "~" stands for the home directory.
      what: what names it, such as "--workdir".

    Raises:
      ValueError: it is empty, or the address of a store elsewhere.
    """
    text = os.fspath(path)
    if not text.strip():
        raise ValueError(f"{what} is empty; name a directory, such as runs/mine")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise ValueError(
            f"{what}={text} is an address, and m3jax writes to directories; mount the"
            " store, or take a directory and copy it there afterwards"
        )
    return pathlib.Path(text).expanduser().absolute()


@contextlib.contextmanager
def explained(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Raises DiskFullError, naming the file, where the body finds the disk full."""
    try:
        yield
    except OSError as error:
        if not means_full(error):
            raise
        raise DiskFullError(what, path) from error


def means_full(error: BaseException | None) -> bool:
    """Tells whether an error, or one that it came from, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        # TensorStore's errors carry the reason as text alone.
        if any(os.strerror(code) in str(error) for code in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replaces a file so that a reader sees the old text or the new one, whole.

    Raises:
      DiskFullError: no room; the old file is untouched.
    """
    path = pathlib.Path(path)
    with explained(path.name, path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            pathlib.Path(temporary).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def replaced(folder: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives an empty folder that takes the place of another when it is filled.

    A reader finds the old folder or the new one, whole, but for the moment between two
    renames. If the body fails nothing has changed.

    Args:
      folder: the folder to replace, or to make.

    Raises:
      DiskFullError: no room.
    """
    folder = pathlib.Path(folder)
    with explained(folder.name, folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(
            tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
        )
        new, old = temporary / "new", temporary / "old"
        try:
            new.mkdir()
            yield new
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def set_aside(path: str | os.PathLike[str]) -> pathlib.Path:
    """Renames what is damaged, so that it is kept beside; gives its new path."""
    return pathlib.Path(path).rename(first_free(f"{os.fspath(path)}.damaged"))


def first_free(stem: str | os.PathLike[str]) -> pathlib.Path:
    """The first of STEM-1, STEM-2, ... that is not there."""
    names = (pathlib.Path(f"{os.fspath(stem)}-{n}") for n in itertools.count(1))
    return next(path for path in names if not path.exists())
