"""Time and energy of computing on a device (MoE2, equation 4)."""

import jax.numpy as jnp

from m3jax import base
from m3jax.costs import devices, models

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
        does that computes while it reads.

    Raises:
      ValueError: another overlap.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"overlap is {overlap!r}; choose one of {OVERLAPS}")
    computing = flops / (device.flops_per_s * device.flops_share)
    reading = num_bytes / (device.bytes_per_s * device.bytes_share)
    busy = computing + reading
    if overlap == "roofline":
        busy = jnp.maximum(computing, reading)
    return busy + device.overhead_s


def prefill_time(
    device: devices.Device,
    model: models.LanguageModel,
    prompt: base.Array,
    overlap: str = "sum",
) -> base.Array:
    """Seconds until a prompt of that many tokens is read and scored."""
    flops, moved = model.prefill_flops(prompt), model.prefill_bytes(prompt)
    return compute_time(device, flops, moved, overlap)


def decode_time(
    device: devices.Device,
    model: models.LanguageModel,
    context: base.Array,
    overlap: str = "sum",
) -> base.Array:
    """Seconds for the next token after ``context`` others."""
    flops, moved = model.decode_flops(context), model.decode_bytes(context)
    return compute_time(device, flops, moved, overlap)


def energy(device: devices.Device, seconds: base.Array) -> base.Array:
    """Joules of computing for so long; waiting is not counted."""
    return device.power_w * seconds


def check_memory(device: devices.Device, model: models.LanguageModel) -> None:
    """Raises ValueError if the weights do not fit the device."""
    if model.weight_bytes > device.memory_bytes:
        raise ValueError(
            f"{model.name} has {model.weight_bytes / 1e9:.1f} GB of weights and"
            f" {device.name} {device.memory_bytes / 1e9:.1f} GB of memory: take fewer"
            " bits_per_weight, or another device"
        )
