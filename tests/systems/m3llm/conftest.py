"""A tiny world of two experts, two tasks and made-up features."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs.expert_routing import tasks, world
from m3jax.foundation import answering
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import state_space
from m3jax.systems import m3llm
from m3jax.systems.m3llm import end_to_end, routing_env, specialist

K, M, N, L, D = 2, 3, 2, 4, 8
ASEM = state_space.StateSpace(N, fast_dim=3, slow_dim=2, hidden_dim=4)
SIZES = sizes_lib.Sizes(
    decoder=sizes_lib.DecoderSizes(
        dim=D, num_heads=2, num_kv_heads=1, ff_dim=8, depth=1
    ),
    image=sizes_lib.image(dim=4, depth=1, stem=(), mlp_dim=8),
    audio=sizes_lib.audio(mlp_dim=8),
)
DATA_PLANE = m3llm.Config(
    experts=("one", "two"), expert=specialist.Config(sizes=SIZES, num_tokens=L)
)


def make_bank():
    rng = np.random.default_rng(0)
    mask = np.ones((K, M, N), bool)
    mask[0, 0, 1] = False
    return routing_env.Bank(
        jnp.float32(rng.normal(size=(K, M, 3))),
        jnp.float32(rng.normal(size=(K, M, 5))),
        jnp.asarray(np.eye(K, dtype=np.float32)[:, None].repeat(M, 1)),
        jnp.asarray(mask),
    )


def make_params(filtered=None):
    made = tasks.make_tasks(np.eye(N, dtype=bool), ~np.eye(N, dtype=bool))
    params = world.make_params(made)._replace(max_steps=6, report_loss=0.2)
    return routing_env.Params(params, make_bank(), filtered)


def make_filter(random_params):
    params = random_params(ASEM, np.zeros((1, 1, N), np.float32))
    return routing_env.Filter(params, jnp.float32(0.5), jnp.float32(0.3))


def make_said():
    rng = np.random.default_rng(1)
    answer = np.zeros((K, M, 4), np.int32)
    answer[..., 0], answer[..., 1] = rng.integers(3, 9, (K, M)), answering.EOS
    return end_to_end.Said(
        jnp.float32(rng.normal(size=(K, M, N, L, D))),
        jnp.asarray(rng.integers(3, 9, (K, M, 5)), jnp.int32),
        jnp.asarray(answer),
    )


@pytest.fixture(scope="session")
def random_params():
    """``make(module, *args)``: parameters drawn by NumPy; nothing is compiled."""

    def make(module, *args):
        rng = np.random.default_rng(0)

        def draw(leaf):
            scale = 1.0 / math.sqrt(leaf.shape[0]) if leaf.ndim else 1.0
            return np.float32(scale * rng.normal(size=leaf.shape))

        return jax.tree.map(draw, jax.eval_shape(module.init, jax.random.key(0), *args))

    return make


@pytest.fixture(scope="session")
def tiny_world():
    """The sizes and makers above."""
    return types.SimpleNamespace(**globals())
