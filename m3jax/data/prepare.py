"""Writes EdgeScenes to disk once, and refuses to read a copy that is damaged."""

import contextlib
import fcntl
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from m3jax.data.edgescenes import builder as edgescenes

_BYTES_PER_EXAMPLE = 12_000  # a generous guess, to see a full disk coming
_BYTES_PER_CLIP = 12_000


def default_data_dir() -> pathlib.Path:
    """``$M3JAX_DATA_DIR`` if it is set, else ``~/.cache/m3jax/data``."""
    return pathlib.Path(os.environ.get("M3JAX_DATA_DIR") or "~/.cache/m3jax/data")


def prepare(
    config: str | edgescenes.EdgeScenesConfig = "laptop",
    data_dir: str | os.PathLike | None = None,
) -> edgescenes.EdgeScenes:
    """Makes sure that a variant of EdgeScenes is on disk, and opens it.

    What is there already is checked and used. Several processes may ask for the same
    set at once: one writes, the others wait. A killed run leaves nothing behind that a
    later one would read.

    Args:
      config: "smoke", "laptop", "video", or a configuration of your own.
      data_dir: where the sets live; ``default_data_dir()`` if None.

    Returns:
      The TFDS builder; ``builder.as_data_source("train")`` reads a split.

    Raises:
      ValueError: no configuration has this name, or the copy on disk is not whole or
        was made by another recipe.
      OSError: the folder can't be written, or there is too little room.

    Example:
      >>> len(prepare("smoke").as_data_source("train"))  # doctest: +SKIP
      512
    """
    names = [known.name for known in edgescenes.EdgeScenes.BUILDER_CONFIGS]
    if isinstance(config, str) and config not in names:
        raise ValueError(f"EdgeScenes has no config {config!r}; choose one of {names}")
    name = config if isinstance(config, str) else config.name
    root = pathlib.Path(data_dir or default_data_dir()).expanduser().absolute()
    version = str(edgescenes.EdgeScenes.VERSION)
    folder = root / edgescenes.EdgeScenes.name / name / version
    if not folder.exists():
        with _locked(folder.parent):
            if not folder.exists():  # another process may have written it meanwhile
                _write(config, root, folder)
    return _open(config, root, folder)


def _builder(config, root: pathlib.Path) -> edgescenes.EdgeScenes:
    return edgescenes.EdgeScenes(
        config=config, data_dir=root, file_format="array_record"
    )


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a folder, which is made if need be; the system lets go if we are killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise OSError(
            f"can't write to {folder} ({error.strerror}): pass another data_dir or set "
            "M3JAX_DATA_DIR"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(config, root: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes into a temporary folder, which TFDS renames when all is there."""
    for remains in folder.parent.glob(f"incomplete.*_{folder.name}"):
        shutil.rmtree(remains)  # of a killed run, for we hold the lock
    builder = _builder(config, root)
    _check_room(builder.builder_config, folder.parent)
    tfds.disable_progress_bar()  # the builder shows its own
    with (
        tempfile.TemporaryDirectory() as downloads,  # TFDS insists on such a folder
        contextlib.redirect_stdout(io.StringIO()),  # and prints that it downloads
    ):
        builder.download_and_prepare(
            download_dir=downloads,
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


def _check_room(config: edgescenes.EdgeScenesConfig, folder: pathlib.Path) -> None:
    each = _BYTES_PER_EXAMPLE + _BYTES_PER_CLIP * config.settings.video
    need, free = each * sum(config.sizes.values()), shutil.disk_usage(folder).free
    if free < need:
        raise OSError(
            f"EdgeScenes {config.name} needs about {need / 1e6:.0f} MB and {folder} "
            f"has {free / 1e6:.0f} MB left: make room, pass another data_dir or set "
            "M3JAX_DATA_DIR"
        )


def _open(config, root: pathlib.Path, folder: pathlib.Path) -> edgescenes.EdgeScenes:
    """Opens the copy on disk, having seen that every record of the recipe is there."""
    mend = "delete this folder and run the command again to make it anew"
    try:
        builder = _builder(config, root)
    except Exception as error:  # a damaged file makes TFDS raise anything
        raise ValueError(
            f"{folder} is damaged (its description can't be read: {error}); {mend}"
        ) from error
    recipe = builder.builder_config.recipe()
    if fault := _fault(builder, recipe["sizes"]):
        raise ValueError(f"{folder} is damaged ({fault}); {mend}")
    if builder.info.metadata != recipe:
        raise ValueError(
            f"{folder} was made by another recipe, {dict(builder.info.metadata)} and "
            f"not {recipe}; {mend}"
        )
    return builder


def _fault(builder: edgescenes.EdgeScenes, sizes: dict[str, int]) -> str | None:
    """Says what is missing from the files, if anything."""
    if not (builder.data_path / "metadata.json").exists():
        return "metadata.json is missing"
    if set(builder.info.splits) != set(sizes):
        return f"it lists {sorted(builder.info.splits)} and not {sorted(sizes)}"
    for split in sizes:
        for shard in builder.info.splits[split].file_instructions:
            name = pathlib.Path(shard.filename).name
            if not os.path.exists(shard.filename):
                return f"{name} is missing"
            reader = array_record_module.ArrayRecordReader(os.fspath(shard.filename))
            if not reader.ok() or reader.num_records() != shard.examples_in_shard:
                return f"{name} is cut short"
    return None
