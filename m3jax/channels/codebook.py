"""Product vector quantisation: each group of values has its own learned codebook.

A token of R reals is split into ``G = R / D`` groups of D neighbours, and group g is
sent as the index of its nearest word among the K of its codebook (Jegou, Douze and
Schmid, "Product quantization for nearest neighbor search", 2011; van den Oord, Vinyals
and Kavukcuoglu, "Neural discrete representation learning", 2017). All codebooks are one
array ``[G, K, D]``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import special
from sklearn import cluster

from m3jax import base
from m3jax.channels import bits as bits_lib
from m3jax.ops import masks

MAX_BITS = 16
"""Most bits per codeword."""


class Losses(NamedTuple):
    """What pulls codewords and values together, means per real value.

    Attributes:
      codebook: float scalar, moves the codewords.
      commitment: float scalar, moves the values.
    """

    codebook: base.Array
    commitment: base.Array


def check(num_codewords: int, group_size: int) -> None:
    """Checks the static settings of a codebook.

    Raises:
      ValueError: if ``num_codewords`` is no power of two from 2 to 2^16 or
        ``group_size`` no positive integer.
    """
    sizes = [2**b for b in range(1, MAX_BITS + 1)]
    if type(num_codewords) is not int or num_codewords not in sizes:
        raise ValueError(
            "num_codewords must be a power of two, so that an index is a whole number "
            f"of bits, from 2 to 2^{MAX_BITS}; got {num_codewords!r}."
        )
    if not (type(group_size) is int and group_size > 0):
        raise ValueError(f"group_size must be a positive integer, got {group_size!r}.")


def fit(
    x: np.ndarray, num_codewords: int, group_size: int, seed: int = 0
) -> np.ndarray:
    """Learns codebooks from data by k-means, one for each group; on the host.

    Args:
      x: real ``[N, R]``, N at least K.
      num_codewords: K.
      group_size: D, divides R.
      seed: of k-means.

    Returns:
      float32 codewords ``[R / D, K, D]``.

    Raises:
      ValueError: for settings that make no sense or too few rows.
    """
    check(num_codewords, group_size)
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] % group_size or len(x) < num_codewords:
        raise ValueError(
            f"k-means of {num_codewords} codewords needs values [N, R] with N >= "
            f"{num_codewords} and R a multiple of {group_size}; got shape {x.shape}."
        )
    groups = np.split(x, x.shape[1] // group_size, axis=1)
    means = cluster.KMeans(num_codewords, n_init=1, random_state=seed)
    return np.stack([means.fit(g).cluster_centers_ for g in groups]).astype(np.float32)


def nearest(codewords: base.Array, x: base.Array) -> base.Array:
    """The index of the nearest codeword of each group.

        k_g = argmin_k |x_g - c_{g,k}|^2 = argmin_k |c_{g,k}|^2 - 2 x_g . c_{g,k}

    Args:
      codewords: ``[G, K, D]``.
      x: real ``[L, G D]``.

    Returns:
      int32 ``[L, G]``; no gradient.
    """
    codewords, x = lax.stop_gradient((codewords, x))
    groups = x.reshape(len(x), codewords.shape[0], codewords.shape[2])
    products = jnp.einsum("lgd,gkd->lgk", groups, codewords)
    scores = jnp.sum(codewords**2, axis=2) - 2.0 * products
    return jnp.argmin(scores, axis=2).astype(jnp.int32)


def lookup(codewords: base.Array, indices: base.Array) -> base.Array:
    """The codewords of indices ``[L, G]`` as values ``[L, G D]``.

    The gradient by the codewords is exact.
    """
    words = jax.vmap(lambda book, k: book[k], (0, 1), 1)(codewords, indices)
    return words.reshape(len(indices), -1)


def to_bits(indices: base.Array, num_codewords: int) -> base.Array:
    """Indices ``[L, G]`` as bits, int32 ``[L, G log2 K]``."""
    bits = bits_lib.from_integers(indices, num_codewords.bit_length() - 1)
    return bits.reshape(len(indices), -1)


def from_bits(
    codewords: base.Array, bits: base.Array, known: base.Array | None = None
) -> base.Array:
    """Values from bits, some of which may be erased.

    With erasures a group is the mean of the codewords whose index agrees with the bits
    that arrived: the conditional mean, all codewords equally likely.

    Args:
      codewords: ``[G, K, D]``.
      bits: int ``[L, G log2 K]``.
      known: bool, same shape, False where erased; None: nothing is.

    Returns:
      Real ``[L, G D]``; the gradient by the codewords is exact.
    """
    num_groups, num_codewords, _ = codewords.shape
    bits = bits.reshape(len(bits), num_groups, -1)
    if known is None:
        return lookup(codewords, bits_lib.to_integers(bits))
    labels = bits_lib.from_integers(np.arange(num_codewords), bits.shape[2])
    known = known.reshape(bits.shape)[:, :, None]
    agrees = jnp.all((bits[:, :, None] == labels) | ~known, axis=3)
    weights = agrees / jnp.sum(agrees, axis=2, keepdims=True)
    values = jnp.einsum("lgk,gkd->lgd", weights.astype(codewords.dtype), codewords)
    return values.reshape(len(bits), -1)


def losses(
    codewords: base.Array, indices: base.Array, x: base.Array, mask: base.Array
) -> Losses:
    """The two terms that train a codebook (van den Oord et al. 2017, eq. 3).

        codebook = mean |sg(x) - c|^2,   commitment = mean |x - sg(c)|^2

    per real value of the valid tokens, ``sg`` stopping the gradient.

    Args:
      codewords: ``[G, K, D]``.
      indices: int ``[L, G]``, from ``nearest``.
      x: real ``[L, G D]``.
      mask: bool ``[L]``.

    Returns:
      ``Losses(codebook, commitment)``, equal in value.
    """
    words = lookup(codewords, indices)
    return Losses(
        codebook=masks.masked_mean_square(lax.stop_gradient(x) - words, mask),
        commitment=masks.masked_mean_square(x - lax.stop_gradient(words), mask),
    )


def perplexity(indices: base.Array, mask: base.Array, num_codewords: int) -> base.Array:
    """How many codewords are in use, as the exponential of the entropy of their use.

        exp(-sum_k p_k ln p_k),   p_k the share of index k among the valid tokens

    Args:
      indices: int ``[N, G]``, from ``nearest``; of a whole batch, to mean something.
      mask: bool ``[N]``.
      num_codewords: K.

    Returns:
      float ``[G]``, from 1 (one word only) to K (all alike); 1 if no token is valid.

    Example:
      >>> perplexity(jnp.array([[0], [1], [7]]), jnp.array([1, 1, 0]), 8).tolist()
      [2.0]
    """
    used = masks.keep(jax.nn.one_hot(indices, num_codewords), mask)
    count = jnp.maximum(jnp.sum(jnp.asarray(mask).astype(bool)), 1)
    share = jnp.sum(used, axis=0) / count
    return jnp.exp(-jnp.sum(special.xlogy(share, share), axis=1))
