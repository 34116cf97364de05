"""MSAO's networks: encoders in two stages, probes between them, projectors, decoder."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.foundation import answering
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import pruning, vit, vit_stages
from m3jax.ops import hashing
from m3jax.systems.msao import config as config_lib
from m3jax.systems.msao import probes

MODALITIES = sizes_lib.MODALITIES


class Prefix(NamedTuple):
    """What the decoder reads before the question.

    Attributes:
      tokens: [B, L, D].
      mask: bool [B, L], True where a token was sent.
      places: where they stand among all that there might have been.
    """

    tokens: base.Array
    mask: base.Array
    places: answering.Places


class Parts:
    """The networks, and how their parameters are named."""

    def __init__(self, config: config_lib.Config):
        self.config = config
        sizes = config.sizes
        self.encoders = {m: vit.ViT(sizes.encoder_config(m)) for m in MODALITIES}
        self.counts = {
            "image": config.num_image_tokens,
            "audio": config.num_audio_tokens,
        }
        self.windows = {m: self._window(m) for m in MODALITIES}
        self.projector = nn.Dense(sizes.dim)
        self.decoder = decoder_lib.Decoder(sizes.decoder_config())
        self.spatial = probes.SpatialHead(config.pool)
        self.relevance = probes.Relevance(config.relevance_dim)
        self.order = vit.token_order(self.encoders["image"].config)
        self.grid = vit.grid_shape(self.encoders["image"].config)
        width = self.encoders["image"].config.dim * config.num_image_tokens
        with jax.ensure_compile_time_eval():  # where it is made while tracing too
            key = jax.random.key(config.hash_seed)
            planes = hashing.random_planes(key, config.num_hashes, width)
            self.planes = np.asarray(planes)

    def _window(self, m: str) -> int:
        length, count = vit.num_tokens(self.encoders[m].config), self.counts[m]
        if count < 1 or length % count:
            raise ValueError(
                f"system.num_{m}_tokens is {count}; it must divide the encoder's"
                f" {length} tokens"
            )
        return length // count

    def init(self, key: base.Array) -> base.Params:
        """Draws all parameters."""
        keys = iter(jax.random.split(key, 8))
        dim = self.config.sizes.dim
        params, relevance = {}, {}
        for m, encoder in self.encoders.items():
            x = jnp.zeros((1, *encoder.config.input_shape))
            params[f"{m}_encoder"] = encoder.init(next(keys), x)["params"]
            token = jnp.zeros((1, encoder.config.dim))
            made = self.projector.init(next(keys), token)
            params[f"{m}_projector"] = made["params"]
            made = self.relevance.init(next(keys), jnp.zeros((1, dim)), token)
            relevance[m] = made["params"]
        word, valid = jnp.zeros((1, 1, dim)), jnp.ones((1, 1), bool)
        params["decoder"] = self.decoder.init(next(keys), word, valid)["params"]
        features = jnp.zeros((1, *self.grid, self.encoders["image"].config.dim))
        params["spatial"] = self.spatial.init(next(keys), features)["params"]
        params["relevance"] = relevance
        params["thresholds"] = {"spatial": jnp.float32(0.3)}
        return params

    def early(self, params: base.Params, batch: base.Batch) -> dict[str, base.Array]:
        """Features at layer l, {modality: [B, L, D]}; the batch may hold them."""
        if "early" in batch:
            return {
                m: jnp.asarray(batch["early"][m], self.config.sizes.dtype)
                for m in MODALITIES
            }
        return {m: self.early_of(params, batch, m) for m in MODALITIES}

    def early_of(self, params: base.Params, batch: base.Batch, m: str) -> base.Array:
        """Features of one modality at layer l, [B, L, D]."""
        x = answering.encoder_input(batch, m)
        own = params[f"{m}_encoder"]
        return vit_stages.early(self.encoders[m], own, x, self.config.early_layers)

    def frame_features(self, params: base.Params, video: base.Array) -> base.Array:
        """What the picture's encoder sees early in each frame of a clip.

        Args:
          params: of the whole system.
          video: uint8 [B, T, h, w, C], whose sides divide those of a picture; pixels
            are repeated.

        Returns:
          [B, T, n D], the means of the picture's n windows behind each other.
        """
        batch, num_frames, height, width, _ = video.shape
        shape = self.encoders["image"].config.input_shape
        frames = video.reshape(-1, *video.shape[2:])
        frames = jnp.repeat(frames, shape[0] // height, axis=1)
        frames = jnp.repeat(frames, shape[1] // width, axis=2)
        tokens = self.early_of(params, {"image": frames}, "image")
        count = self.counts["image"]
        pooled = tokens.reshape(len(tokens), count, -1, tokens.shape[-1]).mean(axis=2)
        return pooled.reshape(batch, num_frames, -1)

    def importance_logits(self, params: base.Params, tokens: base.Array) -> base.Array:
        """How much each patch matters, [B, L] in the order of the tokens."""
        batch, _, dim = tokens.shape
        raster = tokens[:, np.argsort(self.order)].reshape(batch, *self.grid, dim)
        logits = self.spatial.apply({"params": params["spatial"]}, raster)
        return logits.reshape(batch, -1)[:, self.order]

    def on_grid(self, values: base.Array) -> base.Array:
        """Values of patches ``[B, L]`` in the order of tokens, as [B, H, W]."""
        raster = values[:, np.argsort(self.order)]
        return raster.reshape(len(values), *self.grid)

    def relevance_logits(
        self, params: base.Params, early: dict[str, base.Array], question: base.Array
    ) -> dict[str, base.Array]:
        """How much the answer needs each modality, {modality: [B]}."""
        variables = {"params": params["decoder"]}
        words = self.decoder.apply(variables, question, method="embed")
        asked = probes.prompt(words, question != answering.PAD)
        return {
            m: self.relevance.apply(
                {"params": params["relevance"][m]}, asked, jnp.mean(early[m], axis=1)
            )
            for m in MODALITIES
        }

    def finish(self, params, m: str, tokens, mask=None, gate=None) -> base.Array:
        """The later layers and the way to the decoder, of windows whole or left out.

        Args:
          params: of the whole system.
          m: the modality.
          tokens: [B, n w, D] at layer l, w to each of n windows.
          mask: bool [B, n], windows that are there; None: all.
          gate: float [B, n], how much each window counts; None: all alike.

        Returns:
          The tokens that are sent, [B, n, D].
        """
        window = self.windows[m]
        mask, gate = (
            None if each is None else jnp.repeat(each, window, axis=1)
            for each in (mask, gate)
        )
        tokens = vit_stages.late(
            self.encoders[m],
            params[f"{m}_encoder"],
            tokens,
            self.config.early_layers,
            mask=mask,
            gate=gate,
        )
        batch, length, dim = tokens.shape
        pooled = tokens.reshape(batch, length // window, window, dim).mean(axis=2)
        return self.projector.apply({"params": params[f"{m}_projector"]}, pooled)

    def prune(
        self,
        params: base.Params,
        early: dict[str, base.Array],
        windows: pruning.Kept,
        wanted: dict[str, base.Array],
    ) -> Prefix:
        """Encodes what is kept, and that alone.

        Args:
          params: of the whole system.
          early: of `early`.
          windows: those of the picture that are kept, [B, K].
          wanted: {modality: bool [B]}, False where it is left out altogether.

        Returns:
          K tokens of the picture, all of the sound.
        """
        kept = pruning.members(windows, self.windows["image"])
        image = self.finish(
            params, "image", pruning.gather(early["image"], kept), windows.mask
        )
        audio = self.finish(params, "audio", early["audio"])
        shape = audio.shape[:2]
        mask = [
            windows.mask & wanted["image"][:, None],
            jnp.broadcast_to(wanted["audio"][:, None], shape),
        ]
        first, second = self.counts["image"], self.counts["audio"]
        behind = jnp.broadcast_to(first + jnp.arange(second), shape)
        return Prefix(
            jnp.concatenate([image, audio], axis=1),
            jnp.concatenate(mask, axis=1),
            answering.Places(
                jnp.concatenate([windows.places, behind], axis=1), first + second
            ),
        )
