"""MoE2: a gate weighs the experts by the prompt, and their distributions are mixed.

    prompt -> embedding -> gate -> weights over S
    prompt, words so far -> each expert -> upload -> mixture -> next word

Gate, adapters and upload can be trained together by one loss, with the budgets as
multipliers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.foundation import answering
from m3jax.ops import losses
from m3jax.systems.moe2 import config as config_lib
from m3jax.systems.moe2 import fusion, pool, spending
from m3jax.systems.moe2 import gate as gate_lib
from m3jax.systems.moe2 import upload as upload_lib

METRICS = {
    "answer_accuracy": "1",
    "word_accuracy": "1",
    "nll": "nat/word",
    "asked": "expert",
    "delay_s": "s",
    "energy_j": "J",
}
"""What is measured of each answer, and in which units."""


def make_system(settings: config_lib.Config) -> base.System:
    """MoE2 as a system.

    Batches hold question int32 [B, Q] and answer int32 [B, A]; with a learned upload
    also ``snr_db`` float32 [B]. They may hold ``members`` bool [B, N], the subset in
    use in place of the settings'.

    Args:
      settings: what it is made of.

    Returns:
      A system whose parameters are {pool, gate, multipliers, upload}.
      ``predict["answer"]`` gives, for each example, answer_accuracy, word_accuracy, nll
      (nats a word), the number of experts asked, and the mean delay and energy of a
      response by those; ``predict["weights"]`` the weights over the experts, [B, N];
      ``predict["log_probs"]`` what each says, [B, N, A, V]; ``predict["generate"]`` the
      answers, int32 [B, A]. What no budget and no noise touches, ``embedding`` [B, D]
      and ``log_probs``, is what ``prepare`` makes; the others and the loss take it from
      a batch that holds it.

    Raises:
      ValueError: a setting makes no sense.
    """
    settings.validate()
    experts = pool.Pool(settings.pool)
    num = settings.pool.num_experts
    network = gate_lib.Gate(settings.gate, num)
    carrier = upload_lib.Upload(settings.upload, settings.pool.small.vocab_size)
    costs = spending.Costs(settings.spending, num)
    in_use = np.ones(num, bool)
    if settings.subset:
        in_use = np.isin(np.arange(num), settings.subset)

    def init(key, batch):
        del batch  # sizes are known
        pool_key, gate_key, upload_key = jax.random.split(key, 3)
        made = experts.init(pool_key)
        width = experts.decoders[experts.sizes[0]].config.dim
        gate = network.init(gate_key, jnp.zeros((1, width)))["params"]
        params = {"pool": made, "gate": gate, "multipliers": costs.init()}
        sent = carrier.init(upload_key)
        return params | ({"upload": sent} if sent else {})

    def prepare(params, batch):
        return {
            **batch,
            "embedding": experts.embed(params["pool"], batch["question"]),
            "log_probs": experts.log_probs(
                params["pool"], batch["question"], batch["answer"]
            ),
        }

    def fuse(params, batch, key, dropout_key=None):
        """Scores, usage, and the mixture, [B, N], [B, N] and [B, A, V]."""
        parts = {
            name: jax.lax.stop_gradient(part) if name in settings.stopped else part
            for name, part in params.items()
        }
        if "adapters" in settings.stopped:
            parts["pool"] = jax.lax.stop_gradient(parts["pool"])
        if "log_probs" not in batch:
            batch = prepare(parts, batch)
        # A cache may be of less precision than the gate.
        embedding = jnp.asarray(batch["embedding"], jnp.float32)
        log_probs = jax.nn.log_softmax(jnp.asarray(batch["log_probs"], jnp.float32))
        scores = network.apply({"params": parts["gate"]}, embedding, dropout_key)
        members = batch.get("members", jnp.broadcast_to(in_use, scores.shape))
        usage = costs.usage(
            jnp.exp(gate_lib.log_weights(scores, members, settings.top_k))
        )
        valid = batch["answer"] != answering.PAD
        arrived = carrier(
            parts.get("upload", {}), log_probs, valid, batch.get("snr_db"), key
        )
        log_weights = gate_lib.log_weights(
            scores, members & (usage > 0.5), settings.top_k
        )
        # Exactly the mixture of those asked, with the gradient of asking them.
        log_weights = log_weights + jnp.log(jnp.maximum(usage, 1e-6)) * (usage > 0.5)
        return scores, usage, fusion.mixture(log_weights, arrived)

    def loss(params, batch, key):
        link_key, dropout_key = jax.random.split(key)
        _, usage, fused = fuse(params, batch, link_key, dropout_key)
        scores = losses.score_answers(fused, batch["answer"])
        answer_loss = jnp.mean(scores["nll"])
        penalty, spent = costs.penalty(params["multipliers"], usage)
        return answer_loss + penalty, {
            "answer_loss": answer_loss,
            "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            **spent,
        }

    def answer(params, batch, key):
        _, usage, fused = fuse(params, batch, key)
        return {
            **losses.score_answers(fused, batch["answer"]),
            "asked": jnp.sum(usage, axis=-1),
            "delay_s": costs.delay(usage),
            "energy_j": costs.energy(usage),
        }

    def weights(params, batch, key):
        del key
        embedding = batch.get("embedding")
        if embedding is None:
            embedding = experts.embed(params["pool"], batch["question"])
        scores = network.apply(
            {"params": params["gate"]}, jnp.asarray(embedding, jnp.float32)
        )
        members = batch.get("members", jnp.broadcast_to(in_use, scores.shape))
        return jnp.exp(gate_lib.log_weights(scores, members, settings.top_k))

    def generate(params, batch, key):
        del key
        embedding = experts.embed(params["pool"], batch["question"])
        scores = network.apply({"params": params["gate"]}, embedding)
        return fusion.generate(
            experts,
            params["pool"],
            scores,
            batch["question"],
            batch["answer"].shape[1],
            members=batch.get("members", jnp.asarray(in_use)),
            top_k=settings.top_k,
        ).tokens

    return base.System(
        init=init,
        loss=loss,
        predict={
            "answer": answer,
            "generate": generate,
            "weights": weights,
            "log_probs": lambda params, batch, key: prepare(params, batch)["log_probs"],
        },
        reads=("question", "answer"),
        metrics=METRICS,
        draw=functools.partial(_draw, settings) if carrier.config.is_learned else None,
        prepare=prepare,
    )


def _draw(settings: config_lib.Config, batch, key) -> dict:
    """An SNR for each example, for the link that carries distributions."""
    low, high = settings.upload.train_snr_db
    shape = batch["question"].shape[:1]
    return {"snr_db": jax.random.uniform(key, shape, minval=low, maxval=high)}
