"""Where a study's results are kept: a file for each unit, whole or not there."""

import json
import os
import pathlib
import tempfile
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from absl import logging

from m3jax.evals import records
from m3jax.files import disk, sums
from m3jax.studies import study as study_lib
from m3jax.train import typed_json

_SETTINGS = "settings.json"
_SUFFIXES = (".json", ".npz", ".curves", ".sums")


class Store:
    """The folder of one study.

    Args:
      folder: made if need be.
      settings: plain JSON values of all that decides the results.

    Raises:
      ValueError: the folder holds results of other settings.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]):
        self.folder = pathlib.Path(folder)
        self._units = self.folder / "units"
        self._units.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(settings))
        path = self.folder / _SETTINGS
        if path.exists():
            there = json.loads(path.read_text(encoding="utf-8"))
            where = typed_json.first_difference(there, settings)
            if where:
                raise ValueError(
                    f"{self.folder} holds results of other settings ({where}); take "
                    "another --out"
                )
        typed_json.write(path, settings)

    def has(self, unit: study_lib.Unit) -> bool:
        """Whether the unit has been run."""
        return self._path(unit, ".json").exists()

    def put(self, unit: study_lib.Unit, result: study_lib.UnitResult) -> None:
        """Keeps a unit's result; its records come last and say that it is whole."""
        crcs = {}
        if result.arrays:
            path = self._path(unit, ".npz")
            handle, temporary = tempfile.mkstemp(dir=self._units, suffix=".npz")
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **result.arrays)
            os.replace(temporary, path)
            crcs[path.name] = sums.of_file(path)
        curves = {name: list(map(float, row)) for name, row in result.curves.items()}
        if curves:
            path = self._path(unit, ".curves")
            disk.write_text(path, json.dumps(curves))
            crcs[path.name] = sums.of_file(path)
        path = self._path(unit, ".sums")
        records_path = self._path(unit, ".json")
        crcs[records_path.name] = sums.of_text(records.to_text(result.records))
        typed_json.write(path, crcs)
        records.write(records_path, result.records)

    def get(self, unit: study_lib.Unit) -> study_lib.UnitResult:
        """What was kept.

        Raises:
          OSError, ValueError: a file is damaged; names it.
        """
        self._check(unit)
        rows, curves, arrays = records.read(self._path(unit, ".json")), {}, {}
        if (path := self._path(unit, ".curves")).exists():
            curves = json.loads(path.read_text(encoding="utf-8"))
        if (path := self._path(unit, ".npz")).exists():
            with np.load(path) as found:
                arrays = dict(found)
        return study_lib.UnitResult(rows, curves, arrays)

    def set_damaged_aside(self, units: Iterable[study_lib.Unit]) -> None:
        """Looks at all that was kept; what is damaged is kept beside, and told.

        Such a unit then counts as not run.
        """
        for unit in filter(self.has, units):
            try:
                self.get(unit)
            except Exception as error:  # damage has many types
                logging.warning(
                    "unit %r, seed %s, is damaged and is run again: %s",
                    *(unit.variant, unit.seed, error),
                )
                for suffix in _SUFFIXES:
                    if (path := self._path(unit, suffix)).exists():
                        disk.set_aside(path)

    def _check(self, unit: study_lib.Unit) -> None:
        """Compares a unit's files with their checksums, which older ones lack."""
        path = self._path(unit, ".sums")
        if path.exists():
            wanted = typed_json.read(path)
            found = {n: sums.of_file(self._units / n) for n in wanted}
            sums.check(found, wanted)

    def _path(self, unit: study_lib.Unit, suffix: str) -> pathlib.Path:
        name = urllib.parse.quote(unit.variant, safe=" +,=")
        return self._units / f"{name}-{unit.seed}{suffix}"
