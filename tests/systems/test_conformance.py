"""Every system is held to the contract of systems. New ones join the list here."""

import dataclasses

import jax
import pytest

from m3jax.channels import links
from m3jax.costs import budgets
from m3jax.foundation import early_exit, generalist
from m3jax.nn import lora
from m3jax.systems import msao, tokcom, wdmoe
from m3jax.systems.m3llm import specialist
from m3jax.systems.moe2 import config as moe2
from m3jax.systems.moe2 import pool, spending, upload
from m3jax.systems.wdmoe import cell
from m3jax.systems.wdmoe import config as wdmoe_config
from m3jax.testing import dummy, system_checks, tiny

TOKCOM = tokcom.Config(
    sizes=tiny.sizes(),
    num_image_tokens=4,
    num_audio_tokens=2,
    num_reals=4,
    receiver_dim=8,
)
GENERALIST = generalist.Config(
    sizes=tiny.sizes(),
    num_image_tokens=4,
    num_audio_tokens=2,
    patch_words=((0, 3, 4, 5), (0, 6, 7, 8)),
    sound_words=((3, 4, 5), (6, 7, 8), (9, 10, 11)),
)
POOL = pool.Config(
    small=tiny.sizes().decoder,
    large=tiny.sizes().decoder,
    placement=("small", "large"),
    lora=lora.LoraConfig(rank=2, pattern=pool.KERNELS),
)
SYSTEMS = {
    "edge_experts": (POOL.make_system(), tiny.make_batch(), ("lora/.*/b",)),
    "moe2": (
        moe2.Config(
            pool=POOL,
            upload=upload.Config(num_reals=4, receiver_dim=8),
            spending=spending.Config(
                budget=budgets.Budget(tau_s=1.0), threshold=0.1, in_training=True
            ),
        ).make_system(),
        tiny.make_batch(),
        ("gate/.*", "pool/lora/.*/b", "upload/(transmitter|receiver)"),
    ),
    "wdmoe": (
        wdmoe.Config(
            decoder=dataclasses.replace(tiny.sizes().decoder, depth=1),
            experts=wdmoe_config.Experts(num_experts=3, ff_dim=4),
            cell=cell.Cell(flops_per_s=(1e12, 2e12, 4e12)),
            policy="priced",
            split="per_block",
            latency_weight=1.0,
        ).make_system(),
        tiny.make_batch(),
        ("prices/price", "decoder/layers/moe/.*"),
    ),
    "msao": (
        msao.Config(
            sizes=tiny.sizes(), num_image_tokens=4, num_audio_tokens=2, relevance_dim=4
        ).make_system(),
        tiny.make_batch(),
        ("spatial", "relevance/(image|audio)", "image_encoder", "decoder/[a-z_]+"),
    ),
    "dummy": (dummy.make_system(), dummy.make_batch(seed=0), ("linear",)),
    "tokcom": (
        tokcom.make_system(TOKCOM),
        tiny.make_batch(),
        (r"(image|audio)_(encoder|transmitter|receiver)", "decoder/[a-z_]+"),
    ),
    "tokcom_options": (
        tokcom.make_system(
            dataclasses.replace(
                TOKCOM,
                modalities=("image", "text"),
                compressor="top_k_attention",
                progressive=True,
                receiver="mlp",
                lora=lora.LoraConfig(rank=2),
                link=links.LinkConfig("erasure", bits=4),
            )
        ),
        tiny.make_batch(),
        (r"(image|text)_(transmitter|receiver)", "lora/.*/b"),
    ),
    "generalist": (
        GENERALIST.make_system(),
        tiny.make_batch(),
        (r"(image|audio)_(encoder|projector)", "decoder/[a-z_]+"),
    ),
    "early_exit": (
        early_exit.Config(GENERALIST).make_system(),
        tiny.make_batch(),
        ("exit/(final_norm|head)/.*",),
    ),
    "specialist": (
        specialist.Config(
            sizes=tiny.sizes(),
            num_tokens=4,
            num_silent=2,
            patch_words=GENERALIST.patch_words,
        ).make_system(),
        tiny.make_batch(),
        ("image_encoder", "projector", "decoder/[a-z_]+"),
    ),
}


# Other settings of systems that are there already.
SLOW = {"tokcom_options", "early_exit"}


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in SYSTEMS
    ],
)
def test_system_keeps_its_contract(name):
    """Of systems whose eager operations take half a minute none run eagerly."""
    system, batch, reaches = SYSTEMS[name]
    eager = None if name in ("dummy", "generalist") else ()
    system_checks.check_system(system, batch, jax.random.key(3), reaches, eager)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in SYSTEMS if n not in ("dummy", "generalist")]
)
def test_all_that_a_system_does_is_the_same_eagerly(name):
    system, batch, reaches = SYSTEMS[name]
    system_checks.check_system(system, batch, jax.random.key(3), reaches)
