"""MoE2 under budgets and over SNRs, beside what knows the same and learns nothing.

Which experts are in use is solved exactly for every point: all subsets, the gate's
weights restricted to each, their losses on validation examples, and their delays and
energies over drawn responses.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.costs import budgets, responses
from m3jax.data import pipeline
from m3jax.evals import axes
from m3jax.experiments import contract, over_snr
from m3jax.systems.moe2 import baselines, config, pool, selection, tables
from m3jax.systems.moe2 import weights as weights_lib
from m3jax.train import config as train_config

_READS = ("question", "answer", "domain")
_BATCH = 500
_SEED = 5_000


@dataclasses.dataclass
class UnderBudgets:
    """Measures MoE2 over a grid of budgets, or of SNRs at the budget of its settings.

    Attributes:
      taus_s: limits of the mean delay, in seconds.
      energies_j: limits of the mean energy, in joules.
      num_draws: responses whose delays and energies are averaged, the same ones for all
        methods at a seed.
      num_watched: examples of the validation split looked at while training.
    """

    taus_s: tuple[float, ...] = (1.0, 2.0, 3.0)
    energies_j: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0, 25.0, 35.0, 50.0)
    num_draws: int = 1_024
    num_watched: int = 450

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for field in ("num_draws", "num_watched"):
            train_config.check_count(f"evaluator.{field}", getattr(self, field), 1)
        for field in ("taus_s", "energies_j"):
            values = getattr(self, field)
            if not values or not all(value > 0 for value in values):
                raise ValueError(
                    f"evaluator.{field} is {values}; give at least one number above 0"
                )

    def evaluate(
        self,
        settings: config.Config,
        data: contract.DataConfig,
        params: base.Params,
        grid: base.Grid,
        tell: base.Tell,
    ) -> list[base.Record]:
        """Measures a trained gate.

        Args:
          settings: of the system.
          data: which set.
          params: its parameters.
          grid: without SNRs, the grid of budgets is measured; with SNRs, which are the
            mean ones over the servers' links, the settings' budget.
          tell: takes the share of the work that is done.

        Returns:
          Rows of answer_accuracy, asked, delay_s and energy_j for MoE2 and the methods
          beside it, at ``tau_s`` and ``energy_j`` or at ``snr_db``; and, at no budget,
          by domain.
        """
        known = self._tables(settings, data, params, grid, tell)
        judge = Judge(settings, params, known["validation"], known[grid.split])
        rows = judge.without_budget(grid.variant, data.groups, data.group_key)
        tell(0.6)
        points = self._points(settings, grid)
        for number, (at, budget, offset_db) in enumerate(points):
            for seed in range(grid.num_seeds):
                drawn = settings.spending.draw(
                    _key(seed), judge.num_experts, self.num_draws, offset_db
                )
                rows += judge.under(budget, drawn, grid.variant, at, seed)
            tell(0.6 + 0.4 * (number + 1) / len(points))
        return rows

    def watch(
        self, settings: config.Config, data: contract.DataConfig
    ) -> tuple[str, Callable[[base.Params], Mapping[str, float]]]:
        """Accuracy on some of the validation split, all experts in use."""
        return over_snr.OverSnr(num_watched=self.num_watched).watch(settings, data)

    def _tables(self, settings, data, params, grid, tell) -> dict[str, tables.Table]:
        splits = dict.fromkeys(("validation", grid.split))
        experts = pool.Pool(settings.pool)
        found = {}
        for number, split in enumerate(splits):
            limit = grid.num_examples if split == grid.split else None
            arrays = pipeline.as_arrays(data.source(split), limit, _READS)
            found[split] = tables.tabulate(
                experts,
                params["pool"],
                arrays,
                lambda share, n=number: tell(0.5 * (n + share) / len(splits)),
            )
        return found

    def _points(
        self, settings: config.Config, grid: base.Grid
    ) -> list[tuple[base.At, budgets.Budget, float]]:
        given = settings.spending.budget
        if grid.snrs_db is not None:
            fleet = settings.spending.fleet(settings.pool.num_experts)
            mean_db = float(np.mean([server.snr_db for server in fleet]))
            return [
                (axes.at(snr_db=snr_db), given, snr_db - mean_db)
                for snr_db in grid.snrs_db
            ]
        return [
            (
                axes.at(tau_s=tau_s, energy_j=energy_j),
                budgets.Budget(tau_s, energy_j, given.per),
                0.0,
            )
            for tau_s in self.taus_s
            for energy_j in self.energies_j
        ]


class Judge:
    """Measures methods on the same experts, examples and responses.

    Args:
      settings: of the system.
      params: its parameters.
      known: examples that may be learnt from, such as validation.
      asked: examples that are measured.
    """

    def __init__(
        self,
        settings: config.Config,
        params: base.Params,
        known: tables.Table,
        asked: tables.Table,
    ):
        self.settings, self.known, self.asked = settings, known, asked
        self.num_experts = known.num_experts
        self._system = settings.make_system()
        self._params = jax.device_put(params)
        self._answer = jax.jit(self._system.predict["answer"])
        self._weights = jax.jit(self._system.predict["weights"])
        self._fused_cache: dict[tuple[bytes, float], np.ndarray] = {}

    @functools.cached_property
    def restricted(self) -> np.ndarray:
        """Losses ``[2^N]`` of the gate restricted to each subset, on known examples."""
        given, example = self.known.token_rows()
        gates = self._gates(self.known)[example]
        return np.asarray(weights_lib.restrict_losses(gates, given))

    def weights(self) -> np.ndarray:
        """The gate's weights over all experts for each example asked, [M, N]."""
        return self._gates(self.asked)

    def fused(self, members: np.ndarray, snr_db: float = np.inf) -> np.ndarray:
        """Whether MoE2 with a subset answers each example correctly, bool [M].

        Args:
          members: bool [N].
          snr_db: of a learned upload's link.
        """
        name = np.asarray(members, bool).tobytes(), snr_db
        if name not in self._fused_cache:
            self._fused_cache[name] = self._fuse(np.asarray(members, bool), snr_db)
        return self._fused_cache[name]

    def voted(self, members: np.ndarray, weights: np.ndarray | None = None):
        """Whether a vote of a subset answers each example correctly, bool [M]."""
        votes = np.ones(self.num_experts) if weights is None else weights
        members = jnp.asarray(members, bool)
        return np.asarray(
            baselines.vote_is_right(self.asked.said, self.asked.answer, votes, members)
        )

    def without_budget(
        self, variant: str, groups: tuple[str, ...], group_key: str
    ) -> list[base.Record]:
        """Rows of all methods with all experts, over all examples and by group."""
        everyone, right = np.ones(self.num_experts, bool), self.asked.right
        found = {
            variant: self.fused(everyone),
            "majority vote": self.voted(everyone),
            "accuracy-weighted vote": self.voted(
                everyone, baselines.log_odds(self.known.right.mean(axis=0))
            ),
            "best single": right[:, baselines.best_single(self.known.right)],
            "average expert": right.mean(axis=1),
            "oracle expert": right.any(axis=1),
        }
        rows = []
        for name, values in found.items():
            rows.append(self._row(name, (), 0, "answer_accuracy", values.mean()))
            for number, group in enumerate(groups):
                own = values[self.asked.domain == number]
                if len(own):
                    at = axes.at(**{group_key: group})
                    rows.append(self._row(name, at, 0, "answer_accuracy", own.mean()))
        return rows

    def under(
        self,
        budget: budgets.Budget,
        drawn: responses.Responses,
        variant: str,
        at: base.At,
        seed: int,
    ) -> list[base.Record]:
        """Rows of MoE2, and of votes by the same and by random experts, in a budget.

        A budget that nobody keeps is answered by nobody: accuracy 0.
        """
        problem = selection.make_problem(
            self.restricted,
            np.asarray(responses.phases_as_samples(drawn)),
            np.asarray(drawn.energies_j).mean(axis=0),
            budget,
            kind="restrict",
        )
        chosen = selection.enumerate_best(problem).members
        by_chance = selection.random_feasible(_key(seed), problem).members
        snr_db = dict(at).get("snr_db")
        fused = functools.partial(
            self.fused, snr_db=np.inf if snr_db is None else snr_db
        )
        found = {
            variant: (chosen, fused),
            "same experts, vote": (chosen, self.voted),
            "random experts, vote": (by_chance, self.voted),
        }
        rows = []
        for name, (members, method) in found.items():
            right = method(members).mean() if members.any() else 0.0
            spent = {
                "answer_accuracy": right,
                "asked": float(members.sum()),
                "delay_s": float(jnp.mean(responses.set_delays(drawn, members))),
                "energy_j": float(np.asarray(drawn.energies_j).mean(axis=0) @ members),
            }
            rows += [self._row(name, at, seed, m, value) for m, value in spent.items()]
        return rows

    def _gates(self, table: tables.Table) -> np.ndarray:
        batch = {
            "embedding": table.embedding,
            "members": np.ones((len(table.answer), self.num_experts), bool),
        }
        return np.asarray(self._weights(self._params, batch, jax.random.key(0)))

    def _fuse(self, members: np.ndarray, snr_db: float) -> np.ndarray:
        right = []
        arrays: dict[str, Any] = {
            name: getattr(self.asked, name)
            for name in ("question", "answer", "embedding", "log_probs")
        }
        for batch in pipeline.split_batches(arrays, _BATCH):
            size = len(batch["answer"])
            batch["members"] = np.broadcast_to(members, (size, len(members)))
            batch["snr_db"] = np.full(size, snr_db, np.float32)
            scores = self._answer(self._params, batch, jax.random.key(0))
            right.append(np.asarray(scores["answer_accuracy"]) > 0.5)
        return np.concatenate(right)

    def _row(self, variant, at, seed, metric, value) -> base.Record:
        unit = self._system.metrics[metric]
        name = self.settings.NAME
        return base.Record(name, variant, at, seed, metric, float(value), unit)


def _key(seed: int) -> base.Array:
    return jax.random.fold_in(jax.random.key(_SEED), seed)
