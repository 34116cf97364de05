"""Real pruning of an encoder: what is left out, what is not, and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import layers, pruning, vit, vit_stages
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = vit.ViTConfig(
    dim=16, depth=3, num_heads=2, mlp_dim=24, input_shape=(8, 8, 3), patch_shape=(2, 2)
)
ENCODER = vit.ViT(CONFIG)
WINDOW = 4


@pytest.fixture(scope="module")
def case(random_params):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 8, 8, 3)).astype(np.float32)
    scores = rng.normal(size=(3, 4)).astype(np.float32)
    return random_params(ENCODER, x)["params"], x, scores


def _keep(scores, most, counts=None):
    return pruning.members(pruning.keep_best(scores, most, counts), WINDOW)


@functools.partial(jax.jit, static_argnames=("most", "early"))
def _encode(params, x, scores, most, early, counts=None):
    tokens = vit_stages.early(ENCODER, params, x, early)
    kept = _keep(scores, most, counts)
    tokens = pruning.gather(tokens, kept)
    return vit_stages.late(ENCODER, params, tokens, early, mask=kept.mask), kept


@pytest.mark.parametrize("early", [0, 1, 3])
def test_keeping_all_is_the_whole_encoder(case, early):
    params, x, scores = case
    expected = jax.jit(ENCODER.apply)({"params": params}, x)
    found, kept = _encode(params, x, scores, 4, early)
    assert kept.mask.all()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_keeping_all_has_the_gradient_of_the_whole_encoder(case):
    params, x, scores = case
    weights = np.random.default_rng(2).normal(size=(3, 16, 16)).astype(np.float32)

    def whole(params):
        return jnp.sum(weights * ENCODER.apply({"params": params}, x))

    def pruned(params):
        return jnp.sum(weights * _encode(params, x, scores, 4, 1)[0])

    expected, found = (
        jax.jit(jax.grad(whole))(params),
        jax.jit(jax.grad(pruned))(params),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5),
        found,
        expected,
    )


@pytest.mark.parametrize("early", [0, 2])
def test_what_is_left_out_has_no_influence_behind_the_early_layers(case, early):
    params, x, scores = case
    tokens = jax.jit(lambda x: vit_stages.early(ENCODER, params, x, early))(x)
    kept = _keep(scores, 2)
    gone = np.ones(tokens.shape[:2], bool)
    for row, places in enumerate(np.asarray(kept.places)):
        gone[row, places] = False
    assert gone.sum(axis=1).tolist() == [8, 8, 8]

    @jax.jit
    def late(tokens):
        return vit_stages.late(ENCODER, params, pruning.gather(tokens, kept), early)

    poison = jnp.where(gone[..., None], jnp.nan, tokens)
    np.testing.assert_array_equal(late(poison), late(tokens))
    moved = jnp.where(gone[..., None], tokens, tokens[..., ::-1])
    assert np.abs(late(moved) - late(tokens)).max() > 1e-2  # what is kept has some


def test_masked_tokens_have_no_influence_and_shapes_stay(case):
    params, x, scores = case
    counts = jnp.array([1, 3, 2])
    found, kept = _encode(params, x, scores, 3, 1, counts)
    assert found.shape == (3, 12, 16)
    assert kept.mask.sum(axis=1).tolist() == [4, 12, 8]
    for row, count in enumerate(counts):
        own, _ = _encode(params, x[row : row + 1], scores[row : row + 1], int(count), 1)
        valid = found[row][kept.mask[row]]
        np.testing.assert_allclose(valid, own[0], atol=1e-5)


def test_gates_do_in_place_what_cutting_does(case):
    """The program that trains and the one in use say the same."""
    params, x, scores = case
    expected, kept = _encode(params, x, scores, 2, 1)
    gate = np.zeros((3, 16), np.float32)
    np.put_along_axis(gate, np.asarray(kept.places), 1.0, axis=1)
    tokens = vit_stages.early(ENCODER, params, x, 1)
    found = vit_stages.late(ENCODER, params, tokens, 1, gate=jnp.asarray(gate))
    found = pruning.gather(found, kept)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_kept_token_keeps_its_place(case):
    """A window encodes otherwise at another place, though it shows the same."""
    params, x, _ = case
    same = np.broadcast_to(x[:1, :4, :4], (1, 4, 4, 3))
    tiled = np.tile(same, (1, 2, 2, 1))
    first, last = (
        _encode(params, tiled, np.eye(4, dtype=np.float32)[[at]], 1, 0)[0]
        for at in (0, 3)
    )
    assert np.abs(first - last).max() > 1e-2
    embed = params["position_embed"]
    shifted = {**params, "position_embed": jnp.roll(embed, -12, axis=0)}
    again = _encode(shifted, tiled, np.eye(4, dtype=np.float32)[[0]], 1, 0)[0]
    np.testing.assert_allclose(again, last, atol=1e-5)


def test_the_best_are_kept_in_order():
    scores = jnp.array([[0.3, 0.9, 0.1, 0.9], [5.0, 1.0, 2.0, 3.0]])
    kept = pruning.keep_best(scores, 2)
    assert kept.places.tolist() == [[1, 3], [0, 3]]
    kept = pruning.keep_best(scores, 3, jnp.array([1, 3]))
    assert kept.places.tolist() == [[1, 4, 4], [0, 2, 3]]
    assert kept.mask.tolist() == [[True, False, False], [True, True, True]]


@pytest.mark.parametrize(
    ("total", "retention", "expected"), [(10, 0.3, 3), (16, 1.0, 16), (16, 0.01, 1)]
)
def test_a_retention_is_a_count(total, retention, expected):
    assert pruning.num_kept(total, retention) == expected


@pytest.mark.parametrize("retention", [0.0, 1.1, float("nan")])
def test_no_retention_is_refused(retention):
    with pytest.raises(ValueError, match="retention"):
        pruning.num_kept(4, retention)


def test_windows_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="3 windows do not divide 16"):
        pruning.window_scores(jnp.zeros((1, 16)), 3)


def test_straight_through_gates_on_a_hand_case():
    """Two tokens, one helps and one harms: the gradient raises one, lowers the other.

    loss(g) = (1 - g_0) + 2 g_1, so d loss / d a = (-1, 2) sigmoid'(a).
    """

    def loss(logits):
        gates = pruning.straight_through(logits)
        return (1.0 - gates[0]) + 2.0 * gates[1]

    for start in ([-1.0, -1.0], [1.0, 1.0], [-3.0, 30.0]):
        logits = jnp.array(start)
        value, grad = jax.value_and_grad(loss)(logits)
        hard = (np.array(start) > 0).astype(float)
        assert float(value) == 1.0 - hard[0] + 2.0 * hard[1]
        soft = jax.nn.sigmoid(logits)
        expected = np.array([-1.0, 2.0]) * soft * (1 - soft)
        np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-12)


def test_drawn_gates_are_one_as_often_as_the_sigmoid_says(key):
    gates = pruning.straight_through(jnp.full(20_000, -1.0), key)
    assert set(np.unique(gates)) == {0.0, 1.0}
    p = float(jax.nn.sigmoid(-1.0))
    assert abs(float(gates.mean()) - p) < 4 * np.sqrt(p * (1 - p) / 20_000)


def test_a_hidden_key_has_the_gradient_of_what_it_would_do():
    """d out / d g_s = w_s (v_s - out) / sum of the gated weights, hidden or not."""
    rng = np.random.default_rng(5)
    q, k, v = rng.normal(size=(3, 1, 4, 1, 6)).astype(np.float32)
    gate = jnp.array([[1.0, 0.0, 1.0, 1.0]])
    weights = jax.nn.softmax(q[0, 0, 0] @ k[0, :, 0].T / np.sqrt(6))

    def out(gate):
        return layers.attention(q, k, v, gate=gate)[0, 0, 0]

    total = weights @ gate[0]
    mixed = (weights * gate[0]) @ v[0, :, 0] / total
    np.testing.assert_allclose(out(gate), mixed, rtol=1e-5, atol=1e-6)
    expected = weights[:, None] * (v[0, :, 0] - mixed) / total
    np.testing.assert_allclose(
        jax.jacobian(out)(gate)[:, 0].T, expected, rtol=1e-4, atol=1e-6
    )


def test_gates_of_nothing_are_finite_with_their_gradient():
    x = jnp.ones((1, 3, 1, 4))

    def total(gate, x):
        return jnp.sum(layers.attention(x, x, x, gate=gate))

    value, grads = jax.value_and_grad(total, (0, 1))(jnp.zeros((1, 3)), x)
    assert float(value) == 0.0
    gradients.assert_finite(grads, "gradient")


@pytest.mark.parametrize("num_layers", [-1, 4])
def test_stages_beyond_the_encoder_are_named(case, num_layers):
    params, x, _ = case
    with pytest.raises(ValueError, match="3 layers"):
        vit_stages.early(ENCODER, params, x, num_layers)


def test_class_tokens_stand_in_front_of_early_features(random_params):
    encoder = vit.ViT(dataclasses.replace(CONFIG, num_class_tokens=1))
    x = np.ones((2, 8, 8, 3), np.float32)
    params = random_params(encoder, x)["params"]
    tokens = vit_stages.early(encoder, params, x, 1)
    assert tokens.shape == (2, 17, 16)
    expected = encoder.apply({"params": params}, x)
    found = vit_stages.late(encoder, params, tokens, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
