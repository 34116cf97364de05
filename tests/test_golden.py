"""What may not move: verdicts of the stored studies, and parameters after three steps.

``python tests/test_golden.py`` writes ``tests/golden/parameters.json`` anew; do so only
where a change of the numbers is wanted, and say why in the commit.
"""

import json
import pathlib

import jax
import numpy as np
import pytest

from m3jax.evals import records
from m3jax.ops import paths
from m3jax.rl import sac_config
from m3jax.studies import report, runner
from m3jax.systems import tokcom
from m3jax.systems.m3llm import asem, ce_sac, router, world
from m3jax.testing import tiny
from m3jax.train import learner, optimizers

ROOT = pathlib.Path(__file__).parents[1]
PARAMETERS = pathlib.Path(__file__).parent / "golden" / "parameters.json"
STEPS = 3


@pytest.mark.parametrize("system", ["tokcom", "m3llm"])
def test_the_stored_records_give_the_stored_verdicts(system, tmp_path):
    folder = ROOT / "docs" / "results" / system
    rows = records.read(folder / "results.json")
    study = runner.load(system, "laptop")
    found = study.verdicts(runner.study_lib.Results(rows, {}, {}))
    report.write_verdicts(tmp_path / "verdicts.json", found)
    again, stored = (
        json.loads((where / "verdicts.json").read_text())
        for where in (tmp_path, folder)
    )
    assert again == stored


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", ["tokcom", "router"])
def test_three_steps_lead_to_the_stored_parameters(name):
    found = TRAINED[name]()
    stored = json.loads(PARAMETERS.read_text())[name]
    assert found.keys() - {router.FILTER} == stored.keys()
    for part, numbers in stored.items():
        atol = 1e-4 * numbers[1]  # terms of both signs may cancel in a sum
        np.testing.assert_allclose(found[part], numbers, atol=atol, err_msg=part)


def train_tokcom():
    """TokCom at the tiny sizes, over a Rayleigh link at drawn SNRs."""
    config = tokcom.Config(
        sizes=tiny.sizes(),
        num_image_tokens=4,
        num_audio_tokens=2,
        num_reals=4,
        receiver_dim=8,
    )
    trainer = learner.make_learner(
        tokcom.make_system(config), optimizers.OptimizerConfig(warmup_steps=1), STEPS
    )
    return sums(trainer, tiny.make_batch())


def train_router():
    """CE-SAC with ASEM in its state, on drawn features."""
    config = router.Router(
        agent=ce_sac.CeSacConfig(
            sac=sac_config.SacConfig(
                hidden=(8,), num_envs=2, chunk=2, batch_size=8, capacity=64, warmup=8
            ),
            anneal_steps=2,
        ),
        world=world.WorldConfig(
            num_examples=2,
            num_steps=4,
            asem=asem.Config(fast_dim=4, slow_dim=2, hidden_dim=8),
            drawn=world.DrawnFeatures(image=4, text=3, tag=2),
        ),
    )
    return sums(config.build().make_learner(), ())


def sums(trainer, batch):
    """Sum and sum of magnitudes of each part of the parameters after three steps."""
    key = jax.random.key(7)
    state = jax.jit(trainer.init)(key, batch)
    step = jax.jit(trainer.step)
    for number in range(STEPS):
        state, _ = step(state, batch, jax.random.fold_in(key, number))
    found = {}
    for path, leaf in paths.flatten(jax.device_get(state.params)).items():
        part = found.setdefault(path.split("/")[0], np.zeros(2))
        part += np.sum(leaf, dtype=np.float64), np.sum(np.abs(leaf), dtype=np.float64)
    return {part: numbers.tolist() for part, numbers in sorted(found.items())}


TRAINED = {"tokcom": train_tokcom, "router": train_router}


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)
    found = {name: train() for name, train in TRAINED.items()}
    PARAMETERS.write_text(json.dumps(found, indent=2) + "\n")
