"""How many classes there are, where nobody knows.

K-means with every candidate K on all pictures, and the matched accuracy of its clusters on the labelled ones.
Too few clusters merge novel classes, which costs nothing here, with each other or with known ones, which costs
a little; too many split known classes, which costs much. So the accuracy is flat up to the right K and falls
beyond it, and the estimate is the largest K that is as good as the best one within a standard error. It is a
heuristic: a novel class that looks like two counts as two.

References:
    Vaze, Han, Vedaldi, Zisserman, "Generalized Category Discovery", CVPR 2022, which
    searches for the same K by Brent's method.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edgeflow.errors import ConfigError
from edgeflow.openworld.metrics import matched_accuracy
from edgeflow.openworld.predict import kmeans


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Attributes:
    num_classes: The estimate of K.
    agreement: K -> matched accuracy on labelled pictures, for every K that was tried.
    """

    num_classes: int
    agreement: dict[int, float]


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
    agreement = {}
    for num_classes in range(smallest, largest + 1, step):
        clusters, _ = kmeans(features_ND, num_classes, seed=seed)
        agreement[num_classes] = matched_accuracy(labels.numpy(), clusters[labelled.numpy()])
    best = max(agreement.values())
    # Of a share of n, at least one picture's worth.
    margin = max((best * (1 - best) / len(labels)) ** 0.5, 1 / len(labels))
    return Estimate(
        num_classes=max(num for num, share in agreement.items() if share >= best - margin),
        agreement=agreement,
    )
