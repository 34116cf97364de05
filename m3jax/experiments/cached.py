"""What is prepared once for all SNRs, computed once for a data set and kept on disk.

``base.System.prepare`` is what is kept: tokens of frozen encoders, and beside them all
features that go through it, so that no picture is read again. The cache is named by a
digest of what decides it: the program, the parameters that it touches, data set and
split. What is made is kept in half precision: tokens leave a LayerNorm, so it costs
them a relative error of 5e-4, and half the room. A cache whose files have changed since
they were written, by their checksums, is made anew.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from m3jax import base
from m3jax.data import pipeline, prepare
from m3jax.experiments import contract
from m3jax.files import locks, sums
from m3jax.ops import paths
from m3jax.train import progress, typed_json

_BATCH = 200
_SUMS = "sums.json"


def load(
    system: base.System,
    params: base.Params,
    data: contract.DataConfig,
    split: str,
    features: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """A split as ``system.prepare`` makes it.

    Args:
      system: one with ``prepare``.
      params: its parameters; those that it touches must not change afterwards.
      data: which set.
      split: "train", "validation" or "test".
      features: of those that go through it, which to give; None: those that the loss
        reads.
      limit: only the first that many examples; None: all.
      show_progress: show a bar while encoding.

    Returns:
      A nested dict of arrays [n, ...]; what was made is float16, memory-mapped from the
      cache.

    Raises:
      ValueError, OSError: of ``data.source``, a parameter is missing, or there is no
        room for the cache.
    """
    made, through = _shapes(system, params, data)
    folder = _folder(system, params, data, split, limit)
    wanted = system.reads if features is None else features
    kept = (*made, *(name for name in through if name in wanted))
    if _fault(folder, kept):
        with _explained_write(folder), locks.waited_for(folder):
            # Another process may have made it meanwhile.
            if fault := _fault(folder, kept):
                if (folder / _SUMS).exists():
                    logging.warning("the cache of features is made anew: %s", fault)
                source = data.source(split)
                size = len(source) if limit is None else min(limit, len(source))
                run = jax.jit(system.prepare)
                _write(
                    folder, _prepared(run, params, data, source, size, show_progress)
                )
    return paths.unflatten(
        {
            path: np.load(folder / _file(path), mmap_mode="r" if path in made else None)
            for path in kept
        }
    )


def batches(
    arrays: dict[str, Any], batch_size: int, seed: int
) -> grain.DatasetIterator:
    """Shuffled batches without end of what `load` gives."""
    return pipeline.batches(
        _Source(arrays), batch_size=batch_size, seed=seed, shuffle=True
    )


def touched(
    system: base.System, params: base.Params, data: contract.DataConfig
) -> list[str]:
    """Paths of the parameters that ``system.prepare`` depends on.

    Raises:
      ValueError: a parameter that it needs is missing.
    """
    traced = _explained(jax.make_jaxpr(system.prepare), params, batch_of(data)).jaxpr
    live = {var for var in traced.outvars if isinstance(var, jax.extend.core.Var)}
    for equation in reversed(traced.eqns):
        if live.intersection(equation.outvars):
            used = equation.invars
            live.update(v for v in used if isinstance(v, jax.extend.core.Var))
    leaves = zip(paths.flatten(params), traced.invars, strict=False)
    return [path for path, var in leaves if var in live]


class _Source:
    """Arrays, example by example."""

    def __init__(self, arrays: dict[str, Any]):
        self._arrays = arrays

    def __len__(self) -> int:
        return len(jax.tree.leaves(self._arrays)[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return jax.tree.map(lambda array: array[index], self._arrays)


def batch_of(data: contract.DataConfig, size: int = 1) -> dict[str, Any]:
    """Shapes and dtypes of a batch that holds all features."""
    return {
        name: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype)
        for name, leaf in data.features.items()
    }


def _shapes(system, params, data) -> tuple[list[str], list[str]]:
    """Paths of what is made, and names of what goes through."""
    batch = batch_of(data)
    prepared = paths.flatten(_explained(_eval_shape, params, batch, system.prepare))
    through = [path for path in prepared if path in batch]
    return [path for path in prepared if path not in batch], through


def _eval_shape(params, batch, prepare_fn):
    return jax.eval_shape(prepare_fn, params, batch)


def _explained(fn, *args):
    """What a function gives, or which parameter it lacks."""
    try:
        return fn(*args)
    except KeyError as error:
        raise ValueError(
            f"the parameters to start from have no {error.args[0]}, which is needed to"
            " prepare the data"
        ) from error


def _folder(system, params, data, split: str, limit: int | None) -> pathlib.Path:
    """Where the cache is: a name that changes with all that decides it."""
    program = _explained(
        jax.jit(system.prepare).lower, params, batch_of(data)
    ).as_text()
    about = [data.version, split, limit, program]
    digest = hashlib.sha256(json.dumps([*map(str, about)]).encode())
    leaves = paths.flatten(params)
    for path in sorted(touched(system, params, data)):
        digest.update(path.encode())
        digest.update(np.asarray(leaves[path]).tobytes())
    return prepare.root(data.data_dir) / "features" / digest.hexdigest()[:16]


def _prepared(
    run, params, data, source, size: int, show_progress: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Runs the preparation over a split; yields what is kept of each batch."""
    params = jax.device_put(params)
    names = list(data.features)
    with progress.Bar("encoding", size, "example", shown=show_progress) as bar:
        for at in range(0, size, _BATCH):
            rows = [source[i] for i in range(at, min(at + _BATCH, size))]
            batch = {name: np.stack([row[name] for row in rows]) for name in names}
            found = paths.flatten(jax.device_get(run(params, batch)))
            yield {
                path: leaf if path in batch else _halved(leaf)
                for path, leaf in found.items()
            }
            bar.to(min(at + _BATCH, size))


def _halved(leaf: np.ndarray) -> np.ndarray:
    is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
    return np.asarray(leaf, np.float16) if is_float else leaf


def _file(path: str) -> str:
    return f"{path.replace('/', '.')}.npy"


def _fault(folder: pathlib.Path, kept: Sequence[str]) -> str:
    """What is wrong with a cache; "" if its files are those that were written."""
    try:
        wanted = typed_json.read(folder / _SUMS)
        for path in kept:
            sums.check({_file(path): sums.of_file(folder / _file(path))}, wanted)
            if _file(path) not in wanted:
                return f"{folder / _file(path)} is unknown"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{folder}: {error}"
    return ""


def _write(folder: pathlib.Path, parts: Iterator[dict[str, np.ndarray]]) -> None:
    """Writes a cache; the checksums come last and say that it is whole."""
    (folder / _SUMS).unlink(missing_ok=True)
    arrays: dict[str, list[np.ndarray]] = {}
    for part in parts:
        for path, array in part.items():
            arrays.setdefault(path, []).append(array)
    found = {}
    for path, rows in arrays.items():
        file = folder / _file(path)
        np.save(file, np.concatenate(rows))
        found[file.name] = sums.of_file(file)
    typed_json.write(folder / _SUMS, found)


@contextlib.contextmanager
def _explained_write(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename and not str(error.filename).startswith(str(folder)):
            raise  # of the data themselves
        raise OSError(
            error.errno,
            f"can't write the cache of features ({error.strerror}); make room, or give"
            " a data_dir that can be written to",
            str(folder),
        ) from error
