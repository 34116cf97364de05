import numpy as np
import pytest

from m3jax.evals import allocation_plots


def test_a_line_ends_where_its_cost_stops_moving():
    histories = {"equal": [3.0, 2.0, 1.0, 1.0, 1.0], "at rest": [1.0, 1.0, 1.0]}
    ax = allocation_plots.cost_by_step(histories, baseline=2.5, title="heading")
    equal, at_rest, baseline = ax.get_lines()
    np.testing.assert_array_equal(equal.get_xydata(), [[0, 3], [1, 2], [2, 1]])
    np.testing.assert_array_equal(at_rest.get_xydata(), [[0, 1]])
    assert list(baseline.get_ydata()) == [2.5, 2.5]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["equal", "at rest", "baseline"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "weighted cost")
    assert ax.get_title() == "heading"
    again = allocation_plots.cost_by_step({"more": [2.0, 1.0]}, ax=ax)
    assert again is ax and len(ax.get_lines()) == 4


def test_amounts_stand_in_the_order_of_distance():
    amounts = {"tokens": [5.0, 7.0, 6.0], "power (W)": [0.1, 0.0, 0.1]}
    fig = allocation_plots.by_distance([300.0, 20.0, 100.0], amounts)
    tokens, power = fig.axes
    (line,) = tokens.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [20.0, 100.0, 300.0])
    np.testing.assert_array_equal(line.get_ydata(), [7.0, 6.0, 5.0])
    assert (tokens.get_xlabel(), tokens.get_ylabel()) == ("distance (m)", "tokens")
    assert power.get_ylabel() == "power (W)" and power.get_ylim()[0] == 0.0


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="no history"):
        allocation_plots.cost_by_step({})
    with pytest.raises(ValueError, match="no amount"):
        allocation_plots.by_distance([1.0], {})
    with pytest.raises(ValueError, match=r"'tokens' has shape \(1,\)"):
        allocation_plots.by_distance([1.0, 2.0], {"tokens": [1.0]})
