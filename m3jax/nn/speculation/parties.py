"""Who speaks: a decoder, its parameters, and the prefix that it reads."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import decoder as decoder_lib


@flax.struct.dataclass
class Party:
    """A language model before it speaks.

    Draft and target may differ in width, and in what they see: each has its own prefix,
    such as pictures by an encoder of its own.

    Attributes:
      params: of the decoder, without the "params" level.
      embeds: [B, L, D], the prefix: embedded pictures, sounds, questions; L may be 0.
      mask: bool [B, L], True for its valid tokens.
      decoder: static.
      positions: int [B, L], the place of each token of the prefix, if others were left
        out between them; None: valid tokens are counted.
    """

    params: base.Params
    embeds: base.Array
    mask: base.Array
    decoder: decoder_lib.Decoder = flax.struct.field(pytree_node=False)
    positions: base.Array | None = None

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table, padding among them."""
        return self.decoder.config.vocab_size

    def start(self, num_slots: int) -> decoder_lib.KVCache:
        """A cache that holds the prefix, with so many slots more."""
        batch_size, length = self.mask.shape
        config = self.decoder.config
        cache = decoder_lib.init_cache(config, batch_size, length + num_slots)
        if length:
            variables = {"params": self.params}
            _, cache = self.decoder.apply(
                variables, self.embeds, self.mask, cache, positions=self.positions
            )
        return cache

    def read(
        self, words: base.Array, mask: base.Array, cache: decoder_lib.KVCache
    ) -> tuple[base.Array, decoder_lib.KVCache]:
        """Reads words [B, n]; returns hidden states [B, n, D] and the cache."""
        variables = {"params": self.params}
        embeds = self.decoder.apply(variables, words, method="embed")
        return self.decoder.apply(variables, embeds, mask, cache)

    def read_answer(
        self, words: base.Array, valid: base.Array, bos: int = 1
    ) -> base.Array:
        """Reads the prefix and a whole answer, in one pass with no cache.

        Args:
          words: int32 [B, N].
          valid: bool [B, N], words of the answer, the first ones.
          bos: word that starts it; not among ``words``.

        Returns:
          Hidden states [B, N, D]; `logits` of place t scores ``words[:, t]``.
        """
        variables = {"params": self.params}
        said = jnp.pad(words[:, :-1], ((0, 0), (1, 0)), constant_values=bos)
        embeds = self.decoder.apply(variables, said, method="embed")
        hidden, _ = self.decoder.apply(
            variables,
            jnp.concatenate([self.embeds.astype(embeds.dtype), embeds], axis=1),
            jnp.concatenate([self.mask, valid], axis=1),
        )
        return hidden[:, -words.shape[1] :]

    def logits(self, hidden: base.Array, vocab_size: int) -> base.Array:
        """Scores of the first so many words, float32 [..., V]."""
        scores = self.decoder.apply({"params": self.params}, hidden, method="logits")
        return scores[..., :vocab_size]


def shared_vocabulary(target: Party, draft: Party, vocab_size: int | None) -> int:
    """How many words both may say.

    Published vocabularies are padded to a round number, and by different ones: 151,936
    rows in Qwen2-VL-2B and 152,064 in Qwen2.5-VL-7B. Ids beyond the shared ones are
    nobody's words.

    Args:
      target: who judges.
      draft: who drafts.
      vocab_size: words that the tokenizer has; None: all rows, if both have as many.

    Raises:
      ValueError: the tables differ and nobody says where they agree.
    """
    rows = {"target": target.vocab_size, "draft": draft.vocab_size}
    if vocab_size is None:
        if rows["target"] != rows["draft"]:
            raise ValueError(
                f"vocabularies differ: target has vocab_size={rows['target']}, draft"
                f" has vocab_size={rows['draft']}. Give vocab_size, the words of their"
                " common tokenizer; ids from there on are masked on both sides."
            )
        return rows["target"]
    if not 1 <= vocab_size <= min(rows.values()):
        raise ValueError(
            f"vocab_size={vocab_size} must be 1 to {min(rows.values())}: target has"
            f" vocab_size={rows['target']}, draft has vocab_size={rows['draft']}."
        )
    return vocab_size


def first_layers(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    depth: int,
    exit_params: base.Params | None = None,
) -> tuple[decoder_lib.Decoder, base.Params]:
    """A draft out of the first layers of a decoder, with an exit of its own.

    All but the exit is shared: no weight is stored twice. It is a plain decoder, and is
    trained as one (LayerSkip, 2404.16710, exits early likewise).

    Args:
      decoder: the target.
      params: its parameters.
      depth: layers of the draft.
      exit_params: what `init_exit` gave, trained; None: the target's norm and head.

    Returns:
      ``(decoder, params)`` of the draft.

    Raises:
      ValueError: the target has not so many layers.

    Example:
      >>> target = decoder_lib.Decoder(decoder_lib.DecoderConfig(11, dim=32, depth=3))
      >>> inputs = jnp.zeros((1, 2, 32)), jnp.ones((1, 2), bool)
      >>> params = jax.jit(target.init)(jax.random.key(0), *inputs)["params"]
      >>> draft, part = first_layers(target, params, 1)
      >>> draft.config.depth, part["layers"]["mlp"]["up"]["kernel"].shape[0]
      (1, 1)
    """
    config = decoder.config
    if not 1 <= depth <= config.depth:
        raise ValueError(f"depth={depth} must be 1 to {config.depth}, the target's.")
    exit_params = {} if exit_params is None else exit_params
    tied = config.tie_embeddings and "head" not in exit_params
    config = dataclasses.replace(
        config,
        depth=depth,
        tie_embeddings=tied,
        scan_unroll=min(config.scan_unroll, depth),
    )
    layers = jax.tree.map(lambda leaf: leaf[:depth], params["layers"])
    return decoder_lib.Decoder(config), {**params, "layers": layers, **exit_params}


def init_exit(params: base.Params, own_head: bool = False) -> base.Params:
    """What an exit starts from: a copy of the target's norm, and of its head.

    Args:
      params: of the target.
      own_head: whether the exit has an output head of its own, V x D more parameters.

    Returns:
      For `first_layers`, to be trained with all else frozen.
    """
    found = {"final_norm": params["final_norm"]}
    if own_head:
        tied = {"kernel": params["embedder"]["embedding"].T}
        found["head"] = params.get("head", tied)
    return jax.tree.map(jnp.array, found)
