"""What an answer costs, counted from shapes: operations by stage, and bits on the way.

Nothing is measured and nothing assumed: the numbers follow from the settings and from
how many windows are kept, and tests hold them to the compiled programs.
"""

from typing import NamedTuple

from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import flops, vit
from m3jax.systems.msao import config as config_lib


class Operations(NamedTuple):
    """Operations of one answer, by stage.

    Attributes:
      early: embedding and first layers of both encoders.
      probes: what the probes cost beyond the early layers, which are needed anyway.
      later: the other layers of both encoders and the projectors.
      decoder: reading all, and scoring the answer.
    """

    early: int
    probes: int
    later: int
    decoder: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def probe_operations(config: config_lib.Config) -> int:
    """The spatial head and the relevance networks.

    Pooling counts an addition for each number of its window, and the mean of a
    modality's tokens one for each number.
    """
    sizes = config.sizes
    total = 0
    for m in sizes_lib.MODALITIES:
        encoder = sizes.encoder_config(m)
        num, width = vit.num_tokens(encoder), encoder.dim
        total += flops.dense(1, sizes.dim + width, config.relevance_dim, 1)
        total += num * width
        if m == "image":
            total += num * width * config.pool**2 + flops.dense(num, width, 1)
    return total


def hashing_operations(config: config_lib.Config) -> int:
    """Hashing one frame of a clip (the early layers on it come before that)."""
    width = config.num_image_tokens * config.sizes.encoder_config("image").dim
    return flops.dense(1, width, config.num_hashes)


def operations(
    config: config_lib.Config,
    num_windows: int | None = None,
    *,
    question: int,
    answer: int,
    modalities: tuple[str, ...] = sizes_lib.MODALITIES,
) -> Operations:
    """Operations of one answer, of programs with just these shapes.

    Args:
      config: settings.
      num_windows: windows of the picture that are kept; None: those that the retention
        gives.
      question: words of the question, padding too.
      answer: words of the answer, padding too, all scored in one pass.
      modalities: those that are encoded further and read.

    Example:
      >>> config = config_lib.Config()
      >>> all_kept = operations(config, 16, question=10, answer=16)
      >>> half = operations(config, 8, question=10, answer=16)
      >>> round(1 - half.later / all_kept.later, 2), half.early == all_kept.early
      (0.43, True)
    """
    sizes = config.sizes
    kept = config.num_windows if num_windows is None else num_windows
    sent = {"image": kept, "audio": config.num_audio_tokens}
    early = later = 0
    for m in sizes_lib.MODALITIES:
        encoder = sizes.encoder_config(m)
        tokens = vit.num_tokens(encoder)
        early += flops.vit_embedding(encoder)
        early += flops.vit_layers(encoder, config.early_layers, tokens)
        if m not in modalities:
            continue
        if m == "image":
            tokens = tokens // config.num_image_tokens * kept
        depth = encoder.depth - config.early_layers
        later += flops.vit_layers(encoder, depth, tokens)
        later += flops.dense(sent[m], encoder.dim, sizes.dim)
    read = sum(sent[m] for m in modalities) + question + answer
    decoder = flops.decoder(sizes.decoder_config(), read, answer)
    return Operations(early, probe_operations(config), later, decoder)


def sent_bits(
    config: config_lib.Config, image_tokens, audio_tokens, bits_per_real: int = 16
):
    """Bits of what is sent: the tokens, and which windows of the picture they are.

    Args:
      config: settings.
      image_tokens: tokens of the picture that are sent, a number or an array.
      audio_tokens: of the sound.
      bits_per_real: for each of a token's D reals.

    Returns:
      Bits, of the shape of the token counts: ``(K + A) D b``, and a bit for each window
      there is and for each modality.

    Example:
      >>> sent_bits(config_lib.Config(), 8, 8)
      24594
    """
    reals = (image_tokens + audio_tokens) * config.sizes.dim
    which = config.num_image_tokens + len(sizes_lib.MODALITIES)
    return reals * bits_per_real + which
