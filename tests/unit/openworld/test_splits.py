"""What must hold of every split, for random classes, ratios and seeds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import ConfigError
from edgeflow.openworld.data import ImageSet
from edgeflow.openworld.splits import open_world_split, renumber


def _data(num_classes: int, per_class: int = 6) -> ImageSet:
    labels = torch.arange(num_classes).repeat(per_class)
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return ImageSet(
        name="made",
        images_NCHW=images,
        labels_N=labels,
        class_names=tuple(f"c{i}" for i in range(num_classes)),
    )


@given(
    num_classes=st.integers(2, 8),
    num_known=st.integers(1, 8),
    label_ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_invariants(num_classes: int, num_known: int, label_ratio: float, seed: int) -> None:
    num_known = min(num_known, num_classes)
    data = _data(num_classes)

    split = open_world_split(data, num_known=num_known, label_ratio=label_ratio, seed=seed)

    everything = torch.cat([split.labelled, split.unlabelled]).sort().values
    assert torch.equal(everything, torch.arange(len(data)))
    assert int(split.targets_N[split.labelled].max()) < num_known
    assert set(split.targets_N[split.unlabelled].tolist()) == set(range(num_classes))
    counts = torch.bincount(split.targets_N[split.labelled], minlength=num_known)
    assert counts.tolist() == [min(max(round(6 * label_ratio), 1), 5)] * num_known
    assert (split.num_classes, split.num_novel) == (num_classes, num_classes - num_known)


def test_seed_decides_which_pictures_have_labels() -> None:
    first, again, other = (
        open_world_split(_data(4, 40), num_known=2, label_ratio=0.5, seed=seed).labelled for seed in (1, 1, 2)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_chosen_classes_come_first_and_left_out_ones_do_not_occur() -> None:
    data = _data(5)

    split = open_world_split(data, num_known=2, label_ratio=0.5, seed=0, known=(3, 1), leave_out=(4,))

    assert split.class_names == ("c3", "c1", "c0", "c2")
    assert split.order == (3, 1, 0, 2)
    assert len(split.targets_N) == 4 * 6
    # A picture keeps its class: its value is its position in the data, and classes take turns there.
    old = split.images_NCHW[:, 0, 0, 0].long() % 5
    assert torch.equal(torch.tensor(split.order)[split.targets_N], old)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_known": 6}, "6 known classes do not fit 5 classes"),
        ({"num_known": 0}, "0 known classes do not fit"),
        ({"known": (1, 1)}, r"known: \[1, 1\]"),
        ({"known": (1, 2), "leave_out": (2,)}, "do not fit 4 classes"),
        ({"label_ratio": 0.0}, "label_ratio is 0.0"),
        ({"label_ratio": 1.0}, "label_ratio is 1.0"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"num_known": 2, "label_ratio": 0.5, "seed": 0, **changes}

    with pytest.raises(ConfigError, match=message):
        open_world_split(_data(5), **settings)  # type: ignore[arg-type]


def test_a_class_of_one_picture_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="class 'c0' has 1 pictures, needs 2"):
        open_world_split(_data(3, per_class=1), num_known=1, label_ratio=0.5, seed=0)


def test_renumber_marks_what_is_left_out() -> None:
    assert renumber(torch.tensor([0, 1, 2, 3]), (2, 0)).tolist() == [1, -1, 0, -1]
