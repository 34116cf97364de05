"""TokCom's settings: what is sent, over which link, and what it is trained for."""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from m3jax import base
from m3jax.channels import links
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import compressors
from m3jax.nn import lora as lora_lib

STAGES = ("alignment", "task")
SCORINGS = ("answer", "first_word")
RECONSTRUCTIONS = ("words", "decoder", "none")


@dataclasses.dataclass
class AlignmentConfig:
    """Stage 1: received tokens are brought to where the decoder's words lie.

    Attributes:
      kind: contrastive loss: "symmetric", "one_way", "sigmoid" or "literal".
      contrastive_weight: of that loss, summed over modalities.
      reconstruction: how the text is read off the received tokens: "words" (by the
        nearest of the decoder's word embeddings), "decoder" (it says the caption), or
        "none".
      reconstruction_weight: of that loss, summed over modalities.
      num_features: width that pooled tokens are projected to before they are compared;
        None compares them as they are.
      num_pooled: tokens that are pooled, from the first; None: all.
    """

    kind: str = "symmetric"
    contrastive_weight: float = 1.0
    reconstruction: str = "words"
    reconstruction_weight: float = 1.0
    num_features: int | None = None
    num_pooled: int | None = None

    RANGES: ClassVar = {
        "reconstruction": RECONSTRUCTIONS,
        **dict.fromkeys(("contrastive_weight", "reconstruction_weight"), "[0, inf)"),
        **dict.fromkeys(("num_features", "num_pooled"), "[1, inf)"),
    }


@dataclasses.dataclass
class Config:
    """Settings of TokCom.

    Attributes:
      sizes: encoders and decoder.
      modalities: what crosses the link, in the decoder's order: of "image", "audio",
        "video" and "text" (the question, of which no word is compressed).
      compressor: a name of ``compressors.NAMES``; "window_pool" is the published one,
        "stride" that of the public code.
      progressive: most important token first, and training with lengths drawn
        uniformly, so that any number of tokens can be sent: a batch's ``num_tokens``,
        {modality: int [B]}.
      num_image_tokens, num_audio_tokens, num_video_tokens: tokens sent, at most.
      num_reals: real numbers a token is sent as; two make a channel use.
      receiver: "residual", "plain" or "mlp", see ``transceiver.Receiver``.
      receiver_dim: hidden width of the receivers.
      snr_conditioning: tell transmitters and receivers the SNR.
      link: the link.
      train_snr_db: range (low, high) that training draws the SNR from, uniformly in dB,
        for each example.
      channel_in_training: False trains at an infinite SNR, as a baseline: an analog
        link then only scales.
      stage: "task" learns to answer; "alignment" comes before it.
      alignment: of that stage.
      lora: adapters of the decoder.
      scoring: "answer" learns every word of the answer; "first_word" only the first, as
        the public code does.
    """

    sizes: sizes_lib.Sizes = dataclasses.field(default_factory=sizes_lib.Sizes)
    modalities: tuple[str, ...] = sizes_lib.MODALITIES
    compressor: str = "window_pool"
    progressive: bool = False
    num_image_tokens: int = 16
    num_audio_tokens: int = 8
    num_video_tokens: int = 16
    num_reals: int = 64
    receiver: str = "residual"
    receiver_dim: int = 192
    snr_conditioning: bool = True
    link: links.LinkConfig = dataclasses.field(default_factory=links.LinkConfig)
    train_snr_db: tuple[float, float] = (-10.0, 15.0)
    channel_in_training: bool = True
    stage: str = "task"
    alignment: AlignmentConfig = dataclasses.field(default_factory=AlignmentConfig)
    lora: lora_lib.LoraConfig = dataclasses.field(default_factory=lora_lib.LoraConfig)
    scoring: str = "answer"

    RANGES: ClassVar = {
        **dict.fromkeys(("num_image_tokens", "num_audio_tokens"), "[1, inf)"),
        **dict.fromkeys(("num_video_tokens", "num_reals", "receiver_dim"), "[1, inf)"),
        "receiver": ("residual", "plain", "mlp"),
    }
    NAME: ClassVar[str] = "tokcom"
    PARTS: ClassVar[dict[str, str]] = {
        "encoder": r"\w+_encoder/.*",
        "compressor": r"\w+_compressor/.*",
        "transmitter": r"\w+_transmitter/.*",
        "receiver": r"\w+_receiver/.*",
        "transceiver": r"\w+_(compressor|transmitter|link|receiver)/.*",
        "decoder": r"decoder/.*",
        "lora": r"lora/.*",
        "alignment": r"alignment/.*",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    def warm_start(self, trained: base.Params) -> base.Params:
        """What other parameters give.

        Those of an earlier stage of TokCom: all but the heads of alignment. Those of a
        pretrained generalist: encoders and decoder, and, since its projector P = U S
        V^T lies where the link goes in between, its best factors of rank R (Eckart and
        Young 1936): U sqrt(S) starts the transmitter, and sqrt(S) V^T the linear part
        of the receiver, so that a link without noise hands the decoder about what it
        was trained on.

        Args:
          trained: parameters of ``m3jax.foundation.generalist`` or of this system.

        Returns:
          Parameters to lay over those that ``init`` draws.
        """
        encoded = [m for m in self.modalities if f"{m}_encoder" in trained]
        names = [f"{m}_encoder" for m in encoded] + ["decoder"]
        params = {name: trained[name] for name in names}
        for m in encoded:
            if f"{m}_projector" in trained:
                params |= self._from_projector(m, trained[f"{m}_projector"])
        kept = ["lora"] if self.lora.rank else []
        for m in self.modalities:
            parts = ("compressor", "transmitter", "link", "receiver")
            kept += [f"{m}_{part}" for part in parts]
        return params | {name: trained[name] for name in kept if name in trained}

    def make_system(self) -> base.System:
        """TokCom as a system; see ``system.make_system``."""
        from m3jax.systems.tokcom import system  # which reads these settings

        return system.make_system(self)

    def _from_projector(self, modality: str, projector: base.Params) -> base.Params:
        sent, received = _factors(np.asarray(projector["kernel"]), self.num_reals)
        params = {f"{modality}_transmitter": {"symbols": {"kernel": sent}}}
        if self.receiver != "mlp":
            linear = {"kernel": received, "bias": projector["bias"]}
            params[f"{modality}_receiver"] = {"linear": linear}
        return params

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self._check_choices()
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
        if self.lora.rank < 0:
            raise ValueError(
                f"system.lora.rank is {self.lora.rank}; give 0 for none, or more"
            )

    def _check_choices(self) -> None:
        known = (*sizes_lib.MODALITIES, "video", "text")
        unknown = [m for m in self.modalities if m not in known]
        if unknown or len(set(self.modalities)) < max(len(self.modalities), 1):
            raise ValueError(
                f"system.modalities is {tuple(self.modalities)}; name each of some of "
                f"{known} once"
            )
        choices = {
            "compressor": (self.compressor, compressors.NAMES),
            "stage": (self.stage, STAGES),
            "scoring": (self.scoring, SCORINGS),
            "alignment.reconstruction": (
                self.alignment.reconstruction,
                RECONSTRUCTIONS,
            ),
        }
        for field, (value, names) in choices.items():
            if value not in names:
                raise ValueError(
                    f"system.{field} must be one of {tuple(names)}, got {value!r}"
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
