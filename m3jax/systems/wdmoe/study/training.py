"""What all units share, and how mixtures and routers are trained."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgetext import dataset, domains
from m3jax.ops import paths
from m3jax.systems.wdmoe import config, evaluation
from m3jax.systems.wdmoe.study import variants
from m3jax.train import kept, learner, scanned, typed_json

_READS = ("question", "answer", "domain")


class Shared:
    """Examples, trained mixtures, and compiled programs.

    Args:
      settings: of the study.
    """

    def __init__(self, settings: variants.Settings):
        self.settings = settings
        self.data = dataset.Config(config=settings.data_config)
        self._compiled: dict[str, Callable] = {}

    @functools.cached_property
    def examples(self) -> dict[str, dict[str, np.ndarray]]:
        """Of each stored split."""
        return {
            split: pipeline.as_arrays(self.data.source(split), None, _READS)
            for split in ("train", "validation", "test")
        }

    def batches(self, split: str) -> list[tuple[int, int, dict[str, np.ndarray]]]:
        """(domain, examples, batch) of all that are at the base station together."""
        found = evaluation.by_domain(self.examples[split], self.settings.num_prompts)
        return list(found)

    def mixture(self, seed: int) -> base.Params:
        """A language model of its own seed, trained once for all processes."""
        about = [typed_json.to_json(self.settings), seed]
        made, steps = self.settings.mixture_system(), self.settings.mixture_steps

        def train():
            return paths.flatten(self._train(variants.MIXTURE, made, steps, seed))

        return paths.unflatten(kept.arrays("wdmoe-mixture", about, train))

    def ample(self, seed: int) -> tuple[base.Params, config.Config]:
        """A larger one, and its settings."""
        made, steps = self.settings.ample_system(), self.settings.ample_steps
        return self._train(variants.AMPLE, made, steps, seed), made

    def router(self, name: str, seed: int) -> base.Params:
        """A mixture whose router and prices were tuned."""
        settings = self.settings
        made = settings.priced_system(*variants.router_names(settings)[name])
        learns = learner.make_learner(
            made.make_system(),
            settings.router_optimizer(),
            settings.router_steps,
            made.warm_start(self.mixture(seed)),
            trainable="|".join(config.Config.PARTS[n] for n in ("router", "prices")),
        )
        order = scanned.draw_rows(
            len(self.examples["train"]["answer"]),
            settings.router_batch,
            settings.router_steps,
            seed,
        )
        return self._fit(name, learns, self.examples["train"], order, seed)

    def compiled(self, name: str, make: Callable[[], Callable]) -> Callable:
        """A jitted function of a name, made once: all seeds share its program."""
        if name not in self._compiled:
            self._compiled[name] = make()
        return self._compiled[name]

    def _train(
        self, name: str, made: config.Config, steps: int, seed: int
    ) -> base.Params:
        settings = self.settings
        fresh = dataset.Fresh(domains.Settings(), 1 + seed, settings.num_fresh)
        arrays = pipeline.as_arrays(fresh, None, _READS)
        learns = learner.make_learner(
            made.make_system(), settings.mixture_optimizer(), steps
        )
        order = scanned.draw_rows(
            settings.num_fresh, settings.mixture_batch, steps, seed
        )
        return self._fit(name, learns, arrays, order, seed)

    def _fit(self, name, learns, arrays, order, seed: int) -> base.Params:
        stretch = self.compiled(name, lambda: scanned.make_stretch(learns))
        examples = jax.device_put({n: arrays[n] for n in ("question", "answer")})
        init_key, key = jax.random.split(jax.random.key(seed))
        first = jax.tree.map(lambda array: array[:1], examples)
        state = jax.jit(learns.init)(init_key, first)
        state, _ = scanned.fit(stretch, state, examples, order, key)
        return jax.device_get(state.params)
