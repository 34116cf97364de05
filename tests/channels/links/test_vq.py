import functools

import jax
import numpy as np
import pytest

from m3jax.channels import awgn, bit_channels, links, quantisers

pytestmark = pytest.mark.usefixtures("quick_compilation")

NOISELESS = np.inf


@functools.partial(jax.jit, static_argnums=0)
def send(link, key, values, mask, snr_db, params=()):
    return link(key, values, mask, snr_db, params)


def correlated(seed, rho=0.9):
    """Normal values [20, 50, 8] whose neighbours in pairs are correlated."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, 50, 4, 2))
    x[..., 1] = rho * x[..., 0] + np.sqrt(1 - rho**2) * x[..., 1]
    return x.reshape(20, 50, 8).astype(np.float32)


def test_a_fitted_codebook_beats_the_scalar_quantiser_at_equal_bits():
    """Correlated pairs, 2 bits a value; the scalar one at the best range for normal
    values, two steps of 0.9957 (Max 1960)."""
    train, test = correlated(seed=0), correlated(seed=1)
    masks = np.ones(train.shape[:2], bool)
    link = links.VQLink(awgn.AWGN(), num_codewords=16, group_size=2)
    params = link.fit(train, masks)
    keys = jax.random.split(jax.random.key(0), len(test))
    many = jax.jit(jax.vmap(link, (0, 0, 0, None, None)))
    out = many(keys, test, masks, NOISELESS, params)
    assert out.bits.tolist() == [2 * test[0].size] * len(test)
    unit = test / np.sqrt(np.mean(test**2, axis=(1, 2), keepdims=True))
    scalar = quantisers.uniform(unit, 2, limit=2 * 0.9957).values
    scalar_error = np.mean((scalar - unit) ** 2)
    assert scalar_error == pytest.approx(0.1188, rel=0.05)  # Max 1960, table II
    # High-rate theory: 2 bits a value buy a factor sqrt(1 - 0.9^2) = 0.44.
    assert np.mean((out.values - unit) ** 2) < 0.65 * scalar_error


def test_gradient_steps_pull_the_codebook_to_the_values(key):
    values = correlated(seed=2)[0]
    mask = np.arange(50) < 40
    link = links.VQLink(awgn.AWGN(), num_codewords=16, group_size=2)
    params = link.init(key, 8)

    def loss(params):
        return link(key, values, mask, NOISELESS, params).auxiliary_loss

    @jax.jit
    def step(params):
        value, grads = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda p, g: p - 20.0 * g, params, grads)

    losses = []
    for _ in range(30):
        value, params = step(params)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]


def test_without_noise_the_nearest_codewords_arrive(key):
    link = links.VQLink(awgn.AWGN(), num_codewords=4, group_size=4, qam_order=4)
    params = link.init(key, 8)
    values, mask = correlated(seed=3)[0], np.ones(50, bool)
    out = send(link, key, values, mask, NOISELESS, params)
    unit = values / np.sqrt(np.mean(values**2))
    words = np.asarray(params["codewords"])
    distances = np.sum((unit.reshape(50, 2, 1, 4) - words) ** 2, axis=3)
    nearest = distances.argmin(axis=2)
    expected = np.stack([words[g, nearest[:, g]] for g in range(2)], axis=1)
    np.testing.assert_allclose(out.values, expected.reshape(50, 8), atol=1e-6)


def test_with_all_bits_erased_the_mean_of_the_codebook_arrives(key):
    link = links.VQLink(bit_channels.BEC(1.0), num_codewords=8, group_size=2)
    params = link.init(key, 8)
    values = correlated(seed=4)[0]
    out = send(link, key, values, np.ones(50, bool), 0.0, params)
    mean = params["codewords"].mean(axis=1).reshape(-1)
    np.testing.assert_allclose(out.values, np.tile(mean, (50, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_codewords": 12}, "power of two"),
        ({"num_codewords": 1}, "power of two"),
        ({"group_size": 0}, "group_size"),
        ({"commitment": -1.0}, "commitment"),
        ({"channel": "awgn"}, "generate"),
    ],
)
def test_wrong_settings_are_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        links.VQLink(**{"channel": awgn.AWGN()} | settings)


def test_a_group_that_does_not_divide_the_token_is_refused(key):
    link = links.VQLink(awgn.AWGN(), group_size=3)
    with pytest.raises(ValueError, match="group_size=3 must divide .* R=8"):
        link.init(key, 8)
    with pytest.raises(ValueError, match="masks"):
        link.fit(np.ones((4, 6)), np.ones(4, bool))
