"""The link workloads in Sionna PHY, as its user guide builds them from blocks."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sionna.phy import channel, mapping, utils

BITS_PER_SYMBOL = 4

Count = Callable[[torch.Tensor], torch.Tensor]
"""Noise power to the number of wrong bits in one batch."""


def make_count(
    symbols: int, block_length: int | None = None, per_axis: bool = False
) -> Count:
    """Builds the chain from random bits to the number of wrong ones, 16-QAM.

    Args:
      symbols: of one batch, a multiple of ``block_length``.
      block_length: symbols with one Rayleigh gain, which the receiver knows; None:
        no fading.
      per_axis: decides by rounding each axis instead of comparing with all 16 points.
        Sionna has no such block; this one tells what the algorithm alone is worth.
    """
    source = mapping.BinarySource()
    mapper = mapping.Mapper("qam", BITS_PER_SYMBOL)
    awgn = channel.AWGN()
    fading = channel.GenerateFlatFadingChannel(1, 1)
    # Of two methods with the same hard decisions the faster one.
    demapper = mapping.Demapper("maxlog", "qam", BITS_PER_SYMBOL, hard_out=True)
    row = block_length or 1000
    rows = symbols // row

    def count(no: torch.Tensor) -> torch.Tensor:
        bits = source([rows, row * BITS_PER_SYMBOL])
        x = mapper(bits)
        if block_length is None:
            y = awgn(x, no)
        else:
            h = fading(rows)[:, :, 0]
            y = awgn(h * x, no) / h
            no = no / h.abs().square()
        decided = decide_per_axis(y) if per_axis else demapper(y, no)
        return utils.count_errors(bits, decided)

    return count


def decide_per_axis(y: torch.Tensor) -> torch.Tensor:
    """Bits of the nearest 16-QAM points, by the axes (3GPP TS 38.211, 5.1.4).

    x = ((1 - 2 b0) (2 - (1 - 2 b2)) + j (1 - 2 b1) (2 - (1 - 2 b3))) / sqrt(10)
    """
    axes = torch.view_as_real(y)
    outer = axes.abs() > 2.0 / 10.0**0.5
    bits = torch.cat([axes < 0.0, outer], dim=-1)
    return bits.flatten(-2).to(y.real.dtype)


def count_errors(count: Count, snrs: Sequence[float], batches: int) -> np.ndarray:
    """Wrong bits at each linear SNR, one after the other, in so many batches each."""
    found = []
    with torch.no_grad():
        for snr in snrs:
            no = torch.tensor(1.0 / snr, dtype=torch.float32)
            found.append(int(sum(count(no) for _ in range(batches))))
    return np.array(found)


def gradient(
    x: torch.Tensor,
    snrs: Sequence[float],
    draw_gains: Callable[[int], torch.Tensor],
    awgn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> tuple[float, torch.Tensor]:
    """Mean square error after a one-tap MMSE equaliser, and its gradient by symbols.

    Args:
      x: complex symbols ``[blocks, block_length]``.
      snrs: linear SNRs; the errors are summed over them.
      draw_gains: ``blocks -> [blocks, 1]``.
      awgn: ``(signal, noise power) -> signal`` with noise.

    Returns:
      The sum of the errors and its gradient, complex, as PyTorch has it.
    """
    x = x.detach().requires_grad_()
    total = 0.0
    for snr in snrs:
        no = torch.tensor(1.0 / snr, dtype=torch.float32)
        h = draw_gains(x.shape[0])
        y = awgn(h * x, no)
        x_hat = h.conj() * y / (h.abs().square() + no)
        error = (x_hat - x).abs().square().mean()
        error.backward()  # at once, while the numbers are in the cache
        total += error.item()
    return total, x.grad


def make_draws() -> tuple[Callable, Callable]:
    """Sionna's blocks for ``gradient``."""
    fading = channel.GenerateFlatFadingChannel(1, 1)
    return lambda blocks: fading(blocks)[:, :, 0], channel.AWGN()
