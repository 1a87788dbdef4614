"""Predict classes from features and logits, for open-world methods and for extended closed-world ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from edgeflow.errors import ConfigError
from edgeflow.openworld.metrics import FloatArray, IntArray


class Predictor(Protocol):
    """Assigns a class to every picture."""

    def __call__(self, features_ND: Tensor, logits_NK: Tensor) -> IntArray:
        """Return classes ``(N,)``; known ones first."""
        ...


def novelty(logits_NK: Tensor, num_known: int) -> FloatArray:
    """Return the novelty score ``1 - max over known classes of softmax(z)``, ``(N,)``."""
    known_N = logits_NK.softmax(dim=1)[:, :num_known].max(dim=1).values
    return (1 - known_N).numpy()


def kmeans(features_ND: Tensor, num_clusters: int, *, seed: int) -> tuple[IntArray, Tensor]:
    """Return clusters ``(N,)`` and centres ``(num_clusters, D)`` of normalised features.

    Raises:
        ConfigError: If there are fewer features than clusters, or scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise ConfigError(f"clustering needs scikit-learn ({error}): pip install scikit-learn") from error
    if len(features_ND) < num_clusters:
        raise ConfigError(f"{len(features_ND)} features do not make {num_clusters} clusters")
    points = torch.nn.functional.normalize(features_ND, dim=1).double().numpy()
    fitted = KMeans(num_clusters, n_init=10, random_state=seed).fit(points)
    return fitted.labels_.astype(np.int64), torch.from_numpy(fitted.cluster_centers_).float()


def nearest(features_ND: Tensor, centres_KD: Tensor) -> IntArray:
    """Return the nearest centre of every normalised feature."""
    points = torch.nn.functional.normalize(features_ND, dim=1)
    found: IntArray = torch.cdist(points, centres_KD).argmin(dim=1).numpy()
    return found


def argmax(features_ND: Tensor, logits_NK: Tensor) -> IntArray:
    """Predict the class of the largest logit."""
    found: IntArray = logits_NK.argmax(dim=1).numpy()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectThenCluster:
    """Predicts a known class if its probability is large enough, else the nearest novel cluster."""

    threshold: float
    num_known: int
    centres_KD: Tensor

    def __call__(self, features_ND: Tensor, logits_NK: Tensor) -> IntArray:
        confidence_N, class_N = logits_NK[:, : self.num_known].softmax(dim=1).max(dim=1)
        clusters = self.num_known + nearest(features_ND, self.centres_KD)
        found: IntArray = np.where((confidence_N >= self.threshold).numpy(), class_N.numpy(), clusters)
        return found


def fit_rejection(
    features_ND: Tensor, logits_NK: Tensor, *, num_known: int, num_novel: int, novel_share: float, seed: int
) -> RejectThenCluster:
    """Extend a closed-world classifier: reject the least confident pictures, and cluster these.

    Args:
        features_ND: Features of unlabelled pictures, as are the logits.
        novel_share: Share of pictures to reject. Callers pass the true share, as is customary for these
            baselines; no method knows it in practice, so the comparison favours them.
    """
    confidence_N = logits_NK[:, :num_known].softmax(dim=1).max(dim=1).values
    num_rejected = max(round(novel_share * len(confidence_N)), num_novel)
    order = confidence_N.argsort(stable=True)
    rejected = order[:num_rejected]
    _, centres = kmeans(features_ND[rejected], num_novel, seed=seed)
    threshold = float(confidence_N[order[num_rejected]]) if num_rejected < len(order) else float("inf")
    return RejectThenCluster(threshold=threshold, num_known=num_known, centres_KD=centres)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestCluster:
    """Predicts the class of the nearest cluster."""

    centres_KD: Tensor
    class_of: IntArray

    def __call__(self, features_ND: Tensor, logits_NK: Tensor) -> IntArray:
        found: IntArray = self.class_of[nearest(features_ND, self.centres_KD)]
        return found


def fit_clusters(
    features_ND: Tensor, labelled: Tensor, labels: Tensor, *, num_known: int, num_classes: int, seed: int
) -> NearestCluster:
    """Cluster all pictures; match clusters to known classes on the labelled ones.

    Args:
        features_ND: Features of all training pictures.
        labelled: Positions of those with labels.
        labels: Their classes.
    """
    clusters, centres = kmeans(features_ND, num_classes, seed=seed)
    return NearestCluster(
        centres_KD=centres,
        class_of=name_clusters(
            clusters[labelled.numpy()], labels.numpy(), num_known=num_known, num_classes=num_classes
        ),
    )


def name_clusters(clusters: IntArray, labels: IntArray, *, num_known: int, num_classes: int) -> IntArray:
    """Return the class of each cluster: known ones by a matching with the labels, novel ones for the rest."""
    counts = np.zeros((num_classes, num_known), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    class_of = np.full(num_classes, -1, dtype=np.int64)
    class_of[rows] = columns
    class_of[class_of < 0] = np.arange(num_known, num_classes)
    return class_of
