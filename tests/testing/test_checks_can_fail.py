"""A checker that cannot fail proves nothing: each fault here must be caught."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import awgn, links, noise
from m3jax.testing import channel_checks, dummy, system_checks


class WrongConvention(awgn.AWGN):
    def apply(self, key, x, state, snr):
        return noise.add_noise(key, x, 2.0 * snr)


class NanAtInfinity(awgn.AWGN):
    def apply(self, key, x, state, snr):
        return x + jnp.sqrt(1.0 / snr) * noise.complex_normal(key, x.shape)


class KeyUsedTwice(awgn.AWGN):
    def apply(self, key, x, state, snr):
        return noise.add_noise(key, noise.add_noise(key, x, snr), snr)


class PaddingIsSent(links.AnalogLink):
    def __call__(self, key, values, mask, snr_db, params=()):
        out = super().__call__(key, values, jnp.ones_like(mask), snr_db)
        return out._replace(values=out.values * mask[:, None], arrived=mask)


@pytest.mark.parametrize(
    ("channel", "fault"),
    [
        (WrongConvention(), "noise power"),
        (NanAtInfinity(), "not finite"),
        (KeyUsedTwice(), "consumed"),
    ],
)
def test_a_faulty_channel_is_caught(channel, fault, key):
    with pytest.raises((AssertionError, jax.errors.KeyReuseError), match=fault):
        channel_checks.check_channel(channel, key)


def test_a_link_that_sends_padding_is_caught(key):
    with pytest.raises(AssertionError, match="channel_uses is not zero"):
        channel_checks.check_link(PaddingIsSent(awgn.AWGN()), key)


def vector_loss(params, batch, key):
    return params["linear"]["kernel"], {}


def unreached_loss(params, batch, key):
    return jnp.sum(params["linear"]["kernel"] ** 2), {}


@pytest.mark.parametrize(
    ("loss", "fault"),
    [(vector_loss, "must be a scalar"), (unreached_loss, "no gradient reaches")],
)
def test_a_faulty_loss_is_caught(loss, fault, key):
    system = dataclasses.replace(dummy.make_system(), loss=loss)
    with pytest.raises(AssertionError, match=fault):
        system_checks.check_system(
            system, dummy.make_batch(0), key, reaches=("linear/kernel", "linear/bias")
        )


def test_a_prediction_without_batch_axis_is_caught(key):
    def total(params, batch, key):
        return {"total": jnp.sum(batch["y"])}

    system = dataclasses.replace(dummy.make_system(), predict={"total": total})
    with pytest.raises(AssertionError, match="for a batch of"):
        system_checks.check_system(system, dummy.make_batch(0), key)


def is_traced(x):
    return isinstance(x, jax.core.Tracer)


def test_a_loss_that_differs_where_it_is_compiled_is_caught(key):
    def loss(params, batch, key):
        square = jnp.sum(params["linear"]["kernel"] ** 2) + params["linear"]["bias"]
        return square + is_traced(batch["x"]), {}

    system = dataclasses.replace(dummy.make_system(), loss=loss)
    with pytest.raises(AssertionError, match="loss: jit and eager"):
        system_checks.check_system(system, dummy.make_batch(0), key)


def test_a_prediction_that_differs_where_it_is_compiled_is_caught(key):
    def predict(params, batch, key):
        return {"y": batch["y"] + is_traced(batch["y"])}

    system = dataclasses.replace(dummy.make_system(), predict={"y": predict})
    with pytest.raises(AssertionError, match="predict.'y'.: jit and eager"):
        system_checks.check_system(system, dummy.make_batch(0), key)
    system_checks.check_system(system, dummy.make_batch(0), key, eager=())


def test_a_prediction_that_uses_its_key_twice_is_caught(key):
    def predict(params, batch, key):
        draws = [jax.random.normal(key, batch["y"].shape) for _ in range(2)]
        return {"y": draws[0] + draws[1]}

    system = dataclasses.replace(dummy.make_system(), predict={"y": predict})
    with pytest.raises(jax.errors.KeyReuseError):
        system_checks.check_system(system, dummy.make_batch(0), key)


def test_dummy_solution_is_where_the_gradient_vanishes_and_the_loss_is_known(key):
    system, batch = dummy.make_system(), dummy.make_batch(seed=1)
    params, residual = dummy.solve(batch)
    (loss, _), grads = jax.value_and_grad(system.loss, has_aux=True)(params, batch, key)
    assert float(loss) == pytest.approx(residual, rel=1e-4)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-5)


def test_dummy_error_over_the_air_is_half_the_noise_power(key):
    batch = dummy.make_batch(seed=2, batch_size=20_000, noise_std=0.0)
    batch["snr_db"] = np.full(20_000, 7.0, np.float32)
    params, _ = dummy.solve(batch)
    out = dummy.make_system().predict["regression"](params, batch, key)
    error = float(jnp.mean(out["square_error"]))
    assert error == pytest.approx(0.5 / 10**0.7, rel=5.0 * np.sqrt(2.0 / 20_000))
