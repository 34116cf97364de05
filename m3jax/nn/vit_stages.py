"""An encoder in two stages: its first layers, and the rest over the tokens kept.

Between them stands whatever looks at early features and leaves tokens out, so that
those are never encoded further. A token learns its place when it is embedded, before
any layer, so the tokens that are kept keep theirs.
"""

import jax

from m3jax import base
from m3jax.nn import vit
from m3jax.ops import masks


def early(
    encoder: vit.ViT, params: base.Params, x: base.Array, num_layers: int
) -> base.Array:
    """Embeds an input and runs the first layers.

    Args:
      encoder: the encoder.
      params: its parameters, without the "params" level.
      x: [B, *input_shape], as the encoder takes it.
      num_layers: layers to run, l, from 0 to the encoder's depth.

    Returns:
      [B, L, D], the feature map at layer l, in the order of ``vit.token_order`` behind
      any class tokens.

    Raises:
      ValueError: there are not so many layers.

    Example:
      >>> import jax.numpy as jnp
      >>> encoder = vit.ViT(vit.ViTConfig(dim=32, depth=2))
      >>> images = jnp.ones((1, 64, 64, 3))
      >>> params = encoder.init(jax.random.key(0), images)["params"]
      >>> tokens = early(encoder, params, images, 1)
      >>> whole = late(encoder, params, tokens, 1)
      >>> part = late(encoder, params, tokens[:, :5], 1)
      >>> tokens.shape, part.shape
      ((1, 64, 32), (1, 5, 32))
      >>> expected = encoder.apply({"params": params}, images)
      >>> bool(jnp.allclose(whole, expected, atol=1e-5))
      True
    """
    _check(encoder, num_layers)
    tokens = encoder.apply({"params": params}, x, method="embed")
    return _run(encoder.config, params, tokens, 0, num_layers, vit.Seen())


def late(
    encoder: vit.ViT,
    params: base.Params,
    tokens: base.Array,
    num_layers: int,
    *,
    mask: base.Array | None = None,
    gate: base.Array | None = None,
) -> base.Array:
    """Runs the layers behind the first ones, over any of their tokens.

    Args:
      encoder: the encoder.
      params: its parameters, without the "params" level.
      tokens: [B, K, D], of `early`: all of them, or those kept.
      num_layers: layers that they have passed, l.
      mask: bool [B, K], True where a token is valid; what the others hold reaches no
        valid one. None: all are.
      gate: float [B, K], how much each counts for the others, see
        ``layers.attention``; None: all alike.

    Returns:
      [B, K, D] after the final norm.

    Raises:
      ValueError: there are not so many layers.
    """
    _check(encoder, num_layers)
    config, seen = encoder.config, vit.Seen(mask, gate)
    tokens = tokens if mask is None else masks.keep(tokens, mask)
    tokens = _run(config, params, tokens, num_layers, config.depth, seen)
    return encoder.apply({"params": params}, tokens, method="finish")


def _run(config, params, tokens, first: int, last: int, seen: vit.Seen) -> base.Array:
    """Layers ``first`` to ``last``, of those that are stacked over depth."""
    if first == last:
        return tokens
    some = jax.tree.map(lambda leaf: leaf[first:last], params["layers"])
    layers = vit.stack(config, last - first)
    return layers.apply({"params": some}, tokens, seen, False)[0]


def _check(encoder: vit.ViT, num_layers: int) -> None:
    if not 0 <= num_layers <= encoder.config.depth:
        raise ValueError(
            f"the encoder has {encoder.config.depth} layers, and {num_layers} were to"
            " come first: choose from 0 to its depth."
        )
