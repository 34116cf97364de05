"""The product of a dense layer, whose gradient by the kernel comes out unturned.

JAX's rule for a product makes the kernel's gradient transposed and turns it afterwards,
which on CPUs costs as much as the product of a small layer. A ``custom_vjp`` mends
that and forbids forward mode. A bilinear primitive has both: forward mode and all
higher derivatives come from the two linear rules below.
"""

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.extend.core import primitives
from jax.interpreters import ad, batching, mlir

from m3jax import base

_product_p = core.Primitive("kernel_product")


def matmul(x: base.Array, kernel: base.Array) -> base.Array:
    """``x [..., D] @ kernel [D, H]``, with a faster gradient by the kernel.

    Forward and reverse mode of any order; under `jax.vmap` of either too.

    Args:
      x: [..., D].
      kernel: [D, H]; both are taken to the type that JAX promotes them to.

    Returns:
      [..., H].

    Raises:
      ValueError: ``x`` has no axis, the kernel not two, or they disagree in D.

    Example:
      >>> kernel = jnp.array([[1.0, 2.0], [0.5, 0.0]])
      >>> matmul(jnp.array([2.0, 4.0]), kernel)
      Array([4., 4.], dtype=float32)
      >>> jax.jvp(lambda x: matmul(x, kernel), (jnp.ones(2),), (jnp.ones(2),))[1]
      Array([1.5, 2. ], dtype=float32)
    """
    shapes = jnp.shape(x), jnp.shape(kernel)
    if not shapes[0] or len(shapes[1]) != 2 or shapes[0][-1] != shapes[1][0]:
        raise ValueError(
            f"matmul takes x [..., D] and kernel [D, H], got {list(shapes[0])} and"
            f" {list(shapes[1])}."
        )
    dtype = jnp.promote_types(jnp.result_type(x), jnp.result_type(kernel))
    return _product_p.bind(
        jnp.asarray(x, dtype),
        jnp.asarray(kernel, dtype),
        num_shared=0,
        num_kernels=0,
        precision=jax.config.jax_default_matmul_precision,
    )


# In general x is [*N, ..., D] and the kernel [*N, *M, D, H], with N axes that both are
# batched over and M that the kernel alone is: [*N, ..., *M, H].


def _product(x, kernel, *, num_shared, num_kernels, precision):
    return jax.lax.dot_general(
        x, kernel, _dimensions(x, num_shared, num_kernels), precision=precision
    )


def _dimensions(x, num_shared, num_kernels):
    shared = tuple(range(num_shared))
    return ((x.ndim - 1,), (num_shared + num_kernels,)), (shared, shared)


@_product_p.def_abstract_eval
def _out(x, kernel, *, num_shared, num_kernels, precision):
    # JAX's own rule knows shardings and varying axes too.
    del precision
    return primitives.dot_general_p.abstract_eval(
        x,
        kernel,
        dimension_numbers=_dimensions(x, num_shared, num_kernels),
        precision=None,
        preferred_element_type=None,
        out_sharding=None,
    )[0]


def _by_x(cotangent, x, kernel, *, num_shared, num_kernels, precision):
    """``[*N, ..., *M, H]`` against the kernel's M and H."""
    del x
    shared = tuple(range(num_shared))
    outer = tuple(range(cotangent.ndim - num_kernels - 1, cotangent.ndim))
    inner = (*range(num_shared, num_shared + num_kernels), kernel.ndim - 1)
    dimensions = (outer, inner), (shared, shared)
    return jax.lax.dot_general(cotangent, kernel, dimensions, precision=precision)


def _by_kernel(cotangent, x, kernel, *, num_shared, num_kernels, precision):
    """``[*N, R, D]`` against ``[*N, R, *M, H]`` over all rows R."""
    del kernel
    shared = tuple(range(num_shared))
    rows = x.reshape(*x.shape[:num_shared], -1, x.shape[-1])
    kept = cotangent.ndim - num_kernels - 1
    over_rows = cotangent.reshape(*rows.shape[:-1], *cotangent.shape[kept:])
    dimensions = ((num_shared,), (num_shared,)), (shared, shared)
    found = jax.lax.dot_general(rows, over_rows, dimensions, precision=precision)
    return jnp.moveaxis(found, num_shared, num_shared + num_kernels)


def _batch(args, axes, *, num_shared, num_kernels, precision):
    (x, kernel), (x_axis, kernel_axis) = args, axes
    if kernel_axis is None:
        x, out_axis = jnp.moveaxis(x, x_axis, num_shared), num_shared
    elif x_axis is None:
        kernel = jnp.moveaxis(kernel, kernel_axis, num_shared)
        num_kernels += 1
        out_axis = x.ndim - 1
    else:
        x, kernel = jnp.moveaxis(x, x_axis, 0), jnp.moveaxis(kernel, kernel_axis, 0)
        num_shared += 1
        out_axis = 0
    out = _product_p.bind(
        x, kernel, num_shared=num_shared, num_kernels=num_kernels, precision=precision
    )
    return out, out_axis


_product_p.def_impl(
    jax.jit(_product, static_argnames=("num_shared", "num_kernels", "precision"))
)
mlir.register_lowering(_product_p, mlir.lower_fun(_product, multiple_results=False))
ad.defbilinear(_product_p, _by_x, _by_kernel)
batching.primitive_batchers[_product_p] = _batch
