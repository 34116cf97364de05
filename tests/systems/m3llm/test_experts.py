"""The shipped experts: descriptors, skills, and what retrieval makes of them."""

import numpy as np
import pytest

from m3jax.data.edgescenes import words
from m3jax.systems import m3llm
from m3jax.systems.m3llm import experts


@pytest.fixture(scope="module")
def drawn():
    return experts.draw_examples(8, 5, "test")


def test_examples_are_of_each_skill_in_turn_and_the_same_at_a_seed(drawn):
    shape = (len(m3llm.EXPERTS), 8)
    assert all(rows.shape[:2] == shape for rows in drawn)
    again = experts.draw_examples(8, 5, "test")
    for mine, other in zip(drawn, again, strict=True):
        np.testing.assert_array_equal(mine, other)
    chart = m3llm.EXPERTS.index("chart")
    assert all("bar" in words.decode(ids.tolist()) for ids in drawn.question[chart])


def test_every_question_finds_its_own_expert(drawn):
    bank = experts.make_bank(drawn, num_passing=4)
    np.testing.assert_array_equal(
        np.argmax(bank.tag, axis=-1), np.indices(bank.tag.shape[:2])[0]
    )
    assert (np.asarray(bank.mask).sum(axis=-1) == 4).all()
    for task in range(len(m3llm.EXPERTS)):
        assert np.asarray(bank.mask)[task, :, task].all()


def test_an_expert_says_what_the_pool_says(drawn):
    pool = experts.load_pool()
    said = experts.encode_examples(pool, drawn, batch_size=28)
    for number, name in enumerate(m3llm.EXPERTS[:2]):
        expert = experts.load(name)
        alone = expert.encode(drawn.image[number])
        np.testing.assert_allclose(alone, said[number, :, number], atol=1e-4)
        assert alone.shape[1:] == tuple(expert.descriptor.output_shape)
        assert expert.descriptor.skills == (name,)
        np.testing.assert_allclose(
            expert.encode(drawn.image[number, 0]), alone[:1], atol=1e-4
        )


def test_an_expert_that_is_not_shipped_is_named():
    with pytest.raises(FileNotFoundError, match="expert_cook"):
        experts.load("cook")
