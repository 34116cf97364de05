"""The search of plans (equation 11) at what was measured of the models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.costs import offload, offload_limits
from m3jax.data import pipeline
from m3jax.evals import records as records_lib
from m3jax.systems.msao import evaluation, measurements, planning, pricing
from m3jax.systems.msao.study import shared, variants

RATE_MBPS = 20.0
"""Of the link that plans are searched for: sending counts, and so does computing."""
KEPT_BITS = (8, 6, 4, 2)
"""Of a colour's eight, at each level of compression."""
UNITS = {
    **dict.fromkeys(("bayesian_evaluations", "random_evaluations"), "evaluation"),
    "reached": "1",
    **{"optimum_ms": "ms", "grid": "%"},
}
_BATCH = 130


def measure(
    made: shared.Shared, seed: int
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """Measures the table of quality, then searches from many seeds.

    Args:
      made: what all units share.
      seed: of scenes and searches.

    Returns:
      Records, and the running best of all searches in seconds.
    """
    measured = measurements_of(made, seed)
    scale, settings = pricing.Scale(), made.settings
    said, _, _ = made.said(variants.QUESTIONS, seed)
    request = offload.Request(
        jnp.array([scale.image_tokens, scale.audio_tokens], jnp.float32),
        jnp.array([scale.image_bits, scale.audio_bits]),
        float(scale.text_tokens),
        float(said[variants.MSAO].lengths.mean()),
    )
    limits = offload_limits.Limits(("image", "audio"), send_s=(0.2, 0.2))
    objective = planning.make_objective(
        measured,
        offload.Machines(),
        request,
        planning.make_conditions(RATE_MBPS, settings.rtt_s),
        limits,
        pipelined=True,
    )
    space = planning.make_space()
    found = jax.device_get(
        planning.compare(
            jax.random.key(seed), objective, space, num_seeds=settings.num_searches
        )
    )
    best = float(found.optimum.value)
    num = found.searched.shape[1]
    values = {
        "bayesian_evaluations": np.mean(found.searched_needed),
        "random_evaluations": np.mean(found.random_needed),
        "reached": np.mean(found.searched_needed <= num),
        "optimum_ms": 1e3 * best,
        "grid": 100.0 * (found.grid[-1] / best - 1.0),
    }
    arrays = {
        "bayesian_best": found.searched,
        "random_best": found.random,
        "optimum": np.float64(best),
        "quality": np.asarray(measured.quality),
    }
    return records_lib.make("msao", variants.PLANS, seed, values, UNITS), arrays


def measurements_of(made: shared.Shared, seed: int) -> measurements.Measured:
    """Agreement of the pair, and what pruning and fewer colours lose.

    Args:
      made: what all units share.
      seed: of scenes.
    """
    said, _, arrays = made.said(variants.QUESTIONS, seed)
    space = dict(
        zip(planning.DIMENSIONS, planning.make_space().dimensions, strict=True)
    )
    shares = np.asarray(space["retention"].values())
    saved = np.asarray(space["compression"].values())
    config = dataclasses.replace(made.target_config, retention=1.0)
    system = config.make_system()
    predict = made.compiled("answer", lambda: jax.jit(system.predict["answer"]))

    def accuracy(share: float, bits: int) -> float:
        counts = np.full(len(arrays["answer"]), round(16 * share), np.int32)
        own = {**arrays, "image": coarse(arrays["image"], bits), "num_windows": counts}
        right = [
            predict(made.params["target"], batch, None)["answer_accuracy"]
            for batch in pipeline.split_batches(own, _BATCH)
        ]
        return float(np.mean(np.concatenate(right)))

    right = [[accuracy(share, bits) for bits in KEPT_BITS] for share in shares]
    quality = np.asarray(right) / right[-1][0]  # over the same model's with all kept
    mas = evaluation.probe(system, made.params["target"], arrays, _BATCH)["mas"]
    agrees, entropies, valid = said[variants.MSAO].same
    return measurements.Measured(
        agrees,
        entropies,
        valid,
        quality,
        shares,
        saved,
        np.array([np.mean(mas[m]) for m in ("image", "audio")]),
    )


def coarse(image: np.ndarray, bits: int) -> np.ndarray:
    """Colours by their first bits alone, in the middle of what those may be.

    Args:
      image: uint8, any shape.
      bits: 1 to 8.

    Example:
      >>> coarse(np.array([0, 70, 255], np.uint8), 2).tolist()
      [32, 96, 224]
      >>> coarse(np.array([7], np.uint8), 8).tolist()
      [7]
    """
    step = 2 ** (8 - bits)
    return ((image // step) * step + step // 2).astype(np.uint8)
