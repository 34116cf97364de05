"""The config of a run: what ``train.py --resume`` reads if it is given none."""

from m3jax.train import workdir


def get_config(directory: str):
    """The config that the run in a workdir was started with."""
    return workdir.load_config(directory)
