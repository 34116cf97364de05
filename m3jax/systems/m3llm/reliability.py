"""M3LLM's meta-analysis: how far each of the two rewards can be trusted now.

Nine confidence features of the recent rewards and SNR reports go through a small
network, which gives the weights [w_llm, w_channel] (section III-B.3; d_conf = 9). They
are for diagnostics only: nothing is trained by them, and no gradient passes through
the features or `weights`.

The paper names neither the features nor what the network learns from. Here a reward is
reliable if it stays what it was: the best weights are the inverse expected squared
errors of taking a stream's mean over this window for its mean over the next one.
`reliability_training` trains for that.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.envs.expert_routing import reports
from m3jax.nn import layers
from m3jax.ops import masks, roots

FEATURES = (
    *("semantic_mean", "semantic_std", "semantic_trend", "semantic_persistence"),
    *("channel_mean", "channel_std", "channel_trend", "channel_persistence"),
    "snr_change",
)
"""The nine features of `features`, in their order."""
# Deviations and changes below this count as it: a constant stream is not infinitely
# reliable.
FLOOR = 1e-3


class History(NamedTuple):
    """What is known of T steps.

    Attributes:
      semantic: R_LLM, ``[T]``.
      channel: R_channel, ``[T]``.
      snr: reported SNRs of N links, normalised to [0, 1], ``[T, N]``.
      observed: bool ``[T, N]``, where a report has come from an expert that is live.
    """

    semantic: base.Array
    channel: base.Array
    snr: base.Array
    observed: base.Array


def history_of(view: reports.View) -> History:
    """Takes a history from what an agent saw in T steps.

    Args:
      view: ``[*B, T, ...]``; its rewards are those of the step before each.
    """
    return History(
        semantic=view.earned[..., 0],
        channel=view.earned[..., 1],
        snr=view.snr,
        observed=(view.reported > 0) & (view.live > 0),
    )


def features(history: History) -> base.Array:
    """The nine confidence features, named in `FEATURES`.

    Of each reward r_1, ..., r_T, in its unit:

        mean          m = sum_t r_t / T
        std           s = sqrt(sum_t (r_t - m)^2 / T)
        trend         (T - 1) times the slope of the least-squares line: what that line
                      rises in the window
        persistence   sum_{t<T} (r_t - m) (r_{t+1} - m) / (T s^2), the autocorrelation
                      at lag 1, in [-1, 1]; 0 if s = 0

    and of the environment ``snr_change``, the mean of ``|snr_{t+1} - snr_t|`` over the
    links and steps with reports at both ends; 0 if there are none.

    Args:
      history: of T steps, 3 or more; ``vmap`` for more histories.

    Returns:
      float32 ``[9]``; no gradient flows into it.

    Raises:
      ValueError: shapes disagree, or there are fewer than 3 steps.

    Example:
      >>> flat, snr = jnp.ones(4), jnp.array([[0.0], [0.5], [0.5], [0.25]])
      >>> found = features(History(jnp.arange(4.0), flat, snr, snr >= 0))
      >>> tuple(round(float(x), 2) for x in found)
      (1.5, 1.12, 3.0, 0.25, 1.0, 0.0, 0.0, 0.0, 0.25)
    """
    _check(history)
    history = lax.stop_gradient(history)
    both = history.observed[1:] & history.observed[:-1]
    change = masks.masked_mean(jnp.abs(jnp.diff(history.snr, axis=0)), both)
    parts = [*_of_stream(history.semantic), *_of_stream(history.channel), change]
    return jnp.stack(parts).astype(jnp.float32)


class Reliability(nn.Module):
    """Features to weights: a perceptron beside a linear map, and a softmax.

    Deviations enter as logarithms and trends in units of them, so that inverse
    variances are a linear map away. Untrained, both weights are 1/2.

    Attributes:
      hidden: width of the hidden layer.
    """

    hidden: int = 32

    @nn.compact
    def __call__(self, features: base.Array) -> base.Array:
        """Maps features ``[..., 9]`` to [w_llm, w_channel], ``[..., 2]``."""
        x = _condition(features)
        hidden = nn.tanh(layers.Dense(self.hidden, name="hidden")(x))
        x = jnp.concatenate([x, hidden], axis=-1)
        zeros = nn.initializers.zeros
        return nn.softmax(layers.Dense(2, kernel_init=zeros, name="out")(x), axis=-1)


MODEL = Reliability()
"""The network of the size that `reliability_training` trains by default."""


def weights(
    params: base.Params, history: History, model: Reliability = MODEL
) -> base.Array:
    """How far each reward can be trusted now, for diagnostics.

    Args:
      params: of the network, as `reliability_training.train` gives them.
      history: of T steps, 3 or more; ``vmap`` for more histories.
      model: the network.

    Returns:
      [w_llm, w_channel], ``[2]``: positive, sum 1. No gradient flows into them, neither
      to the history nor to the parameters.

    Raises:
      ValueError: shapes disagree, or there are fewer than 3 steps.
    """
    return lax.stop_gradient(model.apply(params, features(history)))


def _of_stream(stream: base.Array) -> tuple[base.Array, ...]:
    """Mean, std, trend and persistence of ``[T]``."""
    num = len(stream)
    # Of a constant stream the deviation must be exactly 0, and rounded means are not.
    shifted = stream - stream[0]
    mean = jnp.mean(shifted)
    rest = shifted - mean
    variance = jnp.mean(rest**2)
    time = jnp.arange(num) - (num - 1) / 2
    trend = (num - 1) * jnp.sum(time * rest) / jnp.sum(time**2)
    varies = variance > 0.0
    persistence = jnp.mean(rest[1:] * rest[:-1]) * (num - 1) / num
    persistence = jnp.where(varies, persistence / jnp.where(varies, variance, 1.0), 0.0)
    return stream[0] + mean, roots.sqrt(variance), trend, persistence


def _condition(features: base.Array) -> base.Array:
    """The features in forms of order 1, in which variances are sums."""
    *streams, change = jnp.split(features, [4, 8], axis=-1)
    parts = [jnp.log(change + FLOOR)]
    for stream in streams:
        mean, std, trend, persistence = jnp.split(stream, 4, axis=-1)
        parts += [mean, jnp.log(std + FLOOR), trend / (std + FLOOR), persistence]
    return jnp.concatenate(parts, axis=-1)


def _check(history: History) -> None:
    shapes = [tuple(jnp.shape(x)) for x in history]
    length = shapes[0][0] if len(shapes[0]) == 1 else 0
    links = (length, shapes[2][-1] if len(shapes[2]) == 2 else 0)
    if length < 3 or shapes != [(length,), (length,), links, links]:
        raise ValueError(
            "a history needs rewards [T] of 3 steps or more and SNRs [T, N], got"
            f" {dict(zip(History._fields, map(list, shapes), strict=True))}"
        )
