"""A metric over two axes: every value in its field."""

import numpy as np
import pytest

from m3jax import base
from m3jax.evals import axes, heat_maps, plot_style, report


def rows(variants=("a", "b"), metric="answer_accuracy", unit="1"):
    return [
        base.Record(
            "s", name, axes.at(tau_s=t, energy_j=e), seed, metric, t * e / 100, unit
        )
        for name in variants
        for t in (1.0, 2.0)
        for e in (5.0, 10.0, 20.0)
        for seed in range(2)
    ]


def texts(fig):
    return [[t.get_text() for t in ax.texts] for ax in fig.axes]


def test_every_value_stands_in_its_field_in_per_cent():
    fig = heat_maps.metric_over_pair(rows(), "answer_accuracy", ("tau_s", "energy_j"))
    expected = ["5.0", "10.0", "20.0", "10.0", "20.0", "40.0"]
    assert texts(fig)[:2] == [expected, expected]
    first = fig.axes[0]
    assert first.get_title() == "a"
    assert first.get_ylabel() == "tau (s)"
    assert [t.get_text() for t in first.get_xticklabels()] == ["5", "10", "20"]


def test_all_maps_share_their_colours_and_gaps_stay_empty():
    some = [r for r in rows() if r.variant == "a" or dict(r.at)["energy_j"] < 20]
    fig = heat_maps.metric_over_pair(some, "answer_accuracy", ("tau_s", "energy_j"))
    spans = {ax.images[0].get_clim() for ax in fig.axes[:2]}
    assert spans == {(5.0, 40.0)}
    assert len(texts(fig)[1]) == 4


def test_other_units_are_shown_as_they_are():
    fig = heat_maps.metric_over_pair(
        rows(metric="delay_s", unit="s"), "delay_s", ("tau_s", "energy_j")
    )
    assert texts(fig)[0][0] == "0.05"


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="no record of 'nll' over tau_s and energy_j"):
        heat_maps.metric_over_pair(rows(), "nll", ("tau_s", "energy_j"))


def test_text_can_be_read_on_its_field():
    ax = plot_style.new_figure().subplots()
    heat_maps.draw(ax, np.array([[0.0, 100.0]]), ["r"], ["low", "high"])
    assert [t.get_color() for t in ax.texts] == ["white", "black"]


def test_a_report_has_a_table_and_a_map_for_two_axes(tmp_path):
    alone = base.Record("s", "a", (), 0, "answer_accuracy", 0.9, "1")
    plots = report.write([alone, *rows()], tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "a: answer accuracy by energy (J)" in table
    assert "| tau (s) | 5 (%) | 10 (%) | 20 (%) |" in table
    assert "| answer_accuracy | 90.0 |" in table
    assert [p.name for p in plots] == ["answer_accuracy_over_tau_s_and_energy_j.png"]
