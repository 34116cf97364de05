"""A closed set is scored as if each candidate were teacher-forced by itself."""

import jax
import numpy as np
import pytest

from m3jax.foundation import answering, closed_set
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses

pytestmark = pytest.mark.usefixtures("quick_compilation")

BATCH, PREFIX, VOCABULARY = 5, 3, 7
DECODER = decoder_lib.Decoder(
    decoder_lib.DecoderConfig(
        vocab_size=VOCABULARY, dim=16, depth=2, num_heads=2, num_kv_heads=1, ff_dim=24
    )
)
CANDIDATES = np.array(
    [[3, 2, 0], [3, 4, 2], [6, 2, 0], [5, 5, 2], [4, 2, 0], [2, 0, 0]], np.int32
)

log_likelihoods = jax.jit(closed_set.log_likelihoods, static_argnums=0)
answer_logits = jax.jit(answering.answer_logits, static_argnums=0)
answer_log_likelihood = jax.jit(losses.answer_log_likelihood)


@pytest.fixture(scope="module")
def case(random_params):
    rng = np.random.default_rng(0)
    prefix = rng.normal(size=(BATCH, PREFIX, 16)).astype(np.float32)
    mask = rng.random((BATCH, PREFIX)) < 0.7
    question = np.tile(np.array([3, 4, 5, 0], np.int32), (BATCH, 1))
    question[1::2, 2] = answering.PAD
    params = random_params(DECODER, prefix, mask, gain=2.0)["params"]
    return params, prefix, mask, question


def teacher_forced(case, candidates):
    logs = []
    for answer in candidates:
        answers = np.tile(answer, (BATCH, 1))
        logits = answer_logits(DECODER, *case, answers)
        logs.append(answer_log_likelihood(logits, answers))
    return np.stack(logs, axis=1)


def test_scores_equal_those_of_each_candidate_by_itself(case):
    actual = log_likelihoods(DECODER, *case, CANDIDATES)
    assert actual.shape == (BATCH, len(CANDIDATES))
    np.testing.assert_allclose(actual, teacher_forced(case, CANDIDATES), rtol=1e-4)
    # Candidates that begin alike are told apart.
    assert (np.abs(actual[:, 0] - actual[:, 1]) > 1e-3).all()


def test_the_likelihoods_of_all_first_words_sum_to_one_but_for_padding(case):
    words = np.zeros_like(CANDIDATES)
    words[:, 0] = np.arange(1, VOCABULARY)
    total = np.exp(log_likelihoods(DECODER, *case, words)).sum(axis=1)
    logits = answer_logits(DECODER, *case, np.tile(CANDIDATES[0], (BATCH, 1)))
    weights = np.exp(logits[:, 0])
    padding = weights[:, answering.PAD] / weights.sum(axis=1)
    np.testing.assert_allclose(total, 1 - padding, rtol=1e-4)


def test_a_caption_is_an_answer_to_no_question(case):
    """Text reconstruction: the caption's likelihood given the received tokens alone."""
    params, prefix, mask, _ = case
    nothing = np.zeros((BATCH, 0), np.int32)
    captions = CANDIDATES[:BATCH]
    logits = answer_logits(DECODER, params, prefix, mask, nothing, captions)
    nll = jax.jit(losses.score_answers)(logits, captions)["nll"]
    every = log_likelihoods(DECODER, params, prefix, mask, nothing, CANDIDATES)
    chosen = np.diagonal(every[:, :BATCH])
    lengths = (captions != answering.PAD).sum(axis=1)
    np.testing.assert_allclose(nll, -chosen / lengths, rtol=1e-4)


def test_a_single_answer_is_refused_as_a_set(case):
    with pytest.raises(ValueError, match=r"candidates must be \[K, A\]"):
        closed_set.log_likelihoods(DECODER, *case, CANDIDATES[0])
