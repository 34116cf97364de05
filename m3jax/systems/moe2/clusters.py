"""Prompts by cluster: k-means on their embeddings, and batches to tune experts on.

Nobody says which domain a prompt is of; prompts that a base model embeds alike are
given to one expert (MoE2, section V-A and appendix A, with the pretrained base in the
place of mGTE).
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import jax
import numpy as np
from sklearn import cluster

from m3jax import base
from m3jax.data import pipeline
from m3jax.data.edgetext import dataset, domains
from m3jax.systems.moe2 import pool as pool_lib
from m3jax.train import pretrained, typed_json

_BATCH = 500


@dataclasses.dataclass
class Config:
    """EdgeText as experts are tuned on it: row i of a batch is for expert ``i mod N``.

    Attributes:
      text: the set.
      embedder: name of the pretrained pool whose base embeds the prompts.
      num_experts: clusters, N.
      foreign: share of an expert's rows that are drawn of all clusters, not its own.
      seed: of k-means and of the order of the rows.
    """

    text: dataset.Config = dataclasses.field(default_factory=dataset.Config)
    embedder: str = "edge_base"
    num_experts: int = 8
    foreign: float = 0.35
    seed: int = 0

    groups: ClassVar[tuple[str, ...]] = dataset.Config.groups
    group_key: ClassVar[str] = dataset.Config.group_key

    @property
    def data_dir(self) -> str | None:
        """Where sets live."""
        return self.text.data_dir

    @property
    def version(self) -> str:
        """Name, version and variant."""
        return self.text.version

    @property
    def features(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example's features."""
        return self.text.features

    def validate(self) -> None:
        """Raises ValueError naming the first field that can't be used."""
        self.text.validate()
        if self.num_experts < 1:
            raise ValueError("data.num_experts must be at least 1")
        if not 0 <= self.foreign <= 1:
            raise ValueError(f"data.foreign is {self.foreign}; give a share in [0, 1]")

    def source(self, split: str) -> pipeline.Source:
        """A split: "train", "validation" or "test"."""
        return self.text.source(split)

    def batches(
        self, features: Sequence[str], batch_size: int, seed: int
    ) -> Iterable[base.Batch]:
        """Training batches without end, the experts' rows in turn."""
        arrays = self._tuning(dict.fromkeys((*features, "question")))
        embedded = embed(self.embedder, arrays["question"])
        labels = nearest(embedded, fit(embedded, self.num_experts, self.seed))
        rows = _Rows(arrays, labels, self.num_experts, self.foreign, self.seed + seed)
        return pipeline.batches(
            rows, batch_size=batch_size, seed=0, shuffle=False, features=features
        )

    def centres(self) -> np.ndarray:
        """The clusters' centres, float32 [N, D]; cluster n is expert n's."""
        asked = self._tuning(("question",))["question"]
        return fit(embed(self.embedder, asked), self.num_experts, self.seed)

    def _tuning(self, features: Iterable[str]) -> dict[str, np.ndarray]:
        """The examples of "experts", without the domain that is held out."""
        names = dict.fromkeys((*features, self.group_key))
        arrays = pipeline.as_arrays(self.text.source("experts"), None, list(names))
        tuned = arrays[self.group_key] != domains.DOMAINS.index(domains.HELD_OUT)
        return {name: array[tuned] for name, array in arrays.items()}


def embed(name: str, questions: np.ndarray) -> np.ndarray:
    """Embeddings of prompts by a pretrained pool's base.

    Args:
      name: of the pool.
      questions: int32 [M, Q].

    Returns:
      float32 [M, D], of unit length.
    """
    run, params = _embedder(name)
    parts = pipeline.split_batches({"question": questions}, _BATCH)
    return np.concatenate([np.asarray(run(params, p["question"])) for p in parts])


def fit(embeddings: np.ndarray, num: int, seed: int = 0) -> np.ndarray:
    """Centres of clusters by k-means, [K, D].

    Args:
      embeddings: [M, D].
      num: K.
      seed: of the starts, of which the best of ten is taken.

    Raises:
      ValueError: there are fewer prompts than clusters.
    """
    if len(embeddings) < num:
        raise ValueError(
            f"{len(embeddings)} prompts cannot make {num} clusters; give more prompts,"
            " or a smaller data.num_experts"
        )
    made = cluster.KMeans(num, n_init=10, random_state=seed).fit(embeddings)
    return np.asarray(made.cluster_centers_, np.float32)


def nearest(embeddings: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The cluster of each prompt, int32 [M]."""
    distances = np.sum(centres**2, axis=1) - 2 * embeddings @ centres.T
    return np.argmin(distances, axis=1).astype(np.int32)


def shares(labels: np.ndarray, groups: np.ndarray, num: int, count: int) -> np.ndarray:
    """Of each domain, how much of it lies in each cluster (MoE2, figure 6).

    Args:
      labels: clusters of prompts, int [M], below ``num``.
      groups: their domains, int [M], below ``count``.
      num: clusters, K.
      count: domains, G.

    Returns:
      float64 ``[G, K]``; rows of domains that occur sum to one.
    """
    table = np.zeros((count, num))
    np.add.at(table, (groups, labels), 1.0)
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)


@functools.lru_cache(maxsize=2)
def _embedder(name: str):
    params, card = pretrained.load(name)
    made = pool_lib.Pool(typed_json.from_json(card["config"]).system)
    return jax.jit(made.embed), jax.device_put(params)


class _Rows:
    """Rows for experts in turn, without end: row i is of expert ``i mod N``."""

    def __init__(self, arrays, labels, num: int, foreign: float, seed: int):
        self._arrays, self._foreign, self._seed = arrays, foreign, seed
        self._own = [np.flatnonzero(labels == n) for n in range(num)]

    def __len__(self) -> int:
        return 2**31 - 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self._seed, index))
        own = self._own[index % len(self._own)]
        if rng.uniform() < self._foreign or not len(own):
            row = rng.integers(len(self._arrays["question"]))
        else:
            row = own[rng.integers(len(own))]
        return {name: array[row] for name, array in self._arrays.items()}
