"""Transmitter and receiver: finite at every SNR, and steered by it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import transceiver

pytestmark = pytest.mark.usefixtures("quick_compilation")

SNRS_DB = np.array([-np.inf, -200, -20, 0, 7.5, 20, 40, 400, np.inf], np.float32)
BATCH, LENGTH, DIM, NUM_REALS = len(SNRS_DB), 5, 16, 6


@pytest.fixture(scope="module", params=["transmitter", "residual", "mlp"])
def case(request, random_params):
    if request.param == "transmitter":
        module, width = transceiver.Transmitter(NUM_REALS), DIM
    else:
        module = transceiver.Receiver(DIM, 24, kind=request.param)
        width = NUM_REALS
    x = np.random.default_rng(1).normal(size=(BATCH, LENGTH, width))
    x = x.astype(np.float32)
    return module, random_params(module, x, SNRS_DB), x


@pytest.fixture(scope="module")
def apply(case):
    return jax.jit(case[0].apply)


def test_snr_features_equal_their_formula_where_it_is_defined():
    snr_db = np.array([-25.0, -20, -3, 0, 12, 30, 45], np.float32)
    ratios = 10 ** ((snr_db[:, None] - np.array([-10, 0, 10, 20])) / 10)
    expected = np.concatenate(
        [np.clip(snr_db, -20, 40)[:, None] / 20, ratios / (1 + ratios)], axis=1
    )
    actual = transceiver.snr_features(snr_db)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_snr_features_are_finite_bounded_monotonic_with_finite_gradient():
    features = transceiver.snr_features(SNRS_DB)
    assert (np.abs(features) <= 2).all()
    assert (np.diff(features, axis=0) >= 0).all()
    gradients = jax.jit(jax.vmap(jax.jacobian(transceiver.snr_features)))(SNRS_DB)
    assert np.isfinite(gradients).all()
    assert (gradients[3:6] >= 0).all()
    assert (gradients[3:6, 0] > 0).all()


def test_gradients_are_finite_at_every_snr(case):
    module, variables, x = case

    @jax.jit
    def gradient(variables, x, snr_db):
        def loss(variables, x, snr_db):
            return jnp.sum(jnp.sin(module.apply(variables, x, snr_db)))

        return jax.value_and_grad(loss, argnums=(0, 1, 2))(variables, x, snr_db)

    value, gradients = gradient(variables, x, SNRS_DB)
    assert np.isfinite(value)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_jit_equals_eager_and_vmap_equals_batch(case, apply):
    module, variables, x = case
    batched = apply(variables, x, SNRS_DB)
    np.testing.assert_allclose(batched, module.apply(variables, x, SNRS_DB), atol=1e-5)
    single = jax.jit(jax.vmap(module.apply, in_axes=(None, 0, 0)))(
        variables, x, SNRS_DB
    )
    np.testing.assert_allclose(batched, single, atol=1e-5)


def test_the_snr_steers_the_mapping_of_its_own_example_only(case, apply):
    _, variables, x = case
    snr_db = SNRS_DB.copy()
    snr_db[3] = 18.0
    difference = apply(variables, x, snr_db) - apply(variables, x, SNRS_DB)
    changed = np.abs(difference).max(axis=(1, 2)) > 1e-6
    assert np.flatnonzero(changed).tolist() == [3]


def test_without_conditioning_the_snr_is_ignored(case, random_params):
    module, _, x = case
    plain = module.clone(snr_conditioning=False)
    variables = random_params(plain, x, SNRS_DB)
    apply = jax.jit(plain.apply)
    names = set(variables["params"])
    assert not any("modulation" in name for name in names)
    np.testing.assert_array_equal(
        apply(variables, x, SNRS_DB), apply(variables, x, SNRS_DB[::-1])
    )


def test_signals_have_about_unit_scale_at_first():
    sender = transceiver.Transmitter(32)
    receiver = transceiver.Receiver(128, 256)
    tokens = 5 * np.random.default_rng(0).normal(size=(4, 16, 128))
    snr_db = np.array([-10.0, 0.0, 20.0, np.inf], np.float32)

    @jax.jit
    def send(key):
        send_key, receive_key = jax.random.split(key)
        x, _ = sender.init_with_output(send_key, tokens, snr_db)
        return x, receiver.init_with_output(receive_key, x, snr_db)[0]

    for signal in send(jax.random.key(1, impl="rbg")):
        per_snr = signal.std(axis=(1, 2))
        assert (per_snr > 0.7).all()
        assert (per_snr < 1.4).all()


def test_receivers_equal_their_formulas(random_params):
    rng = np.random.default_rng(2)
    y = rng.normal(size=(2, LENGTH, NUM_REALS)).astype(np.float32)
    snr_db = np.zeros(2, np.float32)
    receiver = transceiver.Receiver(DIM, 24, snr_conditioning=False)
    variables = random_params(receiver, y, snr_db)

    def dense(name, x):
        layer = variables["params"][name]
        return x @ layer["kernel"] + layer["bias"]

    def apply(kind):
        own = receiver.clone(kind=kind)
        names = jax.eval_shape(own.init, jax.random.key(0), y, snr_db)["params"]
        return own.apply(
            {"params": {name: variables["params"][name] for name in names}}, y, snr_db
        )

    linear, hidden = dense("linear", y), dense("up", y)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(apply("plain"), linear)
    close(apply("mlp"), dense("down", np.maximum(hidden, 0)))
    close(apply("residual"), linear + dense("down", jax.nn.gelu(hidden)))


def test_the_default_receiver_is_residual_and_keeps_its_tree():
    receiver = transceiver.Receiver(DIM, 24)
    shapes = jax.eval_shape(
        receiver.init, jax.random.key(0), jnp.ones((1, 2, NUM_REALS)), jnp.ones(1)
    )
    assert set(shapes["params"]) == {
        *("linear", "linear_modulation", "up", "modulation", "down"),
    }


def test_an_unknown_receiver_is_refused():
    with pytest.raises(ValueError, match="kind must be .* got 'deep'"):
        transceiver.Receiver(DIM, 24, kind="deep").apply(
            {}, jnp.ones((1, 2, NUM_REALS)), jnp.ones(1)
        )


def test_bfloat16_still_sends_float32():
    sender = transceiver.Transmitter(NUM_REALS, dtype=jnp.bfloat16)
    tokens = jnp.ones((BATCH, LENGTH, DIM))
    x, _ = jax.eval_shape(sender.init_with_output, jax.random.key(0), tokens, SNRS_DB)
    assert x.dtype == jnp.float32


@pytest.mark.parametrize("num_reals", [0, 3, -2])
def test_reals_that_do_not_pair_are_refused(num_reals):
    with pytest.raises(ValueError, match="must be even and positive"):
        transceiver.Transmitter(num_reals).init(
            jax.random.key(0), jnp.ones((1, 2, DIM)), jnp.zeros(1)
        )


def test_an_snr_of_another_shape_is_refused(case):
    module, variables, x = case
    with pytest.raises(ValueError, match="One SNR for each example"):
        module.apply(variables, x, jnp.float32(3.0))
