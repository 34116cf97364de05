"""MSAO's study as the runner wants it."""

import pathlib

from m3jax import base
from m3jax.studies import compiling
from m3jax.studies import study as study_lib
from m3jax.systems.msao.study import (
    claims,
    measure,
    pictures,
    planned,
    probing,
    shared,
    tables,
    variants,
)
from m3jax.train import typed_json


class MsaoStudy:
    """Ways to answer between edge and cloud, probes, and the search of plans.

    Args:
      settings: of what size.
    """

    def __init__(self, settings: variants.Settings):
        self._settings = settings
        self._shared = shared.Shared(settings)
        self.settings = typed_json.to_json(settings)

    def units(self) -> list[study_lib.Unit]:
        """Probes first, for they train."""
        weights = {variants.PROBES: 4.0, variants.PLANS: 2.0}
        weights |= dict.fromkeys(variants.WORKLOADS, 1.0)
        return [
            study_lib.Unit(name, seed, weight, program=name)
            for name, weight in weights.items()
            for seed in range(self._settings.num_seeds)
        ]

    def prepare(self) -> None:
        """Loads the models, so that what is missing is told at once."""
        _ = self._shared.params

    def run(self, unit: study_lib.Unit) -> study_lib.UnitResult:
        """Measures at one seed."""
        with compiling.quickly(self._settings.compiles_quickly):
            return self._measure(unit.variant, unit.seed)

    def _measure(self, variant: str, seed: int) -> study_lib.UnitResult:
        if variant == variants.PROBES:
            return study_lib.UnitResult(probing.measure(self._shared, seed))
        if variant == variants.PLANS:
            rows, arrays = planned.measure(self._shared, seed)
            return study_lib.UnitResult(rows, {}, arrays)
        return study_lib.UnitResult(measure.workload(self._shared, variant, seed))

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


def make_study(size: str) -> MsaoStudy:
    """The study of a size: "laptop" or "smoke"."""
    return MsaoStudy(variants.smoke() if size == "smoke" else variants.Settings())
