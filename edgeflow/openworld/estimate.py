"""How many classes there are, where nobody knows.

K-means with every candidate K on all pictures. Labels say which K are possible: too many clusters split
known classes, too few merge them, so the matched accuracy on the labelled pictures falls; it says nothing
about merged or split novel classes. Of the K that are as good as the best one within a standard error,
the one whose clusters are most apart (the largest mean silhouette) is the estimate. A heuristic: classes
must form clusters.

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
    """Attributes:
    num_classes: The estimate of K.
    agreement: K -> matched accuracy on labelled pictures, for every K that was tried.
    silhouettes: K -> how far apart its clusters are.
    """

    num_classes: int
    agreement: dict[int, float]
    silhouettes: dict[int, float]


def estimate_num_classes(
    features_ND: Tensor, labelled: Tensor, labels: Tensor, *, largest: int, seed: int = 0, step: int = 1
) -> Estimate:
    """Try every ``step``-th K from the number of known classes to ``largest``.

    Args:
        features_ND: Of all pictures.
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
    # Of a share of n, at least one picture's worth.
    margin = max((best * (1 - best) / len(labels)) ** 0.5, 1 / len(labels))
    possible = [num for num, share in agreement.items() if share >= best - margin]
    return Estimate(
        num_classes=max(possible, key=lambda num: silhouettes[num]),
        agreement=agreement,
        silhouettes=silhouettes,
    )


def centre_silhouette(features_ND: Tensor, clusters: IntArray, centres_KD: Tensor) -> float:
    """Return the mean of ``1 - a / b``: distances to a feature's own centre and to the nearest other one.

    The simplified silhouette, O(N K); with one cluster there is no other centre, and it is 0.
    """
    if len(centres_KD) < 2:
        return 0.0
    distances_NK = torch.cdist(F.normalize(features_ND, dim=1), centres_KD)
    own_N1 = torch.from_numpy(clusters)[:, None]
    a_N = distances_NK.gather(1, own_N1)[:, 0]
    b_N = distances_NK.scatter(1, own_N1, float("inf")).min(dim=1).values
    return float((1 - a_N / b_N.clamp_min(1e-12)).mean())
