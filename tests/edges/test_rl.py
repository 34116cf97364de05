"""What every public function of ``m3jax.rl`` does at the edges: a row each."""

import jax
import jax.numpy as jnp
import pytest

from m3jax import rl
from m3jax.rl import agents, losses, networks, policies, probes, replay, sac_config
from m3jax.testing import completeness
from m3jax.testing.edge_values import DTYPES, Row, check

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.array([1.5, 0.5, 2.0])
Y = jnp.array([0.5, 3.0, 1.0])
ONE, HALF = jnp.float32(1.5), jnp.float32(0.5)
SHARES = jnp.array([0.2, 0.5, 0.3])
TABLE = jnp.array([[1.5, 0.5], [0.5, 3.0], [1.0, 1.0]])
MASK = jnp.ones(3, bool)
DONE = jnp.array([False, True, False])
MLP = networks.Mlp((4,), 2)
MLP_PARAMS = MLP.init(jax.random.key(0), TABLE)
# A reward has no limit, so what it is bounded by is not known.
UNBOUNDED = {"inf": "any", "ninf": "any"}
ANY = dict.fromkeys(("inf", "ninf", "huge"), "any")


def gumbel(method, straight_through=False):
    """A method of the distribution of these logits."""

    def call(logits, *args):
        policy = policies.GumbelSoftmax(logits, 0.5, None, straight_through)
        return getattr(policy, method)(*args)

    return call


def probe(state_reward):
    table = probes.acting()._replace(reward=state_reward)
    state = probes.ProbeState(jnp.int32(0), jnp.int32(0))
    return probes.Probe().step_env(jax.random.key(0), state, jnp.int32(0), table)[2]


ROWS = [
    Row(agents.features, (X,), inf="any", ninf="any"),
    Row(losses.td_target, (X, DONE, HALF, Y), (0, 2, 3), **UNBOUNDED),
    Row(losses.critic_loss, (TABLE.T[None, 0], X), (0, 1), **ANY, skip="one empty"),
    Row(losses.temperature_loss, (HALF, X, HALF, X), (0, 1, 2, 3), **ANY, skip="empty"),
    Row(
        lambda x: losses.by_stream({"q": x}, ("a", "b", "c")),
        (X,),
        0,
        "losses.by_stream",
        skip="empty one",
    ),
    Row(lambda x: MLP.apply(MLP_PARAMS, x), (TABLE,), 0, "networks.Mlp", **ANY),
    Row(
        lambda x: policies.TanhGaussian(x, 0.1 * x).mode(),
        (X,),
        0,
        "policies.TanhGaussian.mode",
        inf="any",
        huge="any",
    ),
    Row(
        lambda m, s: policies.TanhGaussian(m, s).entropy(),
        (X, -Y),
        (0, 1),
        "policies.TanhGaussian.entropy",
        **ANY,
        skip="empty one",
    ),
    Row(
        lambda x, m: policies.categorical(x, m).probs,
        (X, MASK),
        0,
        "policies.categorical",
        mask=1,
        inf="nan",
        skip="empty",
    ),
    Row(policies.mask_logits, (X, MASK), mask=1, skip="empty"),
    Row(
        gumbel("log_prob"),
        (X, SHARES),
        (0, 1),
        "policies.GumbelSoftmax.log_prob",
        inf="any",
        ninf="any",  # a logit of -inf is a masked action
        zero="finite",
        tiny="finite",
        skip="empty one",
    ),
    Row(
        gumbel("log_prob_of_log"),
        (X, jnp.log(SHARES)),
        (0, 1),
        "policies.GumbelSoftmax.log_prob_of_log",
        **ANY,
        skip="empty one",
    ),
    Row(
        gumbel("mode"),
        (X,),
        0,
        "policies.GumbelSoftmax.mode",
        inf="nan",
        skip="empty",
    ),
    Row(
        lambda x, m: policies.BinaryConcrete(x, 0.5, m).entropy(),
        (X, MASK),
        0,
        "policies.BinaryConcrete.entropy",
        mask=1,
        inf="any",
        ninf="any",
        skip="all_masked empty",
    ),
    Row(
        lambda x, m: policies.BinaryConcrete(x, 0.5, m).mode(),
        (X, MASK),
        0,
        "policies.BinaryConcrete.mode",
        mask=1,
        skip="all_masked empty",
    ),
    Row(
        probe,
        (probes.acting().reward,),
        0,
        "probes.Probe.step_env",
        **UNBOUNDED,
        skip="empty",
    ),
    Row(
        lambda x: replay.sample(
            replay.add(replay.make(x[:1][0], 3), x), jax.random.key(0), 8
        ),
        (X,),
        0,
        "replay.sample",
        nan="any",
        skip="empty one bool int32 uint8 uint32 float16 bfloat16",
    ),
]

EXEMPT = {
    "agents.action_mask": "truth values",
    "agents.log_share": "truth values",
    "agents.make_agent": "settings",
    "agents.make_continuous": "settings",
    "agents.make_discrete": "settings",
    "losses.sac_loss": "the sum of the losses above, of networks",
    "losses.sac_losses": "the losses above, of networks",
    "networks.make_critics": "settings; networks.Mlp within",
    "policies.check_mask": "truth values",
    "populations.*": "learners; held by their tests",
    "probes.acting": "settings",
    "probes.acting_on_observed": "settings",
    "probes.constant": "settings",
    "probes.observed": "settings",
    "probes.time_limit": "settings",
    "probes.two_steps": "settings",
    "probes.soft_q": "host only, NumPy and SciPy",
    "probes.Probe.action_space": "settings",
    "probes.Probe.observation_space": "settings",
    "probes.Probe.is_truncated": "counts",
    "probes.Probe.reset_env": "a key in, a table's row out",
    "replay.add": "copies; reached through sample",
    "replay.make": "shapes",
    "rollouts.*": "environments and policies; held by their tests",
    "sac.*": "learners; held by their tests",
    "sac_config.*": "settings",
}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges(row):
    check(row, dtypes=["uint8"], quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges_in_every_type(row):
    check(row, dtypes=DTYPES)


def test_every_function_has_a_row_or_a_reason():
    assert completeness.missing(rl, [row.covers for row in ROWS], EXEMPT) == []


def test_settings_that_are_no_numbers_are_refused():
    for name in ("learning_rate", "discount", "tau", "initial_temperature"):
        for value in (float("nan"), float("inf"), -1.0):
            with pytest.raises(ValueError, match=f"sac.{name} is out of range"):
                sac_config.SacConfig(**{name: value}).validate()
