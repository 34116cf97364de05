"""Everything that claims a contract is held to it. New parts join a list here.

Systems have a file of their own, systems/test_conformance.py.
"""

import dataclasses
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from m3jax.channels import awgn, bit_channels, csi, doppler, fading, links, packet_loss
from m3jax.data.edgescenes import dataset, scenes
from m3jax.envs import randomised
from m3jax.envs.edge_cloud import offloading
from m3jax.envs.edge_cloud import world as offload_world
from m3jax.envs.expert_routing import events, wireless
from m3jax.experiments import cached, contract
from m3jax.foundation import sizes as sizes_lib
from m3jax.rl import probes
from m3jax.systems.m3llm import world
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
SHORT_OFFLOAD = offload_world.make_params()._replace(max_steps=3)
SLOW_OFFLOAD = offload_world.make_params(5.0)._replace(max_steps=4, rtt_s=0.1)
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
    "offload_plan": (offloading.Offloading(), (SHORT_OFFLOAD, SLOW_OFFLOAD)),
    "offload_grid": (
        offloading.Offloading("grid", pipelined=False),
        (SHORT_OFFLOAD, SLOW_OFFLOAD),
    ),
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
CONFIGS = (
    *("edge_experts", "generalist", "m3llm", "moe2", "msao"),
    *("specialist", "tokcom", "wdmoe"),
)
# Settings of papers whose data are the user's to bring.
PAPER = ("paper_alignment", "paper")


def load(name):
    """The module ``configs/<name>.py``."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VARIANTS = [(name, variant) for name in CONFIGS for variant in load(name).VARIANTS]


@dataclasses.dataclass
class PaperData(dataset.Config):
    """Shapes of the published encoders' inputs; there is nothing to read."""

    sizes: sizes_lib.Sizes | None = None

    @property
    def features(self):
        found = dict(super().features)
        for m in ("audio", "video"):
            shape = self.sizes.encoder_config(m).input_shape
            shape = shape[:-1] if m == "audio" else shape
            dtype = np.uint8 if m == "video" else np.float32
            found[m] = jax.ShapeDtypeStruct(shape, dtype)
        found["video_caption"] = found["audio_caption"]
        return found


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
    assert {path.stem for path in FOLDER.glob("*.py")} == set(CONFIGS)


def brought(name, variant):
    """A config, with data or features in place of those that are not at hand."""
    config = load(name).get_config(variant)
    if name == "tokcom" and variant in PAPER:
        with pytest.raises(ValueError, match="tokcom reads video.*does not have"):
            config.validate()
        config.data = PaperData(sizes=config.system.sizes)
    if name == "m3llm" and config.world.drawn is None:
        config.world.drawn = world.DrawnFeatures(image=96, text=96, tag=7)
        config.agent = config.agent.heads  # end to end needs experts that speak
    return config


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_config_comes_back_from_json(name, variant):
    config = load(name).get_config(variant)
    assert typed_json.from_json(typed_json.to_json(config)) == config


# The seven experts differ in what they see alone, and a router's smaller sizes and its
# training end to end in what is not shapes.
ALIKE = {*scenes.EXPERTS, "end_to_end", "tiny_end_to_end"} - {"chart"}
BUILT = [v for v in VARIANTS if v[1] not in ALIKE and v != ("m3llm", "smoke")]


# One of each config is traced in a few seconds; there are thirty.
QUICK = {next(v for v in BUILT if v[0] == name) for name in CONFIGS}


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(*built, marks=() if built in QUICK else pytest.mark.slow)
        for built in BUILT
    ],
)
def test_a_config_builds_a_run_that_keeps_the_contract(name, variant):
    """Shapes only: nothing is compiled, and no example is read."""
    config = contract.check(brought(name, variant))
    run = config.build()
    learner, batch = run.make_learner(), ()
    if run.batches is not None:
        size = config.learner.batch_size
        batch = cached.batch_of(config.data, size)
        if config.cache:
            warm = jax.eval_shape(learner.init, jax.random.key(0), batch).params
            batch = jax.eval_shape(config.system.make_system().prepare, warm, batch)
    state = jax.eval_shape(learner.init, jax.random.key(0), batch)
    after, metrics = jax.eval_shape(learner.step, state, batch, jax.random.key(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for one, two in zip(*map(jax.tree.leaves, (state, after)), strict=True):
        assert (one.shape, one.dtype) == (two.shape, two.dtype)
    assert all(value.shape == () for value in metrics.values())
    assert run.predict and run.best and callable(run.watch)
    packed = jax.eval_shape(run.pack, state.params)
    assert packed and set(packed) <= set(state.params)


@pytest.mark.parametrize("name", CONFIGS)
def test_config_names_its_variants_when_asked_for_another(name):
    with pytest.raises(
        ValueError, match=f"configs/{name}.py knows .*not 'huge'"
    ) as told:
        load(name).get_config("huge")
    assert all(variant in str(told.value) for variant in load(name).VARIANTS)
