"""What a request meets between edge and cloud: parameters, state, and their laws.

All arrays have a batch of any shape behind: ``[M, *batch]`` of modalities.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import special

from m3jax import base
from m3jax.costs import offload, offload_limits, transmission

MODALITIES = ("image", "video", "audio")
NUM_WALKS = 4
"""Link, difficulty, load of the edge, load of the cloud."""


class Params(NamedTuple):
    """Everything that may change without a new compilation.

    Attributes:
      machines: edge and cloud.
      limits: of equation 11.
      tokens: ``[M]``, of each modality.
      bits: ``[M]``, of each as it is sent, on average over requests.
      present: ``[M]``, probability that a request has it.
      text_tokens: of the question.
      answer_tokens: of the answer.
      bandwidth_hz: of the uplink; the downlink has as much.
      snr_db: mean SNR.
      snr_sd_db: standard deviation over time.
      rtt_s: round-trip time.
      load: ``[2]``, of edge and cloud: standard deviation of the logarithm of what
        others' work multiplies times by, which is never below 1.
      correlation: ``[4]``, from request to request: of link, difficulty, loads.
      difficulty: ``[2]``, mean and standard deviation before the logistic function.
      entropy_shape: a of the law P(H <= theta) = theta^a of normalised entropies.
      edge_quality: quality of what only the edge has read, over the cloud's.
      report_noise_db: standard deviation of the reported SNR's error.
      estimate_rate: of the moving average of acceptance, 0 to 1.
      weights: ``[3]``, of a second, of the lost quality, of broken limits.
      max_steps: requests of an episode.
    """

    machines: offload.Machines
    limits: offload_limits.Bounds
    tokens: base.Array
    bits: base.Array
    present: base.Array
    text_tokens: base.Array
    answer_tokens: base.Array
    bandwidth_hz: base.Array
    snr_db: base.Array
    snr_sd_db: base.Array
    rtt_s: base.Array
    load: base.Array
    correlation: base.Array
    difficulty: base.Array
    entropy_shape: base.Array
    edge_quality: base.Array
    report_noise_db: base.Array
    estimate_rate: base.Array
    weights: base.Array
    max_steps: base.Array


def make_params(
    megabits_per_s: float = 300.0, snr_db: float = 20.0, rtt_s: float = 0.02
) -> Params:
    """MSAO's machines, bandwidths and limits; the paper says no more.

    Pictures of 448 x 448 pixels and clips of 8 frames, as JPEG at a bit for a pixel;
    10 s of sound at 64 kbit/s, 25 tokens a second. The quality of the edge alone is
    that of Table 1 (61.4 over 76.3). Sending may take 0.2, 0.5 and 0.2 s.

    Args:
      megabits_per_s: of the uplink at the mean SNR: 200, 300, 400 in the paper, 1, 5,
        20 for links at the edge of a cell.
      snr_db: mean SNR.
      rtt_s: round-trip time.
    """
    efficiency = float(transmission.rate(snr_db, 1.0, 1.0))
    limits = offload_limits.Limits(MODALITIES, send_s=(0.2, 0.5, 0.2))
    return Params(
        machines=offload.Machines(),
        limits=limits.bounds,
        tokens=jnp.array([256.0, 1024.0, 250.0]),
        bits=jnp.array([2e5, 1.6e6, 6.4e5]),
        present=jnp.array([0.9, 0.5, 0.5]),
        text_tokens=40.0,
        answer_tokens=64.0,
        bandwidth_hz=megabits_per_s * 1e6 / efficiency,
        snr_db=snr_db,
        snr_sd_db=4.0,
        rtt_s=rtt_s,
        load=jnp.array([0.2, 0.4]),
        correlation=jnp.array([0.8, 0.7, 0.9, 0.9]),
        difficulty=jnp.array([0.0, 1.0]),
        entropy_shape=0.5,
        edge_quality=0.805,
        report_noise_db=1.0,
        estimate_rate=0.3,
        weights=jnp.array([1.0, 5.0, 2.0]),
        max_steps=50,
    )


class State(NamedTuple):
    """Where an episode stands.

    Attributes:
      time: int32 ``[*batch]``, requests answered.
      walks: ``[4, *batch]``, standard normal: link, difficulty, loads.
      relevance: ``[M, *batch]``, beta of equation 6: sums to 1, or is 0 throughout.
      sparsity: ``[M, *batch]``, share of each modality that carries nothing.
      tokens: ``[M, *batch]``, 0 of what is not there.
      bits: ``[M, *batch]``.
      estimate: ``[*batch]``, acceptance of tokens of any confidence, as it was seen.
    """

    time: base.Array
    walks: base.Array
    relevance: base.Array
    sparsity: base.Array
    tokens: base.Array
    bits: base.Array
    estimate: base.Array


def num_normals(params: Params) -> int:
    """Normal numbers of a step, for each environment."""
    return NUM_WALKS + 4 * params.tokens.shape[0] + 2


def column(values: base.Array, like: base.Array) -> base.Array:
    """Numbers ``[n]`` beside a batch ``[n, *batch]``."""
    return jnp.reshape(values, (-1, *(1,) * (jnp.ndim(like) - 1)))


def draw_request(normals: base.Array, params: Params) -> tuple[base.Array, ...]:
    """Relevance, sparsity, tokens and bits, from normals ``[4 M, *batch]``.

    Relevances are a softmax of normals of deviation 2; sparsities even in 0 to 0.7;
    sizes log-normal, deviation 0.3.
    """
    there, relevance, sparsity, size = jnp.split(normals, 4)
    # Uniform numbers of the normals: what is drawn once need not be drawn twice.
    present = special.ndtr(there) < column(params.present, there)
    logits = jnp.where(present, 2.0 * relevance, -1e9)
    relevance = jax.nn.softmax(logits, axis=0) * present
    scale = jnp.exp(0.3 * size - 0.045) * present
    return (
        relevance,
        0.7 * special.ndtr(sparsity),
        column(params.tokens, there) * present,
        column(params.bits, there) * scale,
    )


def walk(walks: base.Array, normals: base.Array, params: Params) -> base.Array:
    """A step of the four random walks, whose law stays standard normal."""
    stays = column(params.correlation, walks)
    return stays * walks + jnp.sqrt(1.0 - stays**2) * normals


def snr_db(state: State, params: Params) -> base.Array:
    """Of the link, dB ``[*batch]``."""
    return params.snr_db + params.snr_sd_db * state.walks[0]


def difficulty(state: State, params: Params) -> base.Array:
    """By how much acceptance falls with entropy, in (0, 1)."""
    mean, spread = params.difficulty[0], params.difficulty[1]
    return jax.nn.sigmoid(mean + spread * state.walks[1])


def loads(state: State, params: Params) -> base.Array:
    """Of edge and cloud, ``[2, *batch]``, at least 1."""
    walks = state.walks[2:]
    return jnp.exp(column(params.load, walks) * jnp.abs(walks))


def confident(threshold: base.Array, params: Params) -> base.Array:
    """P_conf: probability that a token's normalised entropy is at most theta."""
    return jnp.clip(threshold, 0.0, 1.0) ** params.entropy_shape


def acceptance(
    difficulty: base.Array, threshold: base.Array, params: Params
) -> base.Array:
    """Of tokens of entropy at most theta: the mean of 1 - difficulty times entropy."""
    shape = params.entropy_shape
    return 1.0 - difficulty * shape / (shape + 1.0) * jnp.clip(threshold, 0.0, 1.0)


def difficulty_of(seen: base.Array, threshold: base.Array, params: Params):
    """The difficulty at which `acceptance` is what was seen."""
    shape = params.entropy_shape
    return (1.0 - seen) * (shape + 1.0) / (shape * jnp.maximum(threshold, 1e-3))


def least_retention(state: State) -> base.Array:
    """1 - MAS of each modality, equation 7 with relevance over the greatest one."""
    greatest = jnp.maximum(jnp.max(state.relevance, axis=0, keepdims=True), 1e-9)
    return state.relevance / greatest * (1.0 - state.sparsity)


def quality_loss(
    retention: base.Array, sent: base.Array, state: State, params: Params
) -> base.Array:
    """Share of the cloud's quality that is lost, Delta Q ``[*batch]``.

    Of a modality nothing is lost while what carries something is kept; below, the loss
    grows as the square. What only the edge has read is worth ``edge_quality``.
    """
    missing = jnp.maximum(1.0 - retention / (1.0 - state.sparsity), 0.0)
    read = (1.0 - missing**2) * jnp.where(sent > 0.5, 1.0, params.edge_quality)
    return jnp.sum(state.relevance * (1.0 - read), axis=0)
