"""TokCom: a device sends compressed tokens over a noisy link, a server answers.

    encoder -> compressor -> transmitter -> link at a random SNR -> receiver -> decoder

Every part is trained together, end to end through the link.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import links
from m3jax.nn import compressors, foundation, transceiver, vit
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses


@dataclasses.dataclass
class LinkConfig:
    """The wireless link: the settings of ``links.make_link``, which explains them.

    Those that the chosen kind, fading and CSI do not have are ignored.

    Attributes:
      kind: "analog", "digital", "vq", "bsc", "bec" or "erasure".
      fading: "awgn", "rayleigh", "rician", "gauss_markov" or "jakes".
      block_length: channel uses that share one fading gain; None: the whole message
        of one modality.
      bits, limit, dither: of the scalar quantiser.
      qam_order: of the modem.
      num_codewords, group_size, commitment: of the learned codebook ("vq").
      csi, pilot_snr_db, num_pilots: what the receiver knows of the gains.
      k_db: of "rician".
      correlation: of "gauss_markov".
      doppler, num_paths: of "jakes".
      probability: of a flipped or erased bit, or a lost packet.
      rate, tokens_per_packet, imputation: of "erasure".
      symbol_energy: joules of a symbol.
    """

    kind: str = "analog"
    fading: str = "rayleigh"
    block_length: int | None = 32
    bits: int | None = 4
    qam_order: int = 16
    limit: float = 4.0
    dither: bool = False
    num_codewords: int = 256
    group_size: int = 4
    commitment: float = 0.25
    csi: str = "perfect"
    pilot_snr_db: float | None = None
    num_pilots: int = 1
    k_db: float = 10.0
    correlation: float = 0.9
    doppler: float = 0.01
    num_paths: int = 32
    probability: float | None = None
    rate: float = 1.0
    tokens_per_packet: int = 1
    imputation: str = "zero"
    symbol_energy: float = 1.0


@dataclasses.dataclass
class Config:
    """Settings of TokCom.

    Attributes:
      sizes: encoders and decoder.
      compressor: "window_pool" (published), "stride" (the public code),
        "learned_queries" or "identity".
      num_image_tokens, num_audio_tokens: tokens sent.
      num_reals: real numbers a token is sent as; two make a channel use.
      receiver_dim: hidden width of the receivers.
      snr_conditioning: tell transmitters and receivers the SNR.
      link: the link.
      train_snr_db: range (low, high) that training draws the SNR from, uniformly in dB,
        for each example.
      channel_in_training: False trains at an infinite SNR, as a baseline: an analog
        link then only scales.
    """

    sizes: foundation.FoundationConfig = dataclasses.field(
        default_factory=foundation.FoundationConfig
    )
    compressor: str = "window_pool"
    num_image_tokens: int = 16
    num_audio_tokens: int = 8
    num_reals: int = 64
    receiver_dim: int = 192
    snr_conditioning: bool = True
    link: LinkConfig = dataclasses.field(default_factory=LinkConfig)
    train_snr_db: tuple[float, float] = (-10.0, 15.0)
    channel_in_training: bool = True

    def warm_start(self, generalist: base.Params) -> base.Params:
        """What a pretrained generalist gives: encoders, decoder and transceivers.

        The generalist's projector P = U S V^T lies where the link goes in between. Its
        best factors of rank R (Eckart and Young 1936) start the transmitter, U sqrt(S),
        and the linear part of the receiver, sqrt(S) V^T, so that a link without noise
        hands the decoder about what it was trained on.

        Args:
          generalist: parameters of ``m3jax.systems.foundation``.

        Returns:
          Parameters to lay over those that ``init`` draws.
        """
        names = (*(f"{m}_encoder" for m in foundation.MODALITIES), "decoder")
        params = {name: generalist[name] for name in names}
        for m in foundation.MODALITIES:
            projector = generalist[f"{m}_projector"]
            sent, received = _factors(np.asarray(projector["kernel"]), self.num_reals)
            params[f"{m}_transmitter"] = {"symbols": {"kernel": sent}}
            linear = {"kernel": received, "bias": projector["bias"]}
            params[f"{m}_receiver"] = {"linear": linear}
        return params

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        snrs_db = tuple(self.train_snr_db)
        if len(snrs_db) != 2 or not -math.inf < snrs_db[0] <= snrs_db[1] < math.inf:
            raise ValueError(
                f"system.train_snr_db is {tuple(self.train_snr_db)}; give a low and a "
                "high finite SNR in dB, or set system.channel_in_training=False"
            )
        if self.link.probability is not None and not self.channel_in_training:
            raise ValueError(
                "system.link.probability loses as much at every SNR, so "
                "system.channel_in_training=False cannot turn it off; set one or the "
                "other"
            )


def _factors(kernel: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors [D, R] and [R, D'] of a matrix, for inputs of unit variance.

    The link brings what is sent to unit power, which the second factor undoes.
    """
    u, s, vt = np.linalg.svd(kernel, full_matrices=False)
    root = np.sqrt(s[:rank])
    sent, received = u[:, :rank] * root, root[:, None] * vt[:rank]
    missing = max(rank - len(s), 0)  # reals that carry nothing at first
    sent = np.pad(sent, ((0, 0), (0, missing)))
    received = np.pad(received, ((0, missing), (0, 0)))
    power = np.mean(np.sum(sent**2, axis=0))
    return sent, received * np.sqrt(power)


def make_system(config: Config) -> base.System:
    """TokCom as a system.

    Batches hold image, audio, question and answer; with ``snr_db`` float32 [B] the
    message crosses the link at that SNR; ``loss`` draws one when it is missing.

    Args:
      config: settings.

    Returns:
      A system whose parameters are {M_encoder, M_compressor, M_transmitter, M_receiver
      for the image and the audio, decoder}, and M_link if the link learns something.
      ``predict["answer"]`` gives, for each
      example, answer_accuracy (every word right), word_accuracy, nll (nats a word),
      channel_uses, bits and energy; ``predict["generate"]`` says the answers, int32
      [B, A]; ``predict["encode"]`` gives {modality: tokens [B, L, D]}, the part that
      no SNR touches, which the other two take from a batch that holds it as "tokens".

    Raises:
      ValueError: a setting makes no sense.
    """
    config.validate()
    parts = _Parts(config)
    jax.eval_shape(parts.init, jax.random.key(0))  # tells at once what does not fit

    def loss(params, batch, key):
        snr_key, link_key = jax.random.split(key)
        low, high = config.train_snr_db
        shape = batch["question"].shape[:1]
        snr_db = jax.random.uniform(snr_key, shape, minval=low, maxval=high)
        if not config.channel_in_training:
            snr_db = jnp.full(shape, jnp.inf)
        scores, link_loss = score(params, {"snr_db": snr_db, **batch}, link_key)
        means = {name: jnp.mean(value) for name, value in scores.items()}
        metrics = {"answer_loss": means["nll"]}
        for name in ("answer_accuracy", "channel_uses"):
            metrics[name] = means[name]
        if config.link.kind == "vq":
            metrics["codebook_loss"] = jnp.mean(link_loss)
        return means["nll"] + jnp.mean(link_loss), metrics

    def receive(params, batch, key):
        if "snr_db" not in batch:
            raise ValueError("the batch needs snr_db, float32 [B] in dB")
        tokens = batch["tokens"] if "tokens" in batch else encode(params, batch)
        received, costs = {}, []
        keys = jax.random.split(key, len(foundation.MODALITIES))
        for m, link_key in zip(foundation.MODALITIES, keys, strict=True):
            received[m], cost = parts.send(
                params, m, tokens[m], batch["snr_db"], link_key
            )
            costs.append(cost)
        prefix = jnp.concatenate(list(received.values()), axis=1)
        return prefix, jax.tree.map(lambda *x: sum(x), *costs)

    def encode(params, batch):
        return {m: parts.encode(params, m, batch) for m in foundation.MODALITIES}

    def score(params, batch, key):
        prefix, cost = receive(params, batch, key)
        link_loss = cost.pop("auxiliary_loss")
        logits = foundation.answer_logits(
            parts.decoder,
            params["decoder"],
            prefix,
            jnp.ones(prefix.shape[:2], bool),
            batch["question"],
            batch["answer"],
        )
        return {**losses.score_answers(logits, batch["answer"]), **cost}, link_loss

    def generate(params, batch, key):
        prefix, _ = receive(params, batch, key)
        return foundation.generate_answer(
            parts.decoder,
            params["decoder"],
            prefix,
            jnp.ones(prefix.shape[:2], bool),
            batch["question"],
            batch["answer"].shape[1],
        )

    return base.System(
        init=lambda key, batch: parts.init(key),
        loss=loss,
        predict={
            "answer": lambda params, batch, key: score(params, batch, key)[0],
            "generate": generate,
            "encode": lambda params, batch, key: encode(params, batch),
        },
    )


class _Parts:
    """The networks and the link, and how their parameters are named."""

    def __init__(self, config: Config):
        sizes = config.sizes
        counts = {"image": config.num_image_tokens, "audio": config.num_audio_tokens}
        self.encoders = {m: vit.ViT(sizes.encoder(m)) for m in counts}
        self.compressors = {
            m: compressors.make_compressor(config.compressor, count)
            for m, count in counts.items()
        }
        self.transmitter = transceiver.Transmitter(
            config.num_reals, config.snr_conditioning
        )
        self.receiver = transceiver.Receiver(
            sizes.dim, config.receiver_dim, config.snr_conditioning
        )
        self.decoder = decoder_lib.Decoder(sizes.decoder())
        self.link = links.make_link(**dataclasses.asdict(config.link))

    def init(self, key: base.Array) -> base.Params:
        keys = iter(jax.random.split(key, 11))
        snr_db = jnp.zeros(1)
        params = {}
        for m, encoder in self.encoders.items():
            x = jnp.zeros((1, *encoder.config.input_shape))
            tokens, encoded = encoder.init_with_output(next(keys), x)
            params[f"{m}_encoder"] = encoded["params"]
            mask = jnp.ones(tokens.shape[:2], bool)
            (short, _), made = self.compressors[m].init_with_output(
                next(keys), tokens, mask
            )
            params[f"{m}_compressor"] = made.get("params", {})
            symbols, made = self.transmitter.init_with_output(next(keys), short, snr_db)
            params[f"{m}_transmitter"] = made["params"]
            made = self.receiver.init(next(keys), symbols, snr_db)
            params[f"{m}_receiver"] = made["params"]
        width = self.decoder.config.dim
        valid = jnp.ones((1, 1), bool)
        made = self.decoder.init(next(keys), jnp.zeros((1, 1, width)), valid)
        params["decoder"] = made["params"]
        for m in self.encoders:
            learned = self.link.init(next(keys), self.transmitter.num_reals)
            if learned:
                params[f"{m}_link"] = learned
        return params

    def encode(self, params, m, batch) -> base.Array:
        x = foundation.encoder_input(batch, m)
        return self.encoders[m].apply({"params": params[f"{m}_encoder"]}, x)

    def send(self, params, m, tokens, snr_db, key) -> tuple[base.Array, dict]:
        """One modality's way from the device's tokens to the server's."""
        mask = jnp.ones(tokens.shape[:2], bool)
        short, mask = self.compressors[m].apply(
            {"params": params[f"{m}_compressor"]}, tokens, mask
        )
        symbols = self.transmitter.apply(
            {"params": params[f"{m}_transmitter"]}, short, snr_db
        )
        keys = jax.random.split(key, len(tokens))
        learned = params.get(f"{m}_link", ())
        out = jax.vmap(self.link, (0, 0, 0, 0, None))(
            keys, symbols, mask, snr_db, learned
        )
        received = self.receiver.apply(
            {"params": params[f"{m}_receiver"]}, out.values, snr_db
        )
        return received, {
            "channel_uses": out.channel_uses,
            "bits": out.bits,
            "energy": out.energy,
            "auxiliary_loss": out.auxiliary_loss,
        }
