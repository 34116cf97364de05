"""What frozen encoders make of a data set, computed once and kept on disk.

A composition root like ``m3jax.experiment``. The cache is named by a digest of all that
decides it: encoders, data set and split. Half precision: tokens leave a LayerNorm, so
it costs them a relative error of 5e-4, and half the room.
"""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from m3jax import base
from m3jax.data import edgescenes, pipeline, prepare
from m3jax.ops import paths

_ENCODERS = r"\w+_encoder/.*"
_INPUTS = ("image", "audio", "video")
_BATCH = 200


def load(
    system: base.System,
    params: base.Params,
    data: pipeline.DataConfig,
    split: str,
    features: Sequence[str],
    *,
    limit: int | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """A split with the tokens of frozen encoders in place of pictures and sounds.

    Args:
      system: one whose ``predict["encode"]`` gives {name: [B, ...]}.
      params: its parameters; those of encoders must not change afterwards.
      data: which set.
      split: "train", "validation" or "test".
      features: names of the features to keep besides, such as "question".
      limit: only the first that many examples; None: all.
      show_progress: show a bar while encoding.

    Returns:
      {feature: array [n, ...], "tokens": {name: float16 array [n, ...]}}; tokens are
      memory-mapped from the cache.

    Raises:
      ValueError, OSError: of ``pipeline.load``, or no room for the cache.
    """
    source = pipeline.load(data, split)
    size = len(source) if limit is None else min(limit, len(source))
    folder = _folder(system, params, data, split, source, size)
    if not folder.exists():
        _write(folder, _encode(system, params, source, size, show_progress))
    tokens = {
        path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))
    }
    return {**pipeline.as_arrays(source, size, features), "tokens": tokens}


class Source:
    """What `load` gives, example by example, for ``pipeline.batches``.

    Args:
      arrays: of `load`.
    """

    def __init__(self, arrays: dict[str, Any]):
        self._arrays = arrays

    def __len__(self) -> int:
        return len(jax.tree.leaves(self._arrays)[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda array: array[index], self._arrays)


def _folder(system, params, data, split: str, source, size: int) -> pathlib.Path:
    """Where the cache is: a name that changes with all that decides it."""
    batch = _inputs(source, 0, 1)
    made = jax.eval_shape(system.predict["encode"], params, batch, None)
    about = [edgescenes.EdgeScenes.VERSION, data.name, data.config, split, size]
    shapes = {name: leaf.shape for name, leaf in made.items()}
    digest = hashlib.sha256(json.dumps([*map(str, about), shapes]).encode())
    encoders = paths.select(params, paths.mask(params, _ENCODERS))
    for path, leaf in sorted(paths.flatten(encoders).items()):
        digest.update(path.encode())
        digest.update(np.asarray(leaf).tobytes())
    root = pathlib.Path(data.data_dir or prepare.default_data_dir()).expanduser()
    return root / "features" / digest.hexdigest()[:16]


def _inputs(source, start: int, stop: int) -> dict[str, np.ndarray]:
    rows = [source[i] for i in range(start, stop)]
    names = [name for name in _INPUTS if name in rows[0]]
    return {name: np.stack([row[name] for row in rows]) for name in names}


def _encode(system, params, source, size: int, show_progress: bool):
    """Runs the encoders over a split; yields batches of tokens."""
    encode = jax.jit(lambda p, batch: system.predict["encode"](p, batch, None))
    params = jax.device_put(params)
    starts = range(0, size, _BATCH)
    for at in tqdm.tqdm(starts, "encoding", disable=not show_progress or None):
        batch = _inputs(source, at, min(at + _BATCH, size))
        yield jax.device_get(encode(params, batch))


def _write(folder: pathlib.Path, batches) -> None:
    """Writes the whole cache or none of it."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for name, array in batch.items():
            parts.setdefault(name, []).append(np.asarray(array, np.float16))
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name, arrays in parts.items():
            np.save(temporary / f"{name}.npy", np.concatenate(arrays))
        if not folder.exists():  # another process may have been first
            temporary.rename(folder)
    except OSError as error:
        raise OSError(
            error.errno, "can't write the cache of features; make room", str(folder)
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
