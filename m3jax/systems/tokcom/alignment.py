"""Stage 1: what arrives is brought to where the decoder's words lie.

    L = w_c sum_M InfoNCE(pool(received_M), mean(words of caption_M))
      + w_r sum_M reconstruction(caption_M, received_M)

The contrastive part compares a batch (``ops/contrastive.py``); the second reads the
text off the tokens, by the words that they lie near or by what the decoder says. For a
question that is sent, the text itself is what should arrive, and its mean square error
is the loss, as in the public code.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import alignment_head
from m3jax.ops import contrastive, losses, masks
from m3jax.systems.tokcom import config as config_lib
from m3jax.systems.tokcom import parts as parts_lib


class Aligner:
    """Losses of stage 1, over what `parts.Parts` delivers."""

    def __init__(self, config: config_lib.Config, parts: parts_lib.Parts):
        self._settings, self._parts, self._config = config.alignment, parts, config
        settings = self._settings
        self._head = alignment_head.AlignmentHead(
            settings.num_features, settings.num_pooled
        )
        self._text_head = alignment_head.AlignmentHead(settings.num_features)
        self._compare = alignment_head.AlignmentLoss(settings.kind)

    def init(self, key: base.Array) -> base.Params:
        """Draws heads and temperatures of the modalities that have captions."""
        tokens = jnp.zeros((2, 1, self._config.sizes.dim))
        mask = jnp.ones((2, 1), bool)
        params = {}
        for m in self._captioned():
            head_key, text_key, loss_key, key = jax.random.split(key, 4)
            pooled, head = self._head.init_with_output(head_key, tokens, mask)
            made = {
                "head": head,
                "text_head": self._text_head.init(text_key, tokens, mask),
                "loss": self._compare.init(loss_key, pooled, pooled),
            }
            params[m] = {name: part.get("params", {}) for name, part in made.items()}
        return params

    def loss(
        self, params: base.Params, received: dict[str, parts_lib.Received], batch
    ) -> tuple[base.Array, base.Metrics]:
        """The loss of a batch, and its parts by modality."""
        total, metrics = jnp.float32(0), {}
        for m, arrived in received.items():
            if m == "text":
                error = self._text_error(params, arrived, batch["question"])
                metrics["text_error_loss"] = error
                total += self._settings.reconstruction_weight * error
                continue
            if f"{m}_caption" not in batch:
                raise ValueError(
                    f"alignment compares the {m} with a caption, but the batch has no "
                    f"{m}_caption; leave {m!r} out of system.modalities"
                )
            caption = batch[f"{m}_caption"]
            contrast, told = self._contrast(params, m, arrived, caption)
            metrics |= {f"{m}_contrastive_loss": contrast, f"{m}_temperature": told}
            total += self._settings.contrastive_weight * contrast
            if self._settings.reconstruction != "none":
                text = self._reconstruct(params, arrived, caption)
                metrics[f"{m}_text_loss"] = text
                total += self._settings.reconstruction_weight * text
        return total, metrics

    def _captioned(self) -> list[str]:
        return [m for m in self._config.modalities if m != "text"]

    def _contrast(self, params, m, arrived, caption):
        own = {k: {"params": v} for k, v in params["alignment"][m].items()}
        said = caption > answering.EOS
        words = jax.lax.stop_gradient(self._parts.words(params, caption))
        ours = self._head.apply(own["head"], arrived.tokens, arrived.mask)
        text = self._text_head.apply(own["text_head"], words, said)
        if self._settings.kind == "literal":
            loss, told = self._compare.apply(own["loss"], ours, text)
        else:
            same = contrastive.same_rows(caption)
            loss, told = self._compare.apply(own["loss"], ours, text, None, same)
        return loss, told["temperature"]

    def _reconstruct(self, params, arrived, caption):
        decoder = self._parts.decoder
        if self._settings.reconstruction == "words":
            logits = decoder.apply(
                {"params": params["decoder"]}, arrived.tokens, method="similarity"
            )
            return jnp.mean(
                jax.vmap(losses.bag_of_words)(
                    logits, arrived.mask, caption, caption > answering.EOS
                )
            )
        logits = answering.answer_logits(
            decoder,
            params["decoder"],
            arrived.tokens,
            arrived.mask,
            caption[:, :0],
            caption,
        )
        return jnp.mean(losses.score_answers(logits, caption)["nll"])

    def _text_error(self, params, arrived, question):
        words = jax.lax.stop_gradient(self._parts.words(params, question))
        return masks.masked_mean_square(arrived.tokens - words, arrived.mask)


def pooled(received: dict[str, parts_lib.Received]) -> dict[str, base.Array]:
    """The mean of the tokens that arrived, {modality: [B, D]}."""
    head = alignment_head.AlignmentHead()
    return {m: head.apply({}, part.tokens, part.mask) for m, part in received.items()}
