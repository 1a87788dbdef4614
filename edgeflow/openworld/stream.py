"""A stream of pictures in which a class appears that the model has never seen; for demos and tests.

The shipped model was trained on the digits without one class. Held-out pictures of the other classes are
halved: one half calibrates the threshold, the other is served, with all pictures of the missing class mixed
    in after its
first 30 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgeflow.openworld.data import ImageSet, load
from edgeflow.openworld.metrics import IntArray, matched_accuracy
from edgeflow.openworld.settings import TrainSettings
from edgeflow.openworld.splits import renumber

#: Share of the known pictures that come before the first one of the new class.
_BEFORE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Pictures to calibrate on, and pictures to serve.

    Attributes:
        calibration_NCHW: uint8, of classes that the model was trained with.
        images_NCHW: uint8, in the order in which they are served.
        targets_N: Their classes in the model's numbering; ``new`` for the class that it never saw.
        new: One more than the largest class of the model.
        new_name: The data set's name of that class.
    """

    calibration_NCHW: Tensor
    images_NCHW: Tensor
    targets_N: Tensor
    new: int
    new_name: str


def open_world_stream(settings: TrainSettings, order: tuple[int, ...], *, seed: int = 0) -> Stream:
    """Return a stream for a model that was trained with one class left out.

    Args:
        settings: Settings of the model's training.
        order: The data set's numbers of the model's classes.
    """
    (left_out,) = settings.leave_out
    folder = None if settings.folder is None else Path(settings.folder)
    test = load(settings.data, "test", folder=folder).subset(settings.test_images, seed=settings.subset_seed)
    train = load(settings.data, "train", folder=folder).subset(settings.num_images, seed=settings.subset_seed)
    unseen = train.take((train.labels_N == left_out).nonzero().flatten())
    test = ImageSet(
        name=test.name,
        images_NCHW=torch.cat([test.images_NCHW, unseen.images_NCHW]),
        labels_N=torch.cat([test.labels_N, unseen.labels_N]),
        class_names=test.class_names,
    )
    generator = torch.Generator().manual_seed(seed)
    targets = renumber(test.labels_N, (*order, left_out))
    new = len(order)
    mixed = torch.randperm(len(test), generator=generator)
    known, novel = mixed[targets[mixed] < new], mixed[targets[mixed] == new]
    calibration, served = known.tensor_split(2)
    first = int(_BEFORE * len(served))
    later = torch.cat([served[first:], novel])
    later = later[torch.randperm(len(later), generator=generator)]
    chosen = torch.cat([served[:first], later])
    return Stream(
        calibration_NCHW=test.images_NCHW[calibration],
        images_NCHW=test.images_NCHW[chosen],
        targets_N=targets[chosen],
        new=new,
        new_name=test.class_names[left_out],
    )


def accuracies(
    targets: IntArray, predicted: IntArray, *, new: int, position: int | None
) -> tuple[float, float]:
    """Return the accuracy on old classes and on the new one.

    Predictions on old classes are matched to classes first, because classes found in training have arbitrary
    numbers. A picture of the new class is right if its prediction is ``position``; if that is None, none is.
    """
    old = targets < new
    return matched_accuracy(targets[old], predicted[old]), float((predicted[~old] == position).mean())
