"""A mixture of four experts on four devices, small enough to compile in seconds."""

import jax
import numpy as np
import pytest

from m3jax.foundation import sizes
from m3jax.systems import wdmoe
from m3jax.systems.wdmoe import cell
from m3jax.systems.wdmoe import config as config_lib


def make_config(**changes) -> wdmoe.Config:
    """Two blocks; the devices differ tenfold."""
    return wdmoe.Config(
        **{
            "decoder": sizes.DecoderSizes(vocab_size=12, dim=8, num_heads=2, depth=2),
            "experts": config_lib.Experts(num_experts=4, ff_dim=6),
            "cell": cell.Cell(flops_per_s=(1e12, 3e12, 5e12, 10e12)),
            **changes,
        }
    )


def make_batch(size: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Questions of different lengths, padded, and answers that end."""
    rng = np.random.default_rng(seed)
    question = rng.integers(3, 12, (size, 5)).astype(np.int32)
    for row, length in enumerate(rng.integers(2, 6, size)):
        question[row, length:] = 0
    answer = rng.integers(3, 12, (size, 3)).astype(np.int32)
    answer[:, 2] = 2
    return {"question": question, "answer": answer}


@pytest.fixture(scope="session")
def mixture():
    """(settings, parameters) of the default policy, the router stirred."""
    settings = make_config()
    system = settings.make_system()
    params = jax.jit(system.init)(jax.random.key(0), {})
    router = params["decoder"]["layers"]["moe"]["router"]
    router["kernel"] = 2.0 * router["kernel"]
    return settings, params
