"""The rules beside the probes, on hand cases and against scikit-learn."""

import jax.numpy as jnp
import numpy as np
from sklearn import naive_bayes

from m3jax.systems.msao import heuristics


def test_local_variance_and_contrast_find_the_odd_patch():
    image = np.full((1, 4, 6, 3), 100, np.uint8)
    image[0, 2:, 4:] = [[[100, 100, 160]] * 2, [[100, 100, 100]] * 2]
    found = heuristics.spatial(jnp.asarray(image), (2, 3))
    expected = np.zeros((1, 2, 3))
    expected[0, 1, 2] = 30 / 3  # one channel of three, at 30 around its mean
    np.testing.assert_allclose(found["local variance"], expected, atol=1e-4)
    expected[0, 1, 2] = 30
    np.testing.assert_allclose(found["contrast"], expected, atol=1e-4)


def test_frames_that_repeat_are_wholly_alike():
    video = np.zeros((1, 3, 2, 2, 3), np.uint8)
    video[0, 2, 0, 0, 0] = 255
    found = heuristics.frame_difference(jnp.asarray(video))
    np.testing.assert_allclose(found, [[1.0, 1 - 1 / 12]])


def test_naive_bayes_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    question = rng.integers(0, 9, size=(60, 5))
    needs = np.stack([(question == 3).any(1), (question > 6).sum(1) > 1], 1)
    counts = np.stack([(question == word).sum(1) for word in range(9)], 1)
    counts[:, 0] = 0  # padding
    found = heuristics.NaiveBayes(question[:40], needs[:40], 9)(question[40:])
    for m in range(2):
        theirs = naive_bayes.MultinomialNB(alpha=1.0)
        theirs.fit(counts[:40], needs[:40, m])
        # They take the prior as it is; ours has seen each answer once more.
        share = (needs[:40, m].sum() + 1) / 42
        theirs.class_log_prior_ = np.log([1 - share, share])
        expected = theirs.predict_proba(counts[40:])[:, 1]
        np.testing.assert_allclose(found[:, m], expected, rtol=1e-9)
