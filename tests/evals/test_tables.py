"""Markdown tables."""

import math

import pytest

from m3jax import base
from m3jax.evals import axes, records, tables


def _summary(variant="a", snr_db=0.0, mean=0.5, half=0.1, unit="1", metric="m"):
    low, high = mean - half, mean + half
    return records.Summary(
        *("s", variant, axes.at(snr_db=snr_db), metric), *(mean, low, high, 5, unit)
    )


def test_table_has_a_row_an_snr_and_a_column_a_variant():
    rows = [_summary("a", -2.5), _summary("a", math.inf), _summary("b", -2.5, 0.251)]
    assert tables.markdown(rows).splitlines() == [
        "| SNR (dB) | a (%) | b (%) |",
        "|---|---|---|",
        "| -2.5 | 50.0 ± 10.0 | 25.1 ± 10.0 |",
        "| inf | 50.0 ± 10.0 | - |",
    ]


def test_any_two_fields_can_lay_out_a_table_and_units_are_kept():
    rows = [_summary(metric=name, mean=2.0, half=math.nan, unit="s") for name in "pq"]
    table = tables.markdown(rows, rows="metric", columns="system", digits=2)
    assert table.splitlines()[0] == "| metric | s (s) |"
    assert table.splitlines()[-1] == "| q | 2.00 |"


@pytest.mark.parametrize(
    ("rows", "layout", "fault"),
    [
        ([], {}, "no summary"),
        ([_summary()], {"rows": "snr"}, "no field 'snr'"),
        ([_summary(), _summary(metric="n")], {}, "two summaries"),
        ([_summary(), _summary("b", unit="s")], {}, "one unit"),
    ],
)
def test_what_makes_no_table_is_refused(rows, layout, fault):
    with pytest.raises(ValueError, match=fault):
        tables.markdown(rows, **layout)


def test_metrics_side_by_side_leave_out_what_was_not_measured():
    rows = [
        base.Record("s", "a", (), 0, "accuracy", 0.5, "1"),
        base.Record("s", "b", (), 0, "accuracy", 0.25, "1"),
        base.Record("s", "b", (), 0, "latency_ms", 3.0, "ms"),
    ]
    assert tables.side_by_side(rows, rows="variant").splitlines() == [
        "| variant | accuracy (%) | latency_ms (ms) |",
        "|---|---|---|",
        "| a | 50.00 | - |",
        "| b | 25.00 | 3.00 |",
    ]
