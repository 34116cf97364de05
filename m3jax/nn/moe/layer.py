"""The layer: a router, its selection, and the experts."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers
from m3jax.nn.moe import config as config_lib
from m3jax.nn.moe import parallel, paths, selection
from m3jax.ops import masks


class _Stacked(nn.Module):
    """The kernels of n experts, each drawn by itself."""

    init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, num_experts, shape):
        def draw(key):
            keys = jax.random.split(key, num_experts)
            return jax.vmap(lambda key: self.init(key, shape, jnp.float32))(keys)

        return self.param("kernel", draw)


class MoeLayer(nn.Module):
    """Sends each token to k of n SwiGLU experts (Mixtral, 2401.04088, section 2.1).

    ``sum_i w_i down_i(silu(gate_i(x)) * up_i(x))``, with the router's softmax over all
    n experts, zero but for the k largest, renormalised to one.

    Attributes:
      config: sizes and rules.
      out_init: initialiser of each ``down`` kernel.
      dtype: compute type; the router computes in float32.

    Example:
      >>> layer = MoeLayer(config_lib.MoeConfig(num_experts=4, top_k=2, ff_dim=6))
      >>> x = jax.random.normal(jax.random.key(0), (1, 3, 8))
      >>> params = layer.init(jax.random.key(1), x)
      >>> out, routing = layer.apply(params, x)
      >>> out.shape, routing.experts.shape, int(routing.counts.sum())
      ((1, 3, 8), (1, 3, 2), 6)
    """

    config: config_lib.MoeConfig
    out_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: layers.DType = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: base.Array,
        mask: base.Array | None = None,
        select: selection.Select | None = None,
        select_data: base.Params = None,
    ) -> tuple[base.Array, config_lib.Routing]:
        """Maps tokens, and tells who answered them.

        Args:
          x: [..., D], in most cases [B, L, D].
          mask: bool [...], True for valid tokens; None: all are. Padding asks nobody,
            is counted nowhere and gets zeros, whatever it holds.
          select: who answers; see `Select`. If it asks for more than ``top_k``
            experts, the heaviest count. None: `select_top_k`.
          select_data: what ``select`` gets besides; None: nothing.

        Returns:
          ``(out, routing)``: [..., D] and a `Routing`.

        Raises:
          ValueError: shapes disagree.
        """
        config = self.config
        leading, dim = x.shape[:-1], x.shape[-1]
        if mask is not None and (mask.shape != leading or mask.dtype != jnp.bool_):
            raise ValueError(
                f"MoeLayer expects a bool mask {list(leading)}, got {mask.dtype}"
                f" {list(mask.shape)}."
            )
        tokens = (x if mask is None else masks.keep(x, mask)).reshape(-1, dim)
        valid = jnp.ones(leading, bool) if mask is None else mask
        valid = valid.reshape(-1)
        router = layers.Dense(
            config.num_experts, use_bias=False, dtype=jnp.float32, name="router"
        )
        logits = router(tokens.astype(jnp.float32))
        probs = jax.nn.softmax(logits, axis=-1)
        weights = self._select(probs, valid, select, select_data)
        counts = jnp.sum(weights != 0, axis=0, dtype=jnp.int32)
        weights = selection.limit(weights, config.top_k)
        weights = self._within_capacity(weights)
        out = self._run(tokens.astype(self.dtype), weights)
        taken = jnp.sum(weights != 0, axis=0, dtype=jnp.int32)
        values, experts = jax.lax.top_k(weights, config.top_k)

        def shaped(array):
            return array.reshape(*leading, array.shape[-1])

        return shaped(out), config_lib.Routing(
            shaped(logits),
            shaped(probs),
            shaped(experts),
            shaped(values),
            counts,
            counts - taken,
        )

    def _select(self, probs, valid, select, data):
        if select is None:
            select = functools.partial(
                selection.select_top_k,
                top_k=self.config.top_k,
                renormalised=self.config.renormalise,
            )
        weights = select(probs, valid, *(() if data is None else (data,)))
        if weights.shape != probs.shape:
            raise ValueError(
                f"select must return weights {list(probs.shape)}, got"
                f" {list(weights.shape)}."
            )
        weights = jnp.where(valid[:, None], weights.astype(jnp.float32), 0)
        # No gradient at a zero, where the ways to run the experts would differ.
        return jnp.where(weights == 0, 0, weights)

    def _within_capacity(self, weights):
        num_shards = 1
        if self._is_parallel():
            num_shards = parallel.shards(_mesh(), self.config.axis)
        if self.config.capacity_factor is None or len(weights) % num_shards:
            return weights  # `run_parallel` tells what does not divide
        parts = weights.reshape(num_shards, -1, weights.shape[-1])
        capacity = self.config.capacity(parts.shape[1])
        parts = jax.vmap(lambda part: selection.within(part, capacity))(parts)
        return parts.reshape(weights.shape)

    def _run(self, tokens, weights):
        config, kernels = self.config, self._kernels(tokens.shape[-1])
        if not self._is_parallel():
            # Parameters are made without a mesh.
            path = "auto" if config.path == "parallel" else config.path
            return paths.run_experts(tokens, weights, kernels, config.top_k, path)
        local = len(tokens) // parallel.shards(_mesh(), config.axis)
        return parallel.run_parallel(
            tokens,
            weights,
            kernels,
            config.top_k,
            axis=config.axis,
            capacity=config.capacity(local),
        )

    def _is_parallel(self):
        return self.config.path == "parallel" and not self.is_initializing()

    def _kernels(self, dim):
        config = self.config
        inward, outward = (dim, config.ff_dim), (config.ff_dim, dim)
        make = functools.partial(_Stacked, nn.initializers.lecun_normal())
        kernels = config_lib.Kernels(
            gate=make(name="gate")(config.num_experts, inward),
            up=make(name="up")(config.num_experts, inward),
            down=_Stacked(self.out_init, name="down")(config.num_experts, outward),
        )
        return jax.tree.map(lambda kernel: kernel.astype(self.dtype), kernels)


def _mesh():
    return jax.sharding.get_abstract_mesh()
