"""The area under the curve, against scikit-learn's."""

import jax
import numpy as np
import pytest
from sklearn import metrics

from m3jax.ops import ranking


@pytest.mark.parametrize("levels", [None, 5, 1])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_it_is_that_of_scikit_learn_with_ties_too(levels, share):
    rng = np.random.default_rng(3)
    labels = rng.random((50, 8, 4)) < share
    scores = rng.normal(size=labels.shape) + labels
    if levels:
        scores = np.round(scores * levels / 4) if levels > 1 else 0 * scores
    expected = metrics.roc_auc_score(labels.ravel(), scores.ravel())
    found = jax.jit(ranking.roc_auc)(scores.astype(np.float32), labels)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_it_is_exact_where_pairs_are_more_than_an_int_holds():
    rng = np.random.default_rng(4)
    labels = rng.random(150_000) < 0.4
    scores = (rng.normal(size=labels.shape) + labels).astype(np.float32)
    expected = metrics.roc_auc_score(labels, scores)
    np.testing.assert_allclose(ranking.roc_auc(scores, labels), expected, rtol=2e-6)


def test_turned_scores_turn_it_and_one_label_alone_is_nan():
    scores, labels = np.arange(6.0), np.array([0, 1, 0, 0, 1, 1], bool)
    total = ranking.roc_auc(scores, labels) + ranking.roc_auc(-scores, labels)
    assert float(total) == pytest.approx(1.0)
    assert np.isnan(ranking.roc_auc(scores, np.ones(6, bool)))


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="one for each entry"):
        ranking.roc_auc(np.zeros(3), np.zeros(4))
