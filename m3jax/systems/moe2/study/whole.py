"""MoE2's study as the runner wants it."""

import pathlib

from m3jax import base
from m3jax.studies import compiling
from m3jax.studies import study as study_lib
from m3jax.systems.moe2.study import (
    claims,
    measure,
    pictures,
    search,
    tables,
    training,
    variants,
)
from m3jax.train import typed_json


class Moe2Study:
    """Gates beside all that needs none, systems trained end to end, and the search.

    Args:
      settings: of what size.
    """

    def __init__(self, settings: variants.Settings):
        self._settings = settings
        self._shared = training.Shared(settings)
        self.settings = typed_json.to_json(settings)

    def units(self) -> list[study_lib.Unit]:
        """Gates, systems trained end to end, and drawn instances, at each seed."""
        weights = {variants.MOE2: 2.0, variants.SELECTION: 1.0}
        weights |= dict.fromkeys(variants.STOPPED, 3.0)
        return [
            study_lib.Unit(name, seed, weight, program=name)
            for name, weight in weights.items()
            for seed in range(self._settings.num_seeds)
        ]

    def prepare(self) -> None:
        """Asks every expert about every prompt, once for all processes."""
        with compiling.quickly(self._settings.compiles_quickly):
            _ = self._shared.table

    def run(self, unit: study_lib.Unit) -> study_lib.UnitResult:
        """Trains and measures at one seed."""
        with compiling.quickly(self._settings.compiles_quickly):
            if unit.variant == variants.MOE2:
                rows, arrays = measure.gate(self._shared, unit.seed)
                return study_lib.UnitResult(rows, {}, arrays)
            if unit.variant == variants.SELECTION:
                return study_lib.UnitResult(search.measure(self._settings, unit.seed))
            return study_lib.UnitResult(
                measure.joint(self._shared, unit.variant, unit.seed)
            )

    def conclude(self, results: study_lib.Results) -> list[base.Record]:
        """Nothing is measured of several units together."""
        del results
        return []

    def verdicts(self, results: study_lib.Results) -> list[study_lib.Verdict]:
        """Judges the claims."""
        return claims.verdicts(self._settings, results.records)

    def summarise(self, results: study_lib.Results) -> str:
        """Tables of what the verdicts rest on."""
        return tables.tables(self._settings, results.records)

    def draw(
        self, results: study_lib.Results, folder: pathlib.Path
    ) -> list[pathlib.Path]:
        """Draws all pictures."""
        return pictures.draw(self._shared, results, folder)


def make_study(size: str) -> Moe2Study:
    """The study of a size: "laptop" or "smoke"."""
    return Moe2Study(variants.smoke() if size == "smoke" else variants.Settings())
