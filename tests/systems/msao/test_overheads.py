"""What the probes add at published sizes, by hand and beside the paper's bounds."""

import pytest

from m3jax.nn import flops
from m3jax.systems.msao import overheads


def test_a_picture_by_hand():
    asked = overheads.Input(40, 56, 1)  # 4 tokens, 16 patches
    found = overheads.overhead(asked, relevance_dim=8)
    head = 16 * 1280 * 9 + flops.dense(16, 1280, 1)
    relevance = 16 * 1280 + flops.dense(1, 1536 + 1280, 8, 1)
    assert found.flops == head + relevance + 40 * 1536
    early = (2 * 675e6 * 16 + 4 * 32 * 1280 * 16 * 16) / 32
    assert found.early_flops == pytest.approx(early)
    weights = 1280 + (1536 + 1280 + 1) * 8
    assert found.bytes == 2 * (weights + 16 * 1281 + 1280)


@pytest.mark.parametrize("name", overheads.INPUTS)
def test_probes_stay_below_two_per_cent(name):
    """The bound of section 5.2, of operations and of seconds."""
    found = overheads.overhead(overheads.INPUTS[name])
    assert 0.0 < found.flops_share <= found.flops_share_with_early < 0.02
    assert found.seconds_share < 0.02
    assert found.bytes < 0.28e9


def test_frames_and_sound_cost_more():
    sizes = [overheads.overhead(asked).flops for asked in overheads.INPUTS.values()]
    assert sizes == sorted(sizes)
