"""TokCom's variants: what each trains, on how much, and what it sends."""

import dataclasses

from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import lora as lora_lib
from m3jax.nn import vit
from m3jax.train import optimizers

PAPER, LONG, LONGEST = "paper's budget", "long", "longest"
ALL_TOKENS = "all tokens"
RAW = "raw features"
BOTH, ALIGNED, COTRAINED, NEITHER = (
    "alignment + co-training",
    "alignment only",
    "co-training only",
    "neither",
)
NEITHER_MORE = "neither, with the examples of both stages"
NEITHER_LONG = "neither, long"
ALIGNED_LONG = "alignment only, long"


@dataclasses.dataclass
class Budget:
    """Updates and examples of one stage."""

    steps: int
    batch_size: int


@dataclasses.dataclass
class Settings:
    """All that decides the study's results.

    Attributes:
      sizes: of encoders and decoder.
      start: pretrained model that gives encoders and decoder; "" draws them.
      data: name of the set's size.
      num_seeds: of every variant that a claim rests on.
      stage_1: budget of alignment.
      paper: stage 2, the budget of the public code.
      long: stage 2 for all that compares compressors and links.
      longest: stage 2 with all tokens, which learn more slowly.
      lengths: tokens of a picture; a sound has a quarter of it.
      length: that of comparisons at one length.
      compressors: at a quarter of the tokens.
      rate_lengths: further lengths of each compressor, for the rate-accuracy curves, at
        one seed.
      modes: of the digital link: (tokens of a picture, bits of a token).
      num_reals: real numbers of a token.
      train_snr_db: range of SNRs in training.
      snrs_db: SNRs of the test.
      num_test, num_validation: examples looked at.
      look_every: steps between two looks at the validation split.
      learning_rate: of AdamW, in both stages.
      lora: the decoder's adapters where it is co-trained.
      channels: of the test; training is over the first.
      weights: of latency in the allocation of several users.
      num_users, num_drops: of that allocation.
      compiles_quickly: programs that run slower; right for a few steps.
    """

    sizes: sizes_lib.Sizes = dataclasses.field(default_factory=sizes_lib.Sizes)
    start: str = "generalist"
    data: str = "laptop"
    num_seeds: int = 5
    stage_1: Budget = dataclasses.field(default_factory=lambda: Budget(500, 32))
    paper: Budget = dataclasses.field(default_factory=lambda: Budget(300, 8))
    long: Budget = dataclasses.field(default_factory=lambda: Budget(300, 64))
    longest: Budget = dataclasses.field(default_factory=lambda: Budget(600, 64))
    lengths: tuple[int, ...] = (4, 8, 16, 32)
    length: int = 16
    compressors: tuple[str, ...] = (
        "stride",
        "random",
        "top_k_norm",
        "top_k_attention",
        "token_merging",
        "learned_queries",
    )
    rate_lengths: tuple[int, ...] = (4, 32)
    modes: tuple[tuple[int, int], ...] = (
        *((4, 8), (4, 16), (4, 32)),
        *((16, 16), (16, 32), (16, 64), (16, 128)),
    )
    num_reals: int = 64
    train_snr_db: tuple[float, float] = (-10.0, 15.0)
    snrs_db: tuple[float, ...] = (-10, -7.5, -5, -2.5, 0, 2.5, 5, 10, 15, 20)
    num_test: int = 1000
    num_validation: int = 400
    look_every: int = 20
    learning_rate: float = 3e-3
    lora: lora_lib.LoraConfig = dataclasses.field(
        default_factory=lambda: lora_lib.LoraConfig(
            rank=8, pattern="decoder/layers/.*/kernel"
        )
    )
    channels: tuple[str, ...] = ("rayleigh", "awgn")
    weights: tuple[float, ...] = (0.5, 0.9, 0.97, 0.99)
    num_users: int = 8
    num_drops: int = 100
    compiles_quickly: bool = False

    def optimizer(self, budget: Budget) -> optimizers.OptimizerConfig:
        """That of a stage of so many steps."""
        return optimizers.OptimizerConfig(
            learning_rate=self.learning_rate,
            warmup_steps=max(budget.steps // 20, 1),
            weight_decay=1e-3,
            b2=0.95,
        )


def smoke() -> Settings:
    """The same study in seconds: tiny parts, two seeds, nothing pretrained."""
    sizes = sizes_lib.Sizes(
        decoder=sizes_lib.DecoderSizes(dim=16, ff_dim=16, depth=1),
        image=sizes_lib.image(depth=1, stem=(), mlp_dim=16),
        audio=sizes_lib.audio(depth=1, mlp_dim=16),
    )
    return Settings(
        sizes=sizes,
        start="",
        data="smoke",
        num_seeds=2,
        stage_1=Budget(10, 8),
        paper=Budget(10, 8),
        long=Budget(10, 8),
        longest=Budget(10, 8),
        lengths=(4, 8, 16),
        compressors=("stride",),
        rate_lengths=(),
        modes=((16, 4),),
        num_reals=16,
        snrs_db=(-10, -5, 0, 5, 10, 15),
        num_test=24,
        num_validation=24,
        look_every=5,
        lora=lora_lib.LoraConfig(rank=2),
        channels=("rayleigh",),
        weights=(0.9,),
        num_drops=4,
        compiles_quickly=True,
    )


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to do it.

    Attributes:
      budget: of stage 2: PAPER, LONG or LONGEST.
      is_aligned: whether stage 1 comes before.
      is_cotrained: whether the decoder's adapters train, or the transceivers alone.
      answers_first: in place of alignment, stage 1's budget of questions.
      compressor: of ``compressors.NAMES``.
      length: tokens of a picture.
      num_audio_tokens: None: a quarter of that.
      bits: of a token over a digital link, trained without noise; None: analog.
      is_raw: encoder features are sent as they are.
      num_seeds: seeds 0 to num_seeds - 1.
      weight: about how long it takes, relative to others.
    """

    budget: str = LONG
    is_aligned: bool = True
    is_cotrained: bool = True
    answers_first: bool = False
    compressor: str = "window_pool"
    length: int = 16
    num_audio_tokens: int | None = None
    bits: int | None = None
    is_raw: bool = False
    num_seeds: int = 5
    weight: float = 1.0

    @property
    def program(self) -> str:
        """What decides the shapes that its programs are compiled for."""
        sent = "raw" if self.is_raw else self.bits or "analog"
        return f"{self.compressor}, {self.length}, {sent}"


def by_length(length: int, compressor: str = "window_pool") -> str:
    """Name of the aligned and co-trained variant of a compressor and length."""
    return f"{compressor}, {length}"


def unaligned(length: int) -> str:
    """Name of the variant of a length without alignment."""
    return f"unaligned, {length}"


def digital(length: int, bits: int) -> str:
    """Name of a mode of the digital link."""
    return f"digital, {length} tokens of {bits} bit"


def audio_tokens(length: int) -> int:
    """Tokens of a sound beside so many of a picture."""
    return max(length // 4, 1)


def num_uses(settings: Settings, length: int) -> int:
    """Channel uses of an analog message."""
    return (length + audio_tokens(length)) * settings.num_reals // 2


def make_variants(settings: Settings) -> dict[str, Variant]:
    """All variants by name.

    Raises:
      ValueError: two variants would have one name.
    """
    full = foundation_tokens(settings)
    length = settings.length
    short = {"budget": PAPER, "length": length, "weight": 0.4}
    made = {
        ALL_TOKENS: Variant(
            budget=LONGEST, compressor="identity", length=full, weight=6.0
        ),
        **{
            by_length(n): Variant(length=n, weight=1.0 + n / 64)
            for n in settings.lengths
        },
        **{
            unaligned(n): Variant(length=n, is_aligned=False, weight=1.0 + n / 64)
            for n in settings.lengths
        },
        **{
            by_length(length, name): Variant(compressor=name, length=length, weight=1.2)
            for name in settings.compressors
        },
        **{
            digital(*mode): Variant(length=mode[0], bits=mode[1])
            for mode in settings.modes
        },
        RAW: _raw(settings),
        NEITHER_LONG: Variant(is_aligned=False, is_cotrained=False, length=length),
        ALIGNED_LONG: Variant(is_cotrained=False, length=length),
        NEITHER_MORE: Variant(
            is_aligned=False,
            is_cotrained=False,
            answers_first=True,
            **short,
        ),
        BOTH: Variant(**short),
        ALIGNED: Variant(is_cotrained=False, **short),
        COTRAINED: Variant(is_aligned=False, **short),
        NEITHER: Variant(is_aligned=False, is_cotrained=False, **short),
    }
    made = {
        name: dataclasses.replace(variant, num_seeds=settings.num_seeds)
        for name, variant in made.items()
    }
    if settings.length in settings.rate_lengths:
        raise ValueError("rate_lengths holds the length that is compared; leave it out")
    for name in settings.compressors:
        for n in settings.rate_lengths:
            made[by_length(n, name)] = Variant(
                compressor=name, length=n, num_seeds=1, weight=1.0 + n / 64
            )
    return made


def foundation_tokens(settings: Settings, modality: str = "image") -> int:
    """Tokens that an encoder makes."""
    return vit.num_tokens(settings.sizes.encoder_config(modality))


def _raw(settings: Settings) -> Variant:
    """As many raw tokens, evenly spaced, as the same channel uses carry."""
    uses = num_uses(settings, settings.length)
    count = 2 * uses // settings.sizes.dim
    audio = audio_tokens(count)
    return Variant(
        compressor="stride",
        length=count - audio,
        num_audio_tokens=audio,
        is_raw=True,
    )
