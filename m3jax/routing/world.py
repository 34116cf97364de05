"""The world of M3LLM's routers: experts, examples, calibrated rewards, filters."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base, specialists
from m3jax.envs import events, tasks, wireless, world
from m3jax.nn import state_space
from m3jax.routing import answers
from m3jax.systems.m3llm import asem as asem_lib
from m3jax.systems.m3llm import calibration as calibration_lib
from m3jax.systems.m3llm import end_to_end, routing_env
from m3jax.train import learner, optimizers, scanned

ENV = wireless.Wireless(actions="heads")
_LOCAL = "all"
_NOTHING_DB = -60.0
_SCALE_SEED = 123
_EXAMPLES_SEED = 1


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


class World(NamedTuple):
    """What does not depend on a seed.

    Attributes:
      pool: the experts.
      params: of the wireless environment, with the experts' measured competences.
      calibration: what those were fitted from, by expert.
      accuracy: float64 ``[K, N, S]``, measured, by task, expert and SNR.
      train_bank, test_bank: what routers see of the examples.
      train_said, test_said: what experts say of them.
      local: accuracy of the small generalist for each task, without a link, [K].
      report_mean, report_std: of the reports, by which they are standardised.
    """

    pool: specialists.Pool
    params: world.Params
    calibration: calibration_lib.Calibration
    accuracy: np.ndarray
    train_bank: routing_env.Bank
    test_bank: routing_env.Bank
    train_said: end_to_end.Said
    test_said: end_to_end.Said
    local: np.ndarray
    report_mean: float
    report_std: float


_worlds: dict[str, World] = {}
_filters: dict[tuple[str, int], tuple[state_space.StateSpace, routing_env.Filter]] = {}


def make_world(config: WorldConfig) -> World:
    """Makes a world from the shipped experts, once in a process.

    Raises:
      FileNotFoundError: an expert is not shipped.
    """
    if repr(config) not in _worlds:
        _worlds[repr(config)] = _make_world(config)
    return _worlds[repr(config)]


def make_env(
    config: WorldConfig, uses_asem: bool, uses_mcp: bool, seed: int
) -> tuple[routing_env.RoutingEnv, routing_env.Filter | None]:
    """The environment as a router sees it, and the filter that it sees it through.

    Args:
      config: of the world.
      uses_asem: whether it sees ASEM's latents, or the reports themselves.
      uses_mcp: whether there are tags and coarse masks.
      seed: of ASEM's training.

    Returns:
      The environment, and the parameters of ASEM; None without it.
    """
    if not uses_asem:
        return routing_env.RoutingEnv(ENV, None, uses_mcp), None
    key = repr(config), seed
    if key not in _filters:
        _filters[key] = _train_filter(config, seed)
    model, filtered = _filters[key]
    return routing_env.RoutingEnv(ENV, model, uses_mcp), filtered


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
    state = jax.jit(trainer.init)(key, {})
    rows = scanned.draw_rows(len(series), batch_size, steps, seed)
    examples = {"series": series, "mask": mask}
    state, _ = scanned.make_stretch(trainer)(state, examples, rows, key)
    return state.params


def _make_world(config: WorldConfig) -> World:
    measured = _measure(
        *(config.num_examples, config.num_calibration, config.num_passing),
        tuple(config.calibration_snrs_db),
    )
    banks = (_host(bank, config.copies) for bank in measured.banks)
    params = _wireless_params(config, measured.calibration)
    scale = asem_lib.scale(simulate(config, params, _SCALE_SEED))
    return World(
        *(measured.pool, params, measured.calibration, measured.accuracy),
        *(*banks, *measured.said, measured.local),
        *map(float, scale),
    )


class _Measured(NamedTuple):
    """The experts and what they are worth, whoever hosts them."""

    pool: specialists.Pool
    calibration: calibration_lib.Calibration
    accuracy: np.ndarray
    banks: tuple[routing_env.Bank, routing_env.Bank]
    said: tuple[end_to_end.Said, end_to_end.Said]
    local: np.ndarray


@functools.cache
def _measure(
    num_examples: int,
    num_calibration: int,
    num_passing: int,
    snrs_db: tuple[float, ...],
) -> _Measured:
    """Lets all experts speak of examples to train on and to test with."""
    pool = specialists.load_pool()
    drawn = [
        specialists.draw_examples(num_examples, _EXAMPLES_SEED, split)
        for split in ("train", "test")
    ]
    train_said, test_said = (answers.say(pool, examples) for examples in drawn)
    some = jax.tree.map(lambda rows: rows[:, :num_calibration], train_said)
    accuracy = answers.measure_experts(pool, some, snrs_db)
    alone = np.eye(len(pool.config.experts))[0]
    guess = float(answers.answer(pool, some, alone, _NOTHING_DB).mean())
    fitted = calibration_lib.fit(np.array(snrs_db), accuracy, guess)
    local = specialists.load_pool((_LOCAL,))
    right = answers.answer(local, answers.say(local, drawn[1]), np.ones(1), np.inf)
    train_bank, test_bank = (specialists.make_bank(d, num_passing) for d in drawn)
    return _Measured(
        *(pool, fitted, accuracy, (train_bank, test_bank)),
        *((train_said, test_said), right.mean(axis=1)),
    )


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


def _train_filter(
    config: WorldConfig, seed: int
) -> tuple[state_space.StateSpace, routing_env.Filter]:
    """ASEM of a seed, on episodes of the world that routers train in."""
    made = make_world(config)
    reports = simulate(config, made.params, seed)
    model = asem_lib.make_model(config.asem, made.params, made.report_std)
    standard = (reports.snr - made.report_mean) / made.report_std
    trained = fit_asem(config, model, standard, reports.mask, seed)
    return model, routing_env.Filter(
        trained, jnp.float32(made.report_mean), jnp.float32(made.report_std)
    )
