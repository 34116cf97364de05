"""The environment's contract, its reports, its masks and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.envs import randomised
from m3jax.envs.expert_routing import events, routing, tasks, wireless, world
from m3jax.testing import traces

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENV = wireless.Wireless()
PARAMS = ENV.default_params
BUSY = PARAMS._replace(events=events.all_on(), report_loss=0.2, max_steps=5)
RESET, STEP = jax.jit(ENV.reset), jax.jit(ENV.step)
SUBSETS = wireless.Wireless(actions="subset", show_mask=True)
ONE_FAILS = PARAMS._replace(
    events=events.EventParams(failing_expert=2, fails_at=1, returns_at=100)
)


def after(env_step, state, params, num_steps, action=None, key=0):
    """The outputs of so many steps."""
    action = jnp.ones(7) if action is None else action
    outputs = []
    for i in range(num_steps):
        step_key = jax.random.fold_in(jax.random.key(key), i)
        outputs.append(env_step(step_key, state, action, params))
        state = outputs[-1][1]
    return outputs


def same(a, b, rtol=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, 1e-5), a, b)


def test_a_step_keeps_shapes_and_types(key):
    begun = RESET(key, PARAMS)
    obs, state, reward, terminated, truncated, info = STEP(
        key, begun[1], jnp.ones(7), BUSY
    )
    kinds = [
        jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
        for tree in (begun, (obs, state))
    ]
    assert kinds[0] == kinds[1]
    assert not any(x.weak_type for x in jax.tree.leaves(begun))
    assert obs.shape == ENV.observation_space(PARAMS).shape
    assert reward.shape == terminated.shape == truncated.shape == ()
    assert (terminated.dtype, truncated.dtype) == (bool, bool)
    parts = {"activation", "suppression", "concentration", "judged", "semantic"}
    parts |= {"quality", "stability", "balance", "efficiency", "channel"}
    assert parts <= set(info)
    both = 0.5 * (info["semantic"] + info["channel"])
    np.testing.assert_allclose(reward, both, rtol=1e-6)


def test_compiled_scores_are_those_without_compilation(key):
    _, state = RESET(key, BUSY)
    action = jnp.arange(7.0)
    compiled = jax.jit(ENV.score)(state, action, BUSY)
    with jax.disable_jit():
        plain = ENV.score(state, action, BUSY)
    same(plain, compiled)


def test_a_batch_is_a_loop(key):
    keys = jax.random.split(key, 3)
    _, states = jax.jit(jax.vmap(ENV.reset, (0, None)))(keys, BUSY)
    actions = jax.random.uniform(key, (3, 7))
    batch = jax.jit(jax.vmap(ENV.step, (0, 0, 0, None)))(keys, states, actions, BUSY)
    for i in range(3):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        one = STEP(keys[i], state, actions[i], BUSY)
        same(jax.tree.map(lambda x, i=i: x[i], batch), one)


def test_parameters_and_actions_are_data(key):
    _, state = RESET(key, PARAMS)
    calls = [(key, state, jnp.ones(7) * i, p) for i, p in enumerate((PARAMS, BUSY))]
    traces.assert_no_retrace(ENV.step, calls)


def test_episodes_end_by_time_only_and_begin_anew(key):
    _, state = RESET(key, BUSY)
    outputs = after(STEP, state, BUSY, 6)
    assert [bool(out[4]) for out in outputs] == [False] * 4 + [True, False]
    assert not any(bool(out[3]) for out in outputs)
    ended = outputs[4]
    assert int(ended[1].time) == 0
    assert not np.allclose(ended[0], ended[5]["final_observation"])
    assert (ended[0][-2:] == 0).all()
    np.testing.assert_array_equal(outputs[3][0], outputs[3][5]["final_observation"])


def test_actions_move_nothing_but_rewards(key):
    _, state = RESET(key, BUSY)
    ones, other = (
        after(STEP, state, BUSY, 4, action) for action in (jnp.ones(7), jnp.eye(7)[0])
    )
    for a, b in zip(ones, other, strict=True):
        unlike = {"weights": 0, "earned": 0}
        same(a[1]._replace(**unlike), b[1]._replace(**unlike), 0)
        assert float(a[2]) != float(b[2])


@pytest.mark.parametrize("delay", [0, 2])
def test_reports_without_noise_are_late_snrs(key, delay):
    params = PARAMS._replace(report_noise_db=0.0, report_delay=delay)
    _, state = RESET(key, params)
    outputs = after(STEP, state, params, 4)
    now_db = [state.history[0], *(out[1].history[0] for out in outputs)]
    view = ENV.view(outputs[-1][0], params)
    np.testing.assert_allclose(view.snr, (now_db[4 - delay] - 5) / 20, rtol=1e-5)
    np.testing.assert_allclose(
        view.earned, [outputs[-1][5]["semantic"], outputs[-1][5]["channel"]]
    )
    assert int(view.task.argmax()) == int(outputs[-1][1].task)


def test_noise_and_loss_of_reports_have_their_size(key):
    params = PARAMS._replace(report_loss=0.25, report_delay=0)
    obs, state = jax.jit(jax.vmap(ENV.reset, (0, None)))(
        jax.random.split(key, 2000), params
    )
    view = ENV.view(obs, params)
    came = np.asarray(view.reported) > 0.5
    assert came.mean() == pytest.approx(0.75, abs=0.02)
    assert (np.asarray(view.snr)[~came] == 0).all()
    error_db = 20 * np.asarray(view.snr) + 5 - np.asarray(state.history[:, 0])
    assert error_db[came].std() == pytest.approx(2.0, rel=0.05)


def test_a_failed_expert_gets_no_weight_and_is_masked(key):
    step = jax.jit(SUBSETS.step)
    obs, state = jax.jit(SUBSETS.reset)(key, ONE_FAILS)
    assert obs["action_mask"].all()
    only_failed = SUBSETS.from_subset(jnp.arange(7) == 2)
    first, second = after(step, state, ONE_FAILS, 2, only_failed)
    assert not bool(first[5]["invalid"])
    np.testing.assert_array_equal(first[1].weights, np.eye(7)[2])
    members = routing.subset_actions(7)
    np.testing.assert_array_equal(first[0]["action_mask"], ~members[:, 2])
    # It has failed: whoever chose it alone gets all the others.
    assert bool(second[5]["invalid"])
    others = np.where(np.arange(7) == 2, 0, 1 / 6)
    np.testing.assert_allclose(second[1].weights, others, rtol=1e-6)
    np.testing.assert_allclose(second[5]["switching"], 1.0, rtol=1e-6)


def test_equal_heads_and_subsets_score_as_weights_do(key):
    _, state = RESET(key, PARAMS)
    members = jnp.array([1, 0, 1, 1, 0, 0, 0], bool)
    scores = [
        env.score(state, env.from_subset(members), PARAMS)[0]
        for env in (ENV, SUBSETS, wireless.Wireless(actions="heads"))
    ]
    np.testing.assert_allclose(scores[1:], scores[0], rtol=1e-6)


def test_semantic_rewards_see_the_expert_head_and_channels_the_product(key):
    env = wireless.Wireless(actions="heads")
    _, state = RESET(key, PARAMS)
    even = np.full(7, 1 / 7, np.float32)
    heads = jnp.stack([jnp.asarray(even), jnp.eye(7)[3]])
    _, parts, weights = env.score(state, heads, PARAMS)
    np.testing.assert_allclose(weights.expert, even, rtol=1e-6)
    np.testing.assert_allclose(weights.final, np.eye(7)[3], atol=1e-6)
    assert float(parts["suppression"]) == 0.0
    assert float(parts["balance"]) == pytest.approx(0.0, abs=1e-6)


def test_transition_gradients_are_opt_in_and_analytic(key):
    params = PARAMS._replace(report_delay=0)
    _, state = RESET(key, params)

    def snr(tx_power_dbm, env):
        louder = params._replace(radio=params.radio._replace(tx_power_dbm=tx_power_dbm))
        return env.view(env.step(key, state, jnp.ones(7), louder)[0], louder).snr

    slope = jax.jit(jax.jacfwd(snr), static_argnums=1)
    np.testing.assert_allclose(slope(23.0, ENV), 0.0)
    open_env = ENV.with_transition_gradients()
    assert open_env.transition_gradients_enabled
    np.testing.assert_allclose(slope(23.0, open_env), 1 / 20, rtol=1e-5)


def test_rewards_pass_gradients_to_actions(key):
    _, state = RESET(key, PARAMS)

    def judged(action):
        return ENV.step(key, state, action, PARAMS)[5]["judged"]

    def by_hand(action):
        truth = world.scene(state, PARAMS)
        arrives = jax.nn.sigmoid((truth.snr_db - 8.0) / 2.0)
        return 0.1 + 0.9 * jnp.sum(action / action.sum() * truth.competence * arrives)

    action = jnp.arange(1.0, 8.0)
    np.testing.assert_allclose(
        jax.jit(jax.grad(judged))(action), jax.grad(by_hand)(action), rtol=1e-4
    )


def test_every_episode_draws_its_parameters_between_the_ends(key):
    env = randomised.Randomised(ENV)
    high = PARAMS._replace(
        report_noise_db=6.0, report_delay=3, max_steps=2, task_change=1.0
    )
    low = PARAMS._replace(report_noise_db=4.0, report_delay=1, max_steps=2)
    between = randomised.Range(low, high)
    _, states = jax.jit(jax.vmap(env.reset, (0, None)))(
        jax.random.split(key, 300), between
    )
    noise = np.asarray(states.params.report_noise_db)
    assert 4.0 <= noise.min() < 4.1 and 5.9 < noise.max() < 6.0
    assert set(np.asarray(states.params.report_delay)) == {1, 2, 3}
    assert (np.asarray(states.params.radio.tx_power_dbm) == 23.0).all()
    np.testing.assert_array_equal(states.params.tasks.core[0], PARAMS.tasks.core)
    state = jax.tree.map(lambda x: x[0], states)
    first, second = after(jax.jit(env.step), state, between, 2)
    assert float(first[1].params.report_noise_db) == noise[0]
    assert bool(second[4]) and float(second[1].params.report_noise_db) != noise[0]


def test_numbers_of_tasks_and_experts_are_free(key):
    given = tasks.make_tasks(np.ones((3, 2), bool), np.zeros((3, 2), bool))
    params = world.make_params(given)
    env = wireless.Wireless(actions="heads", mode="calibrated", max_delay=0)
    assert env.action_space(params).shape == (2, 2)
    obs, state = jax.jit(env.reset)(key, params)
    assert obs.shape == env.observation_space(params).shape == (11,)
    score = jax.jit(env.score)(state, jnp.ones((2, 2)), params)[0]
    assert np.isfinite(score)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actions": "expert"}, "actions must be one of"),
        ({"mode": "paper"}, "mode must be one of"),
        ({"literal": {"eq6"}}, "literal must be of"),
        ({"max_delay": -1}, "max_delay must be a whole number"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        wireless.Wireless(**settings)
