"""TokCom's study as the runner wants it."""

import dataclasses
import functools
import pathlib

import jax

from m3jax import base
from m3jax.studies import compiling
from m3jax.studies import study as study_lib
from m3jax.systems.tokcom.study import (
    claims,
    measure,
    pictures,
    training,
    users,
    variants,
)
from m3jax.train import typed_json


class TokComStudy:
    """Variants of ``variants.py``, measured as ``measure.py`` says.

    Args:
      settings: of what size.
    """

    def __init__(self, settings: variants.Settings):
        self._settings = settings
        self._programs = training.Programs(settings)
        self._variants = variants.make_variants(settings)
        made = {n: dataclasses.asdict(v) for n, v in self._variants.items()}
        self.settings = {**typed_json.to_json(settings), "variants": made}

    def units(self) -> list[study_lib.Unit]:
        """Every variant at each of its seeds."""
        return [
            study_lib.Unit(name, seed, variant.weight, variant.program)
            for name, variant in self._variants.items()
            for seed in range(variant.num_seeds)
        ]

    def prepare(self) -> None:
        """Makes the data set and the cache of features."""
        with compiling.quickly(self._settings.compiles_quickly):
            training.load_data(self._settings, show_progress=True)

    def run(self, unit: study_lib.Unit) -> study_lib.UnitResult:
        """Trains and measures one variant at one seed."""
        with compiling.quickly(self._settings.compiles_quickly):
            return self._measure(unit)

    def _measure(self, unit):
        settings, variant = self._settings, self._variants[unit.variant]
        data, start = self._resident
        is_shown = unit.variant == variants.BOTH and unit.seed == 0
        trained = training.train(
            *(settings, variant, unit.seed, data, start, self._programs), is_shown
        )
        about = trained, unit.variant, unit.seed
        if variant.bits is None:
            rows = measure.analog(settings, *about, data.test)
        else:
            rows = measure.digital(settings, *about, data.test)
        rows += measure.convergence(*about)
        arrays = {}
        if is_shown:
            for when in ("before", "after"):
                found = getattr(trained, when)
                arrays |= {f"{when}_{name}": array for name, array in found.items()}
            arrays["audio_caption_words"] = data.validation["audio_caption"]
        return study_lib.UnitResult(rows, trained.curves, arrays)

    @functools.cached_property
    def _resident(self) -> tuple[training.Data, base.Params]:
        """Data, training split on the device, and what all start from."""
        data = training.load_data(self._settings)
        data = data._replace(train=jax.device_put(data.train))
        return data, training.foundation(self._settings)

    def conclude(self, results: study_lib.Results) -> list[base.Record]:
        """What is measured of all units together: the allocation of several users."""
        with compiling.quickly(self._settings.compiles_quickly):
            return users.measure(self._settings, results.records)

    def verdicts(self, results: study_lib.Results) -> list[study_lib.Verdict]:
        """Judges the claims."""
        return claims.verdicts(self._settings, results.records)

    def summarise(self, results: study_lib.Results) -> str:
        """Tables of what the verdicts rest on."""
        return claims.tables(self._settings, results.records)

    def draw(
        self, results: study_lib.Results, folder: pathlib.Path
    ) -> list[pathlib.Path]:
        """Draws all pictures."""
        return pictures.draw(self._settings, results, folder)


def make_study(size: str) -> TokComStudy:
    """The study of a size: "laptop" or "smoke"."""
    return TokComStudy(variants.smoke() if size == "smoke" else variants.Settings())
