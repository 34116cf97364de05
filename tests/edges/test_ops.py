"""What every public function of ``m3jax.ops`` does at the edges: a row each."""

import jax.numpy as jnp
import pytest

from m3jax import ops
from m3jax.ops import (
    alignment,
    bessel,
    contrastive,
    draft_lengths,
    exponential_integral,
    fair_round_trips,
    forecasting,
    gauss_markov,
    gaussians,
    gradient_surgery,
    hashing,
    kalman,
    latency_split,
    losses,
    masks,
    mixtures,
    numbers,
    quantities,
    ranking,
    retrieval,
    roots,
    round_trips,
    scores,
    subsets,
    sum_of_maxima,
    truncation,
    units,
    water_filling,
)
from m3jax.ops.bayesian import acquisition
from m3jax.testing import completeness
from m3jax.testing.edge_values import DTYPES, Row, check

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.array([1.5, 0.5, 2.0])
Y = jnp.array([0.5, 3.0, 1.0])
ONE = jnp.float32(1.5)
HALF = jnp.float32(0.5)
TABLE = jnp.array([[1.5, 0.5], [0.5, 3.0], [1.0, 1.0]])
SQUARE = jnp.array([[1.5, 0.5, 0.2], [0.5, 3.0, 0.1], [1.0, 1.0, 2.0]])
MASK = jnp.ones(3, bool)
LOGITS = jnp.array([[[1.5, 0.5], [0.5, 3.0], [1.0, 1.0]]])
LABELS = jnp.array([[1, 1, 1]])
TRIPS = round_trips.Trips(X, X, Y, Y, 0.1 * X)
GAUSSIAN = gaussians.Gaussian(X, Y)
MODEL = kalman.LinearGaussian(
    jnp.ones(1), jnp.eye(1), 0.9 * jnp.eye(1), jnp.eye(1), jnp.eye(1), jnp.eye(1)
)
SERIES = jnp.array([[1.5], [0.5], [1.0]])
FIT = forecasting.Autoregression(*(0.5 * jnp.ones(5)))


def infeasible(split):
    return split.status == latency_split.Status.INFEASIBLE


def solved_by(solver):
    """A solver whose gap and residual, which are rounding alone, are left out."""

    def solve(loads, *rest):
        split = solver(loads, *rest)
        return split._replace(gap=0.0, residual=0.0, num_iterations=0)

    return solve


FINDS_NOTHING = jnp.array([0.0, 1.0, 1.0])  # the query whose cosines hold NaN
ANY_QUERY = "uint8 uint32 int32"  # the poked query is a direction; ties differ by type
SPLIT = {"nan": infeasible, "inf": infeasible, "ninf": infeasible}

ROWS = [
    Row(alignment.alignment, (TABLE, TABLE[::-1], MASK), mask=2, inf="nan", ninf="nan"),
    Row(alignment.uniformity, (TABLE, MASK), mask=1, inf="nan", ninf="nan"),
    Row(
        lambda x: alignment.retrieval_at_k(x, 1),
        (SQUARE,),
        0,
        "alignment.retrieval_at_k",
        nan=FINDS_NOTHING,
        skip="empty",
    ),
    Row(bessel.j0, (X,), inf="nan", ninf="nan"),
    Row(contrastive.unit, (TABLE,), inf="nan", ninf="nan", grad="zero tiny huge"),
    Row(contrastive.similarity, (TABLE, TABLE), (0, 1), inf="nan", ninf="nan"),
    Row(contrastive.scale, (ONE,)),
    Row(contrastive.info_nce, (SQUARE, MASK), mask=1, inf="nan"),
    Row(contrastive.symmetric_info_nce, (SQUARE, MASK), mask=1, inf="nan"),
    Row(contrastive.sigmoid_loss, (SQUARE, MASK), mask=1),
    Row(
        contrastive.literal_info_nce,
        (0.1 * SQUARE,),
        inf="nan",
        ninf="lost",
        huge="nan",
        skip="one",
    ),
    Row(contrastive.information_bound, (SQUARE, MASK), mask=1, inf="nan"),
    Row(contrastive.same_rows, (TABLE,), nan="any", skip="empty"),
    Row(draft_lengths.expected_tokens, (HALF, jnp.float32(3.0)), (0, 1)),
    Row(draft_lengths.best_length, (HALF, X), (0, 1), nan="any"),
    Row(draft_lengths.paper_length, (HALF, HALF), (0, 1), nan=1),
    Row(exponential_integral.scaled_exp1, (X,), ninf="nan"),
    Row(
        solved_by(fair_round_trips.fair_bandwidths),
        (X, TRIPS, ONE),
        (0, 2),
        "fair_round_trips.fair_bandwidths",
        **SPLIT,
        grad="zero nan inf",
    ),
    Row(
        lambda x: forecasting.targets(x, 1),
        (SERIES,),
        0,
        "forecasting.targets",
        nan="any",
    ),
    Row(
        lambda x, m: forecasting.last_value(x, 1, m),
        (SERIES, jnp.ones((3, 1), bool)),
        0,
        "forecasting.last_value",
        mask=1,
        inf="any",
        ninf="any",
    ),
    Row(
        lambda x, w: forecasting.moving_average(x, 1, w),
        (SERIES, HALF),
        (0, 1),
        "forecasting.moving_average",
        inf="any",
        ninf="any",
    ),
    Row(forecasting.fit_moving_average, (SERIES,), inf="nan", ninf="nan", huge="nan"),
    Row(forecasting.fit_autoregression, (SERIES,), inf="nan", ninf="nan"),
    Row(
        lambda m, x: forecasting.autoregression(m, x, 1),
        (FIT, SERIES),
        1,
        "forecasting.autoregression",
    ),
    Row(gauss_markov.noisy, (HALF, ONE, ONE), (0, 1, 2)),
    Row(
        gauss_markov.least_error,
        (HALF, ONE, ONE),
        (0, 1, 2),
        inf="any",
        ninf="any",
        huge="any",
    ),
    Row(gaussians.kl_divergence, (GAUSSIAN, GAUSSIAN), inf="nan", ninf="nan"),
    Row(
        lambda q, p: gaussians.balanced_kl_divergence(q, p, 0.8),
        (GAUSSIAN, GAUSSIAN),
        0,
        "gaussians.balanced_kl_divergence",
        inf="nan",
        ninf="nan",
    ),
    Row(gradient_surgery.cosines, (TABLE,), inf="nan", ninf="nan"),
    Row(gradient_surgery.project_conflicting, (TABLE,), inf="nan", ninf="nan"),
    Row(hashing.sign_bits, (TABLE, TABLE), nan="any"),
    Row(hashing.agreement_probability, (TABLE, TABLE), (0, 1), inf="nan", ninf="nan"),
    Row(
        kalman.filter,
        (MODEL, SERIES, jnp.ones((3, 1), bool)),
        1,
        mask=2,
        inf="any",
        ninf="any",
        skip="empty",
    ),
    Row(
        lambda m, x, c: kalman.forecast(m, x, c, 2),
        (MODEL, jnp.ones(1), jnp.eye(1)),
        1,
        "kalman.forecast",
        skip="empty",
    ),
    Row(latency_split.latency, (X, Y, Y), (0, 1, 2), nan="lost", inf="any", zero="any"),
    Row(
        solved_by(latency_split.bandwidths),
        (X, Y, ONE),
        (0, 1, 2),
        "latency_split.bandwidths",
        **SPLIT,
        grad="zero nan inf",
    ),
    Row(
        solved_by(latency_split.fair_bandwidths),
        (X, Y, ONE),
        (0, 1, 2),
        "latency_split.fair_bandwidths",
        **SPLIT,
        grad="zero nan inf",
    ),
    Row(
        solved_by(latency_split.powers),
        (X, Y, Y, ONE),
        (0, 1, 2, 3),
        "latency_split.powers",
        **SPLIT,
        grad="zero nan inf",
    ),
    Row(
        losses.token_cross_entropy,
        (LOGITS, LABELS, jnp.ones((1, 3), bool)),
        mask=2,
        inf="lost",
    ),
    Row(losses.score_answers, (LOGITS, LABELS)),
    Row(losses.answer_log_likelihood, (LOGITS, LABELS)),
    Row(losses.score_first_words, (LOGITS, LABELS)),
    Row(losses.bag_of_words, (TABLE, MASK, LABELS[0, :2], MASK[:2]), mask=1, inf="any", ninf="any", skip="all_masked"),
    Row(masks.keep, (TABLE, MASK), mask=1),
    Row(masks.masked_mean, (TABLE, MASK), mask=1),
    Row(masks.masked_mean_square, (TABLE, MASK), mask=1, grad="zero"),
    Row(masks.abs_square, (X,), grad="zero"),
    Row(
        mixtures.loss, (X / 4.0, -SQUARE, X / 4.0), (0, 1, 2), ninf="any", skip="empty"
    ),
    Row(
        mixtures.em_step,
        (X / 4.0, -SQUARE, X / 4.0),
        (0, 1, 2),
        inf="any",
        ninf="any",
        skip="empty",
    ),
    Row(mixtures.certificate, (X, MASK)),
    Row(
        lambda p, w, m: mixtures.fit(p, w, m),
        (-SQUARE, X / 4.0, MASK),
        (0, 1),
        "mixtures.fit",
        inf="nan",
        skip="empty",
    ),
    Row(numbers.as_float, (X,)),
    Row(numbers.as_floats, (X, Y), (0, 1)),
    Row(numbers.host_float, (X,)),
    Row(numbers.unit_scale, (X,), nan="any"),
    Row(numbers.peak, (X,)),
    Row(lambda x: numbers.gated(x, x > 0), (X,), 0, "numbers.gated"),
    Row(lambda x: quantities.Dbm(x).to_w(), (X,), 0, "quantities.Dbm.to_w"),
    Row(lambda x: quantities.Db(x).to_ratio(), (X,), 0, "quantities.Db.to_ratio"),
    Row(
        lambda x: quantities.Ratio(x).to_db(),
        (X,),
        0,
        "quantities.Ratio.to_db",
        ninf="nan",
        zero="lost",
    ),
    Row(
        lambda x: quantities.Watt(x).to_dbm(),
        (X,),
        0,
        "quantities.Watt.to_dbm",
        ninf="nan",
        zero="lost",
    ),
    Row(lambda x: quantities.Watt(x).sum(), (X,), 0, "quantities.Watt.sum"),
    Row(ranking.roc_auc, (X, jnp.array([True, False, True])), skip="empty one"),
    Row(
        lambda queries, m: retrieval.top_k(queries, TABLE, 1, m),
        (TABLE, MASK),
        0,
        "retrieval.top_k",
        inf="any",
        ninf="any",
        skip=ANY_QUERY,
    ),
    Row(
        lambda queries: retrieval.top_k_mask(queries, TABLE, 1),
        (TABLE,),
        0,
        "retrieval.top_k_mask",
        inf="any",
        ninf="any",
        nan="any",
        skip=ANY_QUERY,
    ),
    Row(
        lambda queries: retrieval.above(queries, TABLE, 0.5),
        (TABLE,),
        0,
        "retrieval.above",
        inf="any",
        ninf="any",
        nan="any",
        skip=ANY_QUERY,
    ),
    Row(roots.sqrt, (X,), grad="zero"),
    Row(round_trips.seconds, (TRIPS, X), (0, 1), nan="lost"),
    Row(round_trips.unlimited_seconds, (TRIPS,), nan="lost"),
    Row(round_trips.needed_bandwidths, (TRIPS, 10 * X), (0, 1), nan="lost"),
    Row(
        scores.negative_log_likelihood,
        (TABLE, TABLE, jnp.ones(2)),
        (0, 1, 2),
        ninf="any",
        zero="any",
    ),
    Row(scores.crps, (TABLE, TABLE, jnp.ones(2)), (0, 1, 2), inf="any", ninf="any"),
    Row(scores.probability_transform, (TABLE, TABLE, jnp.ones(2)), (0, 1, 2)),
    Row(lambda x: scores.covered(x, 0.9), (X / 3.0,), 0, "scores.covered", nan="any"),
    Row(subsets.sums, (X,)),
    Row(subsets.maxima, (X,)),
    Row(subsets.mean_maxima, (TABLE,)),
    Row(
        solved_by(sum_of_maxima.sum_of_maxima),
        (SQUARE, TRIPS, ONE),
        (0, 2),
        "sum_of_maxima.sum_of_maxima",
        **SPLIT,
    ),
    Row(
        sum_of_maxima.lower_bound,
        (SQUARE, TRIPS, ONE, SQUARE),
        (0, 2, 3),
        inf="any",
        ninf="any",
        tiny="any",
    ),
    Row(
        lambda x: truncation.top_k_renormalised(x, 2),
        (-X,),
        0,
        "truncation.top_k_renormalised",
        inf="nan",
    ),
    Row(units.db_to_lin, (X,)),
    Row(units.lin_to_db, (X,), ninf="nan", zero="lost"),
    Row(
        water_filling.powers, (X, ONE, X), (0, 1, 2), inf="any", ninf="any", zero="any"
    ),
    Row(
        acquisition.expected_improvement, (X, Y, ONE), (0, 1, 2), inf="any", ninf="any"
    ),
    Row(acquisition.log_expected_improvement, (X, Y, ONE), (0, 1, 2)),
    Row(acquisition.log_probability_below, (X, Y), (0, 1)),
    Row(acquisition.probability_below, (X, Y), (0, 1)),
    Row(acquisition.constrained, (TABLE, TABLE, ONE), (0, 1, 2), inf="any", ninf="any"),
]

EXEMPT = {
    "paths.*": "trees and names, no numbers",
    "tracing.*": "configs, no numbers",
    "random.*": "keys in, numbers out",
    "threefry.*": "keys in, numbers out",
    "batch_last.batch_last": "a transformation of functions",
    "equal_levels.equalise": "takes a function; reached through latency_split",
    "max_interior.*": "the inside of sum_of_maxima, which sees safe numbers only",
    "max_newton.*": "the inside of sum_of_maxima, which sees safe numbers only",
    "fair_round_trips.solve": "the inside of fair_bandwidths, without its checks",
    "fair_round_trips.iterate": "the inside of fair_bandwidths, without its checks",
    "round_trips.make_curve": "the inside of the solvers; reached through seconds",
    "round_trips.feasible_part": "the inside of the solvers",
    "round_trips.at": "takes a curve that has been checked",
    "round_trips.at_log": "takes a curve that has been checked",
    "cosine_chunks.*": "the inside of retrieval",
    "retrieval_faiss.*": "of an extra; held to retrieval by its tests",
    "retrieval.check": "shapes and known NaN; reached through top_k",
    "retrieval.check_k": "a setting",
    "retrieval.check_threshold": "a setting",
    "hashing.random_planes": "a key in, numbers out",
    "hashing.agreement": "bits",
    "contrastive.masked": "the inside of the losses",
    "kalman.smooth": "takes what filter gave",
    "losses.token_accuracy": "token ids",
    "losses.exact_match": "token ids",
    "mixtures.by_group": "host only, NumPy",
    "intervals.*": "host only, NumPy and SciPy",
    "subsets.masks": "settings",
    "subsets.nested": "settings",
    "subsets.index": "bits",
    "subsets.members": "integers",
    "subsets.maximal": "bits",
    "subsets.pareto_front": "host only, NumPy",
    "quantities.require": "types, no numbers",
    "units.check_snr_db": "host only; a clear error, held by its tests",
    "numbers.require_some": "shapes; reached through others",
    "numbers.ceil_ratio": "host only; held to exact fractions below",
    "bayesian.baselines.*": "takes a function; held by its tests",
    "bayesian.candidates.*": "takes a function or a key",
    "bayesian.search.*": "takes a function or a key; NaN held by its tests",
    "bayesian.space.*": "settings",
    "bayesian.surrogate.*": "the inside of search, on standardised values",
    "bayesian.trace.*": "takes a function",
}


# What takes more than a second, to compile its solver: with the slow tests only.
SLOW = {
    "fair_round_trips.fair_bandwidths",
    "latency_split.bandwidths",
    "latency_split.fair_bandwidths",
    "latency_split.powers",
    "m3jax.ops.sum_of_maxima.lower_bound",
    "mixtures.fit",
    "sum_of_maxima.sum_of_maxima",
}


@pytest.mark.parametrize("row", [r for r in ROWS if r.covers not in SLOW], ids=str)
def test_edges(row):
    check(row, dtypes=["uint8"], quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_edges_in_every_type(row):
    check(row, dtypes=DTYPES)


def test_every_function_has_a_row_or_a_reason():
    assert completeness.missing(ops, [row.covers for row in ROWS], EXEMPT) == []
