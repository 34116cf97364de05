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
# # MoE2: which edge language models answer together?
#
# Eight small language models, each tuned on one cluster of prompts, answer text
# questions. A gate weighs them by the prompt, their distributions are mixed token by
# token, and which of them may be used is solved exactly under budgets of delay and
# energy. About two minutes on two CPU cores; nothing but the packages is downloaded.
#
# The measured study, with intervals over seeds: `python launch/reproduce.py moe2`.
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

from m3jax.costs import budgets, responses
from m3jax.data import pipeline
from m3jax.data.edgetext import dataset, domains, words
from m3jax.evals import heat_maps
from m3jax.experiments import running
from m3jax.ops import subsets
from m3jax.systems import moe2
from m3jax.systems.moe2 import (
    clusters,
    evaluation,
    fusion,
    pool,
    selection,
    tables,
)
from m3jax.systems.moe2 import weights as weights_lib
from m3jax.train import learner, optimizers, scanned

# %% [markdown]
# ## Questions, clusters, experts
#
# EdgeText asks questions of nine domains. Nobody tells the experts apart by domain:
# prompts are clustered by their embeddings, and expert n is a base model with an
# adapter that was tuned on cluster n. One domain, `syllogism`, was held out of tuning.

# %%
experts = running.load("edge_experts")
group = pool.Pool(experts.config.system)
data = dataset.Config(config="smoke")
known, asked = (
    pipeline.as_arrays(data.source(split), None, ("question", "answer", "domain"))
    for split in ("train", "test")
)
for row in range(9):
    question, answer = (words.decode(known[n][row]) for n in ("question", "answer"))
    print(f"{question:60s} -> {answer}")

# %%
known, asked = (tables.tabulate(group, experts.params, a) for a in (known, asked))
centres = experts.config.data.centres()
label = clusters.nearest(known.embedding, centres)


fig, axes = plt.subplots(1, 2, figsize=(11, 4))
share = clusters.shares(label, known.domain, 8, 9)
heat_maps.draw(axes[0], 100 * share, domains.DOMAINS, range(8), span=(0, 100))
axes[0].set(title="share of a domain in each cluster (%)", xlabel="cluster")
right = np.array([known.right[known.domain == d].mean(axis=0) for d in range(9)])
heat_maps.draw(axes[1], 100 * right, domains.DOMAINS, range(8), span=(0, 100))
axes[1].set(title="right answers of each expert (%)", xlabel="expert")
fig.tight_layout()
plt.show()

# %% [markdown]
# ## The gate
#
# What the experts say is known, so training a gate takes seconds.

# %%
config = moe2.Config(pool=experts.config.system)
system = config.make_system()
tuned = known.take(known.domain != domains.DOMAINS.index(domains.HELD_OUT))
examples = {
    name: getattr(tuned, name)
    for name in ("question", "answer", "embedding", "log_probs")
}
learns = learner.make_learner(
    system,
    optimizers.OptimizerConfig(learning_rate=2e-3, weight_decay=1e-2),
    steps=400,
    warm_start=config.warm_start(experts.params),
    trainable=config.PARTS["gate"],
)
state = jax.jit(learns.init)(jax.random.key(0), jax.tree.map(lambda a: a[:1], examples))
rows = scanned.draw_rows(len(tuned.answer), 64, 400, seed=0)
state, metrics = scanned.fit(
    scanned.make_stretch(learns), state, examples, rows, jax.random.key(1)
)
plt.plot(np.arange(10, 400, 20), metrics["loss"].reshape(-1, 20).mean(axis=1))
plt.xlabel("step")
plt.ylabel("loss (nat/word)")
plt.show()

# %%
judge = evaluation.Judge(config, state.params, tuned, asked)
everyone = np.ones(8, bool)
here = asked.domain != domains.DOMAINS.index(domains.HELD_OUT)
for name, found in {
    "MoE2": judge.fused(everyone),
    "majority vote": judge.voted(everyone),
    "average expert": asked.right.mean(axis=1),
    "best single expert": asked.right[:, tuned.right.mean(axis=0).argmax()],
    "oracle expert": asked.right.any(axis=1),
}.items():
    print(f"{name:20s} {found[here].mean():.1%}")

# %% [markdown]
# ## What fits a budget
#
# A response waits for the slowest expert and takes the energy of all. The delay that
# counts is the mean of a maximum, so experts that pass alone may not pass together.

# %%
drawn = config.spending.draw(jax.random.key(2), 8, 2_000)
delays = np.asarray(responses.phases_as_samples(drawn))
energies = np.asarray(drawn.energies_j).mean(axis=0)
given, example = tuned.token_rows()
by_cluster = clusters.nearest(tuned.embedding, centres)[example]
refits = weights_lib.refit_losses(weights_lib.make_rows(given, by_cluster, 8))
numbers, points = selection.pareto(np.asarray(refits.losses), delays, energies)
fig, ax = plt.subplots(figsize=(6, 4))
shown = ax.scatter(points[:, 1], points[:, 0], c=points[:, 2])
ax.set(xlabel="mean delay (s)", ylabel="loss (nat/word)", title="the exact front")
fig.colorbar(shown, label="mean energy (J)")
plt.show()

# %%
for tau_s in (1.0, 2.0, 3.0):
    for energy_j in (5.0, 15.0, 50.0):
        problem = selection.make_problem(
            np.asarray(refits.losses), delays, energies, budgets.Budget(tau_s, energy_j)
        )
        found = selection.smo(problem)
        names = np.flatnonzero(found.members).tolist()
        print(
            f"{tau_s:g} s, {energy_j:2g} J: {found.status}, experts {names},"
            f" {judge.fused(found.members)[here].mean():.1%} right"
        )

# %% [markdown]
# ## Theorem 1, measured
#
# Restricting the weights of all experts to a subset is not the best that the subset can
# do. How much is lost, over all 255 subsets:

# %%
gap = weights_lib.theorem_gap(weights_lib.make_rows(given, by_cluster, 8))
size = subsets.masks(8)[1:].sum(axis=1)
plt.scatter(size + np.random.default_rng(0).uniform(-0.2, 0.2, 255), gap.gaps, s=8)
plt.xlabel("experts in the subset")
plt.ylabel("restricted above refitted loss (nat/word)")
plt.show()

# %% [markdown]
# ## An expert dies while it speaks
#
# Its distribution is missing from the third token on; the others go on with
# renormalised weights, and the event is recorded.

# %%
question = asked.question[here][:4]
batch = {"question": question, "answer": asked.answer[here][:4]}
scores = np.log(system.predict["weights"](state.params, batch, None))
alive = np.ones((6, 8), bool)
alive[2:, int(scores[0].argmax())] = False
said = fusion.generate(group, state.params["pool"], scores, question, 6, alive=alive)
for q, a in zip(question, np.asarray(said.tokens), strict=True):
    print(f"{words.decode(q):60s} -> {words.decode(a)}")
print("lost (token, expert):", np.argwhere(said.lost).tolist())
