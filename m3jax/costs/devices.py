"""Devices that language models run on: speed, memory, power, and where it is from."""

import dataclasses

import jax

from m3jax import base
from m3jax.costs import checks

_STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Device:
    """A device, as a roofline and a constant overhead see it.

    A pytree: its numbers may be arrays, one entry for each of many devices.

    Attributes:
      name: of it.
      flops_per_s: dense 16-bit peak of its matrix units.
      bytes_per_s: peak of its memory.
      power_w: drawn while it computes.
      memory_bytes: what it holds.
      overhead_s: of each forward pass, which nothing overlaps.
      flops_share: of the peak that dense products reach.
      bytes_share: of the memory's peak that reading weights reaches.
      idle_power_w: drawn while it waits; 0 counts no waiting.
      source: of the numbers; shares, overhead and, where it is said, power are
        estimates.

    Raises:
      ValueError: a number is not positive and finite, or a share lies above one.

    Example:
      >>> device("A100 80GB SXM").usable_flops_per_s / 1e12
      124.8
    """

    name: str = dataclasses.field(metadata=_STATIC)
    flops_per_s: base.Array | float
    bytes_per_s: base.Array | float
    power_w: base.Array | float
    memory_bytes: base.Array | float
    overhead_s: base.Array | float = 2e-3
    flops_share: base.Array | float = 0.4
    bytes_share: base.Array | float = 0.7
    idle_power_w: base.Array | float = 0.0
    source: str = dataclasses.field(default="", metadata=_STATIC)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name in ("name", "source"):
                continue
            share = {"most": 1.0} if field.name.endswith("share") else {}
            free = (
                {"least": 0.0} if field.name in ("overhead_s", "idle_power_w") else {}
            )
            value = getattr(self, field.name)
            checks.number(f"device {self.name!r}", field.name, value, **share, **free)

    @property
    def usable_flops_per_s(self) -> base.Array:
        """Operations a second that dense products reach."""
        return self.flops_per_s * self.flops_share

    @property
    def usable_bytes_per_s(self) -> base.Array:
        """Bytes a second that reading weights reaches."""
        return self.bytes_per_s * self.bytes_share


RTX_4090 = Device(
    "RTX 4090",
    flops_per_s=165.2e12,
    bytes_per_s=1008e9,
    power_w=300.0,
    memory_bytes=24e9,
    source="NVIDIA Ada GPU architecture whitepaper (FP16 tensor, FP32 accumulate); the"
    " board's limit is 450 W, and 300 W an estimate for batches of one",
)
RTX_3090 = Device(
    "RTX 3090",
    flops_per_s=71e12,
    bytes_per_s=936e9,
    power_w=280.0,
    memory_bytes=24e9,
    source="NVIDIA GA102 whitepaper (FP16 tensor, FP32 accumulate); the board's limit"
    " is 350 W, and 280 W an estimate for batches of one",
)
A100 = Device(
    "A100 80GB SXM",
    flops_per_s=312e12,
    bytes_per_s=2039e9,
    power_w=300.0,
    memory_bytes=80e9,
    source="NVIDIA A100 data sheet; the module's limit is 400 W, and 300 W an estimate"
    " for batches of one",
)
A100_40GB = Device(
    "A100 40GB",
    flops_per_s=312e12,
    bytes_per_s=1555e9,
    power_w=250.0,
    memory_bytes=40e9,
    source="NVIDIA A100 data sheet (40 GB); 250 W is the PCIe card's limit, an estimate"
    " from above for batches of one",
)
JETSON_AGX_ORIN_64GB = Device(
    "Jetson AGX Orin 64GB",
    flops_per_s=42.5e12,
    bytes_per_s=204.8e9,
    power_w=40.0,
    memory_bytes=64e9,
    overhead_s=4e-3,
    source="NVIDIA Jetson AGX Orin technical brief (a quarter of its GPU's 170 sparse"
    " INT8 TOPS: dense, 16 bits); its modes go to 60 W, and 40 W is an estimate",
)
JETSON_XAVIER_NX = Device(
    "Jetson Xavier NX",
    flops_per_s=6e12,
    bytes_per_s=59.7e9,
    power_w=15.0,
    memory_bytes=8e9,
    overhead_s=6e-3,
    source="NVIDIA Jetson Xavier NX data sheet (FP16), 8 GB; its modes go to 20 W, and"
    " 15 W is an estimate",
)
RTX_4070_TI = Device(
    "RTX 4070 Ti",
    flops_per_s=80.2e12,
    bytes_per_s=504e9,
    power_w=220.0,
    memory_bytes=12e9,
    source="NVIDIA's data (FP16 tensor, FP32 accumulate: twice its 40.1 TFLOP/s of"
    " FP32); the board's limit is 285 W, and 220 W an estimate for batches of one",
)
A40 = Device(
    "A40",
    flops_per_s=149.7e12,
    bytes_per_s=696e9,
    power_w=250.0,
    memory_bytes=48e9,
    source="NVIDIA A40 data sheet; the board's limit is 300 W, and 250 W an estimate"
    " for batches of one",
)
PHONE = Device(
    "phone",
    flops_per_s=8e12,
    bytes_per_s=76.8e9,
    power_w=6.0,
    memory_bytes=12e9,
    overhead_s=8e-3,
    source="four 16-bit channels of LPDDR5X at 9.6 Gbit/s a pin; arithmetic and power"
    " are estimates for a flagship of 2024",
)
DEVICES = {
    preset.name: preset
    for preset in (
        RTX_4090,
        RTX_3090,
        RTX_4070_TI,
        A100,
        A100_40GB,
        A40,
        JETSON_AGX_ORIN_64GB,
        JETSON_XAVIER_NX,
        PHONE,
    )
}
"""Presets by name."""


def device(name: str) -> Device:
    """The preset of a name.

    Raises:
      ValueError: there is none; names those that there are.
    """
    return checks.preset("device", name, DEVICES)
