import numpy as np
import pytest

from m3jax.evals import channel_plots, error_counts


def test_lines_show_the_mean_error_at_each_importance():
    errors = {"equal": [0.2, 0.2, 0.2], "unequal": [0.5, 0.05, 0.1]}
    ax = channel_plots.error_by_importance([1.0, 3.0, 3.0], errors, title="heading")
    equal, unequal = ax.get_lines()
    np.testing.assert_array_equal(unequal.get_xdata(), [1.0, 3.0])
    np.testing.assert_allclose(unequal.get_ydata(), [0.5, 0.075])
    np.testing.assert_allclose(equal.get_ydata(), 0.2)
    # (0.5 + 3 * 0.05 + 3 * 0.1) / 7
    assert unequal.get_label() == "unequal (weighted 0.136)"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("importance", "mean square error")
    assert ax.get_yscale() == "log" and ax.get_title() == "heading"


@pytest.mark.parametrize(
    ("importance", "errors", "told"),
    [
        ([1.0], {}, "no scheme"),
        ([0.0, 0.0], {"equal": [0.1, 0.1]}, "not all 0"),
        ([1.0, 2.0], {"equal": [0.1]}, "shape"),
    ],
)
def test_what_cannot_be_drawn_is_refused(importance, errors, told):
    with pytest.raises(ValueError, match=told):
        channel_plots.error_by_importance(importance, errors)


def counts_of(snrs_db, errors, trials):
    errors, trials = np.array(errors), np.full(len(snrs_db), trials)
    products = np.stack([errors**2, errors * trials, trials**2], axis=-1)
    return error_counts.ErrorCounts(
        snrs_db, np.ones_like(errors), errors, trials, products
    )


def test_error_rates_stand_beside_their_theory_with_intervals():
    found = counts_of((0.0, 5.0, 10.0, np.inf), [100, 10, 0, 0], 1000)
    ax = channel_plots.error_rate_vs_snr(
        {"16-QAM": found}, {"16-QAM": lambda snr: 0.1 / snr}
    )
    assert ax.get_yscale() == "log"
    exact, points, *_, at_most = ax.get_lines()
    np.testing.assert_allclose(exact.get_xdata()[[0, -1]], [0.0, 10.0])
    np.testing.assert_allclose(exact.get_ydata()[[0, -1]], [0.1, 0.01], rtol=1e-5)
    assert points.get_xdata().tolist() == [0.0, 5.0]
    assert points.get_ydata().tolist() == [0.1, 0.01]
    assert exact.get_color() == points.get_color()
    (box,) = ax.containers
    bars = box.lines[2][0].get_segments()
    _, low, high = found.interval()
    ends = [[segment[0, 1], segment[1, 1]] for segment in bars]
    np.testing.assert_allclose(ends, np.stack([low, high], axis=-1)[:2])
    assert (at_most.get_xdata(), at_most.get_ydata()) == ([10.0], [high[2]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["16-QAM"]


def test_no_count_is_an_error():
    with pytest.raises(ValueError, match="no count"):
        channel_plots.error_rate_vs_snr({"x": counts_of((np.inf,), [0], 10)})
