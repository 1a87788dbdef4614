"""From features and logits to classes, for methods that have all prototypes and for those that have not."""

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
    """Gives every picture a class."""

    def __call__(self, features_ND: Tensor, logits_NK: Tensor) -> IntArray:
        """Return classes ``(N,)``; known ones first."""
        ...


def novelty(logits_NK: Tensor, num_known: int) -> FloatArray:
    """Return ``1 - max over known classes of softmax(z)``, ``(N,)``: how little a picture looks known."""
    known_N = logits_NK.softmax(dim=1)[:, :num_known].max(dim=1).values
    return (1 - known_N).numpy()


def kmeans(features_ND: Tensor, num_clusters: int, *, seed: int) -> tuple[IntArray, Tensor]:
    """Return clusters ``(N,)`` and centres ``(num_clusters, D)`` of features brought to length 1.

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
    """Return the nearest centre of every feature brought to length 1."""
    points = torch.nn.functional.normalize(features_ND, dim=1)
    found: IntArray = torch.cdist(points, centres_KD).argmin(dim=1).numpy()
    return found


def argmax(features_ND: Tensor, logits_NK: Tensor) -> IntArray:
    """Predict the class of the largest logit."""
    found: IntArray = logits_NK.argmax(dim=1).numpy()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectThenCluster:
    """A known class where its probability is large enough, else the nearest cluster of what was rejected."""

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
    """Extend a closed-world classifier: reject the least confident pictures, and cluster those.

    Args:
        features_ND: Of unlabelled pictures; so are the logits.
        novel_share: How many to reject. It is given the true share, which no method knows in the field, as is
            customary for these baselines; the comparison errs on their side.
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
    """The class that the nearest cluster stands for."""

    centres_KD: Tensor
    class_of: IntArray

    def __call__(self, features_ND: Tensor, logits_NK: Tensor) -> IntArray:
        found: IntArray = self.class_of[nearest(features_ND, self.centres_KD)]
        return found


def fit_clusters(
    features_ND: Tensor, labelled: Tensor, labels: Tensor, *, num_known: int, num_classes: int, seed: int
) -> NearestCluster:
    """Cluster everything; clusters become known classes by a matching on the labelled pictures.

    Args:
        features_ND: Of all training pictures.
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
    """Return the class of each cluster: known classes where most labels agree, novel numbers for the rest."""
    counts = np.zeros((num_classes, num_known), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    class_of = np.full(num_classes, -1, dtype=np.int64)
    class_of[rows] = columns
    class_of[class_of < 0] = np.arange(num_known, num_classes)
    return class_of
