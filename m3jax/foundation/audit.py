"""The audit of EdgeScenes: do the data ask for what they claim to ask for?

Two questions are put to trained networks. Does each skill need the modalities it
names? (The shipped generalist, with one modality taken from another example.) Are the
experts' domains real? (Small specialists and a generalist of the same size, trained
equally long.) Each finding has a margin; a data set that misses one does not
discriminate. A composition root like ``m3jax.experiments.running``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, examples, scenes
from m3jax.foundation import generalist as generalist_lib
from m3jax.foundation import sizes as sizes_lib
from m3jax.train import config as train_config
from m3jax.train import learner, loop, optimizers

SEEDS = {"train": 101, "test": 102}
MARGINS = {
    "needed modality, points lost without it": 0.25,
    "unneeded modality, points lost without it at most": 0.05,
    "specialist over generalist, mean points": 0.10,
    "wrong specialist over chance at most": 0.10,
    "oracle over best constant expert": 0.30,
    "oracle over random expert": 0.30,
}
"""What each gap must exceed (or, where it says "at most", must not)."""

_FEATURES = (
    *("image", "audio", "question", "answer", "skill"),
    *("patch_kind", "patch_colour", "sound"),
)


class Finding(NamedTuple):
    """One checked property.

    Attributes:
      name: a key of ``MARGINS``.
      about: the skill, or "all".
      value: the measured gap.
      holds: whether it keeps its margin.
    """

    name: str
    about: str
    value: float
    holds: bool


@dataclasses.dataclass
class ProbeConfig:
    """The small networks that experts' domains are measured with.

    Attributes:
      steps, batch_size: length of training, the same for all.
      num_test: test examples of each skill.
      sizes: of every probe.
    """

    steps: int = 500
    batch_size: int = 32
    num_test: int = 200
    sizes: sizes_lib.Sizes = dataclasses.field(
        default_factory=lambda: sizes_lib.Sizes(
            decoder=sizes_lib.DecoderSizes(dim=64, ff_dim=128, depth=2),
            image=sizes_lib.image(depth=2, mlp_dim=128),
            audio=sizes_lib.audio(depth=1, mlp_dim=128),
        )
    )


def modality_accuracy(
    answer: base.Predict, params: base.Params, num_examples: int
) -> dict[str, dict[str, float]]:
    """Accuracy by skill with everything, and with one modality of a stranger.

    The modality is not blanked but taken from the next example of the same skill: so a
    network meets what it knows, and what it loses was told by that modality.

    Args:
      answer: a generalist's ``predict["answer"]``.
      params: its trained parameters.
      num_examples: test examples, all skills together.

    Returns:
      {"all" | "no image" | "no audio": {skill: accuracy in [0, 1]}}.
    """
    test = _draw(scenes.SceneSettings(), num_examples)
    predict = jax.jit(answer)
    out = {}
    for name in ("all", "image", "audio"):
        seen = dict(test)
        if name != "all":
            seen[name] = test[name][_strangers(test["skill"])]
        right = _accuracy(predict, params, seen)
        label = name if name == "all" else f"no {name}"
        out[label] = {
            skill: float(right[test["skill"] == index].mean())
            for index, skill in enumerate(scenes.SKILLS)
            if (test["skill"] == index).any()
        }
    return out


def _strangers(skill: np.ndarray) -> np.ndarray:
    """For each example the place of the next one of its skill."""
    places = np.arange(len(skill))
    for index in np.unique(skill):
        places[skill == index] = np.roll(places[skill == index], -1)
    return places


def expert_accuracy(
    config: ProbeConfig, report: Callable[[str], None] = lambda text: None
) -> tuple[np.ndarray, np.ndarray]:
    """Trains one specialist for each visual skill, and a generalist, from scratch.

    Args:
      config: sizes and length of training.
      report: told what is being done.

    Returns:
      Accuracies of the specialists, float [7 experts, 7 skills], and of the generalist
      over the same seven skills, float [7].
    """
    tests = [
        _draw(scenes.SceneSettings(skills=(skill,)), config.num_test)
        for skill in scenes.EXPERTS
    ]

    def measure(skills):
        system, params = _train_probe(config, skills)
        predict = jax.jit(system.predict["answer"])
        return [float(_accuracy(predict, params, test).mean()) for test in tests]

    rows = []
    for skill in scenes.EXPERTS:
        report(f"training the specialist for {skill}")
        rows.append(measure((skill,)))
    report("training the generalist of the same size")
    return np.array(rows), np.array(measure(scenes.EXPERTS))


def findings(
    modalities: Mapping[str, Mapping[str, float]],
    experts: np.ndarray,
    generalist: np.ndarray,
    chance: Mapping[str, float],
) -> list[Finding]:
    """Holds what was measured against the margins.

    Args:
      modalities: from ``modality_accuracy``.
      experts: from ``expert_accuracy``.
      generalist: from ``expert_accuracy``.
      chance: skill -> accuracy of a blind guess.

    Returns:
      One finding for each property and what it is about.
    """
    out = []
    for skill, full in modalities["all"].items():
        for name in ("image", "audio"):
            lost = full - modalities[f"no {name}"][skill]
            if name in scenes.needed(skill):
                key = "needed modality, points lost without it"
                out.append(_at_least(key, f"{skill}, {name}", lost))
            else:
                key = "unneeded modality, points lost without it at most"
                out.append(_at_most(key, f"{skill}, {name}", lost))
    own = np.diag(experts)
    ahead = own - generalist
    key = "specialist over generalist, mean points"
    out.append(_at_least(key, "all", float(ahead.mean())))
    for j, skill in enumerate(scenes.EXPERTS):
        wrong = np.delete(experts[:, j], j).max()
        key = "wrong specialist over chance at most"
        out.append(_at_most(key, skill, float(wrong - chance[skill])))
    oracle = float(experts.max(axis=0).mean())
    constant, random = float(experts.mean(axis=1).max()), float(experts.mean())
    key = "oracle over best constant expert"
    out.append(_at_least(key, "all", oracle - constant))
    out.append(_at_least("oracle over random expert", "all", oracle - random))
    return out


def _at_least(name: str, about: str, value: float) -> Finding:
    return Finding(name, about, value, value >= MARGINS[name])


def _at_most(name: str, about: str, value: float) -> Finding:
    return Finding(name, about, value, value <= MARGINS[name])


def _draw(settings: scenes.SceneSettings, count: int) -> dict[str, np.ndarray]:
    source = dataset.Fresh(settings, SEEDS["test"], count, "test")
    return pipeline.as_arrays(source, features=_FEATURES)


def _train_probe(
    config: ProbeConfig, skills: tuple[str, ...]
) -> tuple[base.System, base.Params]:
    system = generalist_lib.make_system(
        generalist_lib.Config(
            sizes=config.sizes,
            patch_words=examples.PATCH_WORDS,
            sound_words=examples.SOUND_WORDS,
        )
    )
    settings = train_config.TrainConfig(steps=config.steps, log_every=config.steps)
    optimizer = optimizers.OptimizerConfig(
        name="muon", learning_rate=2e-3, warmup_steps=config.steps // 10, b2=0.95
    )
    source = dataset.Fresh(scenes.SceneSettings(skills=skills), SEEDS["train"])
    batches = pipeline.batches(
        source,
        batch_size=config.batch_size,
        seed=0,
        shuffle=False,
        features=_FEATURES,
        num_workers=1,
    )
    try:
        trainer = learner.make_learner(system, optimizer, settings.steps)
        state = loop.fit(trainer, batches, settings, key=jax.random.key(0))
    finally:
        batches.close()
    return system, state.params


def _accuracy(predict, params, arrays, size: int = 100) -> np.ndarray:
    """1 where the whole answer is right, float [n]."""
    count = len(arrays["skill"])
    parts = [
        predict(params, {k: v[at : at + size] for k, v in arrays.items()}, None)
        for at in range(0, count, size)
    ]
    return np.concatenate([np.asarray(part["answer_accuracy"]) for part in parts])
