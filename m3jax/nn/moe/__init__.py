"""Mixture of experts: a router sends each token to few of many feed-forward networks.

A layer (`MoeLayer`), how its experts are run (`run_dense`, `run_grouped`,
`run_buckets`, `run_parallel`: equal in value and gradient), who answers a token
(`select_top_k` or a function of your own), and the losses that keep the load even.
"""

from m3jax.nn.moe.buckets import run_buckets
from m3jax.nn.moe.config import PATHS, Kernels, MoeConfig, Routing
from m3jax.nn.moe.layer import MoeLayer
from m3jax.nn.moe.losses import load_balance_loss, router_z_loss
from m3jax.nn.moe.parallel import bytes_per_token, run_parallel
from m3jax.nn.moe.paths import run_dense, run_experts, run_grouped
from m3jax.nn.moe.selection import Select, limit, renormalise, select_top_k, within

__all__ = [
    "PATHS",
    "Kernels",
    "MoeConfig",
    "MoeLayer",
    "Routing",
    "Select",
    "bytes_per_token",
    "limit",
    "load_balance_loss",
    "renormalise",
    "router_z_loss",
    "run_buckets",
    "run_dense",
    "run_experts",
    "run_grouped",
    "run_parallel",
    "select_top_k",
    "within",
]
