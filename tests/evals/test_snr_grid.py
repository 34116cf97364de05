"""SNR grids as text."""

import math

import numpy as np
import pytest

from m3jax.evals import snr_grid


def test_range_has_both_ends():
    assert snr_grid.parse_range("-10:20:2.5") == tuple(np.arange(-10.0, 20.1, 2.5))


def test_range_stops_before_an_end_the_step_does_not_fit():
    assert snr_grid.parse_range("0:10:4") == (0.0, 4.0, 8.0)


def test_step_inexact_in_binary_keeps_the_end_and_round_values():
    values = snr_grid.parse_range("0:1:0.1")
    assert values == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def test_single_numbers_infinity_and_ranges_mix_in_their_order():
    assert snr_grid.parse_range("20, 0:2:1,inf") == (20.0, 0.0, 1.0, 2.0, math.inf)


def test_one_point_range():
    assert snr_grid.parse_range("5:5:1") == (5.0,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nan", "no SNR"),
        ("0:nan:1", "no SNR"),
        ("-inf", "no SNR"),
        ("", "no number"),
        ("0,,1", "no number"),
        ("ten", "no number"),
        ("0:10", "no start:stop:step"),
        ("0:10:1:1", "no start:stop:step"),
        ("0:10:0", "step 0"),
        ("10:0:-1", "step -1"),
        ("10:0:1", "backwards"),
        ("0:inf:1", "endless"),
        ("0:10:inf", "endless"),
        ("0,5,0", "0 dB twice"),
        ("inf,inf", "inf dB twice"),
        ("0:10:1e-300", "over 1000"),
        ("0:999:1,-1", "1000 is the limit"),
    ],
)
def test_bad_text_gets_an_error_naming_it_and_the_mend(text, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        snr_grid.parse_range(text)
    assert repr(text) in str(caught.value)
    assert "start:stop:step" in str(caught.value)
