import jax
import numpy as np
import pytest

from m3jax.systems.wdmoe import savings

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def small():
    return savings.surface(
        jax.random.key(0),
        (0.0, 0.5),
        (0.0, 1.0),
        num_draws=12,
        num_blocks=4,
        num_tokens=32,
    )


def column(surface, name):
    return surface.seconds[..., savings.METHODS.index(name)]


def test_no_split_is_slower_than_even_and_none_for_a_sequence_beats_that_of_blocks(
    small,
):
    for choice in ("top-k", "selected"):
        even, blocks, whole = (
            column(small, f"{split}, {choice}")
            for split in ("even", "per block", "per sequence")
        )
        assert (whole <= even * (1 + 1e-5)).all()
        assert (blocks <= whole * (1 + 1e-5)).all()
    assert small.worst_gap.max() < 1e-5


def test_fewer_tokens_are_no_slower(small):
    for split in ("even", "per block", "per sequence"):
        slower = column(small, f"{split}, selected") - column(small, f"{split}, top-k")
        assert (slower <= 1e-5 * column(small, f"{split}, top-k")).all()
    assert ((small.dropped > 0.0) & (small.dropped < 0.5)).all()


def test_preferences_make_loads_vary(small):
    assert small.load_variation[1] > small.load_variation[0] > 0.0


def test_savings_are_shares_with_intervals(small):
    found = savings.saved(small, "per block, selected")
    assert found.mean.shape == (2, 2)
    assert ((found.low < found.mean) & (found.mean < found.high)).all()
    np.testing.assert_array_equal(savings.saved(small, "even, top-k").mean, 0.0)


def test_workloads_stand_in_the_ratios_of_the_table():
    found = savings.workloads(
        jax.random.key(0), num_draws=4, num_blocks=2, smallest=8, most=8
    )
    seconds = {name: one.seconds[0, 0, :, 0].mean() for name, one in found.items()}
    ratio = seconds["MMLU"] / seconds["Humaneval"]
    assert ratio == pytest.approx(298813.6 / 572.6, rel=1e-4)
