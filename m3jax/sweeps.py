"""Sweeps: one experiment for each point of a grid of config fields.

A composition root like ``m3jax.experiment``. Each point is an ordinary run in a folder
of its own, so a sweep that was stopped goes on where it was.
"""

import ast
import copy
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from m3jax import base, evaluation, experiment
from m3jax.evals import records
from m3jax.train import workdir

SEED = "train.seed"


def parse_over(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Turns ``path=value,value`` texts into the axes of a grid.

    Args:
      texts: such as ``"train.seed=0,1,2"``; values are Python literals or bare words.

    Returns:
      Path of the config field -> its values.

    Raises:
      ValueError: a text is malformed, has no value, or a path or value comes twice.

    Example:
      >>> parse_over(["train.seed=0,1", "system.compressor=stride,window_pool"])
      {'train.seed': (0, 1), 'system.compressor': ('stride', 'window_pool')}
    """
    axes: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        if not path.strip() or not equals or not values.strip():
            raise ValueError(
                f"--over={text!r} is malformed; write path=value,value, for example "
                "train.seed=0,1,2"
            )
        if path.strip() in axes:
            raise ValueError(f"--over names {path.strip()!r} twice")
        axes[path.strip()] = parsed = _parse_values(values)
        if len(set(map(repr, parsed))) < len(parsed):
            raise ValueError(f"--over={text!r} has a value twice")
    return axes


def _parse_values(text: str) -> tuple[Any, ...]:
    try:
        values = ast.literal_eval(f"({text},)")
    except (SyntaxError, ValueError):
        values = tuple(_parse_value(part.strip()) for part in text.split(","))
    return values


def _parse_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def with_fields(
    config: experiment.Experiment, fields: Mapping[str, Any]
) -> experiment.Experiment:
    """A copy of a config with some fields set, by dotted path.

    Raises:
      ValueError: there is no such field, or the value is of another type.
    """
    config = copy.deepcopy(config)
    for path, value in fields.items():
        *parents, name = path.split(".")
        holder = config
        for parent in parents:
            holder = getattr(holder, parent, None)
        known = getattr(type(holder), "__dataclass_fields__", {})
        if name not in known:
            raise ValueError(
                f"the config has no field {path!r}; see the fields of "
                f"{type(holder if known else config).__name__}"
            )
        old = getattr(holder, name)
        if type(old) is float and type(value) is int:
            value = float(value)
        may_be_none = value is None and "None" in str(known[name].type)
        if old is not None and type(value) is not type(old) and not may_be_none:
            raise ValueError(
                f"{path} is {type(old).__name__} {old!r}; it can't be {value!r}"
            )
        setattr(holder, name, value)
    return config


def run(
    config: experiment.Experiment,
    axes: Mapping[str, Sequence[Any]],
    directory: str | os.PathLike[str],
    *,
    snrs_db: Sequence[float],
    num_seeds: int,
    num_examples: int | None = None,
) -> list[base.Record]:
    """Trains and measures every point of a grid.

    Points that differ only in ``train.seed`` are one variant, and a record's seed is
    the training seed: intervals then tell how much training varies.

    Args:
      config: what all points share.
      axes: from ``parse_over``.
      directory: gets one workdir for each point.
      snrs_db: SNRs in dB; inf is a link without noise.
      num_seeds: draws of noise and fading for each run.
      num_examples: look at the first that many of the test split; None looks at all.

    Returns:
      The records of all variants, averaged over draws of noise.

    Raises:
      ValueError: a field does not exist or does not fit.
    """
    grid = [
        dict(zip(axes, values, strict=True))
        for values in itertools.product(*axes.values())
    ]
    configs = [with_fields(config, point) for point in grid]
    for point in configs:  # before anything is trained
        point.validate()
    rows: list[base.Record] = []
    for number, (point, made) in enumerate(zip(grid, configs, strict=True), start=1):
        name = ",".join(f"{path.split('.')[-1]}={v}" for path, v in point.items())
        folder = pathlib.Path(directory) / name.replace("/", "_")
        print(f"[{number}/{len(grid)}] {name}", flush=True)
        resume = workdir.has_checkpoints(folder)
        experiment.train(made, folder, resume=resume)
        restored = experiment.restore(folder)
        variant = _variant(point)
        measured = evaluation.evaluate(
            restored, snrs_db, num_seeds, variant=variant, num_examples=num_examples
        )
        records.write(folder / "evaluation.json", measured)
        rows += _mean_over_noise(measured, point.get(SEED, config.train.seed))
    return rows + evaluation.floor(config, num_examples)


def _variant(point: Mapping[str, Any]) -> str:
    """Name of a point without its seed."""
    parts = [f"{path.split('.')[-1]}={v}" for path, v in point.items() if path != SEED]
    return ", ".join(parts) or "tuned"


def _mean_over_noise(rows: Sequence[base.Record], seed: int) -> list[base.Record]:
    return [
        base.Record(s.system, s.variant, s.at, seed, s.metric, s.mean, s.unit)
        for s in records.aggregate(rows)
    ]
