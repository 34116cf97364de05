"""The dense layer's product: that of JAX in every mode, batched over either side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from m3jax.nn import decoder, kernel_product, transceiver, vit

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 3, 5, 4)).astype(np.float32))
KERNELS = jnp.asarray(RNG.normal(size=(2, 7, 4, 6)).astype(np.float32))

over_x = lambda f: jax.vmap(f, (0, None))  # noqa: E731
over_kernel = lambda f: jax.vmap(f, (None, 0))  # noqa: E731
over_both = lambda f: jax.vmap(f, (0, 0))  # noqa: E731
BATCHED = {
    "alone": (lambda f: f, X, KERNELS[0, 0]),
    "x": (over_x, X, KERNELS[0, 0]),
    "kernel": (over_kernel, X, KERNELS[0]),
    "both": (over_both, X, KERNELS[:, 0]),
    "seeds_and_critics": (lambda f: over_both(over_kernel(f)), X, KERNELS),
    "two_kernel_axes": (lambda f: over_kernel(over_kernel(f)), X, KERNELS),
    "x_within_kernel": (lambda f: over_kernel(over_x(f)), X, KERNELS[0]),
    "last_axes": (
        lambda f: jax.vmap(f, (-1, -1), -1),
        jnp.moveaxis(X, 0, -1),
        jnp.moveaxis(KERNELS[:, 0], 0, -1),
    ),
}


@pytest.mark.parametrize("name", BATCHED)
def test_values_and_all_derivatives_are_those_of_jax(name):
    wrap, x, kernel = BATCHED[name]

    def everything(product):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(wrap(product)(x, kernel)))

        slopes = jax.grad(loss, (0, 1))
        tangents = jnp.cos(x), jnp.cos(kernel)
        # Forward over reverse: what a Hessian-vector product is.
        curves = jax.jvp(slopes, (x, kernel), tangents)[1]
        return wrap(product)(x, kernel), slopes(x, kernel), curves

    found, wanted = (
        jax.jit(lambda product=product: everything(product))()
        for product in (kernel_product.matmul, jnp.matmul)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_derivatives_of_each_example_are_those_of_jax():
    """Gradients under vmap, not of it."""

    def slopes(product):
        loss = lambda x, kernel: jnp.sum(jnp.sin(product(x, kernel)))  # noqa: E731
        return jax.vmap(jax.grad(loss, (0, 1)), (0, None))(X, KERNELS[0, 0])

    for a, b in zip(slopes(kernel_product.matmul), slopes(jnp.matmul), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_derivatives_are_differences():
    args = X[0, 0], KERNELS[0, 0]
    check_grads(kernel_product.matmul, args, 2, ("fwd", "rev"), atol=1e-2, rtol=1e-2)


def test_the_kernels_gradient_is_made_without_turning_it():
    """What all this is for: no transposition in what is compiled."""

    def loss(product):
        return lambda kernel: jnp.sum(product(X[0], kernel) * 2.0)

    def turned(product):
        lowered = jax.jit(jax.grad(loss(product))).lower(KERNELS[0, 0])
        return "transpose" in lowered.as_text()

    assert turned(jnp.matmul) and not turned(kernel_product.matmul)


def test_what_does_not_fit_is_named():
    with pytest.raises(
        ValueError, match=r"x \[..., D\] and kernel \[D, H\], got \[3\]"
    ):
        kernel_product.matmul(jnp.ones(3), jnp.ones((4, 2)))


def networks():
    """Name -> (network of one number, the number)."""
    receiver = transceiver.Receiver(dim=8, hidden_dim=16)
    sender = transceiver.Transmitter(4)
    encoder = vit.ViT(vit.ViTConfig(16, 1, 2, 8, (8, 8, 1), (4, 4), num_class_tokens=1))
    model = decoder.Decoder(decoder.DecoderConfig(11, dim=16, depth=1, ff_dim=8))
    symbols, tokens = jnp.cos(X[:1, :, 0]), jnp.cos(X[0, :1])
    picture = jnp.sin(jnp.arange(64.0) ** 2).reshape(1, 8, 8, 1)
    wide = jnp.sin(jnp.arange(48.0)).reshape(1, 3, 16)
    mask = jnp.array([[True, True, False]])
    return {
        "receiver": (receiver, lambda x: (symbols, x[None])),
        "transmitter": (sender, lambda x: (tokens, x[None])),
        "vit": (encoder, lambda x: (picture + 0.1 * jnp.sin(x + picture),)),
        "decoder": (model, lambda x: (jnp.sin(x * wide), mask)),
    }


@pytest.mark.parametrize("name", ["receiver", "transmitter", "vit", "decoder"])
def test_forward_mode_is_there(name):
    net, inputs = networks()[name]
    at = jnp.float32(0.7)
    params = jax.eval_shape(net.init, jax.random.key(0), *inputs(at))

    def out(params, x):
        return jax.tree.leaves(net.apply(params, *inputs(x)))[0]

    shapes = [
        jax.eval_shape(fn, params, at).shape
        for fn in (out, jax.jacfwd(out, 1), jax.hessian(out, 1))
    ]
    assert len(set(shapes)) == 1


@pytest.mark.parametrize(
    "name",
    [
        "transmitter",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("receiver", "vit")),
        pytest.param("decoder", marks=pytest.mark.slow),
    ],
)
def test_forward_mode_goes_through_networks(name):
    net, inputs = networks()[name]
    at = jnp.float32(0.7)
    params = jax.jit(net.init)(jax.random.key(0), *inputs(at))

    def out(x):
        return jax.tree.leaves(net.apply(params, *inputs(x)))[0]

    @jax.jit
    def every():
        value, push = jax.linearize(out, at)
        squares = lambda x: jnp.mean(out(x) ** 2)  # noqa: E731
        forward, reverse = jax.jacfwd(out)(at), jax.jacrev(out)(at)
        curve = jax.hessian(squares)(at), jax.jacrev(jax.grad(squares))(at)
        return value, push(1.0), forward, reverse, curve

    value, pushed, forward, reverse, curve = every()
    assert value.shape == forward.shape and np.abs(forward).max() > 0
    np.testing.assert_allclose(pushed, reverse, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward, reverse, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(*curve, rtol=1e-3, atol=1e-5)
    step, out = 1e-2, jax.jit(out)
    slope = (out(at + step) - out(at - step)) / (2 * step)
    np.testing.assert_allclose(forward, slope, atol=0.01 * np.abs(slope).max())
