"""Greedy and speculative decoding of one sequence, against Transformers.

python -m benchmarks.speculation

A decoder of 4 layers of 256 writes 128 words after 16. Both sides have equal weights,
and must write the same words before anything is timed. Speculation drafts 5 words a
round by one layer: once by one that never agrees with the target, and once by one that
always does. Transformers decodes with its static cache, compiled, or as it is, and
speculates by assisted generation. A ratio above 1 means that m3jax is faster.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import harness
from benchmarks import speculation_torch as peers
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, speculation
from m3jax.nn.speculation import policies
from m3jax.ops import paths
from m3jax.train import memory

_ROUNDS = flags.DEFINE_integer("rounds", 11, "Timed calls of each side.", lower_bound=1)

GREEDY_TARGET, NEVER_TARGET, ALWAYS_TARGET = 2.5, 5.0, 4.0
BOS, PROMPT, NUM_TOKENS = 1, 16, 128
POLICY = policies.fixed(5)
CONFIG = decoder_lib.DecoderConfig(
    vocab_size=1024,
    dim=256,
    depth=4,
    num_heads=8,
    num_kv_heads=2,
    ff_dim=896,
    qkv_bias=False,
    scan_unroll=4,
)
DRAFT = dataclasses.replace(CONFIG, dim=128, depth=1, ff_dim=256, scan_unroll=1)


def draw_prompt(config: decoder_lib.DecoderConfig, length: int) -> np.ndarray:
    """Draws words [1, L]."""
    return np.random.default_rng(0).integers(3, config.vocab_size, (1, length))


def draw(
    config: decoder_lib.DecoderConfig, prompt: np.ndarray, seed: int
) -> speculation.Party:
    """Draws a model that is to read a prompt."""
    decoder = decoder_lib.Decoder(config)
    embeds = jnp.zeros((*prompt.shape, config.dim))
    init = jax.jit(decoder.init)
    params = init(jax.random.key(seed), embeds, embeds[..., 0] == 0)["params"]
    return with_prompt(decoder, params, prompt)


def with_prompt(
    decoder: decoder_lib.Decoder, params, prompt: np.ndarray
) -> speculation.Party:
    """A model that is to read a prompt."""
    embeds = decoder.apply({"params": params}, prompt, method="embed")
    return speculation.Party(params, embeds, jnp.ones(prompt.shape, bool), decoder)


def make_pairs(
    config: decoder_lib.DecoderConfig,
    draft_config: decoder_lib.DecoderConfig,
    prompt: np.ndarray,
) -> dict[str, tuple[speculation.Party, speculation.Party]]:
    """Targets and drafts: of weights of its own, and one that agrees.

    The target of the latter has later layers that add nothing, at no less work; its
    first layer is the draft.
    """
    target = draw(config, prompt, seed=0)
    params = jax.tree.map(lambda leaf: leaf, target.params)
    for part, name in (("attention", "o"), ("mlp", "down")):
        kernel = params["layers"][part][name]["kernel"]
        params["layers"][part][name]["kernel"] = kernel.at[1:].set(0.0)
    first = speculation.first_layers(target.decoder, params, 1)
    return {
        "never": (target, draw(draft_config, prompt, seed=1)),
        "always": (target.replace(params=params), with_prompt(*first, prompt)),
    }


@functools.partial(jax.jit, static_argnums=1)
def decode(target: speculation.Party, num_tokens: int) -> jax.Array:
    """Greedy words [1, N] of the target alone."""
    parts = target.decoder, target.params, target.embeds, target.mask
    return generation.generate(*parts, num_tokens, bos=BOS, eos=-1)


@functools.partial(jax.jit, static_argnums=2)
def speculate(
    target: speculation.Party, draft: speculation.Party, num_tokens: int
) -> speculation.Result:
    """Greedy words by speculation."""
    return speculation.speculate(target, draft, num_tokens, POLICY, bos=BOS, eos=-1)


def make_peer(party: speculation.Party, length: int):
    """Transformers' model of the same weights."""
    weights = {
        path: np.array(leaf) for path, leaf in paths.flatten(party.params).items()
    }
    return peers.make_llama(party.decoder.config, weights, length)


def check(pair, prompt: np.ndarray, num_tokens: int) -> speculation.Result:
    """Checks that both sides write the same words, alone and by speculation.

    Returns:
      What m3jax's speculation counted.

    Raises:
      RuntimeError: they do not; says from where on.
    """
    ids = np.concatenate([prompt, [[BOS]]], axis=1)
    length = ids.shape[1] + num_tokens
    target, draft = (make_peer(party, length) for party in pair)
    found = speculate(*pair, num_tokens)
    drafted = POLICY.max_draft
    expected = peers.greedy(target, ids, num_tokens)()
    for name, words in {
        "m3jax, greedy": decode(pair[0], num_tokens),
        "m3jax, speculative": found.words,
        "Transformers, assisted": peers.assisted(
            target, draft, ids, num_tokens, drafted
        )(),
    }.items():
        _compare(name, np.asarray(words), expected)
    return found


def _compare(name, words, expected):
    if words.shape != expected.shape:
        raise RuntimeError(f"{name}: {words.shape} words, not {expected.shape}")
    differ = (words != expected).any(axis=0)
    if differ.any():
        raise RuntimeError(
            f"{name}: words differ from Transformers' greedy ones from number"
            f" {int(np.argmax(differ))} on"
        )


def main() -> list[harness.Row]:
    """Checks and times both."""
    harness.require_processor()
    memory.keep_freed_memory()  # as the launchers do
    machine = harness.measure_machine(["torch", "transformers"])
    prompt = draw_prompt(CONFIG, PROMPT)
    pairs = make_pairs(CONFIG, DRAFT, prompt)
    ids = np.concatenate([prompt, [[BOS]]], axis=1)
    length = ids.shape[1] + NUM_TOKENS
    words = f"4 layers of 256, batch 1, {NUM_TOKENS} words"
    target = pairs["never"][0]
    rounds = harness.paired(
        {
            "m3jax": lambda: decode(target, NUM_TOKENS).block_until_ready(),
            "Transformers": peers.greedy(make_peer(target, length), ids, NUM_TOKENS),
            "Transformers static, compiled": peers.greedy_static(
                make_peer(target, length), ids, NUM_TOKENS
            ),
        },
        _ROUNDS.value,
    )
    title = f"greedy decode, {words}"
    rows = [harness.compare(title, rounds, machine, target=GREEDY_TARGET)]
    for name, reach in (("never", NEVER_TARGET), ("always", ALWAYS_TARGET)):
        pair = pairs[name]
        accepted = float(check(pair, prompt, NUM_TOKENS).counts.acceptance[0])
        if abs(accepted - (name == "always")) > 0.05:
            raise RuntimeError(f"of the drafts that {name} agree {accepted:.1%} stand")
        peer = [make_peer(party, length) for party in pair]
        rounds = harness.paired(
            {
                "m3jax": lambda pair=pair: jax.block_until_ready(
                    speculate(*pair, NUM_TOKENS)
                ),
                "Transformers assisted": peers.assisted(
                    *peer, ids, NUM_TOKENS, POLICY.max_draft
                ),
            },
            _ROUNDS.value,
        )
        title = f"speculative decode, {words}, a draft that {name} agrees"
        rows.append(harness.compare(title, rounds, machine, target=reach))
    return rows


if __name__ == "__main__":
    harness.run(main)
