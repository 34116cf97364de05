"""What frozen encoders make of a data set, computed once and kept on disk.

A composition root like ``m3jax.experiment``. The cache is named by a digest of what
decides it: the encoders' program and parameters, data set and split. Half precision:
tokens leave a LayerNorm, so it costs them a relative error of 5e-4, and half the room.
Beside tokens it keeps all that is small, so that no picture is read again.
"""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from m3jax import base
from m3jax.data import captions, edgescenes, examples, pipeline, prepare
from m3jax.ops import paths

_ENCODERS = r"\w+_encoder/.*"
_INPUTS = ("image", "audio", "video")
_SMALL = (*(n for n in examples.FEATURES if n not in _INPUTS), *captions.FEATURES)
_TOKENS = "tokens."
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
      ValueError, OSError: of ``pipeline.load``, an encoder is missing, or there is no
        room for the cache.
    """
    encode = jax.jit(lambda p, batch: system.predict["encode"](p, batch, None))
    folder = _folder(encode, params, data, split, limit)
    if not folder.exists():
        source = pipeline.load(data, split)
        size = len(source) if limit is None else min(limit, len(source))
        _write(folder, _encoded(encode, params, source, size, show_progress))
    kept = {path.stem: path for path in sorted(folder.glob("*.npy"))}
    tokens = {
        name.removeprefix(_TOKENS): np.load(path, mmap_mode="r")
        for name, path in kept.items()
        if name.startswith(_TOKENS)
    }
    return {**{name: np.load(kept[name]) for name in features}, "tokens": tokens}


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


def _folder(encode, params, data, split: str, limit: int | None) -> pathlib.Path:
    """Where the cache is: a name that changes with all that decides it."""
    batch = {
        name: jax.ShapeDtypeStruct((1, *examples.FEATURES[name][0]), dtype)
        for name, dtype in ((n, np.dtype(examples.FEATURES[n][1])) for n in _INPUTS)
    }
    encoders = paths.select(params, paths.mask(params, _ENCODERS))
    try:
        program = encode.lower(params, batch).as_text()
    except KeyError as error:
        raise ValueError(
            f"the parameters to start from have no {error.args[0]}, which encodes"
        ) from error
    about = [edgescenes.EdgeScenes.VERSION, data.name, data.config, split, limit]
    digest = hashlib.sha256(json.dumps([*map(str, about), program]).encode())
    for path, leaf in sorted(paths.flatten(encoders).items()):
        digest.update(path.encode())
        digest.update(np.asarray(leaf).tobytes())
    root = pathlib.Path(data.data_dir or prepare.default_data_dir()).expanduser()
    return root / "features" / digest.hexdigest()[:16]


def _encoded(
    encode, params, source, size: int, show_progress: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Runs the encoders over a split; yields what is kept of each batch."""
    params = jax.device_put(params)
    starts = range(0, size, _BATCH)
    for at in tqdm.tqdm(starts, "encoding", disable=not show_progress or None):
        rows = [source[i] for i in range(at, min(at + _BATCH, size))]
        told = [row | captions.make(row) for row in rows]
        inputs, small = (
            {n: np.stack([row[n] for row in told]) for n in names if n in told[0]}
            for names in (_INPUTS, _SMALL)
        )
        tokens = jax.device_get(encode(params, inputs))
        half = {f"{_TOKENS}{n}": np.asarray(x, np.float16) for n, x in tokens.items()}
        yield small | half


def _write(folder: pathlib.Path, batches: Iterator[dict[str, np.ndarray]]) -> None:
    """Writes the whole cache or none of it."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for name, array in batch.items():
            parts.setdefault(name, []).append(array)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, arrays in parts.items():
            np.save(temporary / f"{name}.npy", np.concatenate(arrays))
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first, with the same
                raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"can't write the cache of features ({error.strerror}); make room, or give"
            " a data_dir that can be written to",
            str(folder),
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
