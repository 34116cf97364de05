"""m3jax and FAISS find the same items in the benchmark of retrieval."""

import numpy as np
import pytest

from benchmarks import retrieval

(TINY,) = retrieval.WORKLOADS["tiny"]


@pytest.fixture(scope="module")
def vectors():
    return TINY.draw()


def test_vectors_are_of_unit_length_and_as_many_as_told(vectors):
    assert [x.shape for x in vectors] == [(4, 16), (300, 16)]
    for x in vectors:
        assert x.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, rtol=1e-5)


def test_both_of_our_sides_find_what_sorting_finds(vectors):
    queries, items = vectors
    scores = queries @ items.T
    order = np.argsort(-scores, axis=1)[:, : TINY.k]
    best = np.take_along_axis(scores, order, axis=1)
    found = retrieval.searches(TINY, *vectors)
    assert set(found) == {retrieval.OURS, retrieval.UNSCALED}
    for name, search in found.items():
        retrieval.check(name, search(), (best, order))


def test_other_items_and_other_cosines_are_seen(vectors):
    scores, indices = retrieval.searches(TINY, *vectors)[retrieval.OURS]()
    for wrong in ((scores, indices + 1), (scores + 0.01, indices)):
        with pytest.raises(RuntimeError, match="theirs: cosines differ"):
            retrieval.check("theirs", wrong, (scores, indices))


def test_titles_are_those_of_the_design():
    small, large = retrieval.WORKLOADS["full"]
    assert small.title == "exact top-8 of 1e4 vectors (384-d), 64 queries"
    assert large.title == "exact top-8 of 1e6 vectors (384-d), 64 queries"


def test_faiss_finds_what_we_find_in_blocks_of_any_size(vectors):
    pytest.importorskip("faiss")
    ours = retrieval.searches(TINY, *vectors)[retrieval.OURS]()
    theirs = retrieval.faiss_searches(TINY, *vectors)
    assert len(theirs) == len(retrieval.BLOCKS)
    for name, search in theirs.items():
        retrieval.check(name, search(), ours)
