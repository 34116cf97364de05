"""Tells what a checkpoint holds, without any model code.

python launch/describe.py runs/tokcom
"""

import json
import sys
from typing import Any

from absl import app, flags

from m3jax.train import cards

_STEP = flags.DEFINE_integer("step", None, "A saved step; the newest whole if unset.")


def main(argv: list[str]) -> None:
    """Prints the card of the checkpoint that the argument names."""
    if len(argv) != 2:
        raise app.UsageError("give one workdir, checkpoint or pretrained model")
    try:
        print(_text(cards.describe(argv[1], _STEP.value)))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def _text(card: dict[str, Any]) -> str:
    """The card as indented JSON, one array of the tree a line."""
    tree = card.pop("tree")
    lines = [
        f"  {leaf['path']:60s} {leaf['dtype']}{leaf['shape']}".rstrip() for leaf in tree
    ]
    return "\n".join([json.dumps(card, indent=2), "tree:", *lines])


if __name__ == "__main__":
    app.run(main)
