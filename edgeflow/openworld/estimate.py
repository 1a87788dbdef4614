"""How many classes there are, where nobody knows.

K-means with every candidate K on all pictures; the K whose clusters agree best with the labels that there
are, by the matched accuracy on the labelled pictures, is the estimate. Too few clusters merge known classes,
too many split them; a merged pair of novel classes costs nothing here, so this is a heuristic.

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
    num_classes: K with the best agreement.
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
    return Estimate(
        num_classes=min(num for num, share in agreement.items() if share == best), agreement=agreement
    )
