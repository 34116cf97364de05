"""Bayesian optimisation of 6 variables, 50 evaluations, against two peers.

python -m benchmarks.bayesopt

Hartmann's function, Matern 5/2 with a length for each dimension, expected improvement;
all begin with 10 points. Scikit-optimize runs its ``gp_minimize``, BoTorch the loop of
its tutorial. Before anything is timed the posteriors of the three must agree where they
have one kernel. A second row says what 16 searches cost that run as one, which the
peers run one after the other. A ratio above 1 means that m3jax is faster.

Afterwards the regret is judged: m3jax's mean over 64 seeds of its own, a peer's over
the searches that were run, the first of which is not timed. The run fails if it is
above the best peer's by more than 0.05 plus twice the standard error of the difference,
so that few searches of a peer seldom fail it by chance; more ``--rounds`` judge more
sharply.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import bayesopt_peers, harness
from m3jax.ops import bayesian
from m3jax.ops.bayesian import surrogate

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed searches of each.", lower_bound=1)
_PEERS = flags.DEFINE_list("peers", "skopt,botorch", "Who runs beside m3jax.")

TARGETS = {"skopt": 15.0, "botorch": 40.0}
TOLERANCE = 5e-3
SLACK = 0.05
"""By how much the mean regret may be above the best peer's, of a span of 3.3."""
NUM_ERRORS = 2.0
"""Standard errors of the difference that are allowed beside it."""
NUM, NUM_INITIAL, NUM_TOGETHER = 50, 10, 16
NUM_BATCHES = 4
"""Batches of searches that m3jax's regret is the mean of."""
XI = 0.1
OPTIMUM = -3.32237
SPACE = bayesian.Space(tuple(bayesian.Dimension(f"x{i}", 0.0, 1.0) for i in range(6)))
_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2], np.float32)
_SCALES = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ],
    np.float32,
)
_CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ],
    np.float32,
)


def hartmann(x, xp=jnp):
    """Hartmann's function of 6 variables in [0, 1], to be minimised."""
    inner = xp.sum(_SCALES * (x - _CENTRES) ** 2, axis=1)
    return -xp.sum(_WEIGHTS * xp.exp(-inner))


def objective(x) -> float:
    """The same for peers, in NumPy."""
    return float(hartmann(np.asarray(x, np.float32), np))


def make_ours() -> tuple[Callable, Callable]:
    """Jits ``key -> best value``, of one search and of a batch."""
    settings = bayesian.Settings(num=NUM, num_initial=NUM_INITIAL, xi=XI)

    def one(key):
        return bayesian.minimise(key, hartmann, SPACE, settings).best_value

    return jax.jit(one), jax.jit(jax.vmap(one))


def check(peers: list[str], num: int = 20) -> None:
    """Checks that all have the same posterior where they have the same kernel.

    Raises:
      RuntimeError: they have not; says who and by how much.
    """
    rng = np.random.default_rng(0)
    points, queries = rng.random((num, 6)), rng.random((50, 6))
    values = np.array([objective(x) for x in points])
    values = (values - values.mean()) / values.std()
    lengths, amplitude, noise = np.linspace(0.3, 0.9, 6), 1.5, 1e-3
    hyper = surrogate.Hyper(
        jnp.log(jnp.float32(lengths)),
        jnp.log(jnp.float32(amplitude)),
        jnp.log(jnp.float32(noise - surrogate.LEAST_NOISE)),
    )
    given = (*map(jnp.float32, (points, values)), jnp.ones(num, bool))
    ours = surrogate.posterior(hyper, *given, jnp.float32(queries))
    for name in peers:
        theirs = bayesopt_peers.POSTERIORS[name](
            points, values, queries, lengths, amplitude, noise
        )
        for what, a, b in zip(("mean", "deviation"), ours, theirs, strict=True):
            error = np.max(np.abs(np.asarray(a) - b))
            if not error <= TOLERANCE:
                raise RuntimeError(f"{what} of {name} differs by {error:.2g}")


def judge(
    ours: Sequence[float], theirs: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, float]]:
    """Checks that m3jax's regret is not worse than the best peer's.

    Args:
      ours: least values of m3jax's searches, at least 2.
      theirs: name of a peer -> those of its searches, at least 2.

    Returns:
      Name -> mean regret and its standard error.

    Raises:
      RuntimeError: it is worse by more than `SLACK` and `NUM_ERRORS` standard errors of
        the difference.
    """
    regret = {}
    for name, values in {"m3jax": ours, **theirs}.items():
        values = np.asarray(values, np.float64)
        error = values.std(ddof=1) / np.sqrt(len(values))
        regret[name] = (float(values.mean()) - OPTIMUM, float(error))
    best = min(theirs, key=lambda name: regret[name][0])
    (own, own_error), (peer, peer_error) = regret["m3jax"], regret[best]
    allowed = SLACK + NUM_ERRORS * np.hypot(own_error, peer_error)
    if not own - peer <= allowed:
        raise RuntimeError(
            f"m3jax's mean regret is {own:.3f} +- {own_error:.3f}, that of {best}"
            f" {peer:.3f} +- {peer_error:.3f}; the difference may be {allowed:.3f}:"
            " speed alone is no comparison"
        )
    return regret


def main() -> list[harness.Row]:
    """Checks and times all."""
    harness.require_processor()
    peers = _PEERS.value
    if not peers or not set(peers) <= TARGETS.keys():
        raise ValueError(f"--peers names some of {', '.join(TARGETS)}, got {peers}")
    for name in (*peers, "tinygp"):
        harness.require(name)
    packages = {"skopt": "scikit-optimize", "botorch": "botorch"}
    machine = harness.measure_machine([packages[name] for name in peers] + ["tinygp"])
    check(peers)
    one, together = make_ours()
    values = {name: [] for name in peers}
    seeds = {name: iter(range(10**6)) for name in ("m3jax", "batch", *peers)}

    def ours():
        return float(one(jax.random.key(next(seeds["m3jax"]))))

    def batch():
        keys = jax.random.split(jax.random.key(next(seeds["batch"])), NUM_TOGETHER)
        return np.asarray(together(keys))

    def theirs(name):
        search = bayesopt_peers.SEARCHES[name]

        def call():
            seed = next(seeds[name])
            values[name].append(search(objective, 6, NUM, NUM_INITIAL, XI, seed))

        return call

    contestants = {"m3jax": ours, "batch": batch, **{n: theirs(n) for n in peers}}
    rounds = harness.paired(contestants, _ROUNDS.value, warmup=1)
    seeds["batch"] = iter(range(NUM_BATCHES))  # the same at any --rounds
    found = np.concatenate([batch() for _ in range(NUM_BATCHES)])
    for name, (mean, error) in judge(found, values).items():
        print(f"mean regret of {name}: {mean:.3f} +- {error:.3f}", file=sys.stderr)
    title = "Bayesian optimisation, 6 variables, 50 evaluations"
    rows = []
    for name in peers:
        own = {"peers": [name], "target": TARGETS[name]}
        rows.append(harness.compare(f"{title} ({name})", rounds, machine, **own))
        each = [{**t, "batch": t["batch"] / NUM_TOGETHER} for t in rounds]
        many = f"{title}, {NUM_TOGETHER} at once, each ({name})"
        rows.append(harness.compare(many, each, machine, ours="batch", peers=[name]))
    return rows


if __name__ == "__main__":
    if importlib.util.find_spec("skopt") is None:
        print("hint: pip install 'm3jax[bench]'", file=sys.stderr)
    harness.run(main)
