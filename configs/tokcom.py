"""TokCom on EdgeScenes: a device sends tokens, a server answers.

    python launch/train.py --config=configs/tokcom.py --workdir=runs/tokcom

`laptop` (default) tunes every part from the shipped generalist; `smoke` shows in
seconds that all of it runs; `from_scratch` is `laptop` without the generalist.
"""

from m3jax import experiment
from m3jax.data import pipeline
from m3jax.nn import foundation
from m3jax.systems import tokcom
from m3jax.train import config as train_config
from m3jax.train import optimizers


def get_config(arg: str = "laptop") -> experiment.Experiment:
    """The experiment of a size: "laptop", "smoke" or "from_scratch"."""
    if arg in ("laptop", "from_scratch"):
        return experiment.Experiment(
            system=tokcom.Config(),
            data=pipeline.DataConfig(config="laptop"),
            train=train_config.TrainConfig(
                steps=900,
                batch_size=64,
                log_every=50,
                checkpoint_every=450,
                optimizer=optimizers.OptimizerConfig(
                    name="muon",
                    learning_rate=1e-3,
                    muon_learning_rate=3e-3,
                    warmup_steps=60,
                    weight_decay=1e-3,
                    b2=0.95,
                ),
            ),
            start="generalist" if arg == "laptop" else "",
        )
    if arg == "smoke":
        return experiment.Experiment(
            system=tokcom.Config(
                sizes=foundation.FoundationConfig(
                    dim=32,
                    mlp_dim=64,
                    ff_dim=64,
                    image_depth=1,
                    audio_depth=1,
                    decoder_depth=1,
                    image_stem=(8, 16, 32),
                ),
                num_reals=16,
                receiver_dim=32,
            ),
            data=pipeline.DataConfig(config="smoke"),
            train=train_config.TrainConfig(
                steps=50, batch_size=16, log_every=10, checkpoint_every=25
            ),
        )
    raise ValueError(
        f"configs/tokcom.py knows 'laptop', 'smoke' and 'from_scratch', not {arg!r}"
    )
