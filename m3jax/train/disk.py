"""Files written whole or not at all, and a full disk as one clear error."""

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator


class DiskFullError(OSError):
    """A file found no room; what was written before it is untouched."""

    def __init__(self, what: str, path: str | os.PathLike[str]):
        super().__init__(
            errno.ENOSPC,
            f"no room on disk for {what}; free some space, then go on with --resume",
            str(path),
        )


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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # TensorStore's errors carry the reason as text alone.
        if os.strerror(errno.ENOSPC) in str(error):
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
