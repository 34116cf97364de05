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
# # Quickstart: tokens cross a noisy link, and an answer comes out
#
# A device sees a picture and hears a sound. It turns both into a few tokens and sends
# them over a fading radio channel; a language model at the other end answers a question
# about them. All parts were trained together, through the channel.
#
# This notebook restores such a system, asks it questions at several SNRs, sweeps the
# SNR with `vmap`, and trains a tiny one from scratch. It takes about a minute on two
# CPU cores and downloads nothing but the packages.
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
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes, words
from m3jax.experiments import running, supervised
from m3jax.foundation import sizes
from m3jax.nn import compressors, transceiver
from m3jax.systems import tokcom
from m3jax.train import config as train_config
from m3jax.train import metrics

# %% [markdown]
# ## Restore in three lines
#
# `running.load(name)` gives a shipped model; `running.restore(workdir)` gives a run of
# your own, in the same form: its config, its pure functions and its parameters.

# %%
trained = running.load("tokcom")
answer = jax.jit(trained.predict["answer"])
generate = jax.jit(trained.predict["generate"])

# %% [markdown]
# ## Ask it something
#
# EdgeScenes are drawn from a seed, so we can draw as many as we like; the test split
# uses handwriting that no training example has. Skills take turns by index.

# %%
source = dataset.Fresh(scenes.SceneSettings(), seed=7, split="test")
batch = {
    name: jnp.asarray(x)
    for name, x in pipeline.as_arrays(source, limit=13 * 16).items()
}

asked = [0, 1, 4, 5, 10, 12]
snrs_db = [-10.0, 0.0, 20.0]
said = {}
for snr_db in snrs_db:
    noisy = {**batch, "snr_db": jnp.full(len(batch["skill"]), snr_db)}
    said[snr_db] = np.asarray(generate(trained.params, noisy, jax.random.key(0)))

fig, axes = plt.subplots(2, len(asked), figsize=(3.2 * len(asked), 5.4))
for column, i in enumerate(asked):
    axes[0, column].imshow(batch["image"][i])
    axes[0, column].set_title(words.decode(np.asarray(batch["question"][i])), size=8)
    axes[1, column].imshow(batch["audio"][i].T, origin="lower", aspect="auto")
    right = words.decode(np.asarray(batch["answer"][i]))
    lines = [f"right: {right}"]
    lines += [f"{snr:g} dB: {words.decode(said[snr][i])}" for snr in snrs_db]
    axes[1, column].set_xlabel("\n".join(lines), size=8, loc="left")
for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
axes[0, 0].set_ylabel("picture")
axes[1, 0].set_ylabel("sound (mel over time)")
fig.tight_layout()

# %% [markdown]
# ## Sweep the SNR with `vmap`
#
# The SNR is data, one number for each example, so the whole curve is one compiled
# program. Every SNR meets the same fading and noise (the key is the same).


# %%
def accuracy(snr_db, key):
    noisy = {**batch, "snr_db": jnp.full(len(batch["skill"]), snr_db)}
    return answer(trained.params, noisy, key)["answer_accuracy"].mean()


grid = jnp.arange(-15.0, 26.0, 5.0)
keys = jax.random.split(jax.random.key(1), 3)
over_grid = jax.vmap(accuracy, in_axes=(0, None))
over_keys = jax.vmap(over_grid, in_axes=(None, 0))
curves = np.asarray(jax.jit(over_keys)(grid, keys))

fig, ax = plt.subplots(figsize=(5, 3.2))
ax.plot(grid, 100 * curves.T, color="0.7", lw=1)
ax.plot(grid, 100 * curves.mean(0), "o-", color="#0072b2", label="mean of 3 draws")
ax.set(xlabel="SNR (dB)", ylabel="answers right (%)", ylim=(0, 100))
ax.legend()
fig.tight_layout()

# %% [markdown]
# ## What crosses the air
#
# Each token is sent as complex symbols at unit mean power. Below are the constellation
# that was learned and what arrives at 5 dB over Rayleigh fading, equalised. In phase
# lies the first half of a token's reals, where the start from the generalist put what
# matters most.

# %%
config = trained.config.system
tokens = trained.predict["encode"](trained.params, batch, None)["image"][:1]
mask = jnp.ones(tokens.shape[:2], bool)
pool = compressors.make_compressor(config.compressor, config.num_image_tokens)
short, mask = pool.apply({}, tokens, mask)
transmitter = transceiver.Transmitter(config.num_reals, config.snr_conditioning)
symbols = transmitter.apply(
    {"params": trained.params["image_transmitter"]}, short, jnp.array([5.0])
)[0]
link = config.link.make()

fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharex=True, sharey=True)
for ax, snr_db, title in zip(
    axes, (jnp.inf, 5.0), ("sent", "received at 5 dB"), strict=True
):
    out = link(jax.random.key(2), symbols, mask[0], snr_db)
    real, imaginary = jnp.split(out.values, 2, axis=-1)
    ax.plot(real.ravel(), imaginary.ravel(), ".", ms=3, color="#0072b2", alpha=0.5)
    ax.set(title=title, xlabel="in phase", aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
axes[0].set_ylabel("quadrature")
print(f"{int(out.channel_uses)} channel uses for the picture of one example")

# %% [markdown]
# ## Train one yourself
#
# A config is a dataclass; config files return the same. This one is a tiny network on a
# few hundred scenes: it shows that everything runs, not what can be reached.
# `launch/train.py` calls the same function.

# %%
small = supervised.Supervised(
    system=tokcom.Config(
        sizes=sizes.Sizes(
            decoder=sizes.DecoderSizes(dim=32, ff_dim=64, depth=1),
            image=sizes.image(depth=1, stem=(8, 16, 32), mlp_dim=64),
            audio=sizes.audio(depth=1, mlp_dim=64),
        ),
        num_reals=16,
        receiver_dim=32,
    ),
    data=dataset.Config(config="smoke"),
    learner=train_config.LearnerConfig(batch_size=16),
    train=train_config.TrainConfig(steps=40, log_every=10),
)
workdir = tempfile.mkdtemp()
running.train(small, workdir, show_progress=False)
rows = metrics.read(workdir)
fig, ax = plt.subplots(figsize=(5, 3))
ax.plot([r["step"] for r in rows], [r["loss"] for r in rows], "o-", color="#0072b2")
ax.set(xlabel="step", ylabel="loss (nat/word)")
fig.tight_layout()

# %% [markdown]
# And its parameters come back in one line, ready for the cells above:

# %%
mine = running.restore(workdir)
print(sum(x.size for x in jax.tree.leaves(mine.params)), "parameters")
