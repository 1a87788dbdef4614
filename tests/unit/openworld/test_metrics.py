"""Metrics against brute force over all matchings, against scikit-learn, and by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score

from edgeflow.openworld import metrics


@pytest.mark.parametrize("seed", range(20))
def test_matched_accuracy_is_the_best_of_all_matchings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, 4, 30), rng.integers(0, 5, 30)

    best = max(
        sum(order[p] == t for t, p in zip(true, predicted, strict=True)) for order in permutations(range(5))
    )
    assert metrics.matched_accuracy(true, predicted) == pytest.approx(best / 30)


@pytest.mark.parametrize("seed", range(10))
def test_mutual_information_and_auroc_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, 4, 50), rng.integers(0, 6, 50)
    positive, scores = rng.random(50) < 0.4, rng.integers(0, 8, 50).astype(np.float64)

    assert metrics.normalised_mutual_information(true, predicted) == pytest.approx(
        normalized_mutual_info_score(true, predicted)
    )
    assert metrics.auroc(positive, scores) == pytest.approx(roc_auc_score(positive, scores))


def test_single_matching_shows_a_novel_cluster_that_sits_on_a_known_class() -> None:
    """Class 1 (novel) is predicted as 0, where class 0 is too: apart both look perfect, together not."""
    true, predicted = np.array([0] * 4 + [1] * 6), np.zeros(10, dtype=np.int64)

    scores = metrics.score(true, predicted, np.zeros(10), num_known=1)

    assert (scores.seen, scores.novel, scores.gap) == (1, 1, 0)
    assert (scores.single_all, scores.single_old, scores.single_new) == (0.6, 0, 1)
    assert (scores.novel_as_seen, scores.seen_as_novel, scores.num_recovered) == (1, 0, 1)


def test_perfect_predictions_up_to_the_order_of_novel_classes() -> None:
    true = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    predicted = np.array([0, 0, 1, 1, 3, 3, 2, 2])

    scores = metrics.score(true, predicted, (true >= 2).astype(np.float64), num_known=2)

    assert (scores.seen, scores.novel, scores.all, scores.single_new) == (1, 1, 1, 1)
    assert scores.nmi_novel == scores.nmi_all == pytest.approx(1)
    assert (scores.num_recovered, scores.auroc) == (2, 1)


def test_recovered_needs_more_than_half_both_ways() -> None:
    true = np.array([1, 1, 1, 1, 2, 2, 2, 2])

    # Half of class 1 is not more than half; the cluster of class 2 is two thirds class 2.
    assert metrics.num_recovered(true, np.array([5, 5, 6, 6, 6, 6, 6, 6]), num_known=1) == 1
    assert metrics.num_recovered(true, np.array([5, 5, 5, 5, 5, 5, 5, 5]), num_known=1) == 0


def test_of_nothing() -> None:
    nothing = np.zeros(0, dtype=np.int64)

    scores = metrics.score(nothing, nothing, np.zeros(0), num_known=1)

    assert np.isnan([scores.seen, scores.novel, scores.all, scores.nmi_novel, scores.auroc]).all()
