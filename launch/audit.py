"""Audits EdgeScenes: are modalities needed, are experts' domains real?

python launch/audit.py --out=docs/results/edgescenes

Prints drop-one-modality, constant-router, random-expert and oracle accuracy, and fails
if a gap misses its margin.
"""

import json
import pathlib
import sys

import cli
import numpy as np
from absl import flags

from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes
from m3jax.evals import baselines
from m3jax.experiments import running
from m3jax.files import places
from m3jax.foundation import audit
from m3jax.train import environment, typed_json

_OUT = flags.DEFINE_string("out", None, "Folder for audit.json and audit.md.")
_GENERALIST = flags.DEFINE_string("generalist", "generalist", "A shipped model.")
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", 1300, "For the modalities.", 1)
_STEPS = flags.DEFINE_integer("steps", 500, "Training steps of each probe.", 1)


def main() -> None:
    """Runs the audit."""
    if _OUT.value is not None:
        places.writable(_OUT.value, "--out")
    run = running.load(_GENERALIST.value)
    modalities = audit.modality_accuracy(
        run.predict["answer"], run.params, _NUM_EXAMPLES.value
    )
    probes = audit.ProbeConfig(steps=_STEPS.value)
    experts, generalist = audit.expert_accuracy(probes, print)
    found = audit.findings(modalities, experts, generalist, _chance())
    text = _text(modalities, experts, generalist, found)
    print(text)
    if _OUT.value:
        _write(pathlib.Path(_OUT.value), modalities, experts, generalist, found, text)
    missed = [f"{f.name} ({f.about}): {f.value:.3f}" for f in found if not f.holds]
    if missed:
        sys.exit("error: the audit missed its margins: " + "; ".join(missed))


def _chance() -> dict[str, float]:
    source = dataset.Config().source("train")
    train = pipeline.as_arrays(source, features=("question", "answer", "skill"))
    values = baselines.chance(train, train)
    return {
        skill: float(values[train["skill"] == scenes.SKILLS.index(skill)].mean())
        for skill in scenes.EXPERTS
    }


def _text(modalities, experts, generalist, found) -> str:
    lines = ["| skill | all | no image | no audio |", "|---|---|---|---|"]
    for skill, full in modalities["all"].items():
        rest = [modalities[name][skill] for name in ("no image", "no audio")]
        cells = " | ".join(f"{100 * x:.1f}" for x in (full, *rest))
        lines.append(f"| {skill} | {cells} |")
    names = scenes.EXPERTS
    lines += ["", f"| expert \\ skill | {' | '.join(names)} |", "|---" * 8 + "|"]
    for name, row in zip((*names, "generalist"), [*experts, generalist], strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{100 * x:.1f}" for x in row) + " |")
    routers = {
        "oracle expert": experts.max(axis=0).mean(),
        "best constant expert": experts.mean(axis=1).max(),
        "random expert": experts.mean(),
        "generalist": np.mean(generalist),
    }
    lines += ["", "| router | accuracy (%) |", "|---|---|"]
    lines += [f"| {name} | {100 * value:.1f} |" for name, value in routers.items()]
    lines += ["", "| finding | about | gap | margin | holds |", "|---|---|---|---|---|"]
    lines += [
        f"| {f.name} | {f.about} | {f.value:.3f} | {audit.MARGINS[f.name]:.2f} | "
        f"{'yes' if f.holds else 'NO'} |"
        for f in found
    ]
    return "\n".join(lines)


def _write(folder, modalities, experts, generalist, found, text) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    typed_json.write(
        folder / "audit.json",
        json.loads(
            json.dumps(
                {
                    "modalities": modalities,
                    "experts": experts.tolist(),
                    "generalist": generalist.tolist(),
                    "findings": [f._asdict() for f in found],
                    "versions": environment.versions(),
                    "device": environment.device(),
                    "commit": environment.commit(),
                },
                default=bool,
            )
        ),
    )
    (folder / "audit.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
