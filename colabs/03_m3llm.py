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
# # M3LLM: which expert, over which link?
#
# Seven small experts, each on two devices behind fading links; what they say crosses a
# link, is weighed, and a task model answers. Who is asked is decided in two stages:
# retrieval over descriptors, then CE-SAC on what ASEM makes of late and noisy reports.
# About three minutes on two CPU cores; nothing but the packages is downloaded.
#
# The measured study, with intervals over seeds: `python launch/reproduce.py m3llm`.
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
import matplotlib.pyplot as plt
import numpy as np

from m3jax.data.edgescenes import words
from m3jax.rl import sac_config
from m3jax.systems import m3llm
from m3jax.systems.m3llm import (
    answers,
    ce_sac,
    context,
    experts,
    playing,
    routing_env,
    world,
)

# %% [markdown]
# What is measured of the experts is kept on disk, so a second start is quick.

# %%
config = world.WorldConfig(num_examples=40, copies=2, asem_steps=300)
made = world.make_world(config)

# %% [markdown]
# ## Experts
#
# Accuracy of every expert on every task over a clean link. The diagonal is what each
# was made for.

# %%
clean = made.accuracy[..., -1]
fig, ax = plt.subplots(figsize=(5.2, 4.4))
shown = ax.imshow(100 * clean, vmin=0, vmax=100, cmap="viridis")
for task in range(len(clean)):
    for expert in range(len(clean)):
        value = 100 * clean[task, expert]
        colour = "white" if value < 60 else "black"
        ax.text(expert, task, f"{value:.0f}", ha="center", va="center", color=colour)
ax.set_xticks(range(len(clean)), m3llm.EXPERTS, rotation=45, ha="right")
ax.set_yticks(range(len(clean)), m3llm.EXPERTS)
ax.set(xlabel="expert that is asked", ylabel="task", title="accuracy (%)")
fig.colorbar(shown)
plt.show()

# %%
fig, ax = plt.subplots(figsize=(6, 3.4))
for task, name in enumerate(m3llm.EXPERTS):
    ax.plot(
        config.calibration_snrs_db, made.accuracy[task, task], marker="o", label=name
    )
ax.set(xlabel="SNR of the link (dB)", ylabel="accuracy", title="each task's own expert")
ax.legend(frameon=False, fontsize="small")
plt.show()

# %% [markdown]
# ## Stage 1: who may matter
#
# A question is compared with the questions in the experts' descriptors.

# %%
index = experts.make_index()
drawn = experts.draw_examples(2, seed=3, split="test")
for task in range(len(m3llm.EXPERTS)):
    question = drawn.question[task, :1]
    passing = np.flatnonzero(np.asarray(context.coarse_mask(index, question))[0])
    names = ", ".join(m3llm.EXPERTS[i] for i in passing)
    print(f"{words.decode(question[0].tolist()):45s} -> {names}")

# %% [markdown]
# ## ASEM: what the links are behind the reports

# %%
env, filtered = world.make_env(made, uses_asem=True, uses_mcp=True, seed=0)
params = routing_env.Params(made.params, made.train_bank, filtered)
reports = world.simulate(config, made.params, seed=99)
standard = (reports.snr - filtered.mean) / filtered.std
_, told = env.asem.apply(filtered.params, standard, reports.mask, method="filter")
expected = filtered.mean + filtered.std * told.predicted.mean
spread = filtered.std * told.predicted.std

fig, ax = plt.subplots(figsize=(8, 3.2))
t = np.arange(config.asem_length)
low, high = (np.asarray(expected + s * 1.96 * spread)[0, :, 0] for s in (-1, 1))
ax.fill_between(t, low, high, color="tab:blue", alpha=0.2, lw=0)
ax.plot(t, expected[0, :, 0], color="tab:blue", label="expected, and 95 %")
ax.plot(t, reports.snr[0, :, 0], "k.", ms=4, label="reported")
ax.set(xlabel="step", ylabel="SNR (0: 5 dB, 1: 25 dB)", title="one link")
ax.legend(frameon=False, fontsize="small")
plt.show()

# %% [markdown]
# ## Stage 2: CE-SAC
#
# Two heads, four critics. The meter tells whether the two rewards pull the trunk the
# same way. (As a run with a workdir, checkpoints and evaluation:
# `running.train(router.Router(agent=settings, world=config), workdir)`.)

# %%
settings = ce_sac.CeSacConfig(
    sac=sac_config.SacConfig(
        hidden=(64, 64),
        num_envs=16,
        chunk=100,
        batch_size=128,
        capacity=32_000,
        warmup=1_600,
        learning_rate=2e-3,
        discount=0.0,  # links move whatever is decided
        initial_temperature=0.1,
    ),
    last_temperature=1.0,
    entropy_ratio=0.1,
)
learner = ce_sac.make_learner(settings, env, params)
act = playing.make_act(settings, config.num_links)
look = playing.make_player(env, act, num_envs=32, num_steps=20)
state = jax.jit(learner.init)(jax.random.key(0))
step = jax.jit(learner.step, donate_argnums=0)
rewards, cosines = [], []
for number in range(20):
    state, metrics = step(state, (), jax.random.fold_in(jax.random.key(1), number))
    played = look(state.params["actor"], params, jax.random.key(2))
    rewards.append(float(played.reward.mean()))
    cosines.append(float(metrics["gradient_cosine"]))

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
steps = 1_600 * np.arange(1, 21)
left.plot(steps, rewards)
left.set(xlabel="environment steps", ylabel="combined reward, no noise")
right.plot(steps, cosines)
right.axhline(0, color="0.6", ls=":")
right.set(xlabel="environment steps", ylabel="cosine of the two gradients")
fig.tight_layout()
plt.show()

# %% [markdown]
# ## Who answers right
#
# The same episodes for all: experts' tokens cross their links at the true SNRs, and the
# task model answers.

# %%
tested = params._replace(bank=made.test_bank)
plain = routing_env.RoutingEnv(env.inner)
reference = playing.make_player(plain, playing.reference(plain), 16, 50)
unfiltered = tested._replace(filter=None)
players = {
    name: (reference, number, unfiltered)
    for number, name in enumerate(playing.REFERENCES)
}
learned = playing.make_player(env, act, num_envs=16, num_steps=50)
players["M3LLM"] = learned, state.params["actor"], tested
for name, (play, actor, given) in players.items():
    told = play(actor, given, jax.random.key(5))
    rows = [
        np.asarray(a).reshape(-1, *a.shape[2:])
        for a in (told.task, told.example, told.weights, told.snr_db)
    ]
    right = answers.answer_rows(made.pool, made.test_said, *rows)
    print(
        f"{name:15s} accuracy {right.mean():.3f}"
        f"   reward {float(told.reward.mean()):.3f}"
        f"   semantic {float(told.info['semantic'].mean()):.3f}"
        f"   channel {float(told.info['channel'].mean()):.3f}"
    )
