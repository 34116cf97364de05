"""Steps of the wireless environment, seven links, against NumPy.

python -m benchmarks.environment

One environment against Gymnasium's, 64 against Gymnasium's loop over them, 1024 against
a batch made by hand. The peers are in `environment_numpy`; from the same state and with
the same noise, both sides must take the same steps before anything is timed.
Observations, rewards and all their parts are used, so that no side leaves work out.
Events are off: NumPy has none, and m3jax computes them all the same, and a reset with
each step too. A ratio above 1 means that m3jax is faster.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from gymnasium import vector

from benchmarks import environment_m3jax, environment_numpy, harness
from m3jax.envs import gymnasium_adapter, gymnasium_vector

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 7, "Timed calls of each side.", lower_bound=1, allow_override=True
)
_SIZE = flags.DEFINE_enum(
    "size", "full", ("full", "tiny"), "Workload.", allow_override=True
)

ONE_TARGET, MANY_TARGET, BATCH_TARGET = 20.0, 60.0, 3.0
OURS, FIRST = "m3jax", "m3jax, environments on the first axis"
ADAPTER = "m3jax, called as Gymnasium is"
SINGLE, SYNC, BATCH = "Gymnasium and NumPy", "SyncVectorEnv", "NumPy, batched by hand"
# Of an episode's mean reward, more than it is.
DEVIATION = 0.3
ENV = environment_m3jax.ENV
PARAMS = ENV.default_params


class Workload(NamedTuple):
    """How many environments take how many steps.

    Attributes:
      one: steps of one environment.
      many: environments of the loop, and steps of each.
      batch: environments of the batch, and steps of each.
    """

    one: int
    many: tuple[int, int]
    batch: tuple[int, int]


FULL = Workload(2000, (64, 200), (1024, 200))
TINY = Workload(20, (3, 5), (8, 5))
WORKLOADS = {"full": FULL, "tiny": TINY}


def play_single(env: Any, actions: np.ndarray) -> float:
    """Plays one environment of Gymnasium; the sum of rewards."""
    total = 0.0
    env.reset(seed=0)
    for action in actions:
        _, reward, terminated, truncated, _ = env.step(action)
        total += reward
        if terminated or truncated:
            env.reset()
    return total


def play_vector(envs: vector.VectorEnv, actions: np.ndarray) -> float:
    """Plays environments that begin anew by themselves; the sum of rewards."""
    envs.reset(seed=0)
    return float(sum(envs.step(action)[1].sum() for action in actions))


def play_batch(env: environment_numpy.World, actions: np.ndarray) -> float:
    """Plays the batch in NumPy; the sum of rewards."""
    rng, total = np.random.default_rng(0), 0.0
    env.reset(rng)
    for action in actions:
        _, reward, over, _ = env.step(action, env.draw(rng))
        total += reward.sum()
        if over:
            env.reset(rng)
    return float(total)


def ours(actions: np.ndarray, axis: int | None = None) -> Callable[[], float]:
    """Our side as a call that waits for its end; the sum of rewards.

    Args:
      actions: ``[num_steps, N]``, with environments on an axis behind the first.
      axis: of one step's actions; None: there is one environment.
    """
    key = jax.random.key(0)
    num_envs = 1 if axis is None else actions.shape[1:][axis]
    state = environment_m3jax.begin(PARAMS, key, num_envs, axis)
    inputs = jax.device_put((PARAMS, state, key, actions))

    def call() -> float:
        told = environment_m3jax.play(*inputs, axis=axis)
        return float(jax.block_until_ready(told)["reward"].sum())

    return call


def one_environment(num_steps: int) -> dict[str, Callable[[], float]]:
    """All sides of the first row."""
    actions = environment_m3jax.draw_actions(num_steps, PARAMS.tasks.num_experts)
    single = functools.partial(play_single, actions=actions)
    return {
        OURS: ours(actions),
        ADAPTER: functools.partial(single, gymnasium_adapter.GymnasiumEnv(ENV)),
        SINGLE: functools.partial(single, environment_numpy.NumpyEnv(PARAMS)),
    }


def many_environments(
    num_envs: int, num_steps: int, peer: str
) -> dict[str, Callable[[], float]]:
    """All sides of the second row, or of the third: the peer tells which."""
    actions = environment_m3jax.draw_actions(
        num_steps, PARAMS.tasks.num_experts, num_envs
    )
    by_env = np.ascontiguousarray(actions.swapaxes(1, 2))
    adapter = gymnasium_vector.GymnasiumVectorEnv(
        ENV, num_envs, autoreset_mode="SameStep"
    )
    calls = {
        OURS: ours(actions, axis=-1),
        FIRST: ours(by_env, axis=0),
        ADAPTER: functools.partial(play_vector, adapter, by_env),
    }
    if peer == SYNC:
        sync = vector.SyncVectorEnv(
            [functools.partial(environment_numpy.NumpyEnv, PARAMS)] * num_envs,
            autoreset_mode=vector.AutoresetMode.SAME_STEP,
        )
        return {**calls, SYNC: functools.partial(play_vector, sync, by_env)}
    batch = environment_numpy.World(PARAMS, (num_envs,))
    return {**calls, BATCH: functools.partial(play_batch, batch, actions)}


def check_rewards(calls: dict[str, Callable[[], float]], size: tuple[int, int]) -> None:
    """Checks that mean rewards are alike; every side draws numbers of its own.

    Raises:
      RuntimeError: they are not.
    """
    num_envs, num_steps = size
    episodes = num_envs * max(1.0, num_steps / PARAMS.max_steps)
    means = {name: call() / (num_envs * num_steps) for name, call in calls.items()}
    if max(means.values()) - min(means.values()) > DEVIATION / episodes**0.5:
        raise RuntimeError(f"mean rewards of {size} differ: {means}")


def measure(
    calls: dict[str, Callable[[], float]],
    peer: str,
    size: tuple[int, int],
    target: float,
    machine: harness.Machine,
) -> list[harness.Row]:
    """Checks and times; a row for each form of ours."""
    check_rewards(calls, size)
    rounds = harness.paired(calls, _ROUNDS.value, warmup=1)
    num_envs, num_steps = size
    number = "one" if num_envs == 1 else str(num_envs)
    title = f"7-link environment, {num_steps} steps of {number}"
    return [
        harness.compare(
            title if name == OURS else f"{title}: {name}",
            rounds,
            machine,
            ours=name,
            peers=[peer],
            target=target if name == OURS else None,
        )
        for name in calls
        if name != peer
    ]


def main() -> list[harness.Row]:
    """Measures one environment, some, and many."""
    workload = WORKLOADS[_SIZE.value]
    machine = harness.measure_machine(["gymnasium"])
    environment_m3jax.check(workload.batch[0])
    one = one_environment(workload.one)
    rows = measure(one, SINGLE, (1, workload.one), ONE_TARGET, machine)
    many = many_environments(*workload.many, SYNC)
    rows += measure(many, SYNC, workload.many, MANY_TARGET, machine)
    batch = many_environments(*workload.batch, BATCH)
    return rows + measure(batch, BATCH, workload.batch, BATCH_TARGET, machine)


if __name__ == "__main__":
    harness.run(main)
