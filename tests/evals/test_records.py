"""Tidy records: on disk, selected, averaged."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from m3jax import base
from m3jax.evals import axes, records
from m3jax.files import disk


def _record(snr_db=0.0, seed=0, value=0.5, **other):
    fields = {"system": "s", "variant": "v", "metric": "accuracy", "unit": "1"}
    at = () if snr_db is None else axes.at(snr_db=snr_db)
    return base.Record(**{**fields, "at": at, **other}, seed=seed, value=value)


ROWS = [
    _record(-2.5, 0, 0.1),
    _record(math.inf, 1, 1.0),
    _record(None, 0, -math.inf, variant="chance"),
    _record(None, 0, math.inf, metric="latency", unit="s"),
]


def test_reading_gives_what_was_written(tmp_path):
    records.write(tmp_path / "evaluation.json", ROWS)
    assert records.read(tmp_path / "evaluation.json") == ROWS
    assert records.read(tmp_path) == ROWS


def test_nan_survives_the_file(tmp_path):
    records.write(tmp_path / "evaluation.json", [_record(value=math.nan)])
    assert math.isnan(records.read(tmp_path)[0].value)


def test_file_is_strict_json_with_the_fields_of_the_contract(tmp_path):
    path = tmp_path / "evaluation.json"
    records.write(path, ROWS)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    rows = json.loads(path.read_text(), parse_constant=refuse)
    assert [tuple(row) for row in rows] == [base.Record._fields] * len(ROWS)
    assert rows[1]["at"] == {"snr_db": "inf"}
    assert rows[2]["at"] == {}


def test_numpy_scalars_are_written_as_numbers(tmp_path):
    row = _record(np.float32(2.5), np.int64(3), np.float32(0.5))
    records.write(tmp_path / "evaluation.json", [row])
    assert records.read(tmp_path) == [_record(2.5, 3, 0.5)]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    records.write(path, ROWS)

    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full_disk)
    with pytest.raises(disk.DiskFullError, match="no room.*free some space"):
        records.write(path, [])
    assert records.read(path) == ROWS
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file_is_named_with_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"evaluation\.json; evaluate"):
        records.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[\n{", "is not JSON"),
        ("{}", "not a list"),
        ("[3]", "record 1 has not the fields"),
        ('[{"system": "s"}]', "record 1 has not the fields"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, fault):
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ValueError, match=fault):
        records.read(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("value", None), ("value", "high"), ("at", [])]
)
def test_a_field_that_is_no_number_is_named(tmp_path, field, value):
    row = ROWS[0]._asdict() | {"at": {"snr_db": -2.5}, field: value}
    (tmp_path / "evaluation.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=f"record 1: {field} is"):
        records.read(tmp_path)


def test_select_keeps_equal_fields_and_members_of_collections():
    assert records.select(ROWS, snr_db=None) == ROWS[2:]
    assert records.select(ROWS, snr_db=(-2.5, math.inf), seed=1) == ROWS[1:2]
    assert records.select(ROWS, metric="no such") == []


def test_by_seed_averages_over_the_places_that_are_named():
    rows = [_record(snr, seed, 10 * seed + snr) for snr in (0, 4) for seed in (0, 1)]
    rows += [_record(seed=seed, at=axes.at(snr_db=0, skill="x")) for seed in (0, 1)]
    found = records.by_seed(rows, "v", "accuracy", snr_db=(0, 4))
    np.testing.assert_array_equal(found, [2.0, 12.0])
    np.testing.assert_array_equal(
        found, records.by_seed(rows, "v", "accuracy", snr_db=records.ALL)
    )
    at_one = records.by_seed(rows, "v", "accuracy", snr_db=0.0, skill="x")
    np.testing.assert_array_equal(at_one, [0.5, 0.5])


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ({}, "no accuracy of 'v' was measured"),
        ({"skill": "x"}, "was measured over skill"),
        ({"snr_db": (0, 7)}, r"was measured at SNR \(dB\) \[7\]"),
    ],
)
def test_by_seed_names_what_was_not_measured(places, told):
    with pytest.raises(ValueError, match=told):
        records.by_seed([_record(0.0)], "v", "accuracy", **places)


def test_select_names_an_unknown_field():
    with pytest.raises(ValueError, match="'snr'"):
        records.select(ROWS, snr=0.0)


def test_aggregate_gives_mean_and_t_interval_over_seeds():
    values = [0.5, 0.7, 0.9, 0.6]
    rows = [_record(3.0, seed, value) for seed, value in enumerate(values)]
    (summary,) = records.aggregate(rows)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert summary.mean == pytest.approx(0.675)
    assert (summary.low, summary.high) == pytest.approx(expected)
    assert (summary.at, summary.num_seeds, summary.unit) == (axes.at(snr_db=3), 4, "1")


def test_aggregate_keeps_apart_all_that_differs_in_more_than_the_seed():
    rows = [
        _record(0.0, 0, 0.0),
        _record(1.0, 0, 1.0),
        _record(0.0, 0, 2.0, variant="w"),
        _record(0.0, 0, 3.0, metric="m"),
        _record(0.0, 0, 4.0, system="t"),
        _record(0.0, 1, 10.0),
    ]
    found = records.aggregate(rows)
    assert [summary.mean for summary in found] == [5.0, 1.0, 2.0, 3.0, 4.0]
    assert [summary.num_seeds for summary in found] == [2, 1, 1, 1, 1]


def test_one_seed_has_no_interval():
    (summary,) = records.aggregate([_record(value=0.25)])
    assert summary.mean == 0.25
    assert math.isnan(summary.low) and math.isnan(summary.high)


def test_aggregate_refuses_a_seed_that_comes_twice():
    with pytest.raises(ValueError, match="seed 0 .* twice"):
        records.aggregate([_record(), _record()])


def test_aggregate_refuses_to_mix_units():
    with pytest.raises(ValueError, match="different units"):
        records.aggregate([_record(unit="s"), _record(seed=1, unit="ms")])


def test_records_of_a_place_stand_there_no_more():
    rows = [
        base.Record("s", "a", axes.at(rate=r, skill="k"), 0, "m", r, "1")
        for r in (1, 2)
    ]
    (found,) = records.only_at(rows, rate=2.0)
    assert found.value == 2 and found.at == axes.at(skill="k")
