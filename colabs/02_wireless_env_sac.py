# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Routing experts over fading links, and learning to
#
# The environment of M3LLM: what moves, what is paid, what an agent sees, what goes
# wrong; reference policies on common random numbers; and a soft actor-critic trained
# whole on the device, several seeds in one program. About two minutes on two CPU cores.
#
# A CPU runtime is enough. The first cell installs m3jax where it is missing: from the
# checkout that the notebook lies in, else by name.

# %%
import importlib
import importlib.metadata
import pathlib
import subprocess
import sys

try:
    importlib.metadata.version("m3jax")
except importlib.metadata.PackageNotFoundError:  # a bare kernel, such as Colab's
    here = pathlib.Path.cwd()
    checkouts = [p for p in (here, *here.parents) if (p / "m3jax/base.py").is_file()]
    package = str(checkouts[0]) if checkouts else "m3jax"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", package], check=True
    )
    importlib.invalidate_caches()

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from m3jax.envs.expert_routing import comparison, events, wireless
from m3jax.rl import populations, rollouts, sac, sac_config

# %% [markdown]
# ## Links
#
# Seven experts, each behind a link of its own: path loss, shadowing that wanders, and
# fading. With `fading_correlation` the fading wanders too. Here one burst of
# interference hits half of the links.

# %%
env = wireless.Wireless(actions="subset", show_mask=True)
params = env.default_params
params = params._replace(
    radio=params.radio._replace(fading_correlation=0.9),
    events=events.EventParams(burst_at=40, burst_until=60),
    task_change=0.2,
)
acts = comparison.reference(env)
played = jax.jit(
    lambda key: comparison.compare(env, params, acts, key, num_envs=64, num_steps=100)
)(jax.random.key(0))
snr_db = np.asarray(played["uniform"]["snr_db"][0])

fig, ax = plt.subplots(figsize=(8, 3))
ax.axvspan(40, 60, color="0.9")
ax.plot(snr_db, lw=1)
ax.set(xlabel="step", ylabel="SNR (dB)", title="links of one episode, and a burst")
plt.show()

# %% [markdown]
# ## Policies that need no learning
#
# All meet the same tasks, links and bursts. The oracle tries every subset in the true
# state of each step; regret is what it earned more.

# %%
for name, told in played.items():
    print(
        f"{name:15s} reward {float(told['reward'].mean()):.3f}"
        f"   semantic {float(told['semantic'].mean()):.3f}"
        f"   channel {float(told['channel'].mean()):.3f}"
        f"   regret {float(told['regret'].mean()):.3f}"
    )

# %%
fig, ax = plt.subplots(figsize=(8, 3))
ax.axvspan(40, 60, color="0.9")
for name in ("oracle", "semantic_first", "network_first", "uniform"):
    style = "--" if name == "semantic_first" else "-"
    reward = np.asarray(played[name]["reward"]).mean(axis=0)
    ax.plot(reward, style, label=name, lw=1.2)
ax.set(xlabel="step", ylabel="reward", title="mean over 64 episodes")
ax.legend(frameon=False, fontsize="small", bbox_to_anchor=(1, 0.5), loc="center left")
plt.show()

# %% [markdown]
# ## Learning it
#
# A discrete soft actor-critic chooses one of 127 subsets; experts that have failed are
# masked. Environments, replay and updates are one program, and four seeds are one axis
# of it.

# %%
settings = sac_config.SacConfig(
    hidden=(64, 64),
    num_envs=8,
    chunk=200,
    batch_size=128,
    capacity=16_000,
    warmup=1_600,
    learning_rate=1e-3,
    discount=0.0,  # actions move nothing: the best step makes the best episode
    target_entropy=0.5,
    initial_temperature=0.05,
)
hyper = sac_config.make_hyper(settings, 0.0)
learner = populations.make_population(
    lambda hyper: sac.make_sac(settings, env, params, hyper),
    sac_config.spread(hyper, 4),
)
agent = sac.make_agent(settings, env, params)


@jax.jit
def evaluate(actors):
    def one(actor):
        act = sac.make_act(agent, actor)
        key = jax.random.key(1)
        return rollouts.evaluate(env, params, act, key, num_envs=64, length=100).mean()

    return jax.vmap(one)(actors) / 100


state = jax.jit(learner.init)(jax.random.key(0))
step = jax.jit(learner.step, donate_argnums=0)
curve = [evaluate(state.params["actor"])]
for number in range(12):
    state, metrics = step(state, (), jax.random.fold_in(jax.random.key(2), number))
    curve.append(evaluate(state.params["actor"]))
curve = np.array(curve)

# %%
references = {
    name: float(played[name]["reward"].mean())
    for name in ("oracle", "semantic_first", "network_first", "random")
}
steps = np.arange(len(curve)) * settings.chunk * settings.num_envs
fig, ax = plt.subplots(figsize=(8, 3.4))
ax.plot(steps, curve, color="tab:blue", lw=1, alpha=0.5)
ax.plot(steps, curve.mean(axis=1), color="tab:blue", lw=2, label="SAC, four seeds")
for (name, value), style in zip(
    references.items(), ("-", "--", "-.", ":"), strict=True
):
    ax.axhline(value, color="0.4", ls=style, lw=1, label=name)
ax.set(xlabel="environment steps", ylabel="reward without noise")
ax.legend(frameon=False, fontsize="small", ncols=2)
plt.show()
print("share of the oracle's reward:", np.round(curve[-1] / references["oracle"], 3))

# %% [markdown]
# ## Gradients
#
# Rewards have gradients by the weights; observations pass them on only where that is
# asked for. The sent power moves the reported SNR by 1 / (SNR_max - SNR_min) per dB.

# %%
smooth = wireless.Wireless().with_transition_gradients()


def reported(power_dbm):
    louder = params._replace(radio=params.radio._replace(tx_power_dbm=power_dbm))
    obs, _ = smooth.reset(jax.random.key(0), louder)
    return smooth.view(obs, louder).snr


print(np.round(jax.jacobian(reported)(jnp.float32(23.0)), 4))
