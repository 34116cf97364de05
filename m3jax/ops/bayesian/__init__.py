"""Bayesian optimisation of few variables whose values are dear.

``space`` says what may be chosen, ``search`` chooses by a Gaussian process
(``surrogate``) and ``acquisition``; ``baselines`` are what it must beat. The surrogate
needs the extra ``m3jax[bayesopt]``, which is imported where it is used only.
"""

from m3jax.ops.bayesian.baselines import (
    Optimum,
    enumerate_all,
    grid_search,
    random_search,
)
from m3jax.ops.bayesian.search import Settings, State, ask, minimise, start, tell
from m3jax.ops.bayesian.space import Dimension, Space
from m3jax.ops.bayesian.trace import Trace

__all__ = [
    "Dimension",
    "Optimum",
    "Settings",
    "Space",
    "State",
    "Trace",
    "ask",
    "enumerate_all",
    "grid_search",
    "minimise",
    "random_search",
    "start",
    "tell",
]
