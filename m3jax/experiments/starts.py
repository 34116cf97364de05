"""What a run starts from: a pretrained model by name, or another run's workdir."""

from m3jax import base
from m3jax.train import checkpoints, pretrained, typed_json, workdir


def check(start: str) -> None:
    """Raises FileNotFoundError if there is nothing to start from."""
    if not start or workdir.has_checkpoints(start):
        return
    try:
        pretrained.find(start)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"start is {start!r}, which is no workdir with a checkpoint, and {error}"
        ) from error


def is_shipped(start: str) -> bool:
    """Whether a start is a model of the package, which whoever has that can load."""
    return bool(start) and start in pretrained.shipped()


def load(start: str) -> base.Params:
    """The parameters; of a workdir those of its newest whole checkpoint.

    Those of a model by name are whole, what it was shipped without put back.
    """
    if workdir.has_checkpoints(start):
        return checkpoints.restore_params(start)
    params, card = pretrained.load(start)
    if "config" not in card:  # nobody knows what it was made by
        return params
    return typed_json.from_json(card["config"]).build().unpack(params)
