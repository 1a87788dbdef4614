"""Scores of predictions for known and novel classes.

Two published protocols are computed, since they can disagree widely. *Separate* matching (ORCA, LPS): plain
accuracy on known classes; on novel classes, and on all, accuracy under the best one-to-one matching of
predictions to classes, with a separate matching for each. *Single* matching (GCD): one matching over all
classes gives the accuracy on old and on new ones; it penalises a novel cluster on a known class.

Needs scipy; no scikit-learn.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores on one set of pictures; shares in [0, 1], NaN of an empty set.

    Attributes:
        seen: Accuracy on known classes, without matching.
        novel: Accuracy on novel classes, with a matching of their own.
        all: Accuracy on all classes, with one matching over all of them; equal to ``single_all``.
        single_all: Accuracy on all classes, with one matching over all of them.
        single_old: Accuracy on known classes under that matching.
        single_new: Accuracy on novel classes under that matching.
        nmi_novel: Normalised mutual information of predictions and classes on novel classes.
        nmi_all: The same on all classes.
        num_recovered: Novel classes with a cluster that holds more than half of the class, and of which more
            than half is the class.
        novel_as_seen: Share of pictures of novel classes that are predicted as a known class.
        seen_as_novel: The reverse.
        auroc: Area under the ROC curve of the novelty score for novel against known pictures; 0.5 is chance.
    """

    seen: float
    novel: float
    all: float
    single_all: float
    single_old: float
    single_new: float
    nmi_novel: float
    nmi_all: float
    num_recovered: int
    novel_as_seen: float
    seen_as_novel: float
    auroc: float

    @property
    def gap(self) -> float:
        """Accuracy on seen classes minus accuracy on novel classes."""
        return self.seen - self.novel


def score(true: IntArray, predicted: IntArray, novelty: FloatArray, *, num_known: int) -> Scores:
    """Compare predictions with classes.

    Args:
        true: Classes, ``(N,)``; below ``num_known`` for known ones.
        predicted: Predictions, ``(N,)``, not negative; below ``num_known`` for known classes.
        novelty: Novelty score of each picture, ``(N,)``; larger is more novel.
    """
    is_novel = true >= num_known
    known_true, known_predicted = true[~is_novel], predicted[~is_novel]
    novel_true, novel_predicted = true[is_novel], predicted[is_novel]
    matched = matching(true, predicted)
    hit = np.array([matched.get(int(cluster), -1) for cluster in predicted], dtype=np.int64) == true
    return Scores(
        seen=_mean(known_true == known_predicted),
        novel=matched_accuracy(novel_true, novel_predicted),
        all=_mean(hit),
        single_all=_mean(hit),
        single_old=_mean(hit[~is_novel]),
        single_new=_mean(hit[is_novel]),
        nmi_novel=normalised_mutual_information(novel_true, novel_predicted),
        nmi_all=normalised_mutual_information(true, predicted),
        num_recovered=num_recovered(true, predicted, num_known=num_known),
        novel_as_seen=_mean(novel_predicted < num_known),
        seen_as_novel=_mean(known_predicted >= num_known),
        auroc=auroc(is_novel, novelty),
    )


def contingency(true: IntArray, predicted: IntArray) -> IntArray:
    """Return the counts of each pair of prediction (row) and class (column), as a square matrix."""
    size = int(max(true.max(initial=-1), predicted.max(initial=-1))) + 1
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (predicted, true), 1)
    return counts


def matching(true: IntArray, predicted: IntArray) -> dict[int, int]:
    """Return the one-to-one map from predictions to classes with the most hits (the Hungarian method)."""
    counts = contingency(true, predicted)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True)}


def matched_accuracy(true: IntArray, predicted: IntArray) -> float:
    """Return the share of hits under `matching`; NaN of nothing.

    Examples:
        >>> matched_accuracy(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 7]))
        0.75
    """
    if not len(true):
        return float("nan")
    counts = contingency(true, predicted)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(true))


def normalised_mutual_information(true: IntArray, predicted: IntArray) -> float:
    """Return ``2 I(T; P) / (H(T) + H(P))``; 1 if both are constant, NaN of nothing."""
    if not len(true):
        return float("nan")
    joint = contingency(true, predicted) / len(true)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    entropies = _entropy(rows) + _entropy(columns)
    if entropies == 0:
        return 1.0
    return float(2 * (entropies - _entropy(joint.ravel())) / entropies)


def num_recovered(true: IntArray, predicted: IntArray, *, num_known: int) -> int:
    """Return how many novel classes share more than half of class and cluster with one cluster."""
    if not len(true):
        return 0
    counts = contingency(true, predicted)
    of_class, of_cluster = counts.sum(axis=0), counts.sum(axis=1)
    # Both halves are strict, so a class has at most one such cluster and the reverse.
    good = (2 * counts > of_class[None, :]) & (2 * counts > of_cluster[:, None])
    return int(good[:, num_known:].sum())


def auroc(positive: np.ndarray[Any, np.dtype[np.bool_]], scores: FloatArray) -> float:
    """Return the probability that a positive outranks a negative, ties counting half; NaN without a pair."""
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of equal scores, from 1
    above = ranks[inverse][positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def _entropy(p: FloatArray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _mean(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")
