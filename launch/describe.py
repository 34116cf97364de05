"""Tells what a checkpoint holds, without any model code.

python launch/describe.py runs/tokcom
"""

import json
from typing import Any

import cli
from absl import flags

from m3jax.train import cards

_STEP = flags.DEFINE_integer("step", None, "A saved step; the newest whole if unset.")


def main(place: str) -> None:
    """Prints the card of the checkpoint that the argument names."""
    print(_text(cards.describe(place, _STEP.value)))


def _text(card: dict[str, Any]) -> str:
    """The card as indented JSON, one array of the tree a line."""
    tree = card.pop("tree")
    lines = [
        f"  {leaf['path']:60s} {leaf['dtype']}{leaf['shape']}".rstrip() for leaf in tree
    ]
    return "\n".join([json.dumps(card, indent=2), "tree:", *lines])


if __name__ == "__main__":
    cli.run(main, "one workdir, checkpoint or pretrained model")
