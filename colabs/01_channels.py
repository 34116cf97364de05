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
# # Channels: simulation with the closed forms beside it
#
# Bit error rates against theory, what fading does to a constellation and to a map of
# tokens, which gradients are exact, a link budget, and protection by importance. It
# takes about a minute on two CPU cores and downloads nothing but the packages.
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

from m3jax.channels import (
    awgn,
    csi,
    doppler,
    equalisers,
    fading,
    link_budget,
    links,
    modulation,
    shadowing,
    theory,
    topology,
    tr38901,
    unequal_protection,
)
from m3jax.evals import channel_plots, monte_carlo, uncoded
from m3jax.ops.quantities import Db, Dbm, Hertz

# %% [markdown]
# ## Bit error rates
#
# `monte_carlo.run` takes a whole SNR grid through one compiled program. A point ends
# once it has seen enough errors; bars are 95 % intervals, lines the exact rates.

# %%
snrs_db = np.arange(-4.0, 21.0, 4.0)
counts, exact = {}, {}
for order, name in ((2, "BPSK"), (16, "16-QAM"), (256, "256-QAM")):
    link = uncoded.UncodedLink(awgn.AWGN(), order, shape=(32, 1000))
    counts[name] = monte_carlo.run(
        link, snrs_db, key=jax.random.key(0), max_trials=2_000_000, target_errors=2000
    )
    exact[name] = lambda snr, order=order: theory.bit_error_rate(snr, order)
fig, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
channel_plots.error_rate_vs_snr(counts, exact, ax=axes[0], title="AWGN")

faded, exact = {}, {}
for k_db, name in ((-np.inf, "Rayleigh"), (6.0, "Rician, K = 6 dB"), (np.inf, "AWGN")):
    link = uncoded.UncodedLink(fading.RicianBlock(k_db, 1), 16, shape=(32, 1000))
    faded[name] = monte_carlo.run(
        link, snrs_db, key=jax.random.key(1), max_trials=2_000_000, target_errors=2000
    )
    k_factor = 10 ** (k_db / 10)
    exact[name] = lambda snr, k=k_factor: theory.bit_error_rate(snr, 16, k)
channel_plots.error_rate_vs_snr(faded, exact, ax=axes[1], title="16-QAM over fading")
axes[0].set_ylim(1e-5, 1)
fig.tight_layout()

# %% [markdown]
# ## A constellation before and after fading
#
# 16-QAM at 22 dB: sent; received over Rayleigh blocks; equalised with the gain known;
# equalised with a gain that two pilots a block told.

# %%
key = jax.random.key(2)
bit_key, gain_key, noise_key, pilot_key = jax.random.split(key, 4)
snr = 10**2.2
x = modulation.modulate(jax.random.bernoulli(bit_key, 0.5, (1500, 4)).astype(int), 16)
channel = fading.RayleighBlock(block_length=10)
h = channel.generate(gain_key, x.shape)
y = channel.apply(noise_key, x, h, snr)
known = csi.PilotCSI(num_pilots=2).estimate(pilot_key, h, snr)
panels = {
    "sent": x,
    "received": y,
    "equalised, gain known": equalisers.zero_forcing(y, h),
    "equalised, two pilots a block": equalisers.zero_forcing(y, known.h),
}
fig, axes = plt.subplots(1, 4, figsize=(13, 3.4), sharex=True, sharey=True)
for ax, (name, points) in zip(axes, panels.items(), strict=True):
    ax.plot(points.real, points.imag, ".", ms=2, color="#0072b2", alpha=0.5)
    ax.set(title=name, xlabel="in phase", aspect="equal", xlim=(-2, 2), ylim=(-2, 2))
axes[0].set_ylabel("quadrature")
fig.tight_layout()

# %% [markdown]
# ## Fading over time
#
# Two terminals at 3.5 GHz, one channel use a 0.1 ms: `Jakes` has the spectrum of the
# textbooks, `GaussMarkov` the same correlation from one use to the next and no more: it
# forgets more slowly.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3), sharey=True)
for ax, speed in zip(axes, (1.0, 15.0), strict=True):
    shift = doppler.from_speed(speed, carrier=3.5e9, symbol_time=1e-4)
    r = float(doppler.correlation(shift))
    for name, channel in (
        ("Jakes", doppler.Jakes(shift)),
        ("Gauss-Markov", doppler.GaussMarkov(r)),
    ):
        gains = channel.generate(jax.random.key(3), (1000,))
        ax.plot(np.arange(1000) / 10, 20 * jnp.log10(jnp.abs(gains)), lw=1, label=name)
    ax.set(title=f"{speed:g} m/s", xlabel="time (ms)")
axes[0].set_ylabel("gain (dB)")
axes[0].legend()
fig.tight_layout()

# %% [markdown]
# ## A map of tokens over two links
#
# 32 tokens of 64 reals, a smooth pattern, at 5 dB over Rayleigh blocks: the analog link
# fades gracefully, the digital one is exact until a bit that matters is wrong.

# %%
rows, columns = np.mgrid[0:32, 0:64]
tokens = jnp.asarray(np.sin(rows / 4) + np.cos(columns / 7), jnp.float32)
mask = jnp.arange(32) < 28  # the last four are padding
sent = {
    "analog": links.make_link("analog", "rayleigh", block_length=64),
    "digital, 6 bits": links.make_link("digital", "rayleigh", 64, bits=6, qam_order=4),
    "erasure, mean": links.make_link(
        "erasure", "rayleigh", 64, bits=6, rate=1.0, imputation="mean"
    ),
}
fig, axes = plt.subplots(1, 4, figsize=(14, 2.9), sharey=True)
axes[0].imshow(tokens, vmin=-2, vmax=2, cmap="RdBu", aspect="auto")
axes[0].set(title="tokens", ylabel="token", xlabel="value")
for ax, (name, link) in zip(axes[1:], sent.items(), strict=True):
    out = link(jax.random.key(4), tokens, mask, 5.0)
    ax.imshow(out.values, vmin=-2, vmax=2, cmap="RdBu", aspect="auto")
    uses, bits = int(out.channel_uses), int(out.bits)
    ax.set(title=f"{name}\n{uses} channel uses, {bits} bits", xlabel="value")
fig.tight_layout()

# %% [markdown]
# ## Which gradients are exact
#
# A slope that a link claims as exact is the slope of its finite differences (analog).
# Where bits are decided, one draw is a staircase, and its difference is noise: a named
# surrogate stands in by values, and the slope by SNR is declared zero. The whole table
# is in the docs, and the tests hold it.


# %%
def slopes(link, snr_db=8.0, step=1e-3):
    """By values and by SNR: the gradient along a direction, and the difference."""
    way = jax.random.normal(jax.random.key(5), tokens.shape)

    def loss(t, snr_db):
        received = link(jax.random.key(6), tokens + t * way, mask, snr_db).values
        return jnp.mean(received * jnp.cos(received))

    by_values, by_snr = jax.grad(loss, (0, 1))(0.0, snr_db)
    return (
        (by_values, (loss(step, snr_db) - loss(-step, snr_db)) / (2 * step)),
        (by_snr, (loss(0.0, snr_db + step) - loss(0.0, snr_db - step)) / (2 * step)),
    )


jax.config.update("jax_enable_x64", True)
tokens = tokens.astype(jnp.float64)
heads = ("by values", "difference", "by SNR", "difference")
print(f"{'link':<18}" + "".join(f"{head:>12}" for head in heads))
for name, link in sent.items():
    cells = [f"{float(x):12.2e}" for pair in slopes(link) for x in pair]
    print(f"{name:<18}" + "".join(cells))
tokens = tokens.astype(jnp.float32)
jax.config.update("jax_enable_x64", False)

# %% [markdown]
# ## From metres and watts to an SNR
#
# Users around a 3GPP urban micro-cell. Quantities have units, and a sum that physics
# forbids is an error.

# %%
drop_key, los_key, shadow_key = jax.random.split(jax.random.key(7), 3)
users = topology.annulus(drop_key, 300, radius=200.0, min_distance=10.0)
distance = topology.distance_2d(users, jnp.zeros(2))
los = tr38901.UMI.draw_los(los_key, distance)
budget = link_budget.LinkBudget(
    tx_power=Dbm(jnp.full(300, 23.0)),
    bandwidth=Hertz(20e6),
    path_loss=tr38901.UMI.path_loss(distance, los, Hertz(3.5e9)),
    shadowing=shadowing.draw(shadow_key, tr38901.UMI.shadowing_std(los), (300,)),
    noise_figure=Db(7.0),
)
fig, axes = plt.subplots(1, 2, figsize=(11, 4))
picture = axes[0].scatter(*users.T, c=budget.snr_db, s=14, cmap="viridis")
fig.colorbar(picture, ax=axes[0], label="SNR (dB)")
axes[0].set(xlabel="m", ylabel="m", aspect="equal")
for state, name in ((True, "line of sight"), (False, "without")):
    chosen = np.asarray(los) == state
    axes[1].plot(distance[chosen], budget.snr_db[chosen], ".", label=name)
axes[1].set(xlabel="distance (m)", ylabel="SNR (dB)")
axes[1].legend()
fig.tight_layout()
try:
    Db(3.0) + Dbm(23.0).to_w()
except TypeError as error:
    print(error)

# %% [markdown]
# ## Protection by importance
#
# Some tokens matter more. With the same total power, `allocate_power` gives them more
# of it and lowers the weighted error.

# %%
importance = jnp.repeat(jnp.array([0.1, 0.3, 1.0, 3.0, 10.0]), 8)
all_sent = jnp.ones(40, bool)
powers = unequal_protection.allocate_power(importance, all_sent, snr=1.0)
print("total power:", float(powers.sum()), "over", powers.size, "tokens")
values = jax.random.normal(jax.random.key(8), (40, 64))


def token_errors(channel):
    """Mean square error of each token, over 200 draws."""
    link = links.AnalogLink(channel)
    unit = values / jnp.sqrt(jnp.mean(values**2))
    keys = jax.random.split(jax.random.key(9), 200)
    received = jax.vmap(lambda key: link(key, values, all_sent, 0.0).values)(keys)
    return jnp.mean((received - unit) ** 2, axis=(0, 2))


schemes = {
    "equal": token_errors(awgn.AWGN()),
    "by importance": token_errors(unequal_protection.Powered(awgn.AWGN(), powers)),
}
fig, ax = plt.subplots(figsize=(5, 3.6))
channel_plots.error_by_importance(importance, schemes, ax=ax)
ax.set_xscale("log")
fig.tight_layout()
