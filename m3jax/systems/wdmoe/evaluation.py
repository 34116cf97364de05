"""WDMoE over bandwidths or SNRs, beside top-k and the paper's policy.

Examples of one domain are at the base station together; every method meets the same
channels.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.evals import axes
from m3jax.experiments import contract, over_snr
from m3jax.ops import units
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import config as config_lib
from m3jax.systems.wdmoe import probe as probe_lib
from m3jax.systems.wdmoe import system as system_lib
from m3jax.train import config as train_config

_READS = ("question", "answer", "domain")
_SEED = 7_000


@dataclasses.dataclass
class OverCells:
    """Measures a model over total bandwidths, or over SNRs at that of its settings.

    Attributes:
      bandwidths_hz: what all devices share.
      num_prompts: examples of one domain that are at the base station together.
      num_watched: examples of the validation split looked at while training.
    """

    bandwidths_hz: tuple[float, ...] = (20e6, 40e6, 60e6, 80e6, 100e6, 120e6)
    num_prompts: int = 50
    num_watched: int = 450

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for field in ("num_prompts", "num_watched"):
            train_config.check_count(f"evaluator.{field}", getattr(self, field), 1)
        if not self.bandwidths_hz or not all(value > 0 for value in self.bandwidths_hz):
            raise ValueError(
                f"evaluator.bandwidths_hz is {self.bandwidths_hz}; give at least one"
                " number above 0"
            )

    def evaluate(
        self,
        settings: config_lib.Config,
        data: contract.DataConfig,
        params: base.Params,
        grid: base.Grid,
        tell: base.Tell,
    ) -> list[base.Record]:
        """Measures a trained model.

        Args:
          settings: of the system.
          data: which set.
          params: its parameters.
          grid: without SNRs, bandwidths are measured; an SNR is the mean uplink's of a
            device at the middle of the cell at even bandwidths.
          tell: takes the share of the work that is done.

        Returns:
          Rows of answer_accuracy, asked and latency_ms for the settings' policy and
          split, and for the methods beside them, at ``bandwidth_mhz`` or ``snr_db``;
          and, at the settings' bandwidth, by domain.
        """
        arrays = pipeline.as_arrays(data.source(grid.split), grid.num_examples, _READS)
        batches = list(by_domain(arrays, self.num_prompts))
        probe = probe_lib.Probe(settings)
        own = settings.policy, settings.split, grid.variant
        points = [
            (None, settings.cell.bandwidth_hz, 0.0),
            *self._points(settings, grid),
        ]
        rows, done = [], 0
        for at, bandwidth_hz, offset_db in points:
            for seed in range(grid.num_seeds):
                found = []
                for number, (domain, size, batch) in enumerate(batches):
                    key = _key(seed, number)
                    met = probe(params, batch, key, bandwidth_hz, offset_db)
                    found.append((domain, size, met))
                    done += 1
                    tell(done / (len(points) * grid.num_seeds * len(batches)))
                rows += _rows(own, found, data, at, seed)
        return rows

    def watch(
        self, settings: config_lib.Config, data: contract.DataConfig
    ) -> tuple[str, Callable[[base.Params], Mapping[str, float]]]:
        """Accuracy on some of the validation split."""
        watched = over_snr.OverSnr(num_watched=self.num_watched)
        return watched.watch(settings, data)

    def _points(self, settings: config_lib.Config, grid: base.Grid):
        if grid.snrs_db is None:
            return [
                (axes.at(bandwidth_mhz=hertz / 1e6), hertz, 0.0)
                for hertz in self.bandwidths_hz
            ]
        hertz, own_db = settings.cell.bandwidth_hz, middle_snr_db(settings.cell)
        return [
            (axes.at(snr_db=snr_db), hertz, snr_db - own_db) for snr_db in grid.snrs_db
        ]


def middle_snr_db(cell: cells.Cell) -> float:
    """Mean uplink SNR of a device at the middle of the cell, at even bandwidths."""
    loss_db = cells.path_loss_db(0.5 * (cell.near_m + cell.far_m), cell.carrier_hz)
    noise_w = cell.noise_w_per_hz * cell.bandwidth_hz / cell.num_devices
    return float(units.lin_to_db(cell.up_power_w / noise_w) - loss_db)


def by_domain(
    arrays: Mapping[str, np.ndarray], num_prompts: int
) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
    """(domain, examples, batch): batches of one domain each.

    The last one of a domain is filled up with nothing but padding, so that all have one
    shape.
    """
    for domain in np.unique(arrays["domain"]):
        own = arrays["domain"] == domain
        chosen = {name: arrays[name][own] for name in ("question", "answer")}
        for batch in pipeline.split_batches(chosen, num_prompts):
            size = len(batch["question"])
            spare = [(0, num_prompts - size), (0, 0)]
            yield int(domain), size, {n: np.pad(a, spare) for n, a in batch.items()}


def _rows(own, found, data, at, seed: int) -> list[base.Record]:
    """Rows of all methods: over all domains at ``at``, or by domain if None."""
    rows = []
    for policy, split, variant in _methods(own):
        mine = [(domain, size, met[policy]) for domain, size, met in found]
        groups = {(): mine} if at is None else {at: mine}
        if at is None:
            groups |= {
                axes.at(**{data.group_key: group}): [
                    part for part in mine if part[0] == number
                ]
                for number, group in enumerate(data.groups)
            }
        for where, parts in groups.items():
            if not parts:
                continue
            sizes = [size for _, size, _ in parts]
            place = tuple(probe_lib.SPLITS).index(split)
            values = {
                "answer_accuracy": np.concatenate(
                    [m.right[:size] for _, size, m in parts]
                ).mean(),
                "latency_ms": 1e3 * np.mean([m.seconds[place] for *_, m in parts]),
                "asked": np.average([m.asked for *_, m in parts], weights=sizes),
            }
            rows += [
                base.Record(
                    *(config_lib.Config.NAME, variant, where, seed),
                    *(metric, float(value), system_lib.METRICS[metric]),
                )
                for metric, value in values.items()
            ]
    return rows


def _methods(own: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    """(policy, split, name) of the settings' method and of those beside it."""
    policy, split, variant = own
    beside = [
        (known, way, f"{name}, {way_name}")
        for known, name in probe_lib.POLICIES.items()
        for way, way_name in probe_lib.SPLITS.items()
        if (known, way) != (policy, split)
    ]
    return [(policy, split, variant), *beside]


def _key(seed: int, number: int) -> base.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(_SEED), seed), number)
