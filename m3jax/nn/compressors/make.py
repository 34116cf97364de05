"""Compressors from plain settings, as a config or a command line holds them."""

from m3jax.nn.compressors import (
    contract,
    learned_queries,
    merging,
    selection,
    windows,
)

_FIXED_ORDER = {
    "identity": windows.Identity,
    "stride": windows.Stride,
    "window_pool": windows.WindowPool,
    "token_merging": merging.TokenMerging,
}
_SELECTIONS = {
    "random": selection.Random,
    "top_k_norm": selection.TopKNorm,
    "top_k_attention": selection.TopKAttention,
}
_LEARNED = {"learned_queries": learned_queries.LearnedQueries}

NAMES = (*_FIXED_ORDER, *_SELECTIONS, *_LEARNED)
PROGRESSIVE = (*_SELECTIONS, *_LEARNED)
"""Those that can put the most important token first."""


def make_compressor(
    name: str, num_tokens: int, *, progressive: bool = False
) -> contract.Compressor:
    """The compressor of a configuration.

    Args:
      name: one of ``NAMES``.
      num_tokens: tokens after compression, M.
      progressive: most important token first, for `keep` to cut at run time. Learned
        queries have an order of their own, which training with random lengths makes
        one of importance.

    Returns:
      A Flax module, called as all compressors are.

    Raises:
      ValueError: the name is not known, or has no order of importance.

    Example:
      >>> make_compressor("token_merging", 16).num_tokens
      16
    """
    if name not in NAMES:
        raise ValueError(f"Unknown compressor {name!r}; known are {sorted(NAMES)}.")
    if progressive and name not in PROGRESSIVE:
        raise ValueError(
            f"The compressor {name!r} has no order of importance; progressive ones are"
            f" {sorted(PROGRESSIVE)}."
        )
    if name in _SELECTIONS:
        return _SELECTIONS[name](num_tokens=num_tokens, progressive=progressive)
    return (_FIXED_ORDER | _LEARNED)[name](num_tokens=num_tokens)
