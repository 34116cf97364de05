"""M3LLM's router over wireless links to seven experts.

    python launch/train.py --config=configs/m3llm.py --workdir=runs/m3llm

`laptop` (default) is CE-SAC with the shipped experts, each on two devices, as in the
study (`launch/reproduce.py m3llm`); `end_to_end` is trained through the links instead;
`smoke` shows that it runs, `tiny` and `tiny_end_to_end` in less time; `paper` has the
published sizes (seven experts, a state of 1852 numbers) and settings, with drawn
features in place of the published encoders'.
"""

from m3jax.rl import sac_config
from m3jax.systems.m3llm import ce_sac, router, world
from m3jax.systems.m3llm.study import variants
from m3jax.train import config as train_config

VARIANTS = ("laptop", "end_to_end", "smoke", "tiny", "tiny_end_to_end", "paper")


def get_config(arg: str = "laptop") -> router.Router:
    """The experiment of a variant, one of ``VARIANTS``."""
    if arg in ("laptop", "end_to_end"):
        train = train_config.TrainConfig(steps=128, log_every=1, checkpoint_every=32)
        return _of_study(variants.Settings(), arg == "end_to_end", train)
    if arg in ("smoke", "tiny", "tiny_end_to_end"):
        train = train_config.TrainConfig(steps=4, log_every=1, checkpoint_every=2)
        config = _of_study(variants.smoke(), arg == "tiny_end_to_end", train)
        if arg == "tiny":
            config.world.drawn = world.DrawnFeatures(image=4, text=3, tag=2)
        return config
    if arg == "paper":
        # One episode is 100 steps, 1,000 of them; widths and buffer are SAC's usual.
        return router.Router(
            agent=ce_sac.CeSacConfig(
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
            world=world.WorldConfig(drawn=world.DrawnFeatures()),
            train=train_config.TrainConfig(steps=100, log_every=1, checkpoint_every=10),
        )
    raise ValueError(f"configs/m3llm.py knows {', '.join(VARIANTS)}, not {arg!r}")


def _of_study(
    study: variants.Settings, is_end_to_end: bool, train: train_config.TrainConfig
) -> router.Router:
    """A router as the study trains it."""
    name = variants.END_TO_END if is_end_to_end else variants.FULL
    config = study.router(variants.VARIANTS[name], train.seed)
    config.train = train
    return config
