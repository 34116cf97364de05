"""Speculative decoding: a draft says several words, a target judges them in one pass.

`speculate` over two parties, how long drafts are (`policies`), what is sent of them
(`protocols`), and which stand (`verification`). The costs of it are in
`m3jax.costs.speculation`.
"""

from m3jax.nn.speculation import exits, policies, protocols, verification
from m3jax.nn.speculation.counts import Counts, Result, pool
from m3jax.nn.speculation.decoding import MODES, speculate
from m3jax.nn.speculation.drafting import normalised_entropy
from m3jax.nn.speculation.parties import Party, first_layers, init_exit

__all__ = [
    "MODES",
    "Counts",
    "Party",
    "Result",
    "exits",
    "first_layers",
    "init_exit",
    "normalised_entropy",
    "policies",
    "pool",
    "protocols",
    "speculate",
    "verification",
]
