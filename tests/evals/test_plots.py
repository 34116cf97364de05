"""What the pictures show, read back from their artists."""

import math

import numpy as np
import pytest
from matplotlib import collections

from m3jax import base
from m3jax.evals import axes, plot_style, plots

SNRS = (0.0, 5.0, 10.0)
METRIC = "answer_accuracy"


def _rows(variant="a", snrs=SNRS, values=(0.2, 0.4), axis="snr_db", **at):
    places = [at if snr is None else {**at, axis: snr} for snr in snrs]
    return [
        base.Record("s", variant, axes.at(**place), seed, METRIC, value, "1")
        for place in places
        for seed, value in enumerate(values)
    ]


def _named(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_a_line_shows_the_means_and_its_band_the_t_interval():
    ax = plots.metric_over(_rows())
    np.testing.assert_array_equal(_named(ax)["a"].get_xdata(), SNRS)
    np.testing.assert_allclose(_named(ax)["a"].get_ydata(), [0.3] * 3)
    (band,) = [c for c in ax.collections if isinstance(c, collections.PolyCollection)]
    heights = band.get_paths()[0].vertices[:, 1]
    half = 12.7062 * 0.1  # t of one degree of freedom times the standard error
    ends = [heights.min(), heights.max()]
    np.testing.assert_allclose(ends, [0.3 - half, 0.3 + half], rtol=1e-5)


def test_any_numeric_axis_is_drawn_with_its_unit():
    ax = plots.metric_over(_rows(axis="energy_j"), axis="energy_j")
    assert ax.get_xlabel() == "energy (J)"
    np.testing.assert_array_equal(_named(ax)["a"].get_xdata(), SNRS)
    with pytest.raises(ValueError, match="fading has 'awgn', which is no number"):
        plots.metric_over(_rows(axis="fading", snrs=("awgn",)), axis="fading")


def test_axes_name_what_they_show_with_units():
    ax = plots.metric_over(_rows(), title="heading")
    assert ax.get_xlabel() == "SNR Es/N0 (dB)"
    assert ax.get_ylabel() == "answer accuracy (%)"
    assert ax.get_title() == "heading"
    assert ax.get_ylim()[0] == 0.0
    assert ax.yaxis.get_major_formatter()(0.5) == "50"


def test_variants_without_snr_are_horizontal_lines():
    rows = [*_rows(), *_rows("chance", (None,), (0.2,))]
    line = _named(plots.metric_over(rows))["chance"]
    assert list(line.get_ydata()) == [0.2, 0.2]
    assert line.get_linestyle() == "--"


def test_no_noise_stands_apart_to_the_right():
    ax = plots.metric_over(_rows(snrs=(*SNRS, math.inf)))
    assert ax.get_xticklabels()[-1].get_text() == "∞"
    assert ax.get_xticks()[-1] > max(SNRS) + 1.0
    np.testing.assert_array_equal(_named(ax)["a"].get_xdata(), SNRS)


@pytest.mark.parametrize("snrs", [(math.inf,), (5.0,), (None,)])
def test_a_single_point_of_one_seed_can_be_drawn_and_is_named(snrs, tmp_path):
    ax = plots.metric_over(_rows(snrs=snrs, values=(0.5,)))
    assert ax.get_legend_handles_labels()[1] == ["a"]
    plots.save(ax.figure, tmp_path / "a.png")


def test_two_variants_differ_in_colour_and_marker():
    lines = _named(plots.metric_over([*_rows("a"), *_rows("b")]))
    assert lines["a"].get_color() != lines["b"].get_color()
    assert lines["a"].get_marker() != lines["b"].get_marker()


def test_more_variants_than_colours_can_be_drawn():
    assert len(plot_style.styles(map(str, range(20)))) == 20


def test_groups_make_panels_in_their_order_with_one_legend(tmp_path):
    names = ("count", "audio_visual", "prior")
    rows = [row for name in names for row in _rows(skill=name)]
    panels = plots.metric_over_by_group([*_rows(), *rows], columns=2)
    assert [ax.get_title() for ax in panels] == ["count", "audio visual", "prior"]
    assert all(ax.get_legend() is None for ax in panels)
    (legend,) = panels[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a"]
    assert plots.save(panels[0].figure, tmp_path / "plots" / "g.png").stat().st_size


def test_training_curves_leave_out_rows_without_a_finite_value():
    rows = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "accuracy": 0.5},
        {"step": 3, "loss": math.nan},
        {"step": 4, "loss": 1.0},
    ]
    ax = plots.training_curves({"run": rows, "other": rows[:1]}, log=True)
    np.testing.assert_array_equal(_named(ax)["run"].get_xdata(), [1, 4])
    np.testing.assert_array_equal(_named(ax)["run"].get_ydata(), [2.0, 1.0])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")


def test_drawing_nothing_is_an_error_that_names_the_metric():
    with pytest.raises(ValueError, match="'f1'"):
        plots.metric_over(_rows(), "f1")
    with pytest.raises(ValueError, match="skill of 'answer_accuracy'"):
        plots.metric_over_by_group(_rows())
    with pytest.raises(ValueError, match="'loss'"):
        plots.training_curves({"run": [{"step": 1}]})
