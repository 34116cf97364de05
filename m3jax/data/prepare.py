"""Writes a generated data set once, and refuses to read a copy that is damaged."""

import contextlib
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from m3jax.data.edgescenes import builder as edgescenes
from m3jax.files import disk, locks

_MEND = "delete this folder and run the command again to make it anew"


class Variant(Protocol):
    """What ``prepare`` asks of a set's ``tfds.core.BuilderConfig``."""

    name: str

    @property
    def sizes(self) -> dict[str, int]:
        """Split -> number of examples."""

    @property
    def num_bytes(self) -> int:
        """About what the set takes on disk, to see a full disk coming."""

    def recipe(self) -> dict[str, Any]:
        """All that decides the content of the set, as JSON values."""


Builder = type[tfds.core.GeneratorBasedBuilder]
"""A class of builders whose configs are all a ``Variant``."""


def default_data_dir() -> pathlib.Path:
    """``$M3JAX_DATA_DIR`` if it is set, else ``~/.cache/m3jax/data``."""
    return pathlib.Path(os.environ.get("M3JAX_DATA_DIR") or "~/.cache/m3jax/data")


def root(data_dir: str | None) -> pathlib.Path:
    """Where the sets and caches of a config live.

    ``$M3JAX_DATA_DIR`` goes before what the config says, so that a run can be measured
    where its data have moved.

    Args:
      data_dir: of the config; None for the default.
    """
    chosen = os.environ.get("M3JAX_DATA_DIR") or data_dir or default_data_dir()
    return disk.local(chosen, "data_dir")


def prepare(
    config: str | Variant = "laptop",
    data_dir: str | os.PathLike | None = None,
    dataset: Builder = edgescenes.EdgeScenes,
) -> tfds.core.GeneratorBasedBuilder:
    """Makes sure that a variant of a set is on disk, and opens it.

    What is there already is checked and used. Several processes may ask for the same
    set at once: one writes, the others wait. A killed run leaves nothing behind that a
    later one would read.

    Args:
      config: "smoke", "laptop", another variant's name, or a configuration of your own.
      data_dir: where the sets live; ``default_data_dir()`` if None.
      dataset: the set, by its class of TFDS builders.

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
    names = [known.name for known in dataset.BUILDER_CONFIGS]
    if isinstance(config, str) and config not in names:
        raise ValueError(
            f"{dataset.__name__} has no config {config!r}; choose one of {names}"
        )
    name = config if isinstance(config, str) else config.name
    place = disk.local(data_dir or default_data_dir(), "data_dir")
    folder = place / dataset.name / name / str(dataset.VERSION)
    if not folder.exists():
        with _locked(folder.parent):
            if not folder.exists():  # another process may have written it meanwhile
                _write(dataset, config, place, folder)
    return _open(dataset, config, place, folder)


class Records:
    """A split on disk, example by example; records have checksums of their own.

    Args:
      made: of `prepare`.
      split: one of its splits.

    Raises:
      ValueError: there is no such split; on reading, a record is damaged.
    """

    def __init__(self, made: tfds.core.GeneratorBasedBuilder, split: str):
        if split not in made.info.splits:
            raise ValueError(
                f"no split {split!r}; choose one of {list(made.info.splits)}"
            )
        self._split, self._folder = split, made.data_path
        self._source = made.as_data_source(split)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        try:
            return self._source[index]
        except IndexError:
            raise
        except Exception as error:  # damage has many types
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{self._folder} is damaged (example {index} of {self._split}: {why});"
                f" {_MEND}"
            ) from error


def _builder(
    dataset: Builder, config: str | Variant, root: pathlib.Path
) -> tfds.core.GeneratorBasedBuilder:
    return dataset(config=config, data_dir=root, file_format="array_record")


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a folder, which is made if need be; the system lets go if we are killed."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.waited_for(folder))
        except OSError as error:
            raise OSError(
                f"can't write to {folder} ({error.strerror}): pass another data_dir or "
                "set M3JAX_DATA_DIR"
            ) from None
        yield


def _write(
    dataset: Builder, config: str | Variant, root: pathlib.Path, folder: pathlib.Path
) -> None:
    """Writes into a temporary folder, which TFDS renames when all is there."""
    for remains in folder.parent.glob(f"incomplete.*_{folder.name}"):
        shutil.rmtree(remains)  # of a killed run, for we hold the lock
    builder = _builder(dataset, config, root)
    _check_room(builder, folder.parent)
    tfds.disable_progress_bar()  # the builder shows its own
    with (
        tempfile.TemporaryDirectory() as downloads,  # TFDS insists on such a folder
        contextlib.redirect_stdout(io.StringIO()),  # and prints that it downloads
    ):
        builder.download_and_prepare(
            download_dir=downloads,
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


def _check_room(builder: tfds.core.GeneratorBasedBuilder, folder: pathlib.Path) -> None:
    config = builder.builder_config
    need, free = config.num_bytes, shutil.disk_usage(folder).free
    if free < need:
        raise OSError(
            f"{type(builder).__name__} {config.name} needs about {need / 1e6:.0f} MB "
            f"and {folder} has {free / 1e6:.0f} MB left: make room, pass another "
            "data_dir or set M3JAX_DATA_DIR"
        )


def _open(
    dataset: Builder, config: str | Variant, root: pathlib.Path, folder: pathlib.Path
) -> tfds.core.GeneratorBasedBuilder:
    """Opens the copy on disk, having seen that every record of the recipe is there."""
    try:
        builder = _builder(dataset, config, root)
    except Exception as error:  # a damaged file makes TFDS raise anything
        raise ValueError(
            f"{folder} is damaged (its description can't be read: {error}); {_MEND}"
        ) from error
    recipe = builder.builder_config.recipe()
    if fault := _fault(builder, recipe["sizes"]):
        raise ValueError(f"{folder} is damaged ({fault}); {_MEND}")
    if builder.info.metadata != recipe:
        raise ValueError(
            f"{folder} was made by another recipe, {dict(builder.info.metadata)} and "
            f"not {recipe}; {_MEND}"
        )
    return builder


def _fault(
    builder: tfds.core.GeneratorBasedBuilder, sizes: dict[str, int]
) -> str | None:
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
