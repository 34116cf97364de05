"""LoRA from outside: low-rank updates of kernels that are chosen by path.

    W' = W + alpha / rank * A B,   A [in, rank],   B [rank, out]

(Hu et al. 2021, equation 3 and section 4.1, for kernels that stand on the right of
their input.) The network computes with W' and knows nothing of it. Kernels stacked over
depth, ``[depth, in, out]``, get a pair of factors for each layer.

`with_lora` turns a system into one whose parameters hold the factors under "lora", each
pair at the path of its kernel. The paths of all other parameters stay as they are, so
warm starts of the plain system still fit, and the optimizer's pattern chooses what
trains: "lora/.*", or ".*_(transmitter|receiver)/.*|lora/.*".
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import paths

# What TokCom adapts: queries and values of its decoder, in every layer.
QUERIES_AND_VALUES = "decoder/layers/attention/(q|v)/kernel"
_GROUP = "lora"


@dataclasses.dataclass
class LoraConfig:
    """Which adapters a system has.

    Attributes:
      rank: of the updates; 0 has none.
      alpha: their weight; ``alpha / rank`` is what counts.
      pattern: paths of the kernels that are adapted.
    """

    rank: int = 0
    alpha: float = 16.0
    pattern: str = QUERIES_AND_VALUES

    RANGES: ClassVar = {"rank": "[0, inf)", "alpha": "[0, inf)"}


def init(key: base.Array, params: base.Params, pattern: str, rank: int) -> base.Params:
    """Draws the factors of every kernel whose path matches.

    A is normal with variance ``1 / in``; B is zero, so nothing changes at first.

    Args:
      key: randomness of A.
      params: parameters, a pytree.
      pattern: regular expression for whole '/'-joined paths, such as
        `QUERIES_AND_VALUES`.
      rank: columns of A, at least 1.

    Returns:
      Nested dicts: at the path of a kernel ``[..., in, out]`` stands ``{"a": float32
      [..., in, rank], "b": float32 [..., rank, out]}``.

    Raises:
      ValueError: the rank is less than 1, or the pattern matches nothing or something
        that is no matrix.

    Example:
      >>> params = {"q": {"kernel": jnp.ones((2, 6, 4)), "bias": jnp.ones((2, 4))}}
      >>> factors = init(jax.random.key(0), params, ".*/kernel", rank=3)
      >>> jax.tree.map(jnp.shape, factors)
      {'q': {'kernel': {'a': (2, 6, 3), 'b': (2, 3, 4)}}}
      >>> count(factors)
      60
    """
    if rank < 1:
        raise ValueError(f"the rank of LoRA must be at least 1, got {rank}.")
    chosen = paths.flatten(paths.select(params, paths.mask(params, pattern)))
    for path, leaf in chosen.items():
        if leaf.ndim < 2 or path.split("/")[-1] in ("bias", "scale"):
            raise ValueError(
                f"LoRA adapts matrices, but pattern {pattern!r} also matches {path!r};"
                " let it end in '/kernel'."
            )
    keys = jax.random.split(key, len(chosen))
    return paths.unflatten(
        {
            path: _factors(leaf_key, kernel.shape, rank)
            for leaf_key, (path, kernel) in zip(keys, chosen.items(), strict=True)
        }
    )


def merge(params: base.Params, lora: base.Params, alpha: float) -> base.Params:
    """Adds ``alpha / rank * A B`` to the kernels; ``-alpha`` takes it away again.

    Args:
      params: parameters, a pytree.
      lora: factors from `init`; the rank is read off their shapes.
      alpha: weight of the update.

    Returns:
      A pytree like ``params``, each leaf with its own dtype; leaves without factors are
      the same arrays.

    Raises:
      ValueError: factors have no kernel, or one of another shape.
    """
    pairs = _pairs(lora)
    _check(paths.flatten(params), pairs)

    def add(key_path, leaf):
        path = paths.path_string(key_path)
        if path not in pairs:
            return leaf
        a, b = pairs[path]
        # A product so thin costs little, and the kernel is held to its full precision.
        update = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        return (leaf + (alpha / a.shape[-1]) * update).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(add, params)


def with_lora(
    system: base.System,
    pattern: str = QUERIES_AND_VALUES,
    rank: int = 4,
    alpha: float = 16.0,
) -> base.System:
    """A system that computes with low-rank updates of some of its kernels.

    What trains is the optimizer's matter: its pattern "lora/.*" freezes all the rest.
    For a given key, ``init`` draws the same parameters as the plain system, and at
    first all functions give the same values.

    Args:
      system: the plain system; its parameters are a mapping.
      pattern: which kernels, as in `init`.
      rank: of the updates.
      alpha: weight of the updates; only ``alpha / rank`` matters.

    Returns:
      A system whose parameters are those of the plain one and "lora".

    Raises:
      ValueError: alpha is not a finite number above 0; when initialised, what `init`
        raises, or the system has parameters called "lora" already.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha of LoRA must be finite and above 0, got {alpha}.")

    def init_both(key: base.Array, batch: base.Batch) -> base.Params:
        # Folded in, not split: the plain parameters are then those without LoRA.
        lora_key = jax.random.fold_in(key, 1)
        params = system.init(key, batch)
        if not isinstance(params, Mapping) or _GROUP in params:
            raise ValueError(
                "LoRA wants parameters that are a mapping without an entry"
                f" {_GROUP!r}; got {type(params).__name__}"
                f" {list(params) if isinstance(params, Mapping) else ''}."
            )
        return {**params, _GROUP: init(lora_key, params, pattern, rank)}

    def adapted(fn):
        return lambda params, batch, key: fn(fold(params, alpha), batch, key)

    prepare = system.prepare
    if prepare is not None:

        def prepare(params, batch):
            # Fresh adapters change nothing, so parameters may be those of before.
            whole = fold(params, alpha) if _GROUP in params else params
            return system.prepare(whole, batch)

    return dataclasses.replace(
        system,
        init=init_both,
        loss=adapted(system.loss),
        predict={name: adapted(fn) for name, fn in system.predict.items()},
        prepare=prepare,
    )


def fold(params: base.Params, alpha: float) -> base.Params:
    """The parameters of the plain system that do what those with "lora" do.

    Args:
      params: of a system from `with_lora`.
      alpha: as given to it.

    Returns:
      Parameters without "lora", the updates added to the kernels.
    """
    plain = {name: group for name, group in params.items() if name != _GROUP}
    return merge(plain, params[_GROUP], alpha)


def count(lora: base.Params) -> int:
    """How many numbers the factors hold: ``rank (in + out)`` for each kernel."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(lora))


def _factors(key: base.Array, shape: tuple[int, ...], rank: int) -> base.Params:
    *stack, fan_in, fan_out = shape
    a = jax.random.normal(key, (*stack, fan_in, rank), jnp.float32)
    b = jnp.zeros((*stack, rank, fan_out), jnp.float32)
    return {"a": a / math.sqrt(fan_in), "b": b}


def _pairs(lora: base.Params) -> dict[str, tuple[base.Array, base.Array]]:
    """Path of a kernel -> its factors."""
    factors = paths.flatten(lora)
    kernels = dict.fromkeys(path.rpartition("/")[0] for path in factors)
    return {path: (factors[f"{path}/a"], factors[f"{path}/b"]) for path in kernels}


def _check(kernels: Mapping[str, Any], pairs: Mapping[str, Any]) -> None:
    for path, (a, b) in pairs.items():
        if path not in kernels:
            raise ValueError(f"there is no kernel at {path!r} for these factors.")
        shape = (*a.shape[:-1], b.shape[-1])
        if shape != kernels[path].shape:
            raise ValueError(
                f"the factors at {path!r} make an update of shape {list(shape)}, but"
                f" the kernel has {list(kernels[path].shape)}."
            )
