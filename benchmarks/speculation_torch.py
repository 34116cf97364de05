"""The decoder as Transformers' Llama, by m3jax's weights, and its ways to decode."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import transformers

from m3jax.nn import decoder as decoder_lib

_LAYER = {
    "input_layernorm": "attention_norm/scale",
    "self_attn.q_proj": "attention/q/kernel",
    "self_attn.k_proj": "attention/k/kernel",
    "self_attn.v_proj": "attention/v/kernel",
    "self_attn.o_proj": "attention/o/kernel",
    "post_attention_layernorm": "mlp_norm/scale",
    "mlp.gate_proj": "mlp/gate/kernel",
    "mlp.up_proj": "mlp/up/kernel",
    "mlp.down_proj": "mlp/down/kernel",
}


def make_llama(
    config: decoder_lib.DecoderConfig, weights: Mapping[str, np.ndarray], length: int
) -> transformers.LlamaForCausalLM:
    """Makes a Llama of m3jax's weights.

    Args:
      config: of the decoder: no biases, a tied head.
      weights: '/'-joined path -> array.
      length: most tokens that it will read.
    """
    made = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        intermediate_size=config.ff_dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.size_per_head,
        max_position_embeddings=length,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(made).eval()
    named = {
        "model.embed_tokens.weight": weights["embedder/embedding"],
        "lm_head.weight": weights["embedder/embedding"],
        "model.norm.weight": weights["final_norm/scale"],
    }
    for index in range(config.depth):
        for name, path in _LAYER.items():
            leaf = weights[f"layers/{path}"][index]
            named[f"model.layers.{index}.{name}.weight"] = leaf.T
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(leaf))
        for name, leaf in named.items()
    }
    model.load_state_dict(tensors, strict=True)
    settings = model.generation_config
    settings.do_sample, settings.eos_token_id, settings.pad_token_id = False, None, 0
    return model


def greedy(
    model: transformers.LlamaForCausalLM, ids: np.ndarray, num_tokens: int
) -> Callable[[], np.ndarray]:
    """Decodes with the dynamic cache that is the default."""
    return _bind(model, ids, num_tokens)


def greedy_static(
    model: transformers.LlamaForCausalLM, ids: np.ndarray, num_tokens: int
) -> Callable[[], np.ndarray]:
    """Decodes with a static cache and a compiled forward pass."""
    model.forward = torch.compile(model.forward)
    return _bind(model, ids, num_tokens, cache_implementation="static")


def assisted(
    model: transformers.LlamaForCausalLM,
    draft: transformers.LlamaForCausalLM,
    ids: np.ndarray,
    num_tokens: int,
    num_drafted: int,
) -> Callable[[], np.ndarray]:
    """Speculates, with drafts of a fixed length."""
    settings = draft.generation_config
    settings.num_assistant_tokens = num_drafted
    settings.num_assistant_tokens_schedule = "constant"
    settings.assistant_confidence_threshold = 0.0
    return _bind(model, ids, num_tokens, assistant_model=draft)


def _bind(model, ids, num_tokens, **settings):
    ids = torch.from_numpy(np.asarray(ids, np.int64))

    def call():
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=num_tokens,
                do_sample=False,
                **settings,
            )
        return found[:, ids.shape[1] :].numpy()

    return call
