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
# # TokCom: tokens as the thing that is sent
#
# Which tokens a compressor keeps, what alignment does to what arrives, how fast two
# stages of training answer questions over a fading link, and how eight users share a
# band. About four minutes on two CPU cores; nothing but the packages is downloaded.
#
# The measured study, with intervals over seeds, is one command:
# `python launch/reproduce.py tokcom`.
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
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes, words
from m3jax.evals import allocation_plots, plots, snr_sweep
from m3jax.foundation import answering
from m3jax.nn import compressors, lora, vit
from m3jax.ops import paths
from m3jax.ops.quantities import Dbm, Hertz
from m3jax.systems import tokcom
from m3jax.systems.tokcom import allocation
from m3jax.train import learner, optimizers, pretrained, scanned

# %% [markdown]
# ## Scenes, and the tokens of frozen encoders
#
# The shipped generalist gives encoders and decoder. Frozen encoders need to run only
# once: everything below starts from their tokens.

# %%
names = ("image", "audio", "question", "answer", "skill")
captions = ("image_caption", "audio_caption")
scene_source = dataset.Fresh(scenes.SceneSettings(), seed=7)
arrays = pipeline.as_arrays(scene_source, 2600, (*names, *captions))
generalist, _ = pretrained.load("generalist")
generalist = {n: p for n, p in generalist.items() if not n.endswith("_projector")}

config = tokcom.Config(
    compressor="top_k_attention", num_image_tokens=16, num_audio_tokens=4
)
encode = jax.jit(tokcom.make_system(config).predict["encode"])
parts = [
    encode(generalist, {n: arrays[n][at : at + 200] for n in ("image", "audio")}, None)
    for at in range(0, 2600, 200)
]
tokens = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
examples = {n: jnp.asarray(arrays[n]) for n in ("question", "answer", *captions)}
examples["tokens"] = tokens
train = jax.tree.map(lambda x: x[:2200], examples)
test = {**jax.tree.map(lambda x: x[2200:], examples), "skill": arrays["skill"][2200:]}
jax.tree.map(jnp.shape, tokens)

# %% [markdown]
# ## Which tokens are kept
#
# A picture has 64 tokens, one for each patch; 16 of them are sent. `slots` says which
# of the 16 each patch went to: patches of one colour below share a token, grey ones
# are not sent.

# %%
order = vit.token_order(config.sizes.encoder_config("image"))
chosen = ("stride", "window_pool", "top_k_attention", "token_merging")
fig, axes = plt.subplots(2, 1 + len(chosen), figsize=(12, 5))
for row, index in zip(axes, (0, 5), strict=True):
    row[0].imshow(arrays["image"][index])
    row[0].set_ylabel(words.decode(arrays["question"][index]), fontsize=7)
    for ax, name in zip(row[1:], chosen, strict=True):
        z = tokens["image"][index : index + 1]
        compressor = compressors.make_compressor(name, 16)
        scores = tokens["image_scores"][index : index + 1]
        made = compressor.apply(
            {}, z, jnp.ones((1, 64), bool), scores=scores, method="compress"
        )
        slots = np.empty(64)
        slots[order] = np.where(made.slots[0] < 0, np.nan, made.slots[0])
        ax.imshow(np.full((8, 8, 3), 0.85))
        ax.imshow(slots.reshape(8, 8), cmap="tab20", vmin=0, vmax=19)
        ax.set_title(name, fontsize=9)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# ## Two stages of training
#
# Stage 1 brings what arrives to where the decoder's words lie, over the noisy link,
# from captions alone. Stage 2 answers questions, with low-rank adapters in the decoder.
# `trainable` names the parts that train. All steps of a stage are one compiled program.


# %%
def fit(config, start, trainable, steps, batch_size, look=lambda params: None):
    system = tokcom.make_system(config)
    trainable = paths.expand(trainable, config.PARTS)
    optimizer = optimizers.OptimizerConfig(
        learning_rate=3e-3, warmup_steps=20, weight_decay=1e-3, b2=0.95
    )
    trainer = learner.make_learner(
        system, optimizer, steps, config.warm_start(start), trainable
    )
    state = jax.jit(trainer.init)(jax.random.key(0), {})
    looks = [look(state.params)]
    state, metrics = scanned.fit(
        scanned.make_stretch(trainer),
        state,
        train,
        scanned.draw_rows(2200, batch_size, steps, seed=0),
        jax.random.key(1),
        every=50,
        look=lambda state: looks.append(look(state.params)),
    )
    return system, state.params, metrics["loss"], looks


config = dataclasses.replace(config, compressor="window_pool")
aligning = dataclasses.replace(config, stage="alignment")
before = tokcom.make_system(aligning)
fresh = paths.overlay(
    jax.jit(before.init)(jax.random.key(0), {}), aligning.warm_start(generalist)
)
system, aligned, losses, _ = fit(
    aligning, generalist, "transceiver|alignment", steps=500, batch_size=32
)
print(f"loss of stage 1: {np.mean(losses[:20]):.2f} -> {np.mean(losses[-20:]):.2f}")

# %% [markdown]
# Means of the received sounds (dots) and of their captions' words (stars), on the first
# two principal components, before and after stage 1.

# %%
batch = {
    **{n: v for n, v in test.items() if n != "skill"},
    "snr_db": jnp.full(400, 10.0),
}
receive = jax.jit(system.predict["received"])
table = np.asarray(aligned["decoder"]["embedder"]["embedding"])
said = np.asarray(test["audio_caption"])
mask = (said > answering.EOS)[..., None]
told = (table[said] * mask).sum(1) / mask.sum(1)
fig, axes = plt.subplots(1, 2, figsize=(12, 4.5))
for ax, params, title in zip(axes, (fresh, aligned), ("before", "after"), strict=True):
    heard = np.asarray(receive(params, batch, jax.random.key(0))["audio"])
    heard, text = (x / np.linalg.norm(x, axis=1)[:, None] for x in (heard, told))
    cosines = heard @ text.T
    points = np.concatenate([heard, text])
    points -= points.mean(0)
    places = points @ np.linalg.svd(points, full_matrices=False)[2][:2].T
    for number, timbre in enumerate(words.TIMBRES):
        is_it = said[:, 0] == words.WORDS.index(timbre)
        ax.scatter(*places[:400][is_it].T, s=8, color=f"C{number}", label=timbre)
        ax.scatter(
            *places[400:][is_it].T, s=60, marker="*", color=f"C{number}", ec="black"
        )
    own, every = np.diag(cosines).mean(), cosines.mean()
    ax.set_title(
        f"{title} stage 1: cosine {own:.2f} to its caption, {every:.2f} to any"
    )
axes[1].legend(fontsize=8)
# %%
adapted = dataclasses.replace(
    config, lora=lora.LoraConfig(rank=8, pattern="decoder/layers/.*/kernel")
)
measured = jax.jit(tokcom.make_system(adapted).predict["answer"])


def look(params):
    return float(measured(params, batch, jax.random.key(0))["answer_accuracy"].mean())


runs = {}
for name, start in (("aligned", aligned), ("unaligned", generalist)):
    runs[name] = fit(adapted, start, "transceiver|lora", 300, 16, look)
fig, ax = plt.subplots(figsize=(6, 3.5))
for name, (_, _, _, looks) in runs.items():
    ax.plot(range(0, 301, 50), looks, marker="o", label=name)
ax.set(xlabel="update of stage 2", ylabel="accuracy at 10 dB")
ax.legend()
# %% [markdown]
# ## Accuracy against SNR
#
# A whole grid of SNRs is one compiled program; every model meets the same noise.

# %%
records = []
for name, (trained, params, _, _) in runs.items():
    found = snr_sweep.sweep(
        trained.predict["answer"],
        params,
        [jax.tree.map(np.asarray, test)],
        snrs_db=(-10, -5, 0, 5, 10, 15),
        num_seeds=3,
        key=jax.random.key(0),
        metrics_fn=lambda out, batch: {"answer_accuracy": out["answer_accuracy"]},
    )
    records += snr_sweep.to_records(found, system="tokcom", variant=name)
_, ax = plt.subplots(figsize=(6, 3.5))
plots.metric_over(records, ax=ax, title="one training seed, three of noise")
# %% [markdown]
# ## Eight users share a band
#
# More tokens cost airtime and lower the loss. Bandwidth, power and lengths are chosen
# together; every step of the alternation is convex, so the cost never rises.

# %%
users = allocation.draw_users(jax.random.key(3), 8)
curve = allocation.fit([4, 8, 16, 32], [2.0, 1.3, 0.8, 0.6]).curve
problem = allocation.make_problem(
    users.gains,
    curve,
    bits_per_token=256,
    bandwidth=Hertz(1e6),
    power=Dbm(23.0).to_w(),
    weight=0.97,
    max_length=64,
)
relaxed = jax.jit(allocation.allocate)(problem)
whole = jax.jit(allocation.round_lengths)(problem, relaxed)
_, equal_cost = allocation.equal_split(problem)
_, ax = plt.subplots(figsize=(6, 3))
allocation_plots.cost_by_step(
    {"joint": relaxed.history}, float(equal_cost), ax=ax, title="equal split: dashed"
)
allocation_plots.by_distance(
    users.distances,
    {
        "tokens": whole.plan.lengths,
        "bandwidth (kHz)": whole.plan.bandwidths / 1e3,
        "power (mW)": whole.plan.powers * 1e3,
    },
)
