import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from m3jax.channels import modulation, noise, soft_bits
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
ORDERS = modulation.ORDERS


def constellation(order):
    """All labels as bits [M, log2 M] and their symbols [M], in float64."""
    levels, labels = modulation.axis_levels(order), modulation.axis_labels(order)
    if order == 2:
        return labels, levels.astype(complex)
    i, q = np.divmod(np.arange(order), len(levels))
    return np.hstack([labels[i], labels[q]]), levels[i] + 1j * levels[q]


@pytest.fixture(scope="module")
def received():
    """Symbols all over the plane, and their noise powers."""
    rng = np.random.default_rng(3)
    x = 1.2 * (rng.normal(size=200) + 1j * rng.normal(size=200))
    return x.astype(np.complex64), rng.uniform(0.02, 3.0, 200).astype(np.float32)


@pytest.fixture(scope="module")
def llrs(received):
    """Order -> exact LLRs, max-log LLRs and hard decisions."""

    @jax.jit
    def demap(x, no):
        return {
            order: (
                soft_bits.exact_llr(x, no, order),
                soft_bits.max_log_llr(x, no, order),
                modulation.demodulate(x, order),
            )
            for order in ORDERS
        }

    return demap(*received)


def searched_llr(x, no, order, join):
    """LLRs by search over all points: ``join`` of exponents, [..., log2 M]."""
    labels, points = constellation(order)
    exponents = -(np.abs(x.astype(complex)[:, None] - points) ** 2) / no[:, None]
    columns = [
        join(exponents[:, b == 1], axis=-1) - join(exponents[:, b == 0], axis=-1)
        for b in labels.T
    ]
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("order", ORDERS)
def test_llrs_are_those_of_a_search_over_all_points(order, received, llrs):
    exact, max_log, _ = llrs[order]
    for got, join in ((exact, special.logsumexp), (max_log, np.max)):
        expected = searched_llr(*received, order, join)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_signs_of_max_log_llrs_are_the_hard_decisions(order, llrs):
    _, max_log, hard = llrs[order]
    np.testing.assert_array_equal(soft_bits.decide(max_log), hard)


def test_max_log_nears_the_exact_llr_at_high_snr_and_not_at_low(received, llrs):
    exact, max_log, _ = (np.asarray(v) for v in llrs[16])
    gap = np.abs(exact - max_log).mean(axis=1) / np.abs(exact).mean(axis=1)
    _, no = received
    assert np.median(gap[no < 0.1]) < 0.02 < 0.1 < np.median(gap[no > 2.0])


def test_llrs_of_bpsk_and_qpsk_have_their_closed_form(received, llrs):
    x, no = received
    bpsk = 4.0 * x.real / no
    qpsk = 2.0**1.5 * np.stack([x.real, x.imag], -1) / no[:, None]
    for place in (0, 1):
        np.testing.assert_allclose(llrs[2][place][:, 0], bpsk, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(llrs[4][place], qpsk, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def sent_over_awgn():
    """16-QAM at an SNR of 10: sent bits [B, 4], their exact and max-log LLRs."""

    @jax.jit
    def send(key):
        bit_key, noise_key = jax.random.split(key)
        sent = jax.random.bernoulli(bit_key, shape=(40_000, 4)).astype(jnp.int32)
        y = noise.add_noise(noise_key, modulation.modulate(sent, 16), snr=10.0)
        exact, rough = (
            llr(y, 0.1, 16) for llr in (soft_bits.exact_llr, soft_bits.max_log_llr)
        )
        return sent, exact, rough

    return jax.tree.map(np.asarray, send(jax.random.key(0)))


def test_exact_llrs_are_calibrated(sent_over_awgn):
    """Of bits with P(1) in a narrow range, that share are ones."""
    sent, exact, _ = sent_over_awgn
    chance = special.expit(exact)
    for low in (0.1, 0.4, 0.8):
        chosen = (chance > low) & (chance < low + 0.1)
        share, claimed = sent[chosen].mean(), chance[chosen].mean()
        error = np.sqrt(claimed * (1.0 - claimed) / chosen.sum())
        assert abs(share - claimed) < 5.0 * error


def test_bit_errors_after_demapping_equal_the_closed_form(sent_over_awgn):
    # Cho and Yoon, IEEE Trans. Communications 50(7), 2002: 16-QAM, each bit alone.
    sent, _, rough = sent_over_awgn
    tail = [stats.norm.sf(k * np.sqrt(10.0 / 5.0)) for k in (1, 3, 5)]
    outer, inner = 0.5 * (tail[0] + tail[1]), tail[0] + 0.5 * (tail[1] - tail[2])
    rates = np.mean((rough > 0.0) != sent, axis=0)
    for rate, expected in zip(rates, [outer, inner] * 2, strict=True):
        assert abs(rate - expected) < 5.0 * np.sqrt(expected / len(sent))


def test_llrs_and_gradients_are_finite_at_the_edges():
    x = jnp.array([0.0, 0.3 - 0.2j, 1e6 + 1e6j, 0.3162278 + 0.0j])

    def demap(x, no):
        return [llr(x, no, 16) for llr in (soft_bits.exact_llr, soft_bits.max_log_llr)]

    @jax.jit
    def found_and_slopes(no):
        found, pull = jax.vjp(demap, x, no)
        return found, pull(jax.tree.map(jnp.ones_like, found))

    for no in (0.0, 1e-30, 1e30, jnp.inf):
        gradients.assert_finite(found_and_slopes(jnp.float32(no)), f"at no = {no}")
    for found in found_and_slopes(jnp.float32(jnp.inf))[0]:
        np.testing.assert_array_equal(found, 0.0)


def test_gradients_of_llrs_and_soft_symbols_are_their_slopes(received):
    def through(x, no):
        llrs = soft_bits.exact_llr(x, no, 16)
        soft = soft_bits.modulate(0.3 * llrs, 16)
        mean = jnp.sum(jnp.cos(soft.mean.real) + soft.mean.imag**3)
        return mean + jnp.sum(jnp.sin(llrs)) + jnp.sum(soft.variance**2)

    x, no = (v[:4] for v in received)
    gradients.check_against_finite_differences(jax.jit(through), (x, no))


def test_soft_mapper_gives_the_moments_over_all_points():
    rng = np.random.default_rng(0)
    sets = {o: 2.0 * rng.normal(size=(20, o.bit_length() - 1)) for o in ORDERS}
    every = jax.jit(lambda sets: {o: soft_bits.modulate(v, o) for o, v in sets.items()})
    for order, soft in every(jax.tree.map(np.float32, sets)).items():
        labels, points = constellation(order)
        ones = special.expit(sets[order])[:, None]
        chances = np.prod(np.where(labels == 1, ones, 1.0 - ones), axis=-1)
        mean = chances @ points
        variance = chances @ np.abs(points) ** 2 - np.abs(mean) ** 2
        np.testing.assert_allclose(soft.mean, mean, atol=2e-6)
        np.testing.assert_allclose(soft.variance, variance, atol=5e-6)


def test_certain_bits_are_mapped_to_points_without_variance():
    @jax.jit
    def soft_and_slopes(certain):
        found, pull = jax.vjp(
            lambda llrs: {o: soft_bits.modulate(v, o) for o, v in llrs.items()}, certain
        )
        return found, pull(jax.tree.map(jnp.ones_like, found))

    certain = {
        order: np.where(constellation(order)[0] == 1, np.inf, -np.inf)
        for order in ORDERS
    }
    found, slopes = soft_and_slopes(jax.tree.map(np.float32, certain))
    for order, soft in found.items():
        np.testing.assert_allclose(soft.mean, constellation(order)[1], atol=1e-6)
        np.testing.assert_allclose(soft.variance, 0.0, atol=1e-6)
    gradients.assert_finite(slopes, "gradient")


def test_straight_through_mapper_sends_points_and_has_the_soft_slope():
    weights = jnp.exp(1j * jnp.arange(10.0))

    @jax.jit
    def both(llrs):
        hard, hard_pull = jax.vjp(
            lambda v: soft_bits.straight_through_modulate(v, 64), llrs
        )
        soft, soft_pull = jax.vjp(lambda v: soft_bits.modulate(v, 64).mean, llrs)
        sent = modulation.modulate(soft_bits.decide(llrs), 64)
        return hard, soft, sent, hard_pull(weights), soft_pull(weights)

    llrs = np.random.default_rng(1).normal(size=(10, 6)).astype(np.float32)
    hard, soft, sent, hard_slope, soft_slope = both(llrs)
    np.testing.assert_allclose(hard, sent, atol=1e-6)
    assert np.max(np.abs(hard - soft)) > 0.1
    np.testing.assert_allclose(hard_slope[0], soft_slope[0], rtol=1e-5)
    assert np.mean(np.abs(hard_slope[0])) > 0.01


def test_llrs_that_do_not_fill_a_symbol_are_refused():
    with pytest.raises(ValueError, match="4 LLRs per symbol"):
        soft_bits.modulate(jnp.zeros((5, 3)), 16)
