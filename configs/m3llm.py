"""M3LLM's router: CE-SAC over wireless links to seven experts.

    python launch/train.py --config=configs/m3llm.py --workdir=runs/m3llm

`laptop` (default) learns with the shipped experts, in about two minutes on 2 cores;
`smoke` shows in seconds that it runs; `paper` has the published sizes (seven experts, a
state of 1852 numbers) and settings, with drawn features in place of the published
encoders'.
"""

from m3jax import routing
from m3jax.rl import sac_config
from m3jax.systems.m3llm import asem, ce_sac
from m3jax.train import config as train_config

VARIANTS = ("laptop", "smoke", "paper")


def get_config(arg: str = "laptop") -> routing.Experiment:
    """The experiment of a size: "laptop", "smoke" or "paper"."""
    if arg == "laptop":
        return routing.Experiment(
            router=ce_sac.CeSacConfig(
                sac=sac_config.SacConfig(
                    hidden=(128, 128),
                    num_envs=16,
                    chunk=100,
                    capacity=48_000,
                    warmup=1_600,
                    learning_rate=7e-4,
                    initial_temperature=0.1,
                ),
                anneal_steps=20,
            ),
            train=train_config.TrainConfig(steps=40, log_every=1, checkpoint_every=10),
        )
    if arg == "smoke":
        return routing.Experiment(
            router=ce_sac.CeSacConfig(
                sac=sac_config.SacConfig(
                    hidden=(8,),
                    num_envs=4,
                    chunk=4,
                    batch_size=16,
                    capacity=160,
                    warmup=16,
                ),
                anneal_steps=2,
            ),
            world=routing.WorldConfig(
                num_examples=4,
                num_steps=16,
                calibration_snrs_db=(-10, 5, 25),
                asem=asem.Config(fast_dim=4, slow_dim=2, hidden_dim=8),
                asem_series=16,
                asem_length=12,
                asem_steps=6,
                asem_batch=4,
            ),
            train=train_config.TrainConfig(steps=4, log_every=1, checkpoint_every=2),
        )
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
