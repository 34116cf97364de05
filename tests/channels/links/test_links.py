"""What holds for every kind of link, and what each must never change."""

import functools
import gc
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import awgn, links, packet_loss

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASK = np.array([True, True, True, False, False])
VALUES = 3.0 * np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
JOULES = 1e-3
SETTINGS = {
    "analog": {},
    "digital": {"bits": 3, "qam_order": 16},
    "vq": {"num_codewords": 32, "group_size": 2, "qam_order": 4},
    "bsc": {"bits": 3},
    "bec": {"bits": 3},
    "erasure": {"bits": 3, "rate": 1.7, "probability": 0.4, "imputation": "mean"},
}
COSTS = {  # (channel uses, bits) of a token of 8 values
    "analog": (4, 0),
    "digital": (6, 24),
    "vq": (10, 20),
    "bsc": (24, 24),
    "bec": (24, 24),
    "erasure": (15, 24),  # 24 / 1.7 = 14.1
}
KINDS = pytest.mark.parametrize("kind", links.KINDS)


@functools.cache
def jitted(kind):
    """A link of this kind with its parameters bound, jitted."""
    settings = SETTINGS[kind] | {"block_length": 3, "symbol_energy": JOULES}
    link = links.make_link(kind, **settings)
    params = link.init(jax.random.key(9), 8)
    return jax.jit(lambda *args: link(*args, params))


@KINDS
def test_costs_count_valid_tokens_only(kind, key):
    out = jitted(kind)(key, VALUES, MASK, 10.0)
    uses, num_bits = COSTS[kind]
    assert (int(out.channel_uses), int(out.bits)) == (3 * uses, 3 * num_bits)
    tolerance = 0.4 if kind in ("digital", "vq") else 1e-5  # QAM of few symbols
    assert float(out.energy) == pytest.approx(3 * uses * JOULES, rel=tolerance)


@KINDS
def test_all_arrives_but_what_an_erasure_link_loses(kind, key):
    arrived = jitted(kind)(key, VALUES, MASK, -20.0).arrived
    if kind == "erasure":
        assert 0 < np.sum(arrived) < 3 and not arrived[3:].any()
    else:
        np.testing.assert_array_equal(arrived, MASK)


@pytest.mark.parametrize("kind", ["analog", "erasure"])
def test_more_padding_changes_nothing_that_is_valid(kind, key):
    short = jitted(kind)(key, VALUES[:3], MASK[:3], 5.0)
    long = jitted(kind)(key, VALUES, MASK, 5.0)
    np.testing.assert_allclose(long.values[:3], short.values, atol=1e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5), long[1:4], short[1:4]
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("analog", [-0.11021305, 0.94882333, 1.1454084, -0.06176367]),
        ("digital", [0.25, 1.25, 1.25, 0.25]),
    ],
)
def test_a_key_draws_what_it_always_drew(kind, expected):
    """Shipped models were trained and measured with these numbers."""
    link = links.make_link(kind, "rayleigh", 3, bits=4, qam_order=16)
    values = np.float32(np.sin(np.arange(40.0)).reshape(5, 8))
    out = jax.jit(link)(jax.random.key(7), values, np.arange(5) < 3, 6.0)
    np.testing.assert_allclose(out.values[0, :4], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "mask", "snr_db", "message"),
    [
        (VALUES[None], MASK, 1.0, "jax.vmap"),
        (VALUES.astype(np.int32), MASK, 1.0, "must be real"),
        (VALUES, MASK[:2], 1.0, "mask must be"),
        (VALUES, MASK, np.zeros(5), "scalar"),
        (VALUES[:, :7], MASK, 1.0, "even"),
    ],
)
def test_wrong_shapes_get_one_clear_error(values, mask, snr_db, message, key):
    with pytest.raises(ValueError, match=message):
        links.make_link("analog")(key, values, mask, snr_db)


@pytest.mark.parametrize(
    "link",
    [
        links.VQLink(awgn.AWGN(), num_codewords=4, group_size=2),
        links.ErasureLink(packet_loss.IndependentLoss(0.5), imputation="learned"),
    ],
)
def test_missing_or_foreign_parameters_get_one_clear_error(link, key):
    with pytest.raises(ValueError, match="link.init"):
        link(key, VALUES, MASK, 1.0)
    with pytest.raises(ValueError, match="num_values"):
        link(key, VALUES, MASK, 1.0, link.init(key, 6))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="read from /proc")
def test_ten_thousand_batches_leave_memory_flat(key):
    link = links.make_link("analog", block_length=3)

    @jax.jit
    def send(i):
        keys = jax.random.split(jax.random.fold_in(key, i), 4)
        values = jnp.broadcast_to(VALUES, (4, *VALUES.shape))
        masks = jnp.broadcast_to(MASK, (4, *MASK.shape))
        return jax.vmap(link)(keys, values, masks, jnp.zeros(4))

    def resident_mb():
        gc.collect()  # what waits for that is no leak
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def run(num_batches):
        for i in np.arange(num_batches):
            out = send(i)
            if i % 100 == 0:  # what waits to be computed takes memory too
                jax.block_until_ready(out)
        jax.block_until_ready(out)

    def growth(num_batches):
        before = resident_mb()
        run(num_batches)
        return resident_mb() - before

    run(10_000)  # pools fill, those that were given back before too
    # A leak grows every time, the allocator's pools only once in a while.
    assert any(growth(10_000) < 3.0 for _ in range(3))  # a batch of values: 6 MB
