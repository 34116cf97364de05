"""Token compressors: fewer tokens, so less to send.

All share one call, with static shapes:

    compressor(tokens [B, L, D], mask [B, L], *, scores=None, key=None)
        -> (tokens [B, M, D], mask [B, M])

and ``method="compress"`` tells besides which input token went where (`Compressed`), so
that `unmerge` can put tokens back to their places. ``scores [B, L]`` and ``key`` are
for those that need them, the others ignore them. What a masked token holds never
reaches a valid output, and masked outputs are zero.

| Name | Keeps | Gradient reaches |
|---|---|---|
| ``identity`` | every token | every token |
| ``stride`` | evenly spaced tokens | the tokens kept |
| ``window_pool`` | the mean of each window | every valid token |
| ``random`` | random tokens | the tokens kept |
| ``top_k_norm`` | the tokens of the largest norm | the tokens kept |
| ``top_k_attention`` | the tokens of the highest scores | the tokens kept |
| ``token_merging`` | means of similar tokens | every valid token |
| ``learned_queries`` | summaries by cross-attention | valid tokens, parameters |

Which tokens are kept or merged is a hard choice: no gradient flows through it, to
scores or metric.
"""

from m3jax.nn.compressors.contract import Compressed, Compressor, unmerge
from m3jax.nn.compressors.learned_queries import LearnedQueries
from m3jax.nn.compressors.make import NAMES, PROGRESSIVE, make_compressor
from m3jax.nn.compressors.merging import TokenMerging, merge_step, size_bias
from m3jax.nn.compressors.progressive import keep, length_for_snr
from m3jax.nn.compressors.selection import (
    Random,
    TopKAttention,
    TopKNorm,
    best_places,
    select,
)
from m3jax.nn.compressors.windows import Identity, Stride, WindowPool

__all__ = [
    "NAMES",
    "PROGRESSIVE",
    "Compressed",
    "Compressor",
    "Identity",
    "LearnedQueries",
    "Random",
    "Stride",
    "TokenMerging",
    "TopKAttention",
    "TopKNorm",
    "WindowPool",
    "best_places",
    "keep",
    "length_for_snr",
    "make_compressor",
    "merge_step",
    "select",
    "size_bias",
    "unmerge",
]
