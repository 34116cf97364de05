r"""WDMoE on EdgeText: a mixture of experts, each on a device around a base station.

    python launch/train.py --config=configs/wdmoe.py --workdir=runs/wdmoe
    python launch/evaluate.py --workdir=runs/wdmoe --num_seeds=5
    python launch/evaluate.py --workdir=runs/wdmoe --snr_db=0:40:10

`laptop` (default) tunes router and prices of the shipped mixture for answers and
latency together, through the split of the band; `mixture` trains that language model;
`smoke` shows in seconds that all of it runs, `tiny` in no time.
"""

from m3jax.data.edgetext import dataset
from m3jax.experiments import over_snr, supervised
from m3jax.foundation import sizes
from m3jax.systems import wdmoe
from m3jax.systems.wdmoe import cell, evaluation
from m3jax.systems.wdmoe import config as config_lib
from m3jax.systems.wdmoe.study import variants
from m3jax.testing import tiny_runs
from m3jax.train import config as train_config

VARIANTS = ("laptop", "mixture", "smoke", "tiny")


def get_config(arg: str = "laptop") -> supervised.Supervised:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg == "laptop":
        return _laptop()
    if arg == "mixture":
        return _mixture()
    if arg == "smoke":
        config = _laptop()
        config.data.config = "smoke"
        config.train.steps = config.train.checkpoint_every = 10
        config.train.log_every = 5
        config.evaluator = evaluation.OverCells(bandwidths_hz=(50e6,), num_watched=90)
        return config
    if arg == "tiny":
        return _tiny()
    raise ValueError(f"configs/wdmoe.py knows {', '.join(VARIANTS)}, not {arg!r}")


def _laptop() -> supervised.Supervised:
    study = variants.Settings()
    return supervised.Supervised(
        system=study.priced_system(study.latency_weights[1]),
        data=dataset.Config(),
        train=train_config.TrainConfig(
            steps=study.router_steps,
            log_every=20,
            checkpoint_every=study.router_steps,
        ),
        learner=train_config.LearnerConfig(
            batch_size=study.router_batch,
            trainable="router|prices",
            optimizer=study.router_optimizer(),
        ),
        evaluator=evaluation.OverCells(),
        start="edge_mixture",
    )


def _mixture() -> supervised.Supervised:
    study = variants.Settings()
    return supervised.Supervised(
        system=study.mixture_system(),
        data=dataset.Config(fresh=True),
        train=train_config.TrainConfig(
            steps=study.mixture_steps, log_every=100, checkpoint_every=400
        ),
        learner=train_config.LearnerConfig(
            batch_size=study.mixture_batch, optimizer=study.mixture_optimizer()
        ),
        evaluator=over_snr.OverSnr(num_watched=900),
    )


def _tiny() -> supervised.Supervised:
    settings = tiny_runs.training()
    settings["evaluator"] = evaluation.OverCells(
        bandwidths_hz=(20e6, 50e6), num_prompts=4, num_watched=8
    )
    return supervised.Supervised(
        system=wdmoe.Config(
            decoder=sizes.DecoderSizes(dim=8, num_heads=2, depth=2),
            experts=config_lib.Experts(num_experts=3, ff_dim=8),
            cell=cell.Cell(flops_per_s=(1e12, 2e12, 4e12)),
            policy="priced",
            split="per_block",
            latency_weight=0.1,
        ),
        data=dataset.Config(config="smoke"),
        **settings,
    )
