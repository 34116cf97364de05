"""The study: python launch/reproduce.py mine.study --package=mine --size=smoke."""

import functools

from m3jax import base
from m3jax.evals import plots, records, tables
from m3jax.experiments import running
from m3jax.studies import study
from mine import config, system

VARIANTS = {"few uses": 1, "many uses": 4}


class Study:
    """More channel uses bring numbers across with a smaller error.

    Args:
      steps: of each training.
      seeds: of each variant.
    """

    def __init__(self, steps: int, seeds: int):
        self.settings = {"steps": steps, "seeds": seeds}

    def units(self) -> list[study.Unit]:
        """Every variant at every seed."""
        seeds = range(self.settings["seeds"])
        return [study.Unit(name, seed) for name in VARIANTS for seed in seeds]

    def prepare(self) -> None:
        """Nothing is shared."""

    def run(self, unit: study.Unit) -> study.UnitResult:
        """Trains one variant at one seed, and measures it."""
        made = config.get_config()
        made.system = system.Config(uses=VARIANTS[unit.variant])
        made.train.seed, made.train.steps = unit.seed, self.settings["steps"]
        state, losses = running.train_here(made)
        grid = base.Grid(unit.variant, (0.0, 10.0, 20.0), num_seeds=1)
        rows = made.build().evaluate(state.params, grid, lambda share: None)
        rows = [row._replace(seed=unit.seed) for row in rows]
        return study.UnitResult(rows, {"loss": losses})

    def conclude(self, results: study.Results) -> list[base.Record]:
        """Nothing more is measured of all units together."""
        return []

    def verdicts(self, results: study.Results) -> list[study.Verdict]:
        """Judges the claim by the difference at each seed."""
        error = functools.partial(
            records.by_seed, results.records, metric="square_error", snr_db=20.0
        )
        saved = error(variant="few uses") - error(variant="many uses")
        return [study.judge("Four uses lose less than one", saved, 0.0, unit="power")]

    def summarise(self, results: study.Results) -> str:
        """The table beside the verdicts."""
        summaries = records.aggregate(results.records)
        return tables.markdown(summaries, rows="snr_db", digits=3)

    def draw(self, results: study.Results, folder):
        """One picture."""
        ax = plots.metric_over(results.records, "square_error")
        return [plots.save(ax.figure, folder / "error.png")]


def make_study(size: str) -> Study:
    """The study of a size."""
    return Study(steps=20, seeds=2) if size == "smoke" else Study(400, 5)
