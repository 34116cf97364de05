"""TokCom: a device sends compressed tokens over a noisy link, a server answers.

    encoder -> compressor -> transmitter -> link at a random SNR -> receiver -> decoder

Every part can be trained together, end to end through the link; first so that what
arrives lies where the decoder's words do (stage 1), then so that it answers (stage 2).
"""

import functools

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering, closed_set, sizes
from m3jax.nn import lora
from m3jax.ops import losses
from m3jax.systems.tokcom import alignment, config, parts

METRICS = {
    "answer_accuracy": "1",
    "word_accuracy": "1",
    "nll": "nat/word",
    "channel_uses": "channel use",
    "bits": "bit",
}
"""What is measured of each answer, and in which units."""


def make_system(settings: config.Config) -> base.System:
    """TokCom as a system.

    Batches hold image, audio, question and answer, and ``snr_db`` float32 [B], at which
    the message crosses the link. In the stage "alignment" the loss is of
    ``alignment.py``, and batches hold captions.

    Args:
      settings: what it is made of.

    Returns:
      A system whose parameters are {M_encoder, M_compressor, M_transmitter, M_receiver
      for every modality M, decoder}; M_link if the link learns something, lora and
      alignment if there are any. ``predict["answer"]`` gives, for each example,
      answer_accuracy (every word right), word_accuracy, nll (nats a word),
      first_word_accuracy, channel_uses, bits and energy; ``predict["generate"]`` says
      the answers, int32 [B, A]; ``predict["choose"]`` gives log-likelihoods [B, K], in
      nats, of a closed set of answers, the batch's ``candidates`` int32 [K, A] or else
      its answers; ``predict["received"]`` gives the mean of the tokens
      that arrived, {M: [B, D]}; ``predict["encode"]`` gives {M: tokens [B, L, D]}, the
      part that no SNR touches, which the others and the loss take from a batch that
      holds it as "tokens", as ``prepare`` makes it.

    Raises:
      ValueError: a setting makes no sense.
    """
    settings.validate()
    made = parts.Parts(settings)
    aligner = alignment.Aligner(settings, made)
    is_aligning = settings.stage == "alignment"

    def init(key, batch):
        del batch  # sizes are known
        params = made.init(key)
        if is_aligning:
            params["alignment"] = aligner.init(jax.random.fold_in(key, 1))
        return params

    jax.eval_shape(init, jax.random.key(0), {})  # tells at once what does not fit

    def loss(params, batch, key):
        received = _receive(made, params, batch, key)
        if is_aligning:
            total, metrics = aligner.loss(params, received, batch)
        else:
            scores = _score(made, params, received, batch)
            name = "nll" if settings.scoring == "answer" else "first_word_nll"
            total = jnp.mean(scores[name])
            metrics = {
                "answer_loss": total,
                "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            }
        uses = sum(arrived.costs["channel_uses"] for arrived in received.values())
        metrics["channel_uses"] = jnp.mean(uses)
        link_loss = sum(jnp.mean(part.auxiliary_loss) for part in received.values())
        if settings.link.kind == "vq":
            metrics["codebook_loss"] = link_loss
        return total + link_loss, metrics

    def answer(params, batch, key):
        received = _receive(made, params, batch, key)
        costs = [arrived.costs for arrived in received.values()]
        total = jax.tree.map(lambda *values: sum(values), *costs)
        return {**_score(made, params, received, batch), **total}

    def generate(params, batch, key):
        received = _receive(made, params, batch, key)
        prefix, mask, question = _prompt(received, batch)
        return answering.generate_answer(
            made.decoder,
            params["decoder"],
            prefix,
            mask,
            question,
            batch["answer"].shape[1],
        )

    def choose(params, batch, key):
        received = _receive(made, params, batch, key)
        prefix, mask, question = _prompt(received, batch)
        return closed_set.log_likelihoods(
            made.decoder,
            params["decoder"],
            prefix,
            mask,
            question,
            batch.get("candidates", batch["answer"]),
        )

    def prepare(params, batch):
        rest = {n: array for n, array in batch.items() if n not in sizes.ENCODED}
        return {**rest, "tokens": made.encode(params, batch)}

    made_of = [m for m in settings.modalities if m != "text"]
    captions = [f"{m}_caption" for m in made_of] if is_aligning else []
    system = base.System(
        init=init,
        loss=loss,
        predict={
            "answer": answer,
            "generate": generate,
            "choose": choose,
            "received": lambda params, batch, key: alignment.pooled(
                _receive(made, params, batch, key)
            ),
            "encode": lambda params, batch, key: made.encode(params, batch),
        },
        reads=(*made_of, "question", "answer", *captions),
        metrics=METRICS,
        draw=functools.partial(_draw, settings),
        prepare=prepare,
    )
    if not settings.lora.rank:
        return system
    adapters = settings.lora
    return lora.with_lora(system, adapters.pattern, adapters.rank, adapters.alpha)


def _draw(settings: config.Config, batch, key) -> dict:
    """What training draws for each example: an SNR, and lengths if they may vary."""
    snr_key, length_key = jax.random.split(key)
    shape = batch["question"].shape[:1]
    low, high = settings.train_snr_db
    snr_db = jax.random.uniform(snr_key, shape, minval=low, maxval=high)
    if not settings.channel_in_training:
        snr_db = jnp.full(shape, jnp.inf)
    drawn = {"snr_db": snr_db}
    if settings.progressive:
        counts = {
            m: getattr(settings, f"num_{m}_tokens")
            for m in settings.modalities
            if m != "text"
        }
        keys = jax.random.split(length_key, len(counts))
        drawn["num_tokens"] = {
            m: jax.random.randint(k, shape, 1, count + 1)
            for k, (m, count) in zip(keys, counts.items(), strict=True)
        }
    return drawn


def _receive(made: parts.Parts, params, batch, key) -> dict[str, parts.Received]:
    """Sends every modality."""
    if "snr_db" not in batch:
        raise ValueError("the batch needs snr_db, float32 [B] in dB")
    encoded = batch["tokens"] if "tokens" in batch else made.encode(params, batch)
    modalities = made.config.modalities
    keys = jax.random.split(key, len(modalities))
    return {
        m: made.send(params, m, encoded, batch, link_key)
        for m, link_key in zip(modalities, keys, strict=True)
    }


def _prompt(received: dict[str, parts.Received], batch):
    """What the decoder reads: tokens, their mask, and the words that were not sent."""
    prefix = jnp.concatenate([part.tokens for part in received.values()], axis=1)
    mask = jnp.concatenate([part.mask for part in received.values()], axis=1)
    question = batch["question"]
    return prefix, mask, question[:, :0] if "text" in received else question


def _score(made: parts.Parts, params, received, batch) -> dict[str, base.Array]:
    prefix, mask, question = _prompt(received, batch)
    logits = answering.answer_logits(
        made.decoder, params["decoder"], prefix, mask, question, batch["answer"]
    )
    return {
        **losses.score_answers(logits, batch["answer"]),
        **losses.score_first_words(logits, batch["answer"]),
    }
