"""Experts are their base with their adapter, and each learns from its own rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.nn import lora
from m3jax.systems.moe2 import pool as pool_lib
from m3jax.systems.moe2.pool import Pool
from tests.systems.moe2.conftest import make_batch, make_pool_config


def test_an_expert_is_its_base_with_its_adapter_merged(pool):
    made, params = pool
    batch = make_batch()
    found = jax.jit(made.log_probs)(params, batch["question"], batch["answer"])
    for number, size in enumerate(made.config.placement):
        decoder = made.decoders[size]
        alone = pool_lib.answer_log_probs(
            decoder, made.expert(params, number), batch["question"], batch["answer"]
        )
        np.testing.assert_allclose(found[:, number], alone, atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1.0, rtol=1e-5)


def test_row_i_is_answered_by_expert_i_modulo_their_number(pool):
    made, params = pool
    batch = make_batch()
    asked = params, batch["question"], batch["answer"]
    own = jax.jit(made.own_log_probs)(*asked)
    everyone = jax.jit(made.log_probs)(*asked)
    rows = np.arange(6)
    np.testing.assert_allclose(own, np.asarray(everyone)[rows, rows % 3], atol=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(pool):
    made, params = pool
    batch = make_batch(size=4)
    with pytest.raises(ValueError, match="batch_size=4 must be a multiple of the 3"):
        made.own_log_probs(params, batch["question"], batch["answer"])


def test_fresh_adapters_change_nothing():
    made = Pool(make_pool_config())
    params = jax.jit(made.init)(jax.random.key(0))
    asked = params, *make_batch().values()
    adapted = jax.jit(made.log_probs)(*asked)
    bases = jax.jit(made.base_log_probs)(*asked)
    np.testing.assert_allclose(adapted[:, 0], bases[:, 0], atol=1e-6)
    np.testing.assert_allclose(adapted[:, 1], bases[:, 1], atol=1e-6)


def test_an_experts_rows_teach_it_alone():
    system = make_pool_config().make_system()
    batch = make_batch()
    params = jax.jit(system.init)(jax.random.key(0), batch)
    batch["answer"][[0, 3]] = 0  # nothing is asked of expert 0
    loss = jax.jit(jax.grad(lambda p: system.loss(p, batch, jax.random.key(1))[0]))
    grads = loss(params)
    small = np.concatenate(
        [np.ravel(np.abs(g).reshape(2, -1).max(1)) for g in _bs(grads["lora"]["small"])]
    ).reshape(-1, 2)
    assert small[:, 0].max() == 0  # the first small expert is expert 0
    assert small[:, 1].max() > 0


def test_embeddings_are_of_unit_length_and_do_not_see_padding(pool):
    made, params = pool
    question = make_batch()["question"]
    found = made.embed(params, question)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    longer = np.pad(question, ((0, 0), (0, 3)))
    np.testing.assert_allclose(made.embed(params, longer), found, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placement": ()}, "system.placement"),
        ({"placement": ("huge",)}, "system.placement"),
        ({"lora": lora.LoraConfig(rank=-1)}, "system.lora.rank"),
    ],
)
def test_senseless_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_pool_config(**changes).validate()


def test_two_vocabularies_are_refused_with_what_to_do():
    config = make_pool_config()
    config.large = dataclasses.replace(config.large, vocab_size=13)
    with pytest.raises(ValueError, match=r"12 words and system.large 13.*fusion.vote"):
        config.validate()


def _bs(tree):
    """The second factors, whose gradient a fresh adapter has."""
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return [jnp.asarray(x) for path, x in flat if path[-1].key == "b"]
