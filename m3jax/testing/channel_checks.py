"""What every channel and every link must hold, whatever it models."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import links, noise
from m3jax.ops import masks, paths
from m3jax.testing import gradients, traces

SNRS_DB = (-20.0, 0.0, 10.0, 40.0, float("inf"))
"""Where gradients must be finite; the ends of the range that is used, and no noise."""


def check_channel(
    channel: base.Channel, key: base.Array, shape: tuple[int, ...] = (6, 4)
) -> None:
    """Checks a channel: ``base.Channel`` and the convention of ``channels.noise``.

    That the state and the symbols have the right shapes; that keys are consumed once;
    that ``snr = inf`` is free of noise and a finite one adds power ``1 / snr``; that
    gradients by symbols, state and SNR are finite from -20 to 40 dB and at ``inf``;
    that jit, vmap and eager agree; that a new SNR does not trace again.

    Args:
      channel: the channel.
      key: random key.
      shape: shape of the symbols of one example.

    Raises:
      AssertionError: names what does not hold.
    """
    symbol_key, state_key, noise_key, power_key = jax.random.split(key, 4)
    x = noise.complex_normal(symbol_key, shape)

    def send(key: base.Array, x: base.Array, snr: base.Array) -> base.Array:
        generate_key, apply_key = jax.random.split(key)
        return channel.apply(apply_key, x, channel.generate(generate_key, shape), snr)

    snrs = [jnp.float32(10 ** (snr_db / 10)) for snr_db in SNRS_DB]
    y = _check_transforms(send, noise_key, (x,), snrs)[0]
    assert y.shape == x.shape and y.dtype == x.dtype, (
        f"apply gave {y.dtype} {y.shape} for symbols {x.dtype} {x.shape}."
    )
    _check_noise_power(channel, power_key)
    _check_channel_gradients(channel, state_key, x, snrs)


def check_link(
    link: links.Link,
    key: base.Array,
    num_tokens: int = 6,
    num_values: int = 8,
) -> None:
    """Checks a token link: ``links.Link``.

    Shapes; padding that arrives as zeros, costs nothing and whose content, even NaN,
    changes nothing; costs that are counted; gradients by the values and the link's own
    parameters that are finite and reach both from -20 to 40 dB and at ``inf``; jit,
    vmap and eager alike; one trace for all SNRs.

    Args:
      link: the link.
      key: random key.
      num_tokens: L, at least 2; the last third is padding.
      num_values: R, values per token.

    Raises:
      AssertionError: names what does not hold.
    """
    init_key, value_key, link_key = jax.random.split(key, 3)
    params = link.init(init_key, num_values)
    values = jax.random.normal(value_key, (num_tokens, num_values))
    num_valid = num_tokens - max(1, num_tokens // 3)
    mask = jnp.arange(num_tokens) < num_valid
    snrs_db = [jnp.float32(snr_db) for snr_db in SNRS_DB]

    def send(key, values, mask, snr_db):
        return link(key, values, mask, snr_db, params)

    spoilt = jnp.where(mask[:, None], values, jnp.nan)
    out = _check_transforms(send, link_key, (values, mask), snrs_db)[0]
    assert out.values.shape == values.shape, f"values left as {out.values.shape}."
    gradients.assert_finite(out, "output of the link")
    assert not np.any(out.values[num_valid:]), "padding does not arrive as zeros."
    assert not np.any(out.arrived[num_valid:]), "padding counts as arrived."
    assert out.channel_uses > 0 and out.energy > 0, "nothing is paid."
    nothing = send(link_key, values, jnp.zeros_like(mask), snrs_db[0])
    for name, value in nothing._asdict().items():
        assert not np.any(value), f"with padding alone, {name} is not zero: {value}."
    same = send(link_key, spoilt, mask, snrs_db[0])
    jax.tree.map(_assert_close, same, out)
    _check_link_gradients(link, link_key, spoilt, mask, snrs_db, params)


def _check_transforms(fn: Any, key: base.Array, args: tuple, snrs: list) -> list[Any]:
    """Eager, jit and vmap alike; one trace for all SNRs; the key consumed once.

    Returns:
      The outputs under jit, one for each SNR.
    """
    with jax.debug_key_reuse(True):
        calls = [(jax.random.clone(key), *args, snr) for snr in snrs]
        jitted = traces.assert_no_retrace(fn, calls)
    jax.tree.map(_assert_close, fn(key, *args, snrs[0]), jitted[0])
    keys = jnp.stack([key, jax.random.fold_in(key, 1)])
    in_axes = (0,) + (None,) * (len(args) + 1)
    batch = jax.jit(jax.vmap(fn, in_axes))(keys, *args, snrs[0])
    jax.tree.map(_assert_close, jax.tree.map(lambda a: a[0], batch), jitted[0])
    first, second = np.asarray(jax.tree.leaves(batch)[0])
    assert np.any(first != second), "another key changes nothing."
    return jitted


def _check_noise_power(channel: base.Channel, key: base.Array) -> None:
    """``y - y_noiseless`` has power ``1 / snr`` within six standard errors."""
    shape, snr = (64, 64), 0.25
    state_key, noise_key = jax.random.split(key)
    state = channel.generate(state_key, shape)
    x = jnp.ones(shape, jnp.result_type(complex))
    apply = jax.jit(channel.apply)
    clean = apply(noise_key, x, state, jnp.inf)
    again = apply(jax.random.fold_in(noise_key, 1), x, state, jnp.inf)
    np.testing.assert_array_equal(clean, again, err_msg="noise at snr = inf")
    added = apply(noise_key, x, state, snr) - clean
    power = float(jnp.mean(masks.abs_square(added)))
    assert abs(power * snr - 1.0) < 6.0 / np.sqrt(x.size), (
        f"noise power {power} at snr = {snr}; the convention says {1 / snr}."
    )


def _check_channel_gradients(channel, key, x, snrs) -> None:
    state_key, noise_key = jax.random.split(key)
    state = channel.generate(state_key, x.shape)

    def energy(x, state, snr):
        return jnp.sum(masks.abs_square(channel.apply(noise_key, x, state, snr)))

    grad = jax.jit(jax.grad(energy, argnums=(0, 1, 2)))
    for snr in snrs:
        for symbols in (x, jnp.zeros_like(x)):
            gradients.assert_finite(grad(symbols, state, snr), f"gradient at {snr}")


def _check_link_gradients(link, key, values, mask, snrs_db, params) -> None:
    weights = jnp.cos(jnp.arange(values.size)).reshape(values.shape)

    def loss(values, snr_db, params):
        out = link(key, values, mask, snr_db, params)
        # Weighted: by a sum of squares alone, a scale-free input has no gradient.
        return jnp.sum(weights * out.values + out.values**2) + out.auxiliary_loss

    grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    for snr_db in snrs_db:
        grads = grad(values, snr_db, params)
        gradients.assert_finite(grads, f"gradient at {snr_db} dB")
        assert np.any(grads[0]), f"no gradient reaches the values at {snr_db} dB."
        for path, leaf in paths.flatten(grads[2]).items():
            assert np.any(leaf), f"no gradient reaches {path} at {snr_db} dB."
        silent = grad(jnp.zeros_like(values), snr_db, params)
        gradients.assert_finite(silent, f"gradient of silence at {snr_db} dB")


def _assert_close(a: base.Array, b: base.Array) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
