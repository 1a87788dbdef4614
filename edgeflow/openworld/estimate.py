"""Estimate the number of classes.

Run k-means with every candidate K on all pictures. Labels limit K: too many clusters split known classes, too
few merge them, and the matched accuracy on labelled pictures falls; it says nothing about novel classes.
Among the K within a standard error of the best accuracy, the estimate is the one with the largest mean
silhouette. A
heuristic: classes must form clusters.

References:
    Vaze, Han, Vedaldi, Zisserman, "Generalized Category Discovery", CVPR 2022, which
    searches for the same K by Brent's method.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.errors import ConfigError
from edgeflow.openworld.metrics import IntArray, matched_accuracy
from edgeflow.openworld.predict import kmeans


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimate of the number of classes.

    Attributes:
        num_classes: The estimated K.
        agreement: K -> matched accuracy on labelled pictures, for every K tried.
        silhouettes: K -> mean simplified silhouette of its clusters.
    """

    num_classes: int
    agreement: dict[int, float]
    silhouettes: dict[int, float]


def estimate_num_classes(
    features_ND: Tensor, labelled: Tensor, labels: Tensor, *, largest: int, seed: int = 0, step: int = 1
) -> Estimate:
    """Estimate K among every ``step``-th number from the number of known classes to ``largest``.

    Args:
        features_ND: Features of all pictures.
        labelled: Positions of pictures with labels.
        labels: Their classes.

    Raises:
        ConfigError: If there is no K to try.
    """
    smallest = len(set(labels.tolist()))
    if largest < smallest or smallest < 1 or step < 1:
        raise ConfigError(f"no number of classes from {smallest} to {largest} in steps of {step}")
    agreement, silhouettes = {}, {}
    for num_classes in range(smallest, largest + 1, step):
        clusters, centres_KD = kmeans(features_ND, num_classes, seed=seed)
        agreement[num_classes] = matched_accuracy(labels.numpy(), clusters[labelled.numpy()])
        silhouettes[num_classes] = centre_silhouette(features_ND, clusters, centres_KD)
    best = max(agreement.values())
    # One standard error of a share, but at least one picture.
    margin = max((best * (1 - best) / len(labels)) ** 0.5, 1 / len(labels))
    possible = [num for num, share in agreement.items() if share >= best - margin]
    return Estimate(
        num_classes=max(possible, key=lambda num: silhouettes[num]),
        agreement=agreement,
        silhouettes=silhouettes,
    )


def centre_silhouette(features_ND: Tensor, clusters: IntArray, centres_KD: Tensor) -> float:
    """Return the mean of ``1 - a / b``: distances to a feature's own centre and to the nearest other one.

    The simplified silhouette, O(N K); 0 for one cluster, which has no other centre.
    """
    if len(centres_KD) < 2:
        return 0.0
    distances_NK = torch.cdist(F.normalize(features_ND, dim=1), centres_KD)
    own_N1 = torch.from_numpy(clusters)[:, None]
    a_N = distances_NK.gather(1, own_N1)[:, 0]
    b_N = distances_NK.scatter(1, own_N1, float("inf")).min(dim=1).values
    return float((1 - a_N / b_N.clamp_min(1e-12)).mean())
