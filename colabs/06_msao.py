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
# # MSAO: what an answer needs, and who says it
#
# A camera and a microphone at the edge, a small model beside them, a large one in the
# cloud. Probes find which part of a picture and which modality a question needs; the
# small model drafts words and the large one judges them. Here: what is kept, how
# drafting works, when it pays, and what each way to answer takes over the same link.
# Half a minute on two CPU cores; nothing but the packages is downloaded.
#
# The measured study, with intervals over seeds: `python launch/reproduce.py msao`.
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

from m3jax.costs import (
    speculation,
    speculative_delays,
    speculative_rounds,
    speculative_timeline,
)
from m3jax.data import pipeline
from m3jax.data.edgescenes import dataset, scenes, words
from m3jax.evals import sparsity_plots, speculation_plots
from m3jax.experiments import running
from m3jax.nn import speculation as decoding
from m3jax.nn.speculation import policies
from m3jax.systems import msao
from m3jax.systems.msao import agreement, evaluation, pair, parts, pricing, ways

# %% [markdown]
# ## What an answer needs
#
# Two shipped models: a large one whose probes look at a picture's first features and at
# the question, and a small one that answers by itself. Below each picture what its
# probes think of it, and the windows that are kept; of a question about the sound the
# picture is not sent at all.

# %%
large, small = running.load("edge_probes"), running.load("edge_draft")
target = parts.Parts(large.config.system)
draft = parts.Parts(msao.Config(sizes=small.config.system.sizes))
source = dataset.Fresh(scenes.SceneSettings(), seed=7, split="test")
batch = pipeline.as_arrays(source, limit=52)
system = large.config.system.make_system()
found = evaluation.probe(system, large.params, batch, batch_size=52)
some = [0, 1, 3, 5, 12]
for n in some:
    print(words.decode(batch["question"][n]))
sparsity_plots.overlays(
    batch["image"][some],
    found["importance"][some],
    found["kept"][some],
    figure=plt.figure(figsize=(10, 5.8), layout="constrained"),
)
plt.show()

# %%
needs = dict(zip(scenes.MODALITIES, batch["needs"].T, strict=True))
print(f"{'question':52s} picture   sound   (needed)")
for n in range(13):
    shares = [found["relevance"][m][n] for m in ("image", "audio")]
    truth = [m for m in ("image", "audio") if needs[m][n]]
    print(
        f"{words.decode(batch['question'][n])[:52]:52s}"
        f" {shares[0]:6.2f} {shares[1]:8.2f}   {', '.join(truth) or 'neither'}"
    )
print(evaluation.needed_accuracy(found["relevance"], batch["needs"]))

# %% [markdown]
# ## Drafting and judging
#
# The large model reads what the probes kept, the small one all that there is. What both
# say together is to the word what the large one says alone; what changes is how often
# it is asked.

# %%
describe = dataset.Fresh(scenes.SceneSettings(skills=("describe",)), 8, split="test")
told = pipeline.as_arrays(describe, limit=40)


@jax.jit
def together(large_params, small_params, batch):
    """What the target says alone, and with drafts; where the draft agrees."""
    choice = pair.probed(target, large_params, batch)
    judge = pair.read(target, large_params, batch, choice)
    whole = pair.everything(draft, len(batch["answer"]))
    drafter = pair.read(draft, small_params, batch, whole)
    num = batch["answer"].shape[1]
    alone = pair.say(judge, num)
    both = decoding.speculate(judge, drafter, num, policies.fixed(4))
    agrees = agreement.measure(judge, drafter, alone)
    return choice, alone, both, agrees


choice, alone, both, agrees = jax.device_get(together(large.params, small.params, told))
assert (both.words == alone).all()
right = np.mean(pair.is_right(alone, told["answer"]))
acceptance = agrees.agrees[agrees.valid].mean()
print(words.decode(told["question"][0].tolist()))
print(words.decode(alone[0].tolist()))
print(f"right {right:.0%}, words that the draft would have said {acceptance:.0%}")
print(
    f"words for each call of the large model {both.counts.tokens_per_call.mean():.2f}"
)

# %% [markdown]
# ## Does it pay?
#
# Times are those of Qwen2-VL-2B on an RTX 3090 and of Qwen2.5-VL-7B on an A100. Above
# the line of 1 drafting is faster than the cloud alone.

# %%
place = pricing.Place(pricing.fading_link(300.0))
times = pricing.setting(place, 300, 506)
far = speculation.Setting(times.draft_s, times.verify_s, times.verify_token_s)
print(speculation.advise(far._replace(rtt_s=0.02), float(acceptance), most=5).reason)
acceptances, rtts_s = jnp.linspace(0.3, 1.0, 71), jnp.linspace(0.0, 0.06, 61)
region = speculation.best(far._replace(rtt_s=rtts_s[:, None]), acceptances, 5)
speculation_plots.speed_up_region(
    acceptances,
    rtts_s,
    region.speed_up,
    marks={"the shipped pair": (float(acceptance), 0.02)},
    ax=plt.subplots(figsize=(5, 3.6), layout="constrained")[1],
)
plt.show()

# %% [markdown]
# ## One request, event by event
#
# The same description over a fast link and over a slow one. What is drafted ahead while
# the cloud judges is thrown away where a word falls.

# %%
read = pricing.Read(
    np.asarray(choice.num_windows) / 16, np.asarray(choice.wanted["audio"], float)
)
fig, axes = plt.subplots(2, 1, figsize=(8, 5), layout="constrained")
for ax, rate in zip(axes, (300.0, 5.0), strict=True):
    place = pricing.Place(pricing.fading_link(rate))
    rounds = speculative_rounds.of_agreement(
        *agrees, draft_length=4, pipelined=place.pipelined
    )
    first = speculative_rounds.Rounds(*(part[:1] for part in rounds))
    setting = pricing.setting(place, int(read.tokens(place.scale)[0]), 506)
    delays = speculative_delays.draw(
        np.random.default_rng(1), setting, first, read.bits(place.scale)[:1]
    )
    happened = speculative_timeline.simulate(setting, first, delays)
    speculation_plots.timeline(
        ax, happened.spans, happened.told, title=f"{rate:g} Mbit/s"
    )
axes[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
plt.show()

# %% [markdown]
# ## Ways to answer
#
# The same descriptions over the same links. A verified answer is the large model's to
# the word; the edge alone says its own.

# %%
lengths = agrees.valid.sum(axis=1)
num = len(lengths)
everything = pricing.everything(num)
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for ax, rate in zip(axes, (300.0, 5.0), strict=True):
    place = pricing.Place(pricing.fading_link(rate))
    rounds = speculative_rounds.of_agreement(
        *agrees, draft_length=4, pipelined=place.pipelined
    )
    rng = np.random.default_rng(2)
    answered = {
        "cloud alone": ways.cloud_only(rng, place, lengths),
        "cloud, pruned": ways.cloud_only(rng, place, lengths, read),
        "drafts, all sent": ways.speculative(
            rng, place, rounds, everything, everything
        ),
        "MSAO": ways.with_probes(
            place, ways.speculative(rng, place, rounds, read, everything)
        ),
        "edge alone": ways.edge_only(place, lengths),
    }
    left = np.zeros(len(answered))
    for phase in ("upload_s", "prefill_s", "decode_s"):
        means = [1e3 * getattr(w.requests, phase).mean() for w in answered.values()]
        ax.barh(list(answered), means, left=left, label=phase.split("_")[0])
        left += np.array(means)
    ax.set(title=f"{rate:g} Mbit/s", xlabel="latency (ms)")
axes[0].invert_yaxis()
axes[1].legend(fontsize="small")
plt.show()
for name, work in answered.items():
    print(
        f"{name:17s} {1e-12 * (work.edge_flops + work.cloud_flops).mean():5.1f} Tflop,"
        f" {1e-6 * work.requests.up_bits.mean():.2f} Mbit up"
    )

# %% [markdown]
# ## A plan
#
# Which draft length, and whether to ask the cloud where the draft is unsure: all plans
# are played, as they cost nothing.

# %%
place = pricing.Place(pricing.fading_link(300.0))
print("draft length   threshold 0.1    0.3   never (ms)")
for length in range(1, 6):
    means = []
    for threshold in (0.1, 0.3, None):
        rounds = speculative_rounds.of_agreement(
            *agrees,
            draft_length=length,
            threshold=threshold,
            pipelined=place.pipelined,
        )
        rng = np.random.default_rng(3)
        work = ways.speculative(rng, place, rounds, read, everything)
        means.append(1e3 * work.requests.total_s.mean())
    print(f"{length:12d}   {means[0]:13.0f} {means[1]:6.0f} {means[2]:7.0f}")

# %% [markdown]
# Where to go on: `docs/systems/msao.md` for what was measured, `docs/speculation.md`
# for decoding, `docs/edge_cloud.md` for the link, Bayesian optimisation and the
# environment, `docs/probes.md` for the probes.
