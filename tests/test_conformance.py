"""Everything that claims a contract is held to it. New parts join a list here.

Systems have a file of their own, systems/test_conformance.py.
"""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from m3jax import experiment
from m3jax.channels import awgn, bit_channels, csi, doppler, fading, links, packet_loss
from m3jax.data import captions, examples
from m3jax.envs import events, randomised, wireless
from m3jax.rl import probes
from m3jax.testing import channel_checks, environments
from m3jax.train import typed_json

CHANNELS = {
    "awgn": awgn.AWGN(),
    "rayleigh": fading.RayleighBlock(),
    "rayleigh_blocks": fading.RayleighBlock(block_length=5),
    "rician": fading.RicianBlock(k_db=6.0, block_length=1),
    "gauss_markov": doppler.GaussMarkov(correlation=0.9, block_length=2),
    "jakes": doppler.Jakes(doppler=0.01, num_paths=8),
}
BLOCKS = fading.RayleighBlock(block_length=5)
LINKS = {
    "analog_pilots": links.AnalogLink(BLOCKS, csi.PilotCSI(num_pilots=2)),
    "digital_blocks": links.DigitalLink(BLOCKS, bits=5, qam_order=16),
    "digital_dither_bec": links.DigitalLink(bit_channels.BEC(), bits=3, dither=True),
    "vq_bsc": links.VQLink(bit_channels.BSC(), num_codewords=8, group_size=2),
    "erasure": links.ErasureLink(
        packet_loss.IndependentLoss(0.5), bits=4, imputation="learned"
    ),
}
# Environments, and parameters of short episodes that one trace must serve; with the
# first of them, episodes begin by chance.
SHORT = wireless.Wireless().default_params._replace(max_steps=3)
BUSY = SHORT._replace(
    max_steps=5, events=events.all_on(), report_loss=0.2, task_change=0.5
)
RANGES = randomised.Range(SHORT, SHORT), randomised.Range(SHORT, BUSY)
ENVIRONMENTS = {
    **{
        f"wireless_{actions}_{mode}": (
            wireless.Wireless(actions, mode, show_mask=mode == "calibrated"),
            (SHORT, BUSY),
        )
        for actions in wireless.ACTIONS
        for mode in wireless.MODES
    },
    "randomised": (randomised.Randomised(wireless.Wireless()), RANGES),
    "probe": (
        probes.Probe(),
        (
            *(probes.observed(), probes.acting_on_observed(), probes.constant()),
            *(probes.acting(), probes.two_steps(), probes.time_limit()),
        ),
    ),
    "continuous_probe": (
        probes.Probe(continuous=True),
        (probes.acting_on_observed(), probes.acting()),
    ),
}
QUICK_ENVIRONMENTS = ("probe", "continuous_probe")
FOLDER = pathlib.Path(__file__).parents[1] / "configs"
CONFIGS = {
    "tokcom": (
        *("laptop", "smoke", "from_scratch", "alignment", "cotraining"),
        *("paper_alignment", "paper"),
    ),
    "foundation": ("laptop", "smoke"),
    "specialist": ("chart", "all", "smoke"),
}
# Routers learn in an environment, and have no batches; tests/test_routing.py runs them.
ROUTERS = {"m3llm": ("laptop", "smoke", "paper")}


def get_config(name, variant):
    """What ``configs/<name>.py`` gives for a variant."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


@pytest.mark.parametrize("name", CHANNELS)
def test_channel_keeps_its_contract(name):
    channel_checks.check_channel(CHANNELS[name], jax.random.key(1))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", LINKS)
def test_link_keeps_its_contract(name):
    channel_checks.check_link(LINKS[name], jax.random.key(2))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    "name",
    [
        name
        if name in QUICK_ENVIRONMENTS
        else pytest.param(name, marks=pytest.mark.slow)
        for name in ENVIRONMENTS
    ],
)
def test_environment_keeps_its_contract(name):
    environments.check_environment(*ENVIRONMENTS[name], jax.random.key(4))


def test_every_config_is_listed():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == set(
        CONFIGS | ROUTERS
    )


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name, variants in CONFIGS.items() for variant in variants],
)
def test_config_describes_a_system_that_fits_the_data(name, variant):
    """Shapes only: nothing is compiled, drawn or read."""
    config = get_config(name, variant)
    config.validate()
    assert typed_json.from_json(typed_json.to_json(config)) == config
    system = experiment.make_system(config.system)
    size = config.train.batch_size
    batch = {
        feature: jax.ShapeDtypeStruct((size, *shape), np.dtype(dtype))
        for feature, (shape, dtype) in examples.FEATURES.items()
    }
    batch |= {
        name: jax.ShapeDtypeStruct((size, length), np.int32)
        for name, length in captions.FEATURES.items()
    }
    if variant.startswith("paper"):  # its data are the user's to bring
        sizes = config.system.sizes
        for m in ("audio", "video"):
            shape = sizes.encoder(m).input_shape
            shape = shape[:-1] if m == "audio" else shape
            batch[m] = jax.ShapeDtypeStruct((size, *shape), batch[m].dtype)
        batch["video_caption"] = batch["audio_caption"]
    params = jax.eval_shape(system.init, jax.random.key(0), batch)
    loss, _ = jax.eval_shape(system.loss, params, batch, jax.random.key(0))
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, variant) for name, variants in ROUTERS.items() for variant in variants],
)
def test_config_describes_a_router(name, variant):
    config = get_config(name, variant)
    config.validate()
    assert typed_json.from_json(typed_json.to_json(config)) == config


@pytest.mark.parametrize("name", CONFIGS | ROUTERS)
def test_config_names_its_variants_when_asked_for_another(name):
    with pytest.raises(
        ValueError, match=f"configs/{name}.py knows .*not 'huge'"
    ) as told:
        get_config(name, "huge")
    assert all(variant in str(told.value) for variant in (CONFIGS | ROUTERS)[name])
