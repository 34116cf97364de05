"""What all units share: models, scenes, and what both sides say of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes
from m3jax.experiments import starts
from m3jax.nn import speculation
from m3jax.nn.speculation import policies
from m3jax.systems.msao import agreement, config, pair, parts, pricing
from m3jax.systems.msao.study import variants
from m3jax.train import pretrained, typed_json

_READS = ("image", "audio", "question", "answer", "needs", "object_mask", "skill")
_FIRST_SEED = 1000
"""Of scenes that no training has seen; those of training begin at 1."""
TUNING_SEED = -1
"""Of what is chosen before anything is measured."""
_BATCH = 130


class Said(NamedTuple):
    """What one way of reading led to, on the host.

    Attributes:
      words: int ``[N, A]``, the target's greedy answer.
      right: bool ``[N]``, whether it is the true one.
      whole: `agreement.Agreement` of the draft that reads everything.
      same: of the one that reads what the cloud has read.
      image, audio: ``[N]``, what share of them the cloud has read.
    """

    words: np.ndarray
    right: np.ndarray
    whole: agreement.Agreement
    same: agreement.Agreement
    image: np.ndarray
    audio: np.ndarray

    @property
    def read(self) -> pricing.Read:
        """What the cloud has read."""
        return pricing.Read(self.image, self.audio)

    @property
    def lengths(self) -> np.ndarray:
        """Words of each answer, its end among them, ``[N]``."""
        return np.sum(self.whole.valid, axis=1)


class Drafted(NamedTuple):
    """What a draft says alone.

    Attributes:
      words: int ``[N, A]``.
      right: bool ``[N]``.
      entropy: ``[N]``, mean normalised entropy of its words.
      lengths: ``[N]``.
    """

    words: np.ndarray
    right: np.ndarray
    entropy: np.ndarray
    lengths: np.ndarray


class Shared:
    """Models and programs of the study.

    Args:
      settings: of the study.
    """

    def __init__(self, settings: variants.Settings):
        self.settings = settings
        self._compiled: dict[str, Callable] = {}

    @functools.cached_property
    def target_config(self) -> config.Config:
        """The cloud's networks and probes."""
        _, card = pretrained.load(self.settings.target)
        return typed_json.from_json(card["config"]).system

    @functools.cached_property
    def target(self) -> parts.Parts:
        """The cloud's networks."""
        return parts.Parts(self.target_config)

    @functools.cached_property
    def draft(self) -> parts.Parts:
        """The edge's networks."""
        _, card = pretrained.load(self.settings.draft)
        sizes = typed_json.from_json(card["config"]).system.sizes
        return parts.Parts(config.Config(sizes=sizes))

    @functools.cached_property
    def params(self) -> dict[str, base.Params]:
        """Of each model that the settings name."""
        models = "cloud", "target", "draft", "pruned"
        names = {model: getattr(self.settings, model) for model in models}
        return {key: starts.load(name) for key, name in names.items()}

    def scenes(self, workload: str, seed: int) -> dict[str, np.ndarray]:
        """Requests of a workload, of other scenes for each seed."""
        own = scenes.SceneSettings()
        if workload == variants.DESCRIBE:
            own = scenes.SceneSettings(skills=("describe",))
        fresh = dataset.Fresh(
            own, _FIRST_SEED + seed, self.settings.num_requests, split="test"
        )
        return pipeline.as_arrays(fresh, None, _READS)

    def said(
        self, workload: str, seed: int
    ) -> tuple[dict[str, Said], dict[str, Drafted], dict[str, np.ndarray]]:
        """What is said of scenes, by drafts alone, and the scenes.

        The target says it after reading everything, what the probes keep, and as much
        by chance: of `variants.CLOUD`, `variants.MSAO` and `variants.NO_PROBES`; drafts
        after reading everything and what the probes keep: of `variants.EDGE` and
        `variants.EDGE_PRUNED`.
        """
        arrays = self.scenes(workload, seed)
        key = jax.random.key(_FIRST_SEED + seed)
        found = []
        for number, batch in enumerate(pipeline.split_batches(arrays, _BATCH)):
            own_key = jax.random.fold_in(key, number)
            found.append(jax.device_get(self._program(self.params, batch, own_key)))
        said, drafted = jax.tree.map(lambda *rows: np.concatenate(rows), *found)
        return said, drafted, arrays

    def unverified(
        self, arrays: dict[str, np.ndarray], threshold: float
    ) -> tuple[np.ndarray, speculation.Counts]:
        """Answers in which confident words stay on the edge, and what they took.

        Args:
          arrays: scenes.
          threshold: of normalised entropy, above which the target is asked.

        Returns:
          Words ``[N, A]``, and counts ``[N]`` each.
        """
        run = self.compiled("unverified", lambda: jax.jit(self._leave))
        found = [
            jax.device_get(run(self.params, batch, jnp.float32(threshold)))
            for batch in pipeline.split_batches(arrays, _BATCH)
        ]
        return jax.tree.map(lambda *rows: np.concatenate(rows), *found)

    def _leave(self, params, batch, threshold):
        num_words = batch["answer"].shape[1]
        probed = pair.probed(self.target, params["target"], batch)
        target = pair.read(self.target, params["target"], batch, probed)
        draft = pair.read(self.draft, params["pruned"], batch, probed)
        policy = policies.confidence_stopped(0.5, num_words, rate=0.0)
        policy = policy._replace(init=lambda num: jnp.full(num, threshold))
        found = speculation.speculate(
            target, draft, num_words, policy, mode="edge_accept"
        )
        return found.words, found.counts

    def compiled(self, name: str, make: Callable[[], Callable]) -> Callable:
        """A jitted function of a name, made once: all seeds share its program."""
        if name not in self._compiled:
            self._compiled[name] = make()
        return self._compiled[name]

    @functools.cached_property
    def _program(self):
        return jax.jit(self._answer)

    def _answer(self, params, batch, key):
        num_words, size = batch["answer"].shape[1], len(batch["answer"])
        everything = pair.everything(self.target, size)
        probed = pair.probed(self.target, params["target"], batch)
        chance = pair.uniform(
            self.target,
            key,
            _shuffled(key, probed.num_windows),
            probed.windows.mask.shape[1],
        )
        choices = {
            variants.CLOUD: ("cloud", everything),
            variants.MSAO: ("target", probed),
            variants.NO_PROBES: ("target", chance),
        }
        whole = pair.read(
            self.draft, params["draft"], batch, pair.everything(self.draft, size)
        )
        said = {}
        for name, (model, choice) in choices.items():
            target = pair.read(self.target, params[model], batch, choice)
            words = pair.say(target, num_words)
            partly = pair.read(self.draft, params["pruned"], batch, choice)
            said[name] = Said(
                words,
                pair.is_right(words, batch["answer"]),
                agreement.measure(target, whole, words),
                agreement.measure(target, partly, words),
                choice.num_windows / self.target.counts["image"],
                choice.wanted["audio"].astype(jnp.float32),
            )
        partly = pair.read(self.draft, params["pruned"], batch, probed)
        drafted = {
            variants.EDGE: _alone(whole, batch["answer"]),
            variants.EDGE_PRUNED: _alone(partly, batch["answer"]),
        }
        return said, drafted


def _alone(draft, answer) -> Drafted:
    """What a draft says by itself, and how sure it is of that."""
    words = pair.say(draft, answer.shape[1])
    own = agreement.measure(draft, draft, words)
    lengths = jnp.sum(own.valid, axis=1)
    entropy = jnp.sum(own.entropy, axis=1) / lengths
    return Drafted(words, pair.is_right(words, answer), entropy, lengths)


def _shuffled(key, counts):
    """Counts as they were chosen, for other pictures; at least one window each."""
    return jnp.maximum(jax.random.permutation(jax.random.fold_in(key, 1), counts), 1)
