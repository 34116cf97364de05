"""TokCom's networks and link: what is on the device, on the air, and on the server."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import compressors, transceiver, vit
from m3jax.nn import decoder as decoder_lib
from m3jax.systems.tokcom import config as config_lib

_SCORED = "top_k_attention"


class Received(NamedTuple):
    """What the server has of one modality, and what it cost to bring it there.

    Attributes:
      tokens: [B, M, D].
      mask: bool [B, M], True where the decoder should look.
      costs: channel_uses, bits and energy, [B] each.
      auxiliary_loss: [B], what a link with learned parts adds to the loss.
    """

    tokens: base.Array
    mask: base.Array
    costs: dict[str, base.Array]
    auxiliary_loss: base.Array


class Parts:
    """The networks and the link, and how their parameters are named."""

    def __init__(self, config: config_lib.Config):
        self.config = config
        sizes = config.sizes
        encoded = [m for m in config.modalities if m != "text"]
        self.encoders = {m: vit.ViT(sizes.encoder_config(m)) for m in encoded}
        self.compressors = {m: _compressor(config, m) for m in encoded}
        self.transmitter = transceiver.Transmitter(
            config.num_reals, config.snr_conditioning
        )
        self.receiver = transceiver.Receiver(
            sizes.dim,
            config.receiver_dim,
            config.snr_conditioning,
            kind=config.receiver,
        )
        self.decoder = decoder_lib.Decoder(sizes.decoder_config())
        self.link = config.link.make()

    def init(self, key: base.Array) -> base.Params:
        """Draws all parameters."""
        modalities = self.config.modalities
        keys = iter(jax.random.split(key, 5 * len(modalities) + 1))
        snr_db, params = jnp.zeros(1), {}
        for m in modalities:
            tokens = jnp.zeros((1, 1, self.config.sizes.dim))
            if m in self.encoders:
                params |= self._init_device(m, keys)
                width = self.config.sizes.encoder_config(m).dim
                tokens = jnp.zeros((1, 1, width))
            symbols, made = self.transmitter.init_with_output(
                next(keys), tokens, snr_db
            )
            params[f"{m}_transmitter"] = made["params"]
            made = self.receiver.init(next(keys), symbols, snr_db)
            params[f"{m}_receiver"] = made["params"]
        word, valid = jnp.zeros((1, 1, self.config.sizes.dim)), jnp.ones((1, 1), bool)
        params["decoder"] = self.decoder.init(next(keys), word, valid)["params"]
        for m in modalities:
            learned = self.link.init(next(keys), self.transmitter.num_reals)
            if learned:
                params[f"{m}_link"] = learned
        return params

    def _init_device(self, m: str, keys) -> base.Params:
        encoder = self.encoders[m]
        x = jnp.zeros((1, *encoder.config.input_shape))
        tokens, encoded = encoder.init_with_output(next(keys), x)
        mask = jnp.ones(tokens.shape[:2], bool)
        made = self.compressors[m].init(
            next(keys), tokens, mask, scores=tokens[..., 0], key=jax.random.key(0)
        )
        return {
            f"{m}_encoder": encoded["params"],
            f"{m}_compressor": made.get("params", {}),
        }

    def encode(self, params: base.Params, batch: base.Batch) -> dict[str, base.Array]:
        """What no SNR touches: {modality: tokens [B, L, D]}.

        With the compressor "top_k_attention" also {modality_scores: [B, L]}.
        """
        out = {}
        for m, encoder in self.encoders.items():
            variables = {"params": params[f"{m}_encoder"]}
            x = answering.encoder_input(batch, m)
            if self.config.compressor == _SCORED:
                out[m], out[f"{m}_scores"] = encoder.apply(variables, x, True)
            else:
                out[m] = encoder.apply(variables, x)
        return out

    def words(self, params: base.Params, ids: base.Array) -> base.Array:
        """Embeddings [B, T, D] of words, those that the decoder reads."""
        return self.decoder.apply({"params": params["decoder"]}, ids, method="embed")

    def send(
        self, params: base.Params, m: str, encoded: base.Batch, batch, key: base.Array
    ) -> Received:
        """One modality's way from the device to the server.

        Args:
          params: of the whole system.
          m: the modality.
          encoded: of `encode`.
          batch: holds snr_db [B], and may hold num_tokens {m: int [B]}.
          key: randomness of compressor and link.
        """
        snr_db = batch["snr_db"]
        compress_key, link_key = jax.random.split(key)
        if m == "text":
            tokens = self.words(params, batch["question"])
            mask = batch["question"] != answering.PAD
        else:
            tokens, mask = self._compress(params, m, encoded, compress_key)
        if m in batch.get("num_tokens", {}):
            tokens, mask = compressors.keep(tokens, mask, batch["num_tokens"][m])
        symbols = self.transmitter.apply(
            {"params": params[f"{m}_transmitter"]}, tokens, snr_db
        )
        out = jax.vmap(self.link, (0, 0, 0, 0, None))(
            jax.random.split(link_key, len(tokens)),
            symbols,
            mask,
            snr_db,
            params.get(f"{m}_link", ()),
        )
        received = self.receiver.apply(
            {"params": params[f"{m}_receiver"]}, out.values, snr_db
        )
        # The decoder is not shown a lost token, unless something stands for it.
        filled = self.config.link.imputation != "zero"
        return Received(
            received,
            mask if filled else out.arrived,
            {
                "channel_uses": out.channel_uses,
                "bits": out.bits,
                "energy": out.energy,
            },
            out.auxiliary_loss,
        )

    def _compress(self, params, m, encoded, key):
        # A cache of features may be of less precision than the networks.
        tokens = jnp.asarray(encoded[m], self.config.sizes.dtype)
        return self.compressors[m].apply(
            {"params": params[f"{m}_compressor"]},
            tokens,
            jnp.ones(tokens.shape[:2], bool),
            scores=encoded.get(f"{m}_scores"),
            key=key,
        )


def _compressor(config: config_lib.Config, m: str) -> compressors.Compressor:
    count = getattr(config, f"num_{m}_tokens")
    return compressors.make_compressor(
        config.compressor, count, progressive=config.progressive
    )
