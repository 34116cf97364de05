"""M3LLM's router: CE-SAC over wireless links to seven experts.

    python launch/train.py --config=configs/m3llm.py --workdir=runs/m3llm

`laptop` (default) learns with the shipped experts, each on two devices, as in the study
(`launch/reproduce.py m3llm`); `smoke` shows that it runs; `paper` has the published
sizes (seven experts, a state of 1852 numbers) and settings, with drawn features in
place of the published encoders'.
"""

from m3jax import routing
from m3jax.reproductions.m3llm import variants
from m3jax.rl import sac_config
from m3jax.systems.m3llm import ce_sac
from m3jax.train import config as train_config

VARIANTS = ("laptop", "smoke", "paper")


def get_config(arg: str = "laptop") -> routing.Experiment:
    """The experiment of a size: "laptop", "smoke" or "paper"."""
    if arg == "laptop":
        train = train_config.TrainConfig(steps=128, log_every=1, checkpoint_every=32)
        return _of_study(variants.Settings(), train)
    if arg == "smoke":
        train = train_config.TrainConfig(steps=4, log_every=1, checkpoint_every=2)
        return _of_study(variants.smoke(), train)
    if arg == "paper":
        # One episode is 100 steps, 1,000 of them; widths and buffer are SAC's usual.
        return routing.Experiment(
            router=ce_sac.CeSacConfig(
                sac=sac_config.SacConfig(
                    hidden=(256, 256),
                    num_envs=1,
                    chunk=1_000,
                    capacity=50_000,
                    warmup=1_000,
                    learning_rate=7e-4,
                    discount=0.99,
                ),
                anneal_steps=50,
            ),
            drawn_features=routing.DrawnFeatures(),
            train=train_config.TrainConfig(steps=100, log_every=1, checkpoint_every=10),
        )
    raise ValueError(f"configs/m3llm.py knows {VARIANTS}, not {arg!r}")


def _of_study(
    study: variants.Settings, train: train_config.TrainConfig
) -> routing.Experiment:
    """M3LLM as the study trains it."""
    return routing.Experiment(router=study.ce_sac, world=study.world, train=train)
