"""The pool of experts: base models of two sizes, and an adapter for each expert.

Two stages. Without adapters (``lora.rank`` 0) both base models learn all they are
shown. With them the bases stay, and expert n, a pair of low-rank factors for each
kernel, learns from the n-th rows of a batch alone (MoE2, section V-A: experts are made
from one base model by tuning it on one cluster of prompts each).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import lora as lora_lib
from m3jax.ops import losses

SIZES = ("small", "large")
TABLE_I = ("large", "large", "large", "small", "small", "small", "small", "small")
"""Which base each of the paper's eight servers holds: three of 7B, five of 3B."""
KERNELS = r"layers/(attention/(q|k|v|o)|mlp/\w+)/kernel"
METRICS = {"answer_accuracy": "1", "word_accuracy": "1", "nll": "nat/word"}
"""What is measured of each answer, in which units: means over the models."""


def _small() -> sizes_lib.DecoderSizes:
    return sizes_lib.DecoderSizes(dim=64, depth=3, ff_dim=160)


def _large() -> sizes_lib.DecoderSizes:
    return sizes_lib.DecoderSizes(dim=96, depth=4, ff_dim=256)


@dataclasses.dataclass
class Config:
    """Settings of the pool.

    Attributes:
      small, large: sizes of the two base models, which share a vocabulary.
      placement: of each expert, which base it is an adapter of: "small" or "large".
      lora: the adapters; rank 0 has none, and the bases train.
    """

    small: sizes_lib.DecoderSizes = dataclasses.field(default_factory=_small)
    large: sizes_lib.DecoderSizes = dataclasses.field(default_factory=_large)
    placement: tuple[str, ...] = TABLE_I
    lora: lora_lib.LoraConfig = dataclasses.field(
        default_factory=lambda: lora_lib.LoraConfig(rank=8, pattern=KERNELS)
    )

    NAME: ClassVar[str] = "edge_experts"
    PARTS: ClassVar[dict[str, str]] = {
        "base": r"(small|large)/.*",
        "adapters": r"lora/.*",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    @property
    def num_experts(self) -> int:
        """How many experts there are, N."""
        return len(self.placement)

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        unknown = sorted(set(self.placement) - set(SIZES))
        if unknown or not self.placement:
            raise ValueError(
                f"system.placement is {tuple(self.placement)}; name one of {SIZES} for"
                " each expert"
            )
        if self.small.vocab_size != self.large.vocab_size:
            raise ValueError(
                "experts whose distributions are mixed need one vocabulary, but"
                f" system.small has {self.small.vocab_size} words and system.large"
                f" {self.large.vocab_size}; give both the same vocab_size, or fuse"
                " answers (fusion.vote)"
            )
        if self.lora.rank < 0:
            raise ValueError(
                f"system.lora.rank is {self.lora.rank}; give 0 for none, or more"
            )

    def make_system(self) -> base.System:
        """The pool as a system; see `make_system`."""
        return make_system(self)

    def warm_start(self, trained: base.Params) -> base.Params:
        """What a pool gives another one: bases, and adapters if it has any."""
        return trained


class Pool:
    """The networks of a pool, and how their parameters are named.

    Parameters are {small, large} of the bases and, with adapters, "lora": {size:
    factors stacked over the experts of that size, in their order}.

    Args:
      config: settings.
    """

    def __init__(self, config: Config):
        config.validate()
        self.config = config
        self.sizes = tuple(size for size in SIZES if size in config.placement)
        self.decoders = {
            size: decoder_lib.Decoder(_decoder_config(getattr(config, size)))
            for size in self.sizes
        }
        self.experts = {
            size: [n for n, held in enumerate(config.placement) if held == size]
            for size in self.sizes
        }
        # Experts come size by size; this brings them into the order of `placement`.
        self._order = jnp.argsort(
            jnp.array([n for size in self.sizes for n in self.experts[size]])
        )

    def init(self, key: base.Array) -> base.Params:
        """Draws all parameters; fresh adapters change nothing."""
        params, adapters = {}, {}
        for number, size in enumerate(self.sizes):
            size_key = jax.random.fold_in(key, number)
            decoder = self.decoders[size]
            token = jnp.zeros((1, 1, decoder.config.dim))
            made = decoder.init(size_key, token, jnp.ones((1, 1), bool))["params"]
            params[size] = made
            if self.config.lora.rank:
                keys = jax.random.split(
                    jax.random.fold_in(size_key, 1), len(self.experts[size])
                )
                adapters[size] = jax.vmap(lambda k, made=made: self._adapter(k, made))(
                    keys
                )
        return {**params, "lora": adapters} if adapters else params

    def base_log_probs(
        self, params: base.Params, question: base.Array, answer: base.Array
    ) -> base.Array:
        """What the bases say, float32 ``[B, S, A, V]``; see `log_probs`."""
        said = [
            answer_log_probs(self.decoders[size], params[size], question, answer)
            for size in self.sizes
        ]
        return jnp.stack(said, axis=1)

    def log_probs(
        self, params: base.Params, question: base.Array, answer: base.Array
    ) -> base.Array:
        """What every expert says of each next word, given the words before it.

        Experts run one after the other, since products of one shape are what a CPU is
        quick at, and a program holds a size's decoder once.

        Args:
          params: with adapters.
          question: int32 [B, Q], padded.
          answer: int32 [B, A], ended by EOS, padded.

        Returns:
          float32 ``[B, N, A, V]``, normalised; the paper's f_n(h(x, t)).
        """
        said = []
        for size in self.sizes:

            def speak(adapter, size=size):
                whole = self._merged(params, size, adapter)
                return answer_log_probs(self.decoders[size], whole, question, answer)

            said.append(jax.lax.map(speak, params["lora"][size]))
        return jnp.moveaxis(jnp.concatenate(said)[self._order], 0, 1)

    def own_log_probs(
        self, params: base.Params, question: base.Array, answer: base.Array
    ) -> base.Array:
        """What expert ``i mod N`` says of row i: float32 ``[B, A, V]``.

        Raises:
          ValueError: the batch is no multiple of N.
        """
        num, size_of_batch = self.config.num_experts, len(question)
        if size_of_batch % num:
            raise ValueError(
                f"learner.batch_size={size_of_batch} must be a multiple of the {num}"
                " experts, each of which trains on as many rows"
            )

        def rows(array, size):
            apart = jnp.asarray(array).reshape(-1, num, *array.shape[1:])
            apart = apart.swapaxes(0, 1)
            return apart[jnp.array(self.experts[size])]

        said = []
        for size in self.sizes:

            def speak(given, size=size):
                adapter, asked, told = given
                whole = self._merged(params, size, adapter)
                return answer_log_probs(self.decoders[size], whole, asked, told)

            given = params["lora"][size], rows(question, size), rows(answer, size)
            said.append(jax.lax.map(speak, given))
        together = jnp.concatenate(said)[self._order].swapaxes(0, 1)
        return together.reshape(size_of_batch, *together.shape[2:])

    def embed(self, params: base.Params, question: base.Array) -> base.Array:
        """Embeddings of prompts: mean last hidden state of the first base, unit length.

        Args:
          params: of the pool; adapters are not looked at.
          question: int32 [B, Q], padded.

        Returns:
          float32 ``[B, D]``.
        """
        size = self.sizes[0]
        variables = {"params": params[size]}
        decoder, mask = self.decoders[size], question != answering.PAD
        words = decoder.apply(variables, question, method="embed")
        hidden, _ = decoder.apply(variables, words, mask)
        total = jnp.sum(jnp.where(mask[..., None], hidden, 0.0), axis=1)
        norm = jnp.linalg.norm(total, axis=-1, keepdims=True)
        return (total / jnp.maximum(norm, 1e-6)).astype(jnp.float32)

    def expert(self, params: base.Params, number: int) -> base.Params:
        """The parameters of one expert's decoder, its adapter merged."""
        size = self.config.placement[number]
        place = self.experts[size].index(number)
        adapter = jax.tree.map(lambda leaf: leaf[place], params["lora"][size])
        return self._merged(params, size, adapter)

    def _merged(self, params, size: str, adapter) -> base.Params:
        return lora_lib.merge(params[size], adapter, self.config.lora.alpha)

    def _adapter(self, key: base.Array, params: base.Params) -> base.Params:
        adapters = self.config.lora
        return lora_lib.init(key, params, adapters.pattern, adapters.rank)


def answer_log_probs(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    question: base.Array,
    answer: base.Array,
) -> base.Array:
    """Log-probabilities of each word of the answer: float32 ``[B, A, V]``."""
    batch_size = len(question)
    logits = answering.answer_logits(
        decoder,
        params,
        jnp.zeros((batch_size, 0, decoder.config.dim), decoder.config.dtype),
        jnp.ones((batch_size, 0), bool),
        question,
        answer,
    )
    return jax.nn.log_softmax(logits)


def make_system(config: Config) -> base.System:
    """The pool as a system.

    Batches hold question int32 [B, Q] and answer int32 [B, A]; with adapters, row i is
    of expert ``i mod N``.

    Args:
      config: settings.

    Returns:
      A system whose ``predict["answer"]`` gives nll, answer_accuracy and word_accuracy,
      float32 [B]: means over the experts (or bases), the paper's "average expert
      accuracy"; ``predict["log_probs"]`` what each of them says, [B, N, A, V]; and
      ``predict["embed"]`` embeddings of the prompts, [B, D].
    """
    pool = Pool(config)
    has_adapters = config.lora.rank > 0
    everyone = pool.log_probs if has_adapters else pool.base_log_probs

    def init(key, batch):
        del batch  # sizes are known
        return pool.init(key)

    def loss(params, batch, key):
        del key
        question, answer = batch["question"], batch["answer"]
        if has_adapters:
            scores = losses.score_answers(
                pool.own_log_probs(params, question, answer), answer
            )
        else:
            scores = _score_all(pool.base_log_probs(params, question, answer), answer)
        means = {name: jnp.mean(scores[name]) for name in METRICS}
        return means.pop("nll"), means

    def answer(params, batch, key):
        del key
        said = everyone(params, batch["question"], batch["answer"])
        return _score_all(said, batch["answer"])

    return base.System(
        init=init,
        loss=loss,
        predict={
            "answer": answer,
            "log_probs": lambda params, batch, key: everyone(
                params, batch["question"], batch["answer"]
            ),
            "embed": lambda params, batch, key: pool.embed(params, batch["question"]),
        },
        reads=("question", "answer"),
        metrics=METRICS,
    )


def _score_all(log_probs: base.Array, answer: base.Array) -> dict[str, base.Array]:
    """Mean scores over the models of ``log_probs [B, N, A, V]``."""
    scores = jax.vmap(losses.score_answers, (1, None))(log_probs, answer)
    return {name: jnp.mean(value, axis=0) for name, value in scores.items()}


def _decoder_config(sizes: sizes_lib.DecoderSizes) -> decoder_lib.DecoderConfig:
    return decoder_lib.DecoderConfig(
        **dataclasses.asdict(sizes), scan_unroll=sizes.depth
    )
