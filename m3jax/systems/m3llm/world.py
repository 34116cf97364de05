"""The world of M3LLM's routers: experts, examples, calibrated rewards, filters."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.envs.expert_routing import events, judges, tasks, wireless, world
from m3jax.nn import state_space
from m3jax.ops import paths
from m3jax.systems.m3llm import answers, end_to_end, experts, routing_env
from m3jax.systems.m3llm import asem as asem_lib
from m3jax.systems.m3llm import calibration as calibration_lib
from m3jax.train import config as train_config
from m3jax.train import kept, learner, optimizers, scanned, typed_json

ENV = wireless.Wireless(actions="heads")
_LOCAL = "all"
_NOTHING_DB = -60.0
_SCALE_SEED = 123
_EXAMPLES_SEED = 1


@dataclasses.dataclass
class DrawnFeatures:
    """Widths of features that are drawn in place of real ones.

    For sizes whose encoders are not shipped: everything runs, and nothing can be
    learned of pictures.

    Attributes:
      image, text, tag: d_img, d_text and d_tag of equation 22.
    """

    image: int = 1024
    text: int = 768
    tag: int = 5

    RANGES: ClassVar = dict.fromkeys(("image", "text", "tag"), "[1, inf)")


@dataclasses.dataclass
class WorldConfig:
    """What a world is made of.

    Attributes:
      num_examples: of each task, of those that routers train on and of the test's.
      num_calibration: of those, on which the experts are measured.
      num_passing: experts that retrieval lets pass.
      copies: devices that host each expert, each behind a link of its own; with C
        copies of E experts there are N = C E links, expert e's at e, e + E, ...
      task_change: probability that a new task arrives with a step.
      fading_correlation: between the gains of neighbouring steps.
      burst_rate, failure_rate: probabilities of a step, of a burst of interference and
        of each expert's failure.
      num_steps: of an episode.
      calibration_snrs_db: at which the experts are measured.
      asem: of the state-space model.
      asem_series, asem_length: what it is trained on: episodes, and their steps.
      asem_steps, asem_batch, asem_rate: of its training.
      drawn: None: the features of the shipped experts' examples.
    """

    num_examples: int = 100
    num_calibration: int = 40
    num_passing: int = 4
    copies: int = 1
    task_change: float = 0.2
    fading_correlation: float = 0.9
    burst_rate: float = 0.02
    failure_rate: float = 0.002
    num_steps: int = 100
    calibration_snrs_db: tuple[float, ...] = (-10, -5, 0, 5, 10, 15, 25)
    asem: asem_lib.Config = dataclasses.field(default_factory=asem_lib.Config)
    asem_series: int = 4096
    asem_length: int = 60
    asem_steps: int = 1500
    asem_batch: int = 32
    asem_rate: float = 6e-3
    drawn: DrawnFeatures | None = None

    RANGES: ClassVar = {
        "asem_rate": "(0, inf)",
        "calibration_snrs_db": "(-inf, inf)",
    }

    @property
    def num_links(self) -> int:
        """N: experts times the devices that host each."""
        return self.copies * len(tasks.EXPERTS)

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        counts = (
            *("num_examples", "num_calibration", "num_passing", "copies", "num_steps"),
            *("asem_series", "asem_length", "asem_steps", "asem_batch"),
        )
        for name in counts:
            train_config.check_count(f"world.{name}", getattr(self, name), 1)
        if self.num_passing > len(tasks.EXPERTS):
            raise ValueError(
                f"world.num_passing is {self.num_passing} of {len(tasks.EXPERTS)}"
                " experts"
            )
        for name in ("task_change", "burst_rate", "failure_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(
                    f"world.{name} is a probability, got {getattr(self, name)!r}"
                )
        if not -1.0 <= self.fading_correlation <= 1.0:
            raise ValueError(
                "world.fading_correlation must lie in [-1, 1], got"
                f" {self.fading_correlation!r}"
            )
        if self.drawn is None and len(self.calibration_snrs_db) < 3:
            raise ValueError("world.calibration_snrs_db needs at least three SNRs")


class World(NamedTuple):
    """What does not depend on how a router learns.

    Attributes:
      config: its settings.
      pool: the experts; None in a world of drawn features, as is what they are
        measured at.
      params: of the wireless environment, with the experts' measured competences.
      calibration: what those were fitted from, by expert.
      accuracy: float64 ``[K, N, S]``, measured, by task, expert and SNR.
      train_bank, test_bank: what routers see of the examples.
      train_said, test_said: what experts say of them.
      local: accuracy of the small generalist for each task, without a link, [K].
      report_mean, report_std: of the reports, by which they are standardised.
    """

    config: WorldConfig
    pool: experts.Pool | None
    params: world.Params
    calibration: calibration_lib.Calibration | None
    accuracy: np.ndarray | None
    train_bank: routing_env.Bank
    test_bank: routing_env.Bank
    train_said: end_to_end.Said | None
    test_said: end_to_end.Said | None
    local: np.ndarray | None
    report_mean: float
    report_std: float


def make_world(config: WorldConfig, seed: int = 0) -> World:
    """Makes a world from the shipped experts; what is measured is kept on disk.

    Args:
      config: of the world.
      seed: of drawn features.

    Raises:
      ValueError: a setting makes no sense.
      FileNotFoundError: an expert is not shipped.
    """
    config.validate()
    if config.drawn is not None:
        return _drawn(config, seed)
    pool = experts.load_pool()
    about = dataclasses.replace(config, copies=1)
    found = kept.arrays(
        "m3llm-experts", typed_json.to_json(about), lambda: _measure(config, pool)
    )
    fitted = calibration_lib.Calibration(
        found["competence"],
        judges.ToyParams(*map(float, found["judge"])),
        float(found["rmse"]),
    )
    params = _wireless_params(config, fitted)
    scale = asem_lib.scale(simulate(config, params, _SCALE_SEED))
    banks = [
        _host(_bundle(routing_env.Bank, found, split), config.copies)
        for split in _SPLITS
    ]
    said = [_bundle(end_to_end.Said, found, split) for split in _SPLITS]
    return World(
        *(config, pool, params, fitted, found["accuracy"], *banks, *said),
        *(found["local"], *map(float, scale)),
    )


def make_env(
    made: World, uses_asem: bool, uses_mcp: bool, seed: int
) -> tuple[routing_env.RoutingEnv, routing_env.Filter | None]:
    """The environment as a router sees it, and the filter that it sees it through.

    Args:
      made: the world.
      uses_asem: whether it sees ASEM's latents, or the reports themselves.
      uses_mcp: whether there are tags and coarse masks.
      seed: of ASEM's training.

    Returns:
      The environment, and the parameters of ASEM; None without it.
    """
    if not uses_asem:
        return routing_env.RoutingEnv(ENV, None, uses_mcp), None
    std = 1.0 if made.config.drawn is not None else made.report_std
    model = asem_lib.make_model(made.config.asem, made.params, std)
    env = routing_env.RoutingEnv(ENV, model, uses_mcp)
    if made.config.drawn is not None:  # nothing is trained on what is drawn
        key = jax.random.split(jax.random.key(seed), 5)[4]
        params = model.init(key, jnp.zeros((1, 1, model.num_observed)))
    else:
        about = [typed_json.to_json(made.config), seed]
        found = kept.arrays(
            "m3llm-asem", about, lambda: paths.flatten(_train_filter(made, model, seed))
        )
        params = paths.unflatten({path: jnp.asarray(a) for path, a in found.items()})
    scale = jnp.float32(made.report_mean), jnp.float32(made.report_std)
    return env, routing_env.Filter(params, *scale)


def simulate(config: WorldConfig, params: world.Params, seed: int) -> asem_lib.Reports:
    """Reports of episodes, for training and testing ASEM."""
    sizes = config.asem_series, config.asem_length
    return asem_lib.simulate(ENV, params, jax.random.key(seed), *sizes)


def fit_asem(
    config: WorldConfig,
    model: state_space.StateSpace,
    series: base.Array,
    mask: base.Array,
    seed: int,
) -> base.Params:
    """Trains ASEM on standardised series ``[B, T, P]``; returns its parameters."""
    steps, batch_size = config.asem_steps, config.asem_batch
    trainer = learner.make_learner(
        asem_lib.make_system(config.asem, model),
        optimizers.OptimizerConfig(
            learning_rate=config.asem_rate, warmup_steps=max(steps // 20, 1)
        ),
        steps,
    )
    key = jax.random.key(seed)
    examples = {"series": series, "mask": mask}
    rows = scanned.draw_rows(len(series), batch_size, steps, seed)
    state = jax.jit(trainer.init)(key, {})
    state, _ = scanned.fit(scanned.make_stretch(trainer), state, examples, rows, key)
    return state.params


_SPLITS = ("train", "test")


def _measure(config: WorldConfig, pool: experts.Pool) -> dict[str, np.ndarray]:
    """Lets all experts speak of examples to train on and to test with."""
    drawn = [
        experts.draw_examples(config.num_examples, _EXAMPLES_SEED, split)
        for split in _SPLITS
    ]
    said = [answers.say(pool, examples) for examples in drawn]
    some = jax.tree.map(lambda rows: rows[:, : config.num_calibration], said[0])
    snrs_db = tuple(config.calibration_snrs_db)
    accuracy = answers.measure_experts(pool, some, snrs_db)
    alone = np.eye(len(pool.config.experts))[0]
    guess = float(answers.answer(pool, some, alone, _NOTHING_DB).mean())
    fitted = calibration_lib.fit(np.array(snrs_db), accuracy, guess)
    local = experts.load_pool((_LOCAL,))
    right = answers.answer(local, answers.say(local, drawn[1]), np.ones(1), np.inf)
    found = {
        "accuracy": accuracy,
        "competence": fitted.competence,
        "judge": np.array(fitted.judge, np.float64),
        "rmse": np.float64(fitted.rmse),
        "local": right.mean(axis=1),
    }
    for split, examples, heard in zip(_SPLITS, drawn, said, strict=True):
        bank = experts.make_bank(examples, config.num_passing)
        parts = bank._asdict() | heard._asdict()
        found |= {f"{split}.{name}": part for name, part in parts.items()}
    return found


def _bundle(kind: Any, found: dict[str, np.ndarray], split: str) -> Any:
    fields = {name: jnp.asarray(found[f"{split}.{name}"]) for name in kind._fields}
    return kind(**fields)


def _drawn(config: WorldConfig, seed: int) -> World:
    """Features and masks drawn from the seed."""
    keys = jax.random.split(jax.random.key(seed), 5)
    named = tasks.specialists()
    given = named.core, named.irrelevant, named.competence
    made = tasks.make_tasks(*(np.tile(a, (1, config.copies)) for a in given))
    params = world.make_params(made)._replace(max_steps=config.num_steps)
    shape = made.num_tasks, config.num_examples
    features = [
        jax.random.normal(key, (*shape, width))
        for key, width in zip(keys[:3], dataclasses.astuple(config.drawn), strict=True)
    ]
    passing = jax.random.uniform(keys[3], (*shape, made.num_experts)) < 0.5
    bank = routing_env.Bank(*features, passing | made.core[:, None])
    nothing = (None,) * 3
    return World(*(config, None, params, None, None, bank, bank, *nothing), 0.0, 1.0)


def _host(bank: routing_env.Bank, copies: int) -> routing_env.Bank:
    """Whatever passes for an expert passes for its copies."""
    return bank._replace(mask=jnp.tile(bank.mask, (1, 1, copies)))


def _wireless_params(
    config: WorldConfig, fitted: calibration_lib.Calibration
) -> world.Params:
    named = tasks.specialists()
    given = named.core, named.irrelevant, fitted.competence
    made = tasks.make_tasks(*(np.tile(a, (1, config.copies)) for a in given))
    params = world.make_params(made)
    return params._replace(
        radio=params.radio._replace(fading_correlation=config.fading_correlation),
        rewards=params.rewards._replace(judge=fitted.judge),
        events=events.EventParams(
            burst_rate=config.burst_rate, failure_rate=config.failure_rate
        ),
        task_change=config.task_change,
        max_steps=config.num_steps,
    )


def _train_filter(made: World, model: state_space.StateSpace, seed: int) -> base.Params:
    """ASEM of a seed, on episodes of the world that routers train in."""
    reports = simulate(made.config, made.params, seed)
    standard = (reports.snr - made.report_mean) / made.report_std
    return fit_asem(made.config, model, standard, reports.mask, seed)
