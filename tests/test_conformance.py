"""Everything that claims a contract is held to it. New parts join a list here."""

import jax
import pytest

from m3jax.channels import awgn, fading, links
from m3jax.testing import channel_checks, dummy, system_checks

CHANNELS = {
    "awgn": awgn.AWGN(),
    "rayleigh": fading.RayleighBlock(),
    "rayleigh_blocks": fading.RayleighBlock(block_length=5),
}
LINKS = {
    f"{kind}_{name}": link
    for name, channel in CHANNELS.items()
    if name != "rayleigh"  # the blocks contain it
    for kind, link in {
        "analog": links.AnalogLink(channel),
        "digital": links.DigitalLink(channel, bits=5, qam_order=16),
    }.items()
}
SYSTEMS = {
    "dummy": (dummy.make_system(), dummy.make_batch(seed=0), ("linear",)),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channel_keeps_its_contract(name):
    channel_checks.check_channel(CHANNELS[name], jax.random.key(1))


@pytest.mark.parametrize("name", LINKS)
def test_link_keeps_its_contract(name):
    channel_checks.check_link(LINKS[name], jax.random.key(2))


@pytest.mark.parametrize("name", SYSTEMS)
def test_system_keeps_its_contract(name):
    system, batch, reaches = SYSTEMS[name]
    system_checks.check_system(system, batch, jax.random.key(3), reaches)
