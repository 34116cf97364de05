"""What a run ran on: versions, devices and the commit of the code."""

import importlib.metadata
import pathlib
import platform
import subprocess

import jax

PACKAGES = (
    "m3jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
)


def versions() -> dict[str, str | None]:
    """Returns the version of Python and of each package that shapes a result."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def device() -> dict[str, str | int]:
    """Returns the platform, kind and number of devices, and of processes."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def commit() -> str | None:
    """Returns the git commit of the code, '+changes' added when edited, or None.

    None means that the code is not a git checkout or git is not installed.
    """
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return None
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return head + "+changes" if changes else head


def _git(root: pathlib.Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
