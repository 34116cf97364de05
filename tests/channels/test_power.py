import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import noise, power

NORMALISE = jax.jit(power.normalise)


def test_valid_symbols_have_unit_power_and_padding_none(key):
    x = 7.0 * noise.complex_normal(key, (256, 4))
    mask = np.arange(256) < 25
    sent = np.asarray(NORMALISE(x, mask))
    assert np.mean(np.abs(sent[:25]) ** 2) == pytest.approx(1.0, rel=1e-5)
    assert not sent[25:].any()


def test_padding_does_not_change_what_is_sent(key):
    x = noise.complex_normal(key, (25, 4))
    padded = jnp.concatenate([x, jnp.full((231, 4), 9.0 + 0j)])
    alone = NORMALISE(x, np.ones(25, bool))
    within = NORMALISE(padded, np.arange(256) < 25)
    np.testing.assert_allclose(within[:25], alone, rtol=1e-5)


def test_scale_of_the_input_does_not_matter(key):
    x, mask = noise.complex_normal(key, (5, 2)), np.ones(5, bool)
    np.testing.assert_allclose(NORMALISE(1e3 * x, mask), NORMALISE(x, mask), rtol=1e-5)


def test_silence_stays_silent_with_finite_gradients():
    x, mask = jnp.zeros((3, 2), jnp.complex64), np.ones(3, bool)

    def loss(x):
        return jnp.sum(power.normalise(x, mask).real)

    assert not NORMALISE(x, mask).any()
    assert np.isfinite(jax.jit(jax.grad(loss))(x)).all()
