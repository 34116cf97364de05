"""The token workload in PyTorch, compiled, in real arithmetic.

PyTorch's compiler leaves complex numbers alone, so the axes are kept apart, and its own
random numbers are slow on a CPU, so they are drawn outside, into the same memory each
time: the fastest way found to write it.
"""

from collections.abc import Callable, Sequence

import torch


def loss(
    values: torch.Tensor, no: torch.Tensor, gains: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Mean square error of tokens after Rayleigh fading, noise and an MMSE equaliser.

    Args:
      values: ``[batch, tokens, reals]``; a token is one fading block.
      no: noise power per complex symbol.
      gains: standard normal ``[2, batch, tokens, 1]``, an axis each.
      noise: standard normal ``[2, batch, tokens, reals / 2]``.
    """
    real, imag = values.chunk(2, dim=-1)
    power = (real.square() + imag.square()).mean(dim=(1, 2), keepdim=True)
    scale = power.rsqrt()
    real, imag = real * scale, imag * scale
    h_real, h_imag = 0.5**0.5 * gains
    n_real, n_imag = (0.5 * no).sqrt() * noise
    y_real = h_real * real - h_imag * imag + n_real
    y_imag = h_real * imag + h_imag * real + n_imag
    weight = 2.0**0.5 / (h_real.square() + h_imag.square() + no)
    received = torch.cat(
        [
            weight * (h_real * y_real + h_imag * y_imag),
            weight * (h_real * y_imag - h_imag * y_real),
        ],
        dim=-1,
    )
    return (received - values).square().mean()


def make_step(
    values: torch.Tensor, snrs: Sequence[float], compiled: bool = True
) -> Callable[[], tuple[list[float], torch.Tensor]]:
    """Makes a call that returns the loss at each SNR and the gradient of their sum."""
    loss_fn = torch.compile(loss) if compiled else loss
    powers = [torch.tensor(1.0 / snr) for snr in snrs]
    batch, tokens, reals = values.shape
    gains = torch.empty(2, batch, tokens, 1)
    noise = torch.empty(2, batch, tokens, reals // 2)

    def step() -> tuple[list[float], torch.Tensor]:
        x = values.detach().requires_grad_()
        losses = []
        for no in powers:
            found = loss_fn(x, no, gains.normal_(), noise.normal_())
            found.backward()  # at once, while the numbers are in the cache
            losses.append(found.item())
        return losses, x.grad

    return step
