"""MSAO's first half: probes find what an answer needs, and the rest is left out.

    early layers -> probes -> kept windows -> later layers -> sent -> decoder

Training cuts nothing away: drawn gates of 0 and 1 hide windows from attention, with the
gradient of a sigmoid. Of modalities there are few, so the loss is its exact mean over
all choices of them, each as likely as the probes say: what the answer would lose
without one is then known and not estimated. The loss is that of the answer, plus a
penalty on what exceeds the budget of windows and a price ``-c log(1 - beta)`` of each
modality. That price pulls however sure a probe is. It is in balance at ``beta = 1 - c /
l`` with an answer that would lose ``l`` nats a word without the modality, so one that
is worth more than ``2 c`` is sent.

In use whole windows are cut out, with shapes that the retention fixes.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.foundation import answering
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import pruning
from m3jax.ops import losses
from m3jax.systems.msao import activation, parts, probes
from m3jax.systems.msao import config as config_lib

METRICS = {
    "answer_accuracy": "1",
    "word_accuracy": "1",
    "nll": "nat/word",
    "sent_tokens": "token",
}
"""What is measured of each answer, and in which units."""
_EACH = np.array(list(itertools.product((0.0, 1.0), repeat=len(parts.MODALITIES))))
_CHOICES = dict(zip(parts.MODALITIES, np.float32(_EACH.T), strict=True))
"""{modality: whether it is sent}, of all choices there are."""


def make_system(settings: config_lib.Config) -> base.System:
    """MSAO's probes and pruning as a system.

    Batches hold image, audio, question and answer. They may hold ``num_windows`` int
    [B], windows of a picture that are kept of each example whatever they matter, at
    most those that the retention gives.

    Args:
      settings: what it is made of.

    Returns:
      A system whose parameters are a generalist's and {spatial, relevance,
      thresholds}. ``predict["answer"]`` gives, for each example, answer_accuracy,
      word_accuracy, nll and the number of tokens sent; ``predict["generate"]`` the
      answers, int32 [B, A]; ``predict["probe"]`` what the probes say: importance
      [B, H, W] of the patches, kept bool [B, H, W], spatial_sparsity [B], relevance
      {modality: [B]}, mas {modality: [B]}, and of a batch with clips ("video" uint8
      [B, T, h, w, 3]) the similarity of neighbouring frames [B, T - 1]. Features at
      layer l are what ``prepare`` makes and the others take from a batch that holds
      them as "early".

    Raises:
      ValueError: a setting makes no sense.
    """
    settings.validate()
    made = parts.Parts(settings)

    def init(key, batch):
        del batch  # sizes are known
        return made.init(key)

    jax.eval_shape(init, jax.random.key(0), {})  # tells at once what does not fit

    def loss(params, batch, key):
        early = made.early(params, batch)
        windows = window_logits(made, params, early)
        windows = pruning.straight_through(windows, key)
        logits = made.relevance_logits(params, early, batch["question"])
        chances = {m: jax.nn.sigmoid(logit) for m, logit in logits.items()}
        scores = _expected_scores(made, params, early, windows, chances, batch)
        metrics = {
            "answer_loss": jnp.mean(scores["nll"]),
            "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            "kept": jnp.mean(windows),
            "sent": jnp.mean(jnp.stack(list(chances.values()))),
        }
        excess = jnp.maximum(metrics["kept"] - settings.budget, 0.0)
        prices = [jnp.mean(jax.nn.softplus(logit)) for logit in logits.values()]
        total = (
            metrics["answer_loss"]
            + settings.budget_weight * excess**2
            + settings.modality_price * sum(prices)
        )
        return total, metrics

    def answer(params, batch, key):
        del key
        prefix = _pruned(made, params, batch)
        logits = answering.answer_logits(
            made.decoder,
            params["decoder"],
            prefix.tokens,
            prefix.mask,
            batch["question"],
            batch["answer"],
            places=prefix.places,
        )
        sent = jnp.sum(prefix.mask, axis=1, dtype=jnp.float32)
        return {**losses.score_answers(logits, batch["answer"]), "sent_tokens": sent}

    def generate(params, batch, key):
        del key
        prefix = _pruned(made, params, batch)
        return answering.generate_answer(
            made.decoder,
            params["decoder"],
            prefix.tokens,
            prefix.mask,
            batch["question"],
            batch["answer"].shape[1],
            places=prefix.places,
        )

    def prepare(params, batch):
        rest = {n: array for n, array in batch.items() if n not in sizes_lib.ENCODED}
        return {**rest, "early": made.early(params, batch)}

    return base.System(
        init=init,
        loss=loss,
        predict={
            "answer": answer,
            "generate": generate,
            "probe": lambda params, batch, key: _probe(made, params, batch),
        },
        reads=(*parts.MODALITIES, "question", "answer"),
        metrics=METRICS,
        prepare=prepare,
    )


def _expected_scores(made: parts.Parts, params, early, windows, chances, batch):
    """Means over which modalities are sent, each with its own chance; [B] each.

    Everything is encoded, and the answer scored with each choice of modalities.
    """
    image = made.finish(params, "image", early["image"], gate=windows)
    audio = made.finish(params, "audio", early["audio"])
    prefix = jnp.concatenate([image, audio], axis=1)
    valid = jnp.ones(prefix.shape[:2], bool)
    behind = jnp.ones(audio.shape[:2], windows.dtype)

    def score(sent):
        """Scores of the answer with some modalities, and the chance of those."""
        gate = [windows * sent["image"], behind * sent["audio"]]
        said = answering.answer_logits(
            made.decoder,
            params["decoder"],
            prefix,
            valid,
            batch["question"],
            batch["answer"],
            gate=jnp.concatenate(gate, axis=1),
        )
        chance = jnp.ones(len(prefix))
        for m, each in chances.items():
            chance *= jnp.where(sent[m] > 0, each, 1.0 - each)
        return losses.score_answers(said, batch["answer"]), chance

    scores, chance = jax.vmap(score)(_CHOICES)
    return jax.tree.map(lambda leaf: jnp.sum(chance * leaf, axis=0), scores)


def window_logits(made: parts.Parts, params, early) -> base.Array:
    """How much each window of the picture matters, before the sigmoid, [B, n]."""
    patches = made.importance_logits(params, early["image"])
    return pruning.window_scores(patches, made.counts["image"])


def kept_windows(made: parts.Parts, params, early, batch) -> pruning.Kept:
    """The windows of the picture that are kept, [B, K]."""
    logits = window_logits(made, params, early)
    counts = batch.get("num_windows")
    if counts is None:
        important = jax.nn.sigmoid(logits) >= made.config.importance_threshold
        counts = jnp.maximum(jnp.sum(important, axis=1), 1)
    return pruning.keep_best(logits, made.config.num_windows, counts)


def wanted_modalities(made: parts.Parts, params, early, batch) -> dict[str, base.Array]:
    """Which modalities are sent, {modality: bool [B]}."""
    shares = _relevance(made, params, early, batch)
    return {m: shares[m] >= made.config.relevance_threshold for m in parts.MODALITIES}


def _relevance(made: parts.Parts, params, early, batch) -> dict[str, base.Array]:
    logits = made.relevance_logits(params, early, batch["question"])
    names, alphas = probes.scores(logits)
    shares = activation.relevance(alphas, made.config.mas.normalisation)
    return dict(zip(names, jnp.moveaxis(shares, -1, 0), strict=True))


def _pruned(made: parts.Parts, params, batch) -> parts.Prefix:
    early = made.early(params, batch)
    return made.prune(
        params,
        early,
        kept_windows(made, params, early, batch),
        wanted_modalities(made, params, early, batch),
    )


def _probe(made: parts.Parts, params, batch):
    early = made.early(params, batch)
    patches = jax.nn.sigmoid(made.importance_logits(params, early["image"]))
    importance = made.on_grid(patches)
    kept = pruning.members(
        kept_windows(made, params, early, batch), made.windows["image"]
    )
    rows = jnp.arange(len(patches))[:, None]
    chosen = (
        jnp.zeros(patches.shape, bool).at[rows, kept.places].set(kept.mask, mode="drop")
    )
    threshold = jax.lax.stop_gradient(params["thresholds"]["spatial"])
    rho = activation.spatial_sparsity(importance, threshold)
    shares = _relevance(made, params, early, batch)
    spatial = {"image": rho}
    return {
        **_similarity(made, params, batch),
        "importance": importance,
        "kept": made.on_grid(chosen),
        "spatial_sparsity": rho,
        "relevance": shares,
        "mas": {
            m: activation.sparsity(
                made.config.mas, share, spatial.get(m, 0.0), _still(made, m)
            )
            for m, share in shares.items()
        },
    }


def _similarity(made: parts.Parts, params, batch) -> dict[str, base.Array]:
    """How alike the frames of a clip are, if there is one."""
    if "video" not in batch:
        return {}
    frames = made.frame_features(params, batch["video"])
    return {"similarity": probes.similarity(frames, made.planes)}


def _still(made: parts.Parts, m: str) -> float:
    """Similarity over time of what has none: it neither saves nor costs."""
    del m
    return 1.0 if made.config.mas.literal else 0.0
