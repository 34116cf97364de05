"""The smallest pool of experts that has all there is."""

import jax
import numpy as np
import pytest

from m3jax.foundation import sizes
from m3jax.nn import lora
from m3jax.systems.moe2 import config as config_lib
from m3jax.systems.moe2 import pool as pool_lib

WORDS = 12


def make_pool_config(**changes):
    """Three experts on two bases."""
    tiny = {"vocab_size": WORDS, "num_heads": 2, "num_kv_heads": 1, "depth": 1}
    settings = {
        "small": sizes.DecoderSizes(dim=8, ff_dim=8, **tiny),
        "large": sizes.DecoderSizes(dim=12, ff_dim=8, **tiny),
        "placement": ("small", "large", "small"),
        "lora": lora.LoraConfig(rank=2, pattern=pool_lib.KERNELS),
    }
    return pool_lib.Config(**{**settings, **changes})


def make_config(**changes):
    """A system on this pool."""
    return config_lib.Config(pool=make_pool_config(), **changes)


def make_batch(seed=0, size=6):
    """Questions and answers of noise."""
    rng = np.random.default_rng(seed)
    question = rng.integers(3, WORDS, (size, 4)).astype(np.int32)
    question[::2, 3] = 0
    answer = rng.integers(3, WORDS, (size, 3)).astype(np.int32)
    answer[:, 2] = 2
    answer[1::2, 1:] = 2, 0
    return {"question": question, "answer": answer}


def stir(params, seed=1, scale=0.2):
    """Parameters with noise, so that adapters change something."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [
        leaf + scale * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)


@pytest.fixture(scope="package")
def pool():
    """The pool and its parameters."""
    made = pool_lib.Pool(make_pool_config())
    params = stir(jax.jit(made.init)(jax.random.key(0)), scale=0.5)
    for size in made.sizes:  # PAD is no word, but untrained networks say it
        head = params[size]["head"]
        head["kernel"] = head["kernel"].at[:, 0].set(0.0)
    return made, params


@pytest.fixture(scope="package")
def system():
    """The plain system and its parameters."""
    made = make_config().make_system()
    return made, stir(jax.jit(made.init)(jax.random.key(0), {}))
