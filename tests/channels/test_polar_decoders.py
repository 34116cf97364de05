import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import finite_blocklength, polar, polar_decoders
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
SHORT = polar.make_polar_code(8, 16)
LONG = polar.make_polar_code(64, 128)


@functools.cache
def batched(decoder, code, **settings):
    """A jitted decoder of LLRs [B, N]; B is 1000 everywhere, to compile once."""
    return jax.jit(jax.vmap(functools.partial(decoder, code, **settings)))


BELIEF = functools.partial(batched, polar_decoders.belief_propagation)
CANCEL = functools.partial(batched, polar_decoders.successive_cancellation)


def sent_and_received(code, snr, count=1000):
    """Bits [B, K] and the LLRs [B, N] of their BPSK symbols in real AWGN.

    Real noise of variance 1 / snr against symbols of energy 1.
    """
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (count, code.num_bits))
    coded = np.asarray(batched(polar.encode, code)(bits))
    y = 2.0 * coded - 1.0 + rng.normal(size=coded.shape) / np.sqrt(snr)
    return bits, (2.0 * snr * y).astype(np.float32)


def block_error(bits, decoded):
    return np.mean(np.any(np.asarray(decoded) != bits, axis=1))


def box_plus(a, b):
    return 2.0 * np.arctanh(np.tanh(a / 2.0) * np.tanh(b / 2.0))


@pytest.mark.parametrize(("code", "min_sum"), [(SHORT, False), (LONG, True)])
def test_words_without_noise_are_decoded_at_once(code, min_sum):
    bits, llrs = sent_and_received(code, snr=1e6)
    got = BELIEF(code, min_sum=min_sum, early_stop=True)(llrs)
    np.testing.assert_array_equal(got.bits, bits)
    assert np.all(got.consistent) and np.all(got.iterations == 1)
    np.testing.assert_array_equal(got.llrs > 0.0, bits == 1)


def test_successive_cancellation_is_that_of_a_plain_recursion():
    informative = np.zeros(16, bool)
    informative[list(SHORT.positions)] = True

    def cancel(llrs, informative):
        """Decisions u and codeword [B, N]; the sign is that of the textbooks."""
        if llrs.shape[1] == 1:
            u = ((llrs < 0.0) & informative).astype(int)
            return u, u
        half = llrs.shape[1] // 2
        a, b = llrs[:, :half], llrs[:, half:]
        u1, x1 = cancel(box_plus(a, b), informative[:half])
        u2, x2 = cancel(b + (1 - 2 * x1) * a, informative[half:])
        return np.hstack([u1, u2]), np.hstack([x1 ^ x2, x2])

    _, llrs = sent_and_received(SHORT, snr=1.0)
    u, _ = cancel(-llrs.astype(float), informative)
    got = CANCEL(SHORT)(llrs)
    np.testing.assert_array_equal(got, u[:, SHORT.positions])


def test_messages_are_those_of_the_tanh_rule():
    """Against loops over butterflies, with the exact rule in float64."""
    code, iterations = polar.make_polar_code(4, 8), 3
    _, llrs = sent_and_received(code, snr=1.0, count=1)
    left, right = np.zeros((4, 8)), np.zeros((4, 8))
    left[3] = -llrs[0]
    right[0] = [0.0 if i in code.positions else 35.0 for i in range(8)]
    butterflies = [
        [(i, i + 2**s) for i in range(8) if not i >> s & 1] for s in range(3)
    ]
    for _ in range(iterations):
        for s in (0, 1, 2):
            r, m = right[s], left[s + 1]
            for i, j in butterflies[s]:
                right[s + 1, i] = box_plus(r[i], m[j] + r[j])
                right[s + 1, j] = box_plus(r[i], m[i]) + r[j]
        for s in (2, 1, 0):
            r, m = right[s], left[s + 1]
            for i, j in butterflies[s]:
                left[s, i] = box_plus(m[i], m[j] + r[j])
                left[s, j] = box_plus(r[i], m[i]) + m[j]
    got = BELIEF(code, num_iterations=iterations)(llrs)
    np.testing.assert_allclose(got.llrs[0], -left[0, code.positions], rtol=1e-4)


def test_decoders_are_close_to_maximum_likelihood_on_a_short_code():
    bits, llrs = sent_and_received(SHORT, snr=1.6)
    every = np.array(list(itertools.product((0, 1), repeat=8)))
    words = np.asarray(batched(polar.encode, SHORT)(every))
    best = block_error(bits, every[np.argmax(llrs @ words.T, axis=1)])
    assert 0.05 < best < 0.15
    # The same noise for all; a few blocks may be right by luck.
    belief = block_error(bits, BELIEF(SHORT, early_stop=True)(llrs).bits)
    cancellation = block_error(bits, CANCEL(SHORT)(llrs))
    assert 0.95 * best <= belief < 1.25 * best
    assert 0.95 * best <= cancellation < 1.25 * best


def test_a_long_code_corrects_and_stays_above_the_finite_length_limit():
    snr = 2.0 * LONG.rate * 10.0 ** (2.5 / 10.0)  # of a real sample; Eb/N0 is 2.5 dB
    bits, llrs = sent_and_received(LONG, snr)
    got = BELIEF(LONG, min_sum=True, early_stop=True)(llrs)
    error = block_error(bits, got.bits)
    # 128 real symbols are 64 complex ones of twice the rate.
    limit = float(finite_blocklength.error(snr, 64, 1.0))
    assert limit < error < 0.1
    lost = ~np.asarray(got.consistent)
    assert np.all(np.asarray(got.iterations)[lost] == 20)
    assert np.any(np.asarray(got.bits) != bits, axis=1)[lost].mean() > 0.5


def test_early_stop_gives_what_as_many_iterations_give():
    _, llrs = sent_and_received(SHORT, snr=1.4)
    stopped = BELIEF(SHORT, early_stop=True)(llrs)
    assert len(set(np.asarray(stopped.iterations).tolist())) > 2
    fixed = BELIEF(SHORT, num_iterations=2)(llrs)
    chosen = np.asarray(stopped.iterations) == 2
    assert np.all(fixed.consistent[chosen]) and chosen.sum() > 20
    np.testing.assert_allclose(
        stopped.llrs[chosen], fixed.llrs[chosen], rtol=1e-4, atol=1e-4
    )


def test_gradients_of_the_soft_output_are_slopes_and_finite_at_the_edges():
    code = polar.make_polar_code(4, 8)

    @jax.jit
    @jax.vmap
    def loss(llrs):
        found = polar_decoders.belief_propagation(code, llrs, num_iterations=3).llrs
        return jnp.sum(jnp.tanh(0.1 * found) * jnp.arange(1.0, 5.0))

    _, (llrs, other) = sent_and_received(code, snr=1.0, count=2)
    # At an LLR of 0 the minimum has a corner, and the sum of two bits has none.
    erased = np.where(np.arange(8) % 3, other, 0.0)
    gradients.check_against_finite_differences(
        lambda llrs: jnp.sum(loss(llrs)), (np.stack([llrs, erased]),)
    )
    slope = jax.jit(jax.grad(lambda llrs: jnp.sum(loss(llrs))))
    edges = jnp.array([0.0, 1e4, -1e4])[:, None]
    gradients.assert_finite(slope(jnp.tile(edges, 8)), "gradient")


def test_llrs_of_another_length_are_refused():
    for decoder in (
        polar_decoders.belief_propagation,
        polar_decoders.successive_cancellation,
    ):
        with pytest.raises(ValueError, match="jax.vmap"):
            decoder(SHORT, jnp.zeros((2, 16)))


def test_frozen_bits_stay_certain_whatever_the_scale_of_the_llrs():
    bits, llrs = sent_and_received(SHORT, snr=1.6)
    decode = BELIEF(SHORT, min_sum=True)
    for scale in (1e-3, 1e6):
        got = decode(np.float32(scale) * llrs).bits
        assert np.mean(np.any(got != decode(llrs).bits, axis=1)) < 0.01
    assert block_error(bits, got) < 0.2
