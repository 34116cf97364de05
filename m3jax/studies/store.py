"""Where a study's results are kept: a file for each unit, whole or not there."""

import json
import os
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np

from m3jax.evals import records
from m3jax.studies import study as study_lib
from m3jax.files import disk
from m3jax.train import typed_json

_SETTINGS = "settings.json"


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
        if result.arrays:
            temporary = self._path(unit, ".tmp.npz")
            np.savez_compressed(temporary, **result.arrays)
            temporary.replace(self._path(unit, ".npz"))
        curves = {name: list(map(float, row)) for name, row in result.curves.items()}
        if curves:
            disk.write_text(self._path(unit, ".curves"), json.dumps(curves))
        records.write(self._path(unit, ".json"), result.records)

    def get(self, unit: study_lib.Unit) -> study_lib.UnitResult:
        """What was kept."""
        rows, curves, arrays = records.read(self._path(unit, ".json")), {}, {}
        if (path := self._path(unit, ".curves")).exists():
            curves = json.loads(path.read_text(encoding="utf-8"))
        if (path := self._path(unit, ".npz")).exists():
            with np.load(path) as found:
                arrays = dict(found)
        return study_lib.UnitResult(rows, curves, arrays)

    def _path(self, unit: study_lib.Unit, suffix: str) -> pathlib.Path:
        name = urllib.parse.quote(unit.variant, safe=" +,=")
        return self._units / f"{name}-{unit.seed}{suffix}"
