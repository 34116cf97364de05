"""The same numbers as Sionna, where the package sionna-no-rt is installed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import (
    awgn,
    bits,
    equalisers,
    fading,
    mimo,
    modulation,
    polar,
    polar_decoders,
    rate_adaptation,
    soft_bits,
)

pytest.importorskip("sionna")
torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.slow,
    # Raised by Sionna's own dependencies, not by what is compared.
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]
QAM_ORDERS = tuple(order for order in modulation.ORDERS if order > 2)
CODE = polar.make_polar_code(64, 128)


# Modulation. Sionna's bits are those of TS 38.211, section 5.1: every one is the
# inverse of ours, and the axes take turns where ours come one after the other.


def to_sionna(values):
    """Our bits or LLRs [..., log2 M] in Sionna's order."""
    half = values.shape[-1] // 2
    axes = values.reshape(*values.shape[:-1], 2, half)
    return axes.swapaxes(-1, -2).reshape(values.shape)


@pytest.mark.parametrize("order", QAM_ORDERS)
def test_symbols_are_sionnas(order):
    from sionna.phy import mapping

    num_bits = modulation.bits_per_symbol(order)
    labels = bits.from_integers(jnp.arange(order), num_bits)
    theirs = mapping.qam(num_bits, precision="single")
    places = np.asarray(bits.to_integers(to_sionna(1 - labels)))
    ours = np.asarray(modulation.modulate(labels, order))
    np.testing.assert_allclose(ours, theirs[places], atol=1e-6)


@pytest.mark.parametrize("order", QAM_ORDERS)
@pytest.mark.parametrize(
    ("method", "llr"),
    [("app", soft_bits.exact_llr), ("maxlog", soft_bits.max_log_llr)],
)
def test_llrs_are_sionnas(order, method, llr):
    from sionna.phy import mapping

    rng = np.random.default_rng(0)
    x = (rng.normal(size=500) + 1j * rng.normal(size=500)).astype(np.complex64)
    no = rng.uniform(0.05, 2.0, 500).astype(np.float32)
    num_bits = modulation.bits_per_symbol(order)
    demapper = mapping.Demapper(method, "qam", num_bits, device="cpu")
    theirs = demapper(torch.as_tensor(x), torch.as_tensor(no)).numpy()
    ours = -to_sionna(np.asarray(llr(x, no, order)))
    np.testing.assert_allclose(ours.ravel(), theirs, rtol=1e-4, atol=1e-3)


# Rate adaptation.


@pytest.mark.parametrize(
    ("index", "table"),
    [(1, rate_adaptation.TS_38_214_TABLE_1), (2, rate_adaptation.TS_38_214_TABLE_2)],
)
def test_tables_of_the_standard_are_sionnas(index, table):
    from sionna.phy.nr import utils

    for entry, (order, code_rate) in enumerate(
        zip(table.orders, table.code_rates, strict=True)
    ):
        num_bits, rate = utils.decode_mcs_index(entry, table_index=index)
        assert 2 ** int(num_bits) == order
        assert float(rate) == pytest.approx(code_rate, abs=1e-6)


# Polar codes.


def frozen(code):
    return np.setdiff1d(np.arange(code.length), code.positions)


@functools.cache
def polar_blocks(ebn0_db, count):
    """Information bits [B, K], their codewords by Sionna and noisy LLRs, [B, N]."""
    from sionna.phy.fec.polar import PolarEncoder

    rng = np.random.default_rng(round(10 * ebn0_db))
    sent = rng.integers(0, 2, (count, CODE.num_bits))
    encoder = PolarEncoder(frozen(CODE), CODE.length, device="cpu")
    words = encoder(torch.as_tensor(sent, dtype=torch.float32)).numpy()
    snr = 2.0 * CODE.rate * 10.0 ** (ebn0_db / 10.0)  # of a real sample
    y = 2.0 * words - 1.0 + rng.normal(size=words.shape) / np.sqrt(snr)
    return sent, words, (2.0 * snr * y).astype(np.float32)


def decode(decoder, llrs, **settings):
    ours = functools.partial(decoder, CODE, **settings)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(ours))(llrs))


def test_polar_codewords_are_sionnas():
    sent, words, _ = polar_blocks(3.0, 4000)
    ours = jax.jit(jax.vmap(functools.partial(polar.encode, CODE)))(sent)
    np.testing.assert_array_equal(ours, words)


@pytest.mark.parametrize(
    ("num_bits", "length", "others"),
    [(64, 128, 0), (32, 128, 1), (96, 128, 1), (128, 256, 4), (512, 1024, 20)],
)
def test_places_are_nearly_those_of_5g(num_bits, length, others):
    from sionna.phy.fec.polar.utils import generate_5g_ranking

    _, theirs = generate_5g_ranking(num_bits, length)
    ours = polar.make_polar_code(num_bits, length).positions
    assert len(set(ours) - set(theirs.tolist())) <= others


def test_belief_propagation_gives_sionnas_llrs():
    from sionna.phy.fec.polar import PolarBPDecoder

    # Sionna limits LLRs to 19.3 inside; weak ones stay clear of that.
    llrs = 0.2 * polar_blocks(1.0, 500)[2]
    for iterations in (1, 2, 5):
        sionna = PolarBPDecoder(
            frozen(CODE), CODE.length, iterations, hard_out=False, device="cpu"
        )
        theirs = sionna(torch.as_tensor(llrs)).numpy()
        ours = decode(
            polar_decoders.belief_propagation, llrs, num_iterations=iterations
        )
        np.testing.assert_allclose(ours.llrs, theirs, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("ebn0_db", [1.0, 2.0, 3.0])
def test_block_errors_are_sionnas(ebn0_db):
    """Same frozen places, LLRs and iterations; also successive cancellation."""
    from sionna.phy.fec.polar import PolarBPDecoder, PolarSCDecoder

    count = 4000
    sent, _, llrs = polar_blocks(ebn0_db, count)
    theirs, ours = {}, {}
    for name, decoder in (
        ("bp", PolarBPDecoder(frozen(CODE), CODE.length, 20, device="cpu")),
        ("sc", PolarSCDecoder(frozen(CODE), CODE.length, device="cpu")),
    ):
        theirs[name] = np.any(decoder(torch.as_tensor(llrs)).numpy() != sent, axis=1)
    belief = decode(polar_decoders.belief_propagation, llrs, num_iterations=20)
    rough = decode(
        polar_decoders.belief_propagation, llrs, num_iterations=20, min_sum=True
    )
    cancelled = decode(polar_decoders.successive_cancellation, llrs)
    ours["bp"] = np.any(belief.bits != sent, axis=1)
    ours["sc"] = np.any(cancelled != sent, axis=1)
    scaled = np.any(rough.bits != sent, axis=1)
    # The blocks are the same, so only those that the limit on LLRs turns may differ.
    for name in ("bp", "sc"):
        assert np.mean(ours[name] != theirs[name]) < 0.005, name
    assert scaled.mean() < 1.25 * theirs["bp"].mean() + 0.002


# Noise, fading and equalisers.


def assert_same_law(ours, theirs):
    """Two-sample Kolmogorov test; a right law fails for one key in 1000."""
    ours, theirs = np.sort(np.ravel(ours)), np.sort(np.ravel(theirs))
    both = np.concatenate([ours, theirs])
    shares = [np.searchsorted(x, both, "right") / x.size for x in (ours, theirs)]
    scale = np.sqrt(ours.size * theirs.size / (ours.size + theirs.size))
    assert scale * np.abs(shares[0] - shares[1]).max() < 1.95


def sionnas_numbers():
    from sionna.phy import config

    config.seed = 1


def test_noise_is_sionnas(key):
    from sionna.phy import channel

    sionnas_numbers()
    snr, x = 4.0, jnp.full((50_000,), 1.0 - 0.5j)
    theirs = channel.AWGN()(torch.as_tensor(np.array(x)), 1.0 / snr).numpy()
    ours = np.asarray(awgn.AWGN().apply(key, x, jnp.ones_like(x), snr))
    for part in (np.real, np.imag):
        assert_same_law(part(ours), part(theirs))
    # Squares too, about the sent symbol: correlated axes would show.
    for turned in (1.0, np.exp(0.25j * np.pi)):
        assert_same_law(((ours - x) * turned).real, ((theirs - x) * turned).real)


def test_rayleigh_blocks_are_sionnas(key):
    from sionna.phy import channel

    sionnas_numbers()
    model = channel.RayleighBlockFading(1, 1, 1, 1)
    theirs = model(20_000, 3)[0].numpy().reshape(20_000, 3)
    block = fading.RayleighBlock(block_length=3)
    ours = np.asarray(block.generate(key, (20_000, 3)))
    for gains in (ours, theirs):
        np.testing.assert_array_equal(gains, gains[:, :1] + np.zeros(3))
    ours, theirs = ours[:, 0], theirs[:, 0]
    for of in (np.real, np.imag, np.abs, np.angle):
        assert_same_law(of(ours), of(theirs))


def received(key, num_rx, num_tx, no, count=500):
    """Gains, sent and received vectors, unit-power streams."""
    keys = jax.random.split(key, 3)
    h = jax.random.normal(keys[0], (count, num_rx, num_tx), complex)
    x = jax.random.normal(keys[1], (count, num_tx), complex)
    n = jax.random.normal(keys[2], (count, num_rx), complex)
    return np.asarray(h), np.asarray(jnp.matvec(h, x) + jnp.sqrt(no) * n)


def test_one_tap_equalisers_are_sionnas(key):
    """Sionna's LMMSE is scaled to no bias: with one antenna that is zero forcing."""
    from sionna.phy.mimo import lmmse_equalizer, zf_equalizer

    no = 0.3
    h, y = received(key, 1, 1, no)
    tensors = [torch.as_tensor(np.array(x)) for x in (y, h, no * np.ones_like(h))]
    zero_forced = equalisers.zero_forcing(y, h[..., 0])
    for theirs in (lmmse_equalizer(*tensors), zf_equalizer(*tensors)):
        np.testing.assert_allclose(zero_forced, theirs[0], rtol=2e-4)
        np.testing.assert_allclose(no / np.abs(h[..., 0]) ** 2, theirs[1], rtol=2e-3)
    energy = np.abs(h[..., 0]) ** 2
    leaning = equalisers.mmse(y, h[..., 0], no)
    np.testing.assert_allclose(
        leaning, theirs[0].numpy() * energy / (energy + no), rtol=2e-4
    )


def test_mimo_equalisers_are_sionnas(key):
    from sionna.phy.mimo import lmmse_equalizer, zf_equalizer

    no = 0.3
    h, y = received(key, 4, 2, no)
    covariance = no * np.broadcast_to(np.eye(4, dtype=np.complex64), (500, 4, 4))
    tensors = [torch.as_tensor(np.array(x)) for x in (y, h, covariance)]
    for ours, theirs in (
        (mimo.lmmse(y, h, no, unbiased=True), lmmse_equalizer(*tensors)[0]),
        (mimo.zero_forcing(y, h), zf_equalizer(*tensors)[0]),
        (1.0 / mimo.zero_forcing_snr(h, no), zf_equalizer(*tensors)[1]),
        (1.0 / (1.0 / mimo.lmmse_error(h, no) - 1.0), lmmse_equalizer(*tensors)[1]),
    ):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=5e-3, atol=1e-4)
