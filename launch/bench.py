"""Measures m3jax against its peers; writes a table, JSON and a picture.

python launch/bench.py --only=training

Run it on an idle machine: nothing else may take the processor meanwhile.
"""

import json
import pathlib
import subprocess
import sys

import cli
from absl import flags

from benchmarks import harness, report
from m3jax.evals import plots
from m3jax.train import typed_json

GROUPS = (
    *("training", "startup", "grid", "links", "tokens"),
    *("retrieval", "sac", "environment", "selection", "allocation", "moe"),
    *("expert_parallel", "speculation", "bayesopt", "checkpoints"),
)

_ONLY = flags.DEFINE_multi_enum("only", None, GROUPS, "A group; all if unset.")
_OUT = flags.DEFINE_string(
    "out",
    str(harness.ROOT / "docs" / "results" / "benchmarks"),
    "Folder for <group>.json and ratios.png.",
)


def main() -> None:
    """Runs the groups one after the other, and shows all rows that are on disk."""
    harness.require("torch")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    for group in _ONLY.value or GROUPS:
        print(f"measuring {group} ...", file=sys.stderr)
        typed_json.write(out / f"{group}.json", measure(group))
    rows = []
    for group in GROUPS:
        path = out / f"{group}.json"
        if path.exists():
            rows += [harness.Row(**row) for row in typed_json.read(path)]
    print(report.table(rows))
    print(plots.save(report.draw(rows).figure, out / "ratios.png"))


def measure(group: str) -> list[dict]:
    """Runs one group in a process of its own and returns its rows."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{group}"],
        cwd=harness.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"benchmarks/{group}.py ended with {done.returncode}; its message stands"
            " above"
        )
    return json.loads(done.stdout)


if __name__ == "__main__":
    cli.run(main)
