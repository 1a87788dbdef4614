"""From features and logits to classes, for methods without novel prototypes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeflow.errors import ConfigError
from edgeflow.openworld import predict


def _clouds(num_classes: int, each: int) -> tuple[torch.Tensor, torch.Tensor]:
    classes = torch.arange(num_classes).repeat_interleave(each)
    return torch.eye(6)[classes] + 0.05 * torch.randn(len(classes), 6), classes


def test_novelty_is_one_minus_the_largest_known_probability() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 5.0]])

    found = predict.novelty(logits, 2)

    p = logits.softmax(dim=1)
    assert found == pytest.approx([1 - float(p[0, 0]), 1 - float(p[1, 0])])


def test_rejection_takes_the_least_confident_and_clusters_them() -> None:
    """Classes 0 and 1 are known and sure; 2 and 3 have flat logits, and are told apart by their features."""
    features, classes = _clouds(4, 20)
    logits = torch.zeros(80, 4)
    logits[torch.arange(40), classes[:40]] = 6.0

    predictor = predict.fit_rejection(features, logits, num_known=2, num_novel=2, novel_share=0.5, seed=0)
    found = predictor(features, logits)

    assert found[:40].tolist() == classes[:40].tolist()
    assert {tuple(set(found[40:60])), tuple(set(found[60:]))} == {(2,), (3,)}


def test_clusters_take_the_names_that_most_labels_give_them() -> None:
    features, classes = _clouds(5, 20)
    labelled = torch.arange(0, 60, 2)

    predictor = predict.fit_clusters(
        features, labelled, classes[labelled], num_known=3, num_classes=5, seed=0
    )
    found = predictor(features, torch.zeros(100, 5))

    assert found[:60].tolist() == classes[:60].tolist()
    assert {tuple(set(found[60:80])), tuple(set(found[80:]))} == {(3,), (4,)}


def test_every_cluster_gets_a_class_of_its_own() -> None:
    clusters, labels = np.array([2, 2, 2, 0, 0, 1]), np.array([0, 0, 1, 1, 1, 0])

    assert predict.name_clusters(clusters, labels, num_known=2, num_classes=4).tolist() == [1, 2, 0, 3]


def test_more_clusters_than_features_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 features do not make 4 clusters"):
        predict.kmeans(torch.randn(3, 2), 4, seed=0)
