"""MSAO's settings: where the probes look, what is kept, and what it is trained for."""

import dataclasses
from typing import ClassVar

from m3jax import base
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import pruning
from m3jax.systems.msao import activation


@dataclasses.dataclass
class Config:
    """Settings of MSAO's probes and of the pruning that follows from them.

    Attributes:
      sizes: encoders and decoder.
      num_image_tokens, num_audio_tokens: tokens that the decoder reads of a whole
        picture and sound. Each picture token is a window of patches, and windows are
        what is kept or left out.
      early_layers: layers of an encoder before the probes look, l; 0 looks at embedded
        patches, which know their neighbourhood from the stem.
      pool: side of the window that the spatial head averages over, patches.
      relevance_dim: hidden width of the relevance networks.
      importance_threshold: windows whose best patch matters less are left out, but for
        the best one; 0 leaves out none.
      retention: share of a picture's windows that is kept at most; fixes the shapes.
      relevance_threshold: a modality whose relative relevance is less is left out.
      mas: how the probes' findings become one number for each modality.
      num_hashes: bits that a frame of a clip is hashed to, K.
      hash_seed: of the hashes, which both ends draw for themselves.
      budget: share of a picture's windows that training allows for nothing.
      budget_weight: of the squared excess over it.
      modality_price: of a modality, in nats a word; one is sent if the answer would
        lose more than twice as much without it.
    """

    sizes: sizes_lib.Sizes = dataclasses.field(default_factory=sizes_lib.Sizes)
    num_image_tokens: int = 16
    num_audio_tokens: int = 8
    early_layers: int = 0
    pool: int = 3
    relevance_dim: int = 32
    importance_threshold: float = 0.15
    retention: float = 1.0
    relevance_threshold: float = 0.5
    mas: activation.Config = dataclasses.field(default_factory=activation.Config)
    num_hashes: int = 256
    hash_seed: int = 0
    budget: float = 0.4
    budget_weight: float = 2.0
    modality_price: float = 0.05

    RANGES: ClassVar = {
        **dict.fromkeys(("num_image_tokens", "num_audio_tokens"), "[1, inf)"),
        **dict.fromkeys(("budget_weight", "modality_price"), "[0, inf)"),
        **dict.fromkeys(("hash_seed", "early_layers"), "[0, inf)"),
    }
    NAME: ClassVar[str] = "msao"
    PARTS: ClassVar[dict[str, str]] = {
        "encoder": r"\w+_encoder/.*",
        "later": r"\w+_encoder/(layers|final_norm)/.*",
        "projector": r"\w+_projector/.*",
        "decoder": r"decoder/.*",
        "probes": r"(spatial|relevance)/.*",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    @property
    def num_windows(self) -> int:
        """Windows of a picture that are kept at most, K."""
        return pruning.num_kept(self.num_image_tokens, self.retention)

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for name in ("pool", "relevance_dim", "num_hashes"):
            if getattr(self, name) < 1:
                raise ValueError(f"system.{name} must be at least 1")
        if not 0.0 < self.retention <= 1.0:
            raise ValueError(
                f"system.retention is {self.retention}; it must lie in (0, 1]"
            )
        for name in ("importance_threshold", "relevance_threshold", "budget"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"system.{name} must lie in [0, 1]")
        for name in ("budget_weight", "modality_price"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"system.{name} must be 0 or more")
        for m in sizes_lib.MODALITIES:
            self._check_encoder(m)
        self.mas.validate()

    def _check_encoder(self, m: str) -> None:
        encoder = self.sizes.encoder_config(m)
        if not 0 <= self.early_layers <= encoder.depth:
            raise ValueError(
                f"system.early_layers is {self.early_layers}; the {m} encoder has"
                f" {encoder.depth} layers"
            )
        if encoder.num_class_tokens:
            raise ValueError(
                f"system.sizes.{m}.num_class_tokens must be 0: each window is patches"
            )

    def make_system(self) -> base.System:
        """MSAO as a system; see ``system.make_system``."""
        from m3jax.systems.msao import system  # which reads these settings

        return system.make_system(self)

    def warm_start(self, trained: base.Params) -> base.Params:
        """What other parameters give: a generalist's, all of them; this system's too.

        The probes start anew where there are none.
        """
        return dict(trained)
