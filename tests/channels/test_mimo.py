import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from m3jax.channels import mimo, noise, precoding
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
NUM = 20_000
NO = 0.3

DRAW = jax.jit(mimo.draw, static_argnames=("num_rx", "num_tx"))
TRANSMIT = jax.jit(mimo.transmit)
ZERO_FORCING = jax.jit(mimo.zero_forcing)
ZERO_FORCING_SNR = jax.jit(mimo.zero_forcing_snr)
LMMSE = jax.jit(mimo.lmmse, static_argnames="unbiased")
LMMSE_ERROR = jax.jit(mimo.lmmse_error)
EIGENMODES = jax.jit(precoding.eigenmodes)


def adjoint(matrix):
    return np.conj(np.swapaxes(matrix, -1, -2))


@pytest.fixture(scope="module")
def h():
    """Five channels from two antennas to three."""
    keys = jax.random.split(jax.random.key(2), 5)
    return np.asarray(jax.vmap(lambda key: DRAW(key, num_rx=3, num_tx=2))(keys))


@pytest.fixture(scope="module")
def sent():
    """Streams, gains and what arrived, of one channel used ``NUM`` times."""
    keys = jax.random.split(jax.random.key(3), 3)
    h = DRAW(keys[0], 3, 2)
    x = noise.complex_normal(keys[1], (NUM, 2))
    return x, h, TRANSMIT(keys[2], x, h, 1.0 / NO)


def test_antennas_are_correlated_as_kronecker_says(key):
    rx = 0.8 ** np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    tx = 0.5 ** np.array([[0, 1], [1, 0]])
    np.testing.assert_allclose(mimo.exponential_correlation(3, 0.8), rx, rtol=1e-6)
    draw = functools.partial(
        mimo.draw, num_rx=3, num_tx=2, rx_correlation=rx, tx_correlation=tx
    )
    h = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(key, NUM)))
    flat = h.reshape(NUM, 6)
    covariance = np.mean(flat[:, :, None] * np.conj(flat[:, None, :]), axis=0)
    expected = np.kron(rx, tx)
    assert np.abs(covariance - expected).max() < 5.0 * np.sqrt(2.0 / NUM)


def test_noise_free_streams_come_back_exactly_from_zero_forcing(h):
    x = np.array([1.0 + 2.0j, -1.0])
    y = TRANSMIT(jax.random.key(0), x.astype(h.dtype), h, jnp.inf)
    np.testing.assert_allclose(ZERO_FORCING(y, h), np.tile(x, (5, 1)), rtol=1e-3)
    np.testing.assert_allclose(LMMSE(y, h, 0.0), np.tile(x, (5, 1)), rtol=1e-3)


def test_zero_forcing_leaves_the_snr_of_the_closed_form(sent):
    x, h, y = sent
    error = np.abs(np.asarray(ZERO_FORCING(y, h)) - x) ** 2
    expected = NO * np.diag(np.linalg.inv(adjoint(h) @ h)).real
    np.testing.assert_allclose(np.mean(error, 0), expected, rtol=5.0 / np.sqrt(NUM))
    np.testing.assert_allclose(ZERO_FORCING_SNR(h, NO), 1 / expected, rtol=1e-4)


def test_zero_forcing_over_rayleigh_has_a_gamma_distributed_snr(key):
    """Two streams at four antennas keep a diversity of three."""

    def snr(key):
        return mimo.zero_forcing_snr(mimo.draw(key, num_rx=4, num_tx=2), NO)

    snrs = np.asarray(jax.jit(jax.vmap(snr))(jax.random.split(key, NUM)))
    cdf = stats.gamma(a=3, scale=1.0 / NO).cdf
    assert stats.kstest(snrs[:, 0], cdf).pvalue > 1e-3


def test_lmmse_error_equals_the_trace_formula_and_leaves_nothing_to_learn(sent):
    x, h, y = sent
    error = x - np.asarray(LMMSE(y, h, NO))
    # By the other side of the matrix inversion lemma than the code.
    filters = adjoint(h) @ np.linalg.inv(h @ adjoint(h) + NO * np.eye(3))
    expected = np.diag(np.eye(2) - filters @ h).real
    np.testing.assert_allclose(LMMSE_ERROR(h, NO), expected, rtol=1e-4)
    mean_square = np.mean(np.abs(error) ** 2, axis=0)
    np.testing.assert_allclose(mean_square, expected, rtol=5.0 / np.sqrt(NUM))
    left = np.mean(error[:, :, None] * np.conj(y)[:, None, :], axis=0)
    power = np.mean(np.abs(y) ** 2, axis=0)
    assert (np.abs(left) < 5.0 * np.sqrt(expected[:, None] * power / NUM)).all()


def test_unbiased_lmmse_has_unit_gain_and_the_sinr_of_the_closed_form(sent):
    x, h, y = sent
    x_hat = np.asarray(LMMSE(y, h, NO, unbiased=True))
    sinr = 1.0 / np.asarray(LMMSE_ERROR(h, NO)) - 1.0
    gain = np.mean(x_hat * np.conj(x), axis=0)
    assert np.abs(gain - 1.0).max() < 5.0 * np.sqrt((1.0 + 1.0 / sinr.min()) / NUM)
    mean_square = np.mean(np.abs(x_hat - x) ** 2, axis=0)
    np.testing.assert_allclose(mean_square, 1.0 / sinr, rtol=5.0 / np.sqrt(NUM))
    assert (sinr > np.asarray(ZERO_FORCING_SNR(h, NO))).all()


def test_with_one_stream_every_detector_is_maximum_ratio_combining(h):
    y = h[:, :, 1] * 2.0 + 1.0
    column = h[:, :, :1]
    expected = jax.jit(mimo.mrc)(y, column[..., 0])
    for x_hat in (
        ZERO_FORCING(y, column),
        LMMSE(y, column, NO, unbiased=True),
    ):
        np.testing.assert_allclose(x_hat[:, 0], expected, rtol=1e-4)


def test_more_streams_than_antennas_need_lmmse(h):
    wide = np.swapaxes(h, -1, -2)
    with pytest.raises(ValueError, match="lmmse"):
        ZERO_FORCING(np.ones((5, 2), h.dtype), wide)
    with pytest.raises(ValueError, match="lmmse"):
        mimo.zero_forcing_snr(wide, NO)
    error = np.asarray(LMMSE_ERROR(wide, NO))
    # The trace of the error counts the streams that cannot be resolved.
    assert (error.sum(-1) > 1.0).all() and (error < 1.0).all()


def test_precoded_streams_pass_as_parallel_channels(h, key):
    @jax.jit
    def send(s):
        modes = precoding.eigenmodes(h)
        powers = precoding.mode_powers(modes, 2.0)
        y = mimo.transmit(key, precoding.precode(s, modes, powers), h, jnp.inf)
        return modes, powers, precoding.combine(y, modes)

    s = np.array([1.0 + 1.0j, -2.0], h.dtype)
    modes, powers, received = jax.tree.map(np.asarray, send(np.tile(s, (5, 1))))
    expected = modes.gains * np.sqrt(powers) * s
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-5)
    # Streams of unit power leave the antennas with unit power in all.
    covariance = modes.v * powers[:, None] @ adjoint(modes.v)
    np.testing.assert_allclose(np.trace(covariance, axis1=1, axis2=2).real, 1.0, 1e-5)


def test_a_mode_left_without_power_passes_finite_gradients():
    @jax.jit
    def sent(h, snr):
        modes = precoding.eigenmodes(h)
        powers = precoding.mode_powers(modes, snr)
        x = precoding.precode(jnp.ones((2,), h.dtype), modes, powers)
        return jnp.sum(jnp.abs(x) ** 2), powers

    args = jnp.diag(jnp.array([2.0, 0.1])), 0.5
    slopes, powers = jax.grad(sent, argnums=(0, 1), has_aux=True)(*args)
    np.testing.assert_allclose(powers, [1.0, 0.0])
    gradients.assert_finite(slopes, "gradients")


def test_combining_keeps_the_noise_white(h, key):
    modes = jax.tree.map(lambda leaf: np.asarray(leaf)[0], EIGENMODES(h))
    silence = np.zeros((NUM, 2), h.dtype)
    n = np.asarray(TRANSMIT(key, silence, h[0], 1.0 / NO))
    n = np.asarray(jax.jit(precoding.combine)(n, modes))
    covariance = adjoint(n) @ n / NUM
    assert np.abs(covariance - NO * np.eye(2)).max() < 5.0 * NO / np.sqrt(NUM)


@pytest.mark.parametrize("snr", [0.05, 1.0, 100.0])
def test_eigenmodes_carry_the_capacity_and_no_other_covariance_carries_more(h, snr):
    modes = jax.tree.map(np.asarray, EIGENMODES(h))
    powers = np.asarray(jax.jit(precoding.mode_powers)(modes, snr))
    capacity = np.sum(np.log2(1.0 + powers * modes.gains**2 * snr), axis=-1)

    def mutual_information(covariance):
        return np.linalg.slogdet(np.eye(3) + snr * h @ covariance @ adjoint(h))[1]

    best = modes.v * powers[:, None] @ adjoint(modes.v)
    np.testing.assert_allclose(capacity * np.log(2), mutual_information(best), 1e-4)
    rng = np.random.default_rng(0)
    root = rng.normal(size=(200, 1, 2, 2)) + 1j * rng.normal(size=(200, 1, 2, 2))
    others = root @ adjoint(root)
    others /= np.trace(others, axis1=-2, axis2=-1)[..., None, None]
    found = mutual_information(others).max(0)
    assert (found < capacity * np.log(2) + 1e-5).all()
    assert (found > 0.9 * capacity * np.log(2)).all(), "the search came nowhere near"


def test_gradients_equal_finite_differences(h):
    y, h = h[1, :, 0], h[0]

    @jax.jit
    def loss(y, h, no):
        total = mimo.lmmse(y, h, no) + mimo.lmmse(y, h, no, unbiased=True)
        total += mimo.zero_forcing(y, h) + mimo.mrc(y, h[:, 0])
        modes = precoding.eigenmodes(h)
        powers = precoding.mode_powers(modes, 1.0 / no)
        rate = jnp.sum(jnp.log1p(powers * modes.gains**2 / no))
        error = mimo.lmmse_error(h, no) + mimo.zero_forcing_snr(h, no)
        return jnp.sum(jnp.sin(total.real) + total.imag) + rate + jnp.sum(error)

    gradients.check_against_finite_differences(loss, (y, h, NO))


def test_a_fade_of_all_antennas_leaves_mrc_finite():
    def loss(y, h):
        return mimo.mrc(y, h).real

    y, h = jnp.ones((2,), complex), jnp.zeros((2,), complex)
    value, slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(y, h)
    assert value == 0.0
    gradients.assert_finite(slopes, "gradients")


def test_leading_axes_are_as_good_as_a_loop_and_jit_as_eager(h):
    y = h[:, :, 0] + 1.0j

    def receive(y, h):
        return mimo.lmmse(y, h, NO, unbiased=True), mimo.zero_forcing(y, h)

    batch = receive(y, h)  # eager
    for other in (jax.jit(receive)(y, h), jax.jit(jax.vmap(receive))(y, h)):
        for one, two in zip(batch, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
