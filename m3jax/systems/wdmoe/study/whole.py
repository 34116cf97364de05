"""WDMoE's study as the runner wants it."""

import pathlib

from m3jax import base
from m3jax.studies import compiling
from m3jax.studies import study as study_lib
from m3jax.systems.wdmoe.study import (
    claims,
    measure,
    pictures,
    played,
    preset,
    tables,
    training,
    variants,
)
from m3jax.train import typed_json


class WdmoeStudy:
    """Mixtures, what policies and splits save, the testbed, and tuned routers.

    Args:
      settings: of what size.
    """

    def __init__(self, settings: variants.Settings):
        self._settings = settings
        self._shared = training.Shared(settings)
        self.settings = typed_json.to_json(settings)

    def units(self) -> list[study_lib.Unit]:
        """Mixtures first, for routers start from them; beside them what needs none."""
        weights = {variants.MIXTURE: 8.0, variants.SURFACE: 2.0, variants.CURVES: 2.0}
        weights |= {variants.AMPLE: 3.0, variants.PLAYED: 2.0}
        weights |= dict.fromkeys(variants.router_names(self._settings), 2.0)
        return [
            study_lib.Unit(name, seed, weight, program=name)
            for name, weight in weights.items()
            for seed in range(self._settings.num_seeds)
        ]

    def prepare(self) -> None:
        """Reads the examples, so that no two processes make the set."""
        _ = self._shared.examples

    def run(self, unit: study_lib.Unit) -> study_lib.UnitResult:
        """Trains and measures at one seed."""
        with compiling.quickly(self._settings.compiles_quickly):
            if unit.variant == variants.MIXTURE:
                rows, arrays = measure.mixture(self._shared, unit.seed)
                return study_lib.UnitResult(rows, {}, arrays)
            return study_lib.UnitResult(self._measure(unit.variant, unit.seed))

    def _measure(self, variant: str, seed: int) -> list[base.Record]:
        if variant == variants.AMPLE:
            return measure.ample(self._shared, seed)
        if variant == variants.PLAYED:
            return played.measure(self._shared, seed)
        if variant == variants.SURFACE:
            return preset.surface(self._settings, seed)
        if variant == variants.CURVES:
            return preset.curves(self._settings, seed)
        return measure.router(self._shared, variant, seed)

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


def make_study(size: str) -> WdmoeStudy:
    """The study of a size: "laptop" or "smoke"."""
    return WdmoeStudy(variants.smoke() if size == "smoke" else variants.Settings())
