"""WDMoE over cells: one domain at a time, the same channels for every method."""

import numpy as np
import pytest

from m3jax import base
from m3jax.data.edgetext import dataset
from m3jax.evals import records as records_lib
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import evaluation, probe
from tests.systems.wdmoe.conftest import make_batch, make_config


def test_batches_hold_one_domain_and_every_example_once():
    rng = np.random.default_rng(0)
    arrays = {
        **make_batch(size=23),
        "domain": rng.integers(0, 3, 23).astype(np.int32),
    }
    found = list(evaluation.by_domain(arrays, 4))
    rows = np.concatenate([batch["question"][:size] for _, size, batch in found])
    np.testing.assert_array_equal(
        np.sort(rows, axis=0), np.sort(arrays["question"], axis=0)
    )
    for domain, size, batch in found:
        own = arrays["question"][arrays["domain"] == domain]
        assert (batch["question"][:size, None] == own).all(-1).any(-1).all()
        assert batch["question"].shape == (4, 5) and not batch["answer"][size:].any()


def test_the_middle_of_the_cell_has_the_snr_that_its_budget_gives():
    cell = cells.Cell(near_m=100.0, far_m=100.0)
    assert evaluation.middle_snr_db(cell) == pytest.approx(42.7, abs=0.1)


class Texts(dataset.Config):
    """A handful of made examples in place of the stored set."""

    def source(self, split):
        """Eight rows of two domains."""
        del split
        batch = make_batch(size=8, seed=1)
        return [
            {name: array[row] for name, array in batch.items()} | {"domain": row % 2}
            for row in range(8)
        ]


@pytest.fixture(scope="module")
def rows(mixture):
    settings, params = mixture
    found = []
    evaluator = evaluation.OverCells(bandwidths_hz=(20e6, 80e6), num_prompts=4)
    grid = base.Grid(variant="ours", num_seeds=2)
    records = evaluator.evaluate(
        make_config(policy="cosine"), Texts(), params, grid, found.append
    )
    assert found == sorted(found) and found[-1] == 1.0
    return records


def test_answers_of_top_k_do_not_depend_on_band_seed_or_split(rows):
    right = {
        row.value
        for row in rows
        if row.variant.startswith("top-k")
        and row.metric == "answer_accuracy"
        and dict(row.at).keys() <= {"bandwidth_mhz"}
    }
    assert len(right) == 1


def test_more_band_is_never_slower_and_a_split_never_slower_than_even(rows):
    def seconds(variant, mhz):
        return records_lib.by_seed(rows, variant, "latency_ms", bandwidth_mhz=mhz)

    for policy in ("top-k", "cosine"):
        names = {split: f"{policy}, {name}" for split, name in probe.SPLITS.items()}
        if policy == "cosine":
            names["per_sequence"] = "ours"
        for name in names.values():
            assert (seconds(name, 80.0) < seconds(name, 20.0)).all()
        block, whole, even = (
            seconds(names[split], 20.0)
            for split in ("per_block", "per_sequence", "even")
        )
        assert (block <= whole).all() and (whole <= even).all()


def test_domains_average_to_the_whole(rows):
    whole = records_lib.by_seed(rows, "ours", "answer_accuracy")
    parts = records_lib.by_seed(
        rows, "ours", "answer_accuracy", domain=("arithmetic", "sorting")
    )
    np.testing.assert_allclose(whole, parts)


def test_an_evaluator_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="bandwidths_hz"):
        evaluation.OverCells(bandwidths_hz=()).validate()
    with pytest.raises(ValueError, match="num_prompts"):
        evaluation.OverCells(num_prompts=0).validate()
