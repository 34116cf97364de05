"""Time and energy of computing on a device (MoE2, equation 4).

All functions take one device and one model or, their numbers being arrays, many.
"""

import jax.numpy as jnp

from m3jax import base
from m3jax.costs import checks, devices, models

OVERLAPS = ("sum", "roofline")


def compute_time(
    device: devices.Device,
    flops: base.Array,
    num_bytes: base.Array,
    overlap: str = "sum",
) -> base.Array:
    """Seconds of one forward pass.

        flops / capability + bytes / bandwidth + overhead

    Args:
      device: where it runs.
      flops: operations.
      num_bytes: bytes moved.
      overlap: "sum" as printed; "roofline" takes the larger of the two, as a device
        does that computes while it reads (Williams, Waterman and Patterson 2009).

    Raises:
      ValueError: another overlap.
    """
    checks.choice("compute_time", "overlap", overlap, OVERLAPS)
    computing = flops / device.usable_flops_per_s
    reading = num_bytes / device.usable_bytes_per_s
    if overlap == "sum":
        return computing + reading + device.overhead_s
    return jnp.maximum(computing, reading) + device.overhead_s


def prefill_time(
    device: devices.Device,
    model: models.LanguageModel,
    prompt: base.Array,
    overlap: str = "sum",
) -> base.Array:
    """Seconds until a prompt of that many tokens is read and its next token scored."""
    flops, moved = model.prefill_flops(prompt), model.prefill_bytes(prompt)
    return compute_time(device, flops, moved, overlap)


def decode_time(
    device: devices.Device,
    model: models.LanguageModel,
    context: base.Array,
    overlap: str = "sum",
) -> base.Array:
    """Seconds for the next token after ``context`` others.

    Example:
      >>> on = devices.RTX_4090, models.QWEN2_5_7B_Q4
      >>> round(1e3 * decode_time(*on, 100.0), 2)  # milliseconds
      8.31
    """
    flops, moved = model.decode_flops(context), model.decode_bytes(context)
    return compute_time(device, flops, moved, overlap)


def energy(
    device: devices.Device, seconds: base.Array, waiting_s: base.Array = 0.0
) -> base.Array:
    """Joules of computing for so long: power times time.

    Args:
      device: where it runs.
      seconds: of computing.
      waiting_s: of waiting, at ``idle_power_w``. The presets have 0 W there, so that
        waiting is not counted unless one asks for it.
    """
    return device.power_w * seconds + device.idle_power_w * waiting_s


def check_memory(device: devices.Device, model: models.LanguageModel) -> None:
    """Raises ValueError if the weights do not fit the device."""
    if model.weight_bytes > device.memory_bytes:
        raise ValueError(
            f"{model.name} has {model.weight_bytes / 1e9:.1f} GB of weights and"
            f" {device.name} {device.memory_bytes / 1e9:.1f} GB of memory: take fewer"
            " bits_per_weight, or another device"
        )
