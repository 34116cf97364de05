"""Retrieval against sorting all cosines, in one chunk and in many, and FAISS."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.ops import cosine_chunks, retrieval, retrieval_faiss
from m3jax.testing import traces

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
Q, M, D, K = 5, 700, 8, 4
QUERIES = RNG.normal(size=(Q, D)).astype(np.float32)
ITEMS = RNG.normal(size=(M, D)).astype(np.float32) * RNG.uniform(0.1, 9, (M, 1))
ITEMS = ITEMS.astype(np.float32)
SHARED = RNG.random(M) < 0.3
OWN = RNG.random((Q, M)) < 0.3
OWN[1] = np.arange(M) == 7
OWN[2] = False
OWN[2, [3, 200]] = True
MASKS = {"all": None, "shared": SHARED, "own": OWN}
# Of length 0, 1 and 2: cosines with axes are exact, and most of them tie.
SIGNS = RNG.integers(-1, 2, size=(M, 4)).astype(np.float32)
SIGNS = SIGNS[np.isin(np.abs(SIGNS).sum(axis=1), (0, 1, 4))]
AXES = np.array([[1, 0, 0, 0], [0, 0, 0, 4], [-2, 0, 0, 0], [0, 0, 0, 0]], np.float32)


def forget():
    """Drops what was compiled for chunks of another size."""
    for program in (retrieval._top_k, retrieval._above):
        program.clear_cache()


@pytest.fixture(scope="module", params=[8192, 300])
def chunk(request):
    """Runs a test with one chunk, and with several whose last one overlaps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cosine_chunks, "CHUNK", request.param)
        forget()
        yield request.param
    forget()


def cosines(queries, items, mask=None):
    queries, items = (np.asarray(x, np.float64) for x in (queries, items))
    lengths = [np.linalg.norm(x, axis=1) for x in (queries, items)]
    scale = np.outer(*(np.where(n > 0, n, 1.0) for n in lengths))
    found = queries @ items.T / scale
    return found if mask is None else np.where(mask, found, -np.inf)


def sorted_out(scores, k):
    """The k best by sorting: -inf and -1 where nothing is left."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    return best, np.where(np.isinf(best), -1, order)


def at_least(scores, threshold):
    """What reaches the threshold, or the best."""
    found = scores >= threshold
    lacking = ~found.any(axis=1)
    found[lacking, scores[lacking].argmax(axis=1)] = True
    return found


@pytest.mark.parametrize(("which", "k"), [("all", K), ("shared", 1), ("own", 40)])
def test_the_best_are_those_of_sorting(which, k, chunk):
    scores, indices = retrieval.top_k(QUERIES, ITEMS, k, MASKS[which])
    expected = sorted_out(cosines(QUERIES, ITEMS, MASKS[which]), k)
    np.testing.assert_allclose(scores, expected[0], atol=1e-6)
    np.testing.assert_array_equal(indices, expected[1])


@pytest.mark.parametrize("k", [3, 20])
def test_equal_scores_are_ranked_by_index(k, chunk):
    expected = sorted_out(cosines(AXES, SIGNS), k)
    assert (np.diff(expected[0], axis=1) == 0).sum() > 2 * k
    scores, indices = retrieval.top_k(AXES, SIGNS, k)
    np.testing.assert_allclose(scores, expected[0], atol=1e-6)
    np.testing.assert_array_equal(indices, expected[1])
    # A zero query is as like to one item as to any other.
    np.testing.assert_array_equal(indices[3], np.arange(k))


@pytest.mark.parametrize("which", MASKS)
@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.99])
def test_above_is_a_comparison_that_is_never_empty(which, threshold, chunk):
    scores = cosines(QUERIES, ITEMS, MASKS[which])
    found = retrieval.above(QUERIES, ITEMS, threshold, MASKS[which])
    np.testing.assert_array_equal(found, at_least(scores, threshold))
    assert found.any(axis=1).all()


def test_above_falls_back_to_the_first_of_the_best(chunk):
    away = np.concatenate([-np.abs(ITEMS), -np.eye(D, dtype=np.float32)])
    found = retrieval.above(np.eye(D, dtype=np.float32), away, 0.5)
    assert found.sum() == D
    np.testing.assert_array_equal(found, at_least(cosines(np.eye(D), away), 0.5))
    found = retrieval.above(np.zeros((1, D)), ITEMS, 0.5)
    np.testing.assert_array_equal(np.flatnonzero(found), [0])


@pytest.mark.parametrize("which", MASKS)
def test_the_marked_are_the_best(which):
    mask = MASKS[which]
    found = np.asarray(retrieval.top_k_mask(QUERIES, ITEMS, K, mask))
    _, indices = sorted_out(cosines(QUERIES, ITEMS, mask), K)
    for row, expected in zip(found, indices, strict=True):
        assert set(np.flatnonzero(row)) == set(expected) - {-1}


def test_lengths_make_no_difference_and_known_units_the_same(chunk):
    one, scaled = (retrieval.top_k(s * QUERIES, ITEMS / s, K) for s in (1, 100))
    units = ITEMS / np.linalg.norm(ITEMS, axis=1, keepdims=True)
    known = retrieval.top_k(QUERIES, units, K, unit_items=True)
    for other in (scaled, known):
        np.testing.assert_allclose(other[0], one[0], atol=1e-6)
        np.testing.assert_array_equal(other[1], one[1])


def test_a_batch_of_pools_is_a_loop_and_compiles_once():
    pools = RNG.normal(size=(3, 7, D)).astype(np.float32)
    live = np.array([[1] * 7, [0, 1, 1, 0, 0, 1, 0], [0] * 6 + [1]], bool)

    def choose(items, live):
        return retrieval.top_k(QUERIES, items, 2, live)

    together = traces.assert_no_retrace(jax.vmap(choose), [(pools, live)] * 2)[0]
    for i in range(3):
        alone = choose(pools[i], live[i])
        np.testing.assert_allclose(together[0][i], alone[0], atol=1e-6)
        np.testing.assert_array_equal(together[1][i], alone[1])


def test_inside_a_program_an_empty_mask_is_one_of_all():
    empty = np.zeros((Q, M), bool)
    empty[0] = SHARED
    allowed = SHARED | (np.arange(Q) > 0)[:, None]
    expected = sorted_out(cosines(QUERIES, ITEMS, allowed), K)
    run = jax.jit(functools.partial(retrieval.top_k, k=K))
    np.testing.assert_array_equal(run(QUERIES, ITEMS, mask=empty)[1], expected[1])
    none = run(QUERIES, ITEMS, mask=np.zeros(M, bool))
    np.testing.assert_array_equal(none[1], retrieval.top_k(QUERIES, ITEMS, K)[1])


def test_inside_a_program_nan_ranks_last_and_is_told(chunk):
    items = ITEMS[:6].copy()
    items[2] = np.nan
    queries = np.stack([QUERIES[0], np.full(D, np.nan, np.float32)])
    mask = np.arange(6) != 4
    scores, indices = jax.jit(functools.partial(retrieval.top_k, k=6))(
        queries, items, mask=mask
    )
    rest = [0, 1, 3, 5]
    expected = sorted(rest, key=lambda i: -cosines(QUERIES[:1], ITEMS)[0, i])
    assert indices[0].tolist() == [*expected, 2, -1]
    assert np.isnan(scores[0, 4]) and np.isneginf(scores[0, 5])
    assert indices[1].tolist() == [0, 1, 2, 3, 5, -1]
    assert np.isnan(scores[1, :5]).all()
    found = jax.jit(retrieval.above)(queries, items, -1.0, mask)
    assert np.flatnonzero(found[0]).tolist() == rest
    assert np.flatnonzero(found[1]).tolist() == [0]


def test_answers_have_no_gradient():
    slope = jax.grad(lambda q, i: retrieval.top_k(q, i, 1)[0].sum(), (0, 1))
    for part in slope(jnp.asarray(QUERIES), jnp.asarray(ITEMS)):
        np.testing.assert_array_equal(part, 0.0)


def spoilt(x):
    x = x.copy()
    x[1, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((QUERIES, ITEMS, 0), "k must lie between 1 and 700"),
        ((QUERIES, ITEMS, M + 1), "k must lie between 1 and 700"),
        ((QUERIES[0], ITEMS, 1), r"queries must be \[Q, D\]"),
        ((QUERIES, ITEMS[:, :3], 1), r"items \[M, D\], got \[5, 8\] and \[700, 3\]"),
        ((QUERIES, ITEMS[:0], 1), "queries and items must not be empty"),
        ((spoilt(QUERIES), ITEMS, 1), "queries hold NaN"),
        ((QUERIES, spoilt(ITEMS), 1), "items hold NaN"),
        ((QUERIES, ITEMS, 1, SHARED[:9]), r"a mask must be \[700\] or \[5, 700\]"),
        ((QUERIES, ITEMS, 1, np.zeros(M, bool)), "1 of 1 masks are empty"),
        ((QUERIES, ITEMS, 1, OWN & (OWN.sum(1) > 2)[:, None]), "2 of 5 masks"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    for top_k in (retrieval.top_k, retrieval_faiss.top_k):
        with pytest.raises(ValueError, match=message):
            top_k(*arguments)


def test_a_threshold_that_is_no_cosine_is_refused():
    for above in (retrieval.above, retrieval_faiss.above):
        with pytest.raises(ValueError, match="threshold"):
            above(QUERIES, ITEMS, 1.5)


@pytest.fixture
def needs_faiss():
    pytest.importorskip("faiss")


@pytest.mark.parametrize("which", MASKS)
def test_faiss_gives_the_same_answers(which, needs_faiss):
    arguments = QUERIES, ITEMS, K, MASKS[which]
    ours, theirs = (lib.top_k(*arguments) for lib in (retrieval, retrieval_faiss))
    np.testing.assert_allclose(theirs[0], ours[0], atol=1e-6)
    np.testing.assert_array_equal(theirs[1], ours[1])
    assert [x.dtype for x in theirs] == [x.dtype for x in ours]
    marked = [lib.top_k_mask(*arguments) for lib in (retrieval, retrieval_faiss)]
    np.testing.assert_array_equal(*marked)
    for threshold in (0.3, 0.99):
        arguments = QUERIES, ITEMS, threshold, MASKS[which]
        found = [lib.above(*arguments) for lib in (retrieval, retrieval_faiss)]
        np.testing.assert_array_equal(*found)


def test_faiss_ranks_equal_scores_by_index_and_reaches_a_threshold_too(needs_faiss):
    for k in (1, 20):
        ours, theirs = (lib.top_k(AXES, SIGNS, k) for lib in both())
        np.testing.assert_array_equal(theirs[1], ours[1])
    for threshold in (0.5, 1.0):
        found = [lib.above(AXES, SIGNS, threshold) for lib in both()]
        np.testing.assert_array_equal(*found)
        assert found[0].sum() > 4


def both():
    return retrieval, retrieval_faiss


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    retrieval_faiss._faiss.cache_clear()
    with pytest.raises(RuntimeError, match=r"pip install 'm3jax\[retrieval\]'"):
        retrieval_faiss.top_k(QUERIES, ITEMS, 1)
    retrieval_faiss._faiss.cache_clear()
