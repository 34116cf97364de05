"""The table of gradients in docs/links.md, held line by line."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import awgn, bit_channels, csi, fading, links, packet_loss, power

pytestmark = pytest.mark.usefixtures("quick_compilation")

DOCS = pathlib.Path(__file__).parents[3] / "docs" / "links.md"
MASK = np.array([True, True, True, False])
VALUES = np.random.default_rng(0).normal(size=(4, 4))
WEIGHTS = np.cos(np.arange(16.0)).reshape(4, 4)
KEY = jax.random.key(3)
LIMIT = 1.2  # some values are clipped
RAYLEIGH = fading.RayleighBlock(block_length=3)
SOME_LOST = packet_loss.IndependentLoss(0.5)
LINKS = {
    "analog": links.AnalogLink(RAYLEIGH),
    "analog, pilots": links.AnalogLink(RAYLEIGH, csi.PilotCSI(num_pilots=2)),
    "digital": links.DigitalLink(RAYLEIGH, bits=3, limit=LIMIT),
    "digital, dithered": links.DigitalLink(
        awgn.AWGN(), bits=8, limit=LIMIT, dither=True
    ),
    "vq": links.VQLink(RAYLEIGH, num_codewords=8, group_size=2),
    "bsc": links.DigitalLink(bit_channels.BSC(), bits=3, limit=LIMIT),
    "bec": links.DigitalLink(bit_channels.BEC(), bits=3, limit=LIMIT),
    "erasure, floats": links.ErasureLink(SOME_LOST, imputation="learned"),
    "erasure, quantised": links.ErasureLink(SOME_LOST, 3, LIMIT, "learned"),
}


def read_table():
    """Rows of the table: link -> (by values, by SNR, by parameters)."""
    text = DOCS.read_text().split("## What is differentiable")[1]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: cells for name, *cells in rows}


TABLE = read_table()


def clipped(values):
    return jnp.clip(power.normalise(values, MASK), -LIMIT, LIMIT)


def arrived(values):
    """The loss depends on the key and the SNR alone, so no mask token is needed."""
    link = dataclasses.replace(LINKS["erasure, quantised"], imputation="zero")
    lost = ~link(KEY, VALUES, MASK, 0.0).arrived
    return jnp.where(lost[:, None], 0.0, clipped(values))


SURROGATES = {
    "surrogate: normalised": lambda values: power.normalise(values, MASK),
    "surrogate: clipped": clipped,
    "surrogate: arrived": arrived,
}


def test_the_table_lists_every_link():
    assert set(TABLE) == set(LINKS)
    assert {name.split(",")[0] for name in TABLE} == set(links.KINDS)


@pytest.mark.parametrize("name", LINKS)
def test_gradients_are_what_the_table_says(name):
    link = LINKS[name]

    def loss(values, snr_db, params):
        return total(link(KEY, values, MASK, snr_db, params).values)

    with jax.enable_x64(True):
        params = link.init(jax.random.key(1), 4)
        args = jax.tree.map(np.asarray, (VALUES, np.float64(2.0), params))
        both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
        for i, cell in enumerate(TABLE[name]):
            hold(cell, lambda *a: both(*a)[0], args, both(*args)[1], i)


def total(received):
    return jnp.sum(WEIGHTS * MASK[:, None] * received)


def hold(cell, loss, args, grads, i):
    """One entry of the table, about argument ``i``."""
    if cell == "none":
        assert args[i] == ()
    elif cell == "zero":
        assert not np.any(grads[i])
    elif cell == "exact":
        leaves, tree = jax.tree.flatten(args[i])
        slopes = jax.tree.leaves(grads[i])
        for leaf, slope in zip(leaves, slopes, strict=True):
            assert np.any(slope)
            way = np.random.default_rng(10 + i).normal(size=leaf.shape)
            ends = [
                float(loss(*args[:i], tree.unflatten([leaf + e * way]), *args[i + 1 :]))
                for e in (1e-6, -1e-6)
            ]
            measured = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(np.sum(slope * way), measured, rtol=1e-5)
    else:
        slope = jax.grad(lambda values: total(SURROGATES[cell](values)))(args[i])
        np.testing.assert_allclose(grads[i], slope, rtol=1e-6, atol=1e-9)
