"""Split a training set into known and novel classes, labelled and unlabelled pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeflow.errors import ConfigError
from edgeflow.openworld.data import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWorldSplit:
    """Training pictures of an open world, with classes renumbered: known ones first.

    Transductive evaluation is on the unlabelled pictures here; inductive evaluation is on a held-out part,
    renumbered likewise by `renumber`.

    Attributes:
        images_NCHW: uint8, all training pictures.
        targets_N: int64 in ``[0, K)``; below ``num_known`` for known classes. Only those at ``labelled`` may
            be trained on.
        labelled: Positions of pictures with labels; all of known classes.
        unlabelled: The other positions; of every class.
        class_names: In the new order.
        order: ``order[new] == old``.
    """

    images_NCHW: Tensor
    targets_N: Tensor
    labelled: Tensor
    unlabelled: Tensor
    num_known: int
    class_names: tuple[str, ...]
    order: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_novel(self) -> int:
        return self.num_classes - self.num_known


def open_world_split(
    data: ImageSet,
    *,
    num_known: int,
    label_ratio: float,
    seed: int,
    known: Sequence[int] | None = None,
    leave_out: Sequence[int] = (),
) -> OpenWorldSplit:
    """Split a training part into labelled and unlabelled pictures.

    Args:
        num_known: Classes with labels, at least 1.
        label_ratio: Share of labelled pictures of each known class, in (0, 1); at least one picture is
            labelled and at least one is not.
        seed: Draws the labelled pictures.
        known: The known classes; by default the first ones.
        leave_out: Classes to leave out completely, so that the model never sees them.

    Raises:
        ConfigError: If numbers are out of range, or a class has too few pictures.

    References:
        The first half of the classes as known ones, half of their pictures labelled: Cao, Brbic, Leskovec,
        "Open-World Semi-Supervised Learning", ICLR 2022. There each picture is labelled independently at
        random.
    """
    kept = [label for label in range(data.num_classes) if label not in set(leave_out)]
    chosen = kept[:num_known] if known is None else list(known)
    if not 1 <= num_known <= len(kept) or len(set(chosen)) != num_known or not set(chosen) <= set(kept):
        raise ConfigError(f"{num_known} known classes do not fit {len(kept)} classes (known: {chosen})")
    if not 0 < label_ratio < 1:
        raise ConfigError(f"label_ratio is {label_ratio}, must be above 0 and below 1")
    order = (*chosen, *(label for label in kept if label not in set(chosen)))
    targets = renumber(data.labels_N, order)
    present = targets >= 0
    images, targets = data.images_NCHW[present], targets[present]
    generator = torch.Generator().manual_seed(seed)
    labelled = []
    for label in range(num_known):
        members = (targets == label).nonzero().flatten()
        if len(members) < 2:
            raise ConfigError(
                f"class {data.class_names[order[label]]!r} has {len(members)} pictures, needs 2"
            )
        wanted = min(max(round(label_ratio * len(members)), 1), len(members) - 1)
        labelled.append(members[torch.randperm(len(members), generator=generator)[:wanted]])
    has_label = torch.zeros(len(targets), dtype=torch.bool)
    has_label[torch.cat(labelled)] = True
    return OpenWorldSplit(
        images_NCHW=images,
        targets_N=targets,
        labelled=has_label.nonzero().flatten(),
        unlabelled=(~has_label).nonzero().flatten(),
        num_known=num_known,
        class_names=tuple(data.class_names[label] for label in order),
        order=order,
    )


def renumber(labels_N: Tensor, order: Sequence[int]) -> Tensor:
    """Return labels as positions in ``order``; -1 for classes that are not in it.

    Examples:
        >>> renumber(torch.tensor([0, 1, 2]), (2, 0))
        tensor([ 1, -1,  0])
    """
    size = max(int(labels_N.max()) if len(labels_N) else 0, *order) + 1
    positions = torch.full((size,), -1, dtype=torch.int64)
    positions[torch.tensor(order)] = torch.arange(len(order))
    return positions[labels_N]
