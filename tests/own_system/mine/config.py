"""The experiment: python launch/train.py --package=mine --config=mine/config.py ..."""

from m3jax.experiments import supervised
from m3jax.train import config as train_config
from mine import data, system


def get_config(arg: str = "tiny") -> supervised.Supervised:
    """The experiment; the argument is what follows the colon of --config."""
    return supervised.Supervised(
        system=system.Config(),
        data=data.Numbers(),
        train=train_config.TrainConfig(
            steps={"tiny": 4, "long": 400}[arg], log_every=2, checkpoint_every=2
        ),
        learner=train_config.LearnerConfig(batch_size=16),
    )
