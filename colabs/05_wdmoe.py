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
# # WDMoE: one mixture of experts, spread over wireless devices
#
# A small language model of experts answers text questions; each expert of a block lies
# on a device of its own, and every block waits for its slowest device. Here: who is
# asked, what the devices take, how the band is split exactly, and what all of it
# saves. About a minute on two CPU cores; nothing but the packages is downloaded.
#
# The measured study, with intervals over seeds: `python launch/reproduce.py wdmoe`.
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

from m3jax.costs import timeline, workers
from m3jax.data import pipeline
from m3jax.data.edgetext import dataset, domains, words
from m3jax.evals import gantt, heat_maps
from m3jax.experiments import running
from m3jax.ops import fair_round_trips, round_trips, sum_of_maxima
from m3jax.systems.wdmoe import (
    cell,
    evaluation,
    latency,
    pricing,
    probe,
    savings,
    selection,
)

# %% [markdown]
# ## Who answers which token
#
# The shipped language model has eight experts in each of four blocks, and a router
# that asks two of them for every token.

# %%
mixture = running.load("edge_mixture")
settings, params = mixture.config.system, mixture.params
data = dataset.Config(config="smoke")
asked = pipeline.as_arrays(data.source("test"), None, ("question", "answer", "domain"))
batch = {name: asked[name][:9] for name in ("question", "answer")}
said = mixture.predict["generate"](params, batch, jax.random.key(0))
for question, answer in zip(batch["question"], np.asarray(said), strict=True):
    print(f"{words.decode(question):60s} -> {words.decode(answer)}")

# %%
routing = jax.jit(mixture.predict["routing"])(params, asked, jax.random.key(0))
usage = np.asarray(routing["usage"])  # [B, L, I, n]
counts = np.array([usage[asked["domain"] == d].sum(axis=(0, 1)) for d in range(9)])
share = counts / counts.sum(axis=-1, keepdims=True)
fig, axes = plt.subplots(1, 4, figsize=(13, 3.6), sharey=True)
for block, ax in enumerate(axes):
    heat_maps.draw(ax, 100 * share[:, block], domains.DOMAINS, range(8), span=(0, 40))
    ax.set(title=f"block {block}: share of the tokens (%)", xlabel="expert")
fig.tight_layout()
plt.show()

# %% [markdown]
# ## What the devices take
#
# Every expert lies on a device of its own. A token goes down, is worked on, and comes
# back; a block waits for its slowest device. Tokens cost what they would in Mixtral
# 8x7B.

# %%
mine = cell.Cell()
gains = cell.draw_gains(jax.random.key(1), mine, num=1)[0]
trips = latency.make_trips(mine, gains)
even = latency.even_bandwidths(trips, mine.bandwidth_hz)
token_s = latency.even_seconds(trips, mine.bandwidth_hz)
loads = jnp.asarray(counts[0], jnp.float32)  # of the first domain
block = fair_round_trips.fair_bandwidths(loads[0], trips, mine.bandwidth_hz)
whole = sum_of_maxima.sum_of_maxima(loads, trips, mine.bandwidth_hz)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.4))
for shift, name, band in (
    (-0.27, "even", even),
    (0.0, "for the first block", block.amounts),
    (0.27, "for all blocks", whole.amounts),
):
    places = np.arange(8) + shift
    axes[0].bar(places, band / 1e6, 0.25, label=name)
    seconds = loads[0] * round_trips.seconds(trips, band)
    axes[1].bar(places, 1e3 * seconds, 0.25)
axes[0].set(xlabel="device", ylabel="bandwidth (MHz)")
axes[1].set(xlabel="device", ylabel="time for the first block (ms)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=3)
plt.show()
print(f"the sequence: {1e3 * float(whole.value):.1f} ms,", end=" ")
print(f"at most {1e3 * float(whole.gap):.1e} ms above the optimum")

# %% [markdown]
# ## Who may be left out
#
# The paper drops a token's second expert where the gate's weights do not look like the
# latencies. Here beside it: experts must be worth a price, learned or fixed.

# %%
tokens = usage[asked["domain"] == 0].reshape(-1, 4, 8)
here = np.asarray(routing["mask"])[asked["domain"] == 0].reshape(-1)
probs = np.asarray(routing["probs"])[asked["domain"] == 0].reshape(-1, 4, 8)[:, 0]
prices = pricing.Prices(price=jnp.float32(0.3), margin=jnp.float32(0.0))
ways = {
    "top-2": selection.vanilla(probs, here, token_s).weights > 0,
    "cosine": selection.cosine(probs, here, token_s).weights > 0,
    "priced": pricing.usage(jnp.asarray(probs), here, token_s, prices, 2) > 0,
}
for name, chosen in ways.items():
    q = jnp.sum(chosen, axis=0).astype(float)
    wait = 1e3 * latency.waiting(q, token_s)
    print(f"{name:8s} {int(q.sum()):4d} tokens sent, block waits {float(wait):.1f} ms")

# %% [markdown]
# ## Answers against latency
#
# The same policies inside the language model, where dropping an expert changes every
# block behind it.

# %%
measure = probe.Probe(settings)
found = {}
for number, (_, size, group) in enumerate(evaluation.by_domain(asked, 20)):
    key = jax.random.fold_in(jax.random.key(2), number)
    for policy, met in measure(params, group, key).items():
        found.setdefault(policy, []).append((met.right[:size], met.seconds))
for policy, met in found.items():
    right = np.concatenate([right for right, _ in met]).mean()
    seconds = np.mean([seconds for _, seconds in met], axis=0)
    told = zip(probe.SPLITS.values(), 1e3 * seconds, strict=True)
    told = ", ".join(f"{split} {ms:.0f} ms" for split, ms in told)
    print(f"{policy:7s} {right:.1%} right; {told}")

# %% [markdown]
# ## How much a split saves, and on what that depends

# %%
kept = savings.surface(
    jax.random.key(3), (0.0, 0.5, 1.0), (0.0,), num_draws=40, num_blocks=8
)
for place, variation in enumerate(kept.load_variation):
    told = []
    for method in savings.METHODS[1:]:
        share = savings.saved(kept, method).mean[place, 0]
        told.append(f"{method} {share:.0%}")
    print(f"load variation {variation:.2f}: " + ", ".join(told))

# %% [markdown]
# ## A batch in the testbed, event by event
#
# Four experts on a server, four on devices over links that jitter; one device fails,
# and its tokens go to their next expert.

# %%
eight = workers.server_and_devices(cell.mixtral().flops, jitter=0.3)
some = np.asarray(routing["probs"])[:4].swapaxes(0, 2).swapaxes(1, 2)
some = some.reshape(4, -1, 8)[:, np.asarray(routing["mask"])[:4].reshape(-1)]
rankings = np.argsort(-some, axis=-1)[None]
played = timeline.simulate(
    eight, rankings, payload_bits=cell.mixtral().payload_bits, failures_s={6: 0.06}
)
fig, ax = plt.subplots(figsize=(10, 3.2))
names = [f"{n}: {worker.name}" for n, worker in enumerate(eight)]
gantt.draw(ax, played.events, names, played.ends[0])
ax.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()
print(f"{len(played.rerouted)} tokens went elsewhere")

# %% [markdown]
# ## A router that knows what bandwidth costs
#
# The latency of the sequence is the optimum of the split, and it has a gradient: the
# price of a token on each device.

# %%
price = jax.grad(
    lambda q: latency.split_seconds(q, trips, mine.bandwidth_hz, "per_sequence")
)(loads)
print("milliseconds that one more token costs, by block and device:")
print(np.round(1e3 * np.asarray(price), 2))
