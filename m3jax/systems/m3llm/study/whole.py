"""M3LLM's study as the runner wants it."""

import dataclasses
import pathlib

from m3jax import base
from m3jax.evals import curves
from m3jax.studies import compiling
from m3jax.studies import study as study_lib
from m3jax.systems.m3llm.study import (
    case_study,
    claims,
    forecasts,
    measure,
    pictures,
    tables,
    training,
    variants,
)
from m3jax.train import typed_json


class M3llmStudy:
    """Routers of ``variants.py``, reference policies, and forecasts.

    Args:
      settings: of what size.
    """

    def __init__(self, settings: variants.Settings):
        self._settings = settings
        self._programs = training.Programs(settings)
        made = {n: dataclasses.asdict(v) for n, v in settings.variants.items()}
        self.settings = {**typed_json.to_json(settings), "variants": made}

    def units(self) -> list[study_lib.Unit]:
        """Every variant, the references and the forecasts, at each seed."""
        chosen = self._settings.variants
        programs = {n: v.program for n, v in chosen.items()}
        weights = {n: v.weight for n, v in chosen.items()}
        weights |= {variants.REFERENCES: 0.5, variants.REFERENCES + variants.ALONE: 0.2}
        weights |= {variants.LINEAR: 0.2, variants.BURSTY: 0.2}
        return [
            study_lib.Unit(name, seed, weight, programs.get(name, ""))
            for name, weight in weights.items()
            for seed in range(self._settings.num_seeds)
        ]

    def prepare(self) -> None:
        """Measures the experts, which is kept on disk for all processes."""
        with compiling.quickly(self._settings.compiles_quickly):
            self._programs.world(self._settings.world.copies)

    def run(self, unit: study_lib.Unit) -> study_lib.UnitResult:
        """Trains and measures one variant at one seed."""
        with compiling.quickly(self._settings.compiles_quickly):
            return self._measure(unit)

    def _measure(self, unit):
        settings, name, seed = self._settings, unit.variant, unit.seed
        if name == variants.LINEAR:
            return study_lib.UnitResult(forecasts.linear(settings, seed))
        if name == variants.BURSTY:
            return study_lib.UnitResult(forecasts.bursty(self._programs, seed))
        if name.startswith(variants.REFERENCES):
            suffix = name.removeprefix(variants.REFERENCES)
            where = settings.world_of(variants.VARIANTS[variants.FULL + suffix])
            rows, arrays = measure.references(self._programs, where, seed)
            return study_lib.UnitResult(rows, {}, arrays)
        variant = variants.VARIANTS[name]
        world = self._programs.world(settings.world_of(variant).copies)
        trained = training.train(self._programs, variant, seed)
        rows, arrays = measure.router(settings, name, seed, trained, world)
        if not variant.has_copies:
            rows += case_study.measure(self._programs, seed, trained, world)
        return study_lib.UnitResult(rows, trained.curves, arrays)

    def conclude(self, results: study_lib.Results) -> list[base.Record]:
        """Steps of each variant to the level that M3LLM converges to at that seed."""
        rows, copies = [], self._settings.world.copies
        compared = tables.trained(tables.at_copies(results.records, copies))
        for (name, seed), looks in results.curves.items():
            if name not in compared:
                continue
            full = results.curves[variants.FULL, seed]["reward"]
            goal = measure.risen(measure.RECOVERY, full)
            steps = curves.steps_to_level(goal, looks["env_steps"], looks["reward"])
            found = {"common_level_steps": steps}
            rows += variants.rows(name, seed, found, copies=copies)
        return rows

    def verdicts(self, results: study_lib.Results) -> list[study_lib.Verdict]:
        """Judges the claims."""
        return claims.verdicts(results.records)

    def summarise(self, results: study_lib.Results) -> str:
        """Tables of what the verdicts rest on."""
        return tables.tables(results.records)

    def draw(
        self, results: study_lib.Results, folder: pathlib.Path
    ) -> list[pathlib.Path]:
        """Draws all pictures."""
        return pictures.draw(self._settings, results, folder)


def make_study(size: str) -> M3llmStudy:
    """The study of a size: "laptop" or "smoke"."""
    return M3llmStudy(variants.smoke() if size == "smoke" else variants.Settings())
