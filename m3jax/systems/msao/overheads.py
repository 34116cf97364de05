"""What the probes would add to published models (MSAO, figure 4).

Their operations, seconds and bytes on the edge, beside those of the cloud's model. The
paper names its seven configurations V1 to V7, text to clips with sound, and no sizes:
those of `INPUTS` are ours.
"""

from typing import NamedTuple

from m3jax.costs import inference, offload
from m3jax.nn import flops

_MACHINES = offload.Machines()
SOUND_TOKENS_PER_S = 25
"""Of the decoder."""
_BYTES = 2
"""Of a number, as bfloat16."""


class Input(NamedTuple):
    """What is asked about.

    Attributes:
      text: tokens.
      side: of pictures or frames, pixels; 0: there are none.
      frames: 1 for a picture.
      audio_s: seconds of sound.
    """

    text: int
    side: int = 0
    frames: int = 0
    audio_s: int = 0

    def frame_tokens(self, pixels: int = 28) -> int:
        """Of the decoder, for one picture or frame; ``pixels`` a side of each."""
        return (self.side // pixels) ** 2

    @property
    def audio_tokens(self) -> int:
        """Of the decoder, for the sound."""
        return self.audio_s * SOUND_TOKENS_PER_S


INPUTS = {
    "V1: text, 128 tokens": Input(128),
    "V2: text, 1024 tokens": Input(1024),
    "V3: picture of 224, text": Input(40, 224, 1),
    "V4: picture of 448, text": Input(40, 448, 1),
    "V5: picture of 896, text": Input(40, 896, 1),
    "V6: 8 frames of 224, 10 s, text": Input(40, 224, 8, 10),
    "V7: 16 frames of 448, 30 s, text": Input(40, 448, 16, 30),
}
"""Figure 4's configurations as they are read here."""


class Overhead(NamedTuple):
    """What the probes add to one request.

    Attributes:
      flops: operations of the probes.
      early_flops: of the tower's layers before them, which the draft's own tower runs
        anyway; they count only where the edge has no model.
      seconds: of the probes, on the edge.
      bytes: their weights, and the early features, maps and hashes that they keep.
      model_flops: of the cloud's model without pruning, prompt and answer.
      model_s: seconds of it.
    """

    flops: float
    early_flops: float
    seconds: float
    bytes: float
    model_flops: float
    model_s: float

    @property
    def flops_share(self) -> float:
        """Of the model's operations."""
        return self.flops / self.model_flops

    @property
    def flops_share_with_early(self) -> float:
        """Of the model's operations, the early layers counted too."""
        return (self.flops + self.early_flops) / self.model_flops

    @property
    def seconds_share(self) -> float:
        """Of the model's seconds."""
        return self.seconds / self.model_s


def overhead(
    asked: Input,
    machines: offload.Machines = _MACHINES,
    *,
    early_layers: int = 1,
    pool: int = 3,
    num_hashes: int = 256,
    relevance_dim: int = 256,
    answer: int = 64,
) -> Overhead:
    """What the probes add.

    Args:
      asked: what is asked about.
      machines: the probes look at the features of the draft's tower, on the edge.
      early_layers: of the tower before the probes, l.
      pool: side of the spatial head's window.
      num_hashes: bits that a frame is hashed to.
      relevance_dim: hidden width of the relevance networks.
      answer: tokens of it.

    Example:
      >>> found = overhead(INPUTS["V4: picture of 448, text"])
      >>> round(1e3 * found.seconds, 1), found.flops_share < 1e-3
      (2.0, True)
    """
    tower, language = machines.draft, machines.draft.language
    numbers = 0.0  # that are kept
    total = weights = 0.0
    patches = asked.frame_tokens() * tower.patches_per_token
    width = float(tower.tower_dim)
    early = asked.frames * tower.encode_flops(asked.frame_tokens())
    early *= early_layers / tower.tower_depth
    if asked.frames:
        each = patches * width * pool**2 + flops.dense(patches, width, 1)
        total += asked.frames * each
        numbers += asked.frames * patches * (width + 1)
        weights += width
    if asked.frames > 1:
        pooled = asked.frame_tokens() * width
        total += asked.frames * (patches * width + flops.dense(1, pooled, num_hashes))
        weights += pooled * num_hashes
        numbers += asked.frames * num_hashes / 16
    for tokens in (asked.frames * patches, asked.audio_tokens):
        if tokens:
            total += tokens * width
            both = language.dim + width
            total += flops.dense(1, both, relevance_dim, 1)
            weights += (both + 1) * relevance_dim
            numbers += width
    total += asked.text * language.dim
    num_bytes = _BYTES * (weights + numbers)
    seconds = inference.compute_time(machines.edge, total, num_bytes)
    return Overhead(
        *map(float, (total, early, seconds, num_bytes)),
        *_model(asked, machines, answer),
    )


def _model(asked, machines, answer) -> tuple[float, float]:
    """Operations and seconds of the cloud's model, prompt and answer."""
    cloud, target = machines.cloud, machines.target
    seen = asked.frames * asked.frame_tokens() + asked.audio_tokens
    # The tower attends within a frame: each is encoded alone.
    encoding = asked.frames * target.encode_flops(asked.frame_tokens())
    reading = target.language.prefill_flops(asked.text + seen)
    writing = answer * target.language.decode_flops(asked.text + seen)
    reading_s = inference.compute_time(
        cloud, encoding + reading, target.language.prefill_bytes(asked.text + seen)
    )
    writing_s = inference.decode_time(cloud, target.language, asked.text + seen)
    seconds = reading_s + answer * writing_s
    return float(encoding + reading + writing), float(seconds)
