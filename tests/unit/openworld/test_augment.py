"""Views: what no change means, what each change may do, and that chance has one source."""

from __future__ import annotations

import pytest
import torch

from edgeflow.openworld.augment import Augmentation, augment
from edgeflow.openworld.settings import views_for


def _chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_changes_a_view_is_the_picture() -> None:
    x = torch.rand(4, 3, 9, 7)

    assert torch.allclose(augment(x, Augmentation(), _chance()), x, atol=1e-5)


def test_a_flip_mirrors_some_pictures_and_leaves_the_others() -> None:
    x = torch.rand(40, 1, 6, 6)

    y = augment(x, Augmentation(flip=True), _chance())

    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(x, y, strict=True)]
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-5) for a, b in zip(x, y, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 5 < sum(same) < 35


def test_a_shift_moves_a_dot_as_far_as_it_may() -> None:
    x = torch.zeros(200, 1, 21, 21)
    x[:, 0, 10, 10] = 1

    y = augment(x, Augmentation(shift=2 / 21), _chance())

    rows = (y.sum(dim=(1, 3)) * torch.arange(21)).sum(dim=1) / y.sum(dim=(1, 2, 3))
    assert 8 - 1e-3 <= float(rows.min()) < 8.2
    assert 11.8 < float(rows.max()) <= 12 + 1e-3


def test_zoom_makes_a_square_larger() -> None:
    x = torch.zeros(1, 1, 20, 20)
    x[:, :, 7:13, 7:13] = 1

    y = augment(x, Augmentation(zoom=(2.0, 2.0)), _chance())

    assert float(y.sum()) == pytest.approx(4 * float(x.sum()), rel=0.05)


def test_a_hole_is_black_and_nothing_else_changes() -> None:
    x = torch.rand(50, 1, 10, 10) + 0.01

    y = augment(x.clamp(0, 1), Augmentation(hole=0.4), _chance())

    blank = y == 0
    assert torch.allclose(y[~blank], x.clamp(0, 1)[~blank], atol=1e-5)
    assert int(blank.sum(dim=(1, 2, 3)).max()) == 16


def test_grey_takes_the_colours_of_some() -> None:
    y = augment(torch.rand(60, 3, 4, 4), Augmentation(grey=0.5), _chance())

    spread = (y.max(dim=1).values - y.min(dim=1).values).amax(dim=(1, 2))
    assert 10 < int((spread < 1e-6).sum()) < 50


@pytest.mark.parametrize("data", ["digits", "fashion-mnist", "cifar-10"])
@pytest.mark.parametrize("kind", ["weak", "strong", "contrast"])
def test_equal_seeds_give_equal_views_within_the_range(data: str, kind: str) -> None:
    x = torch.rand(8, 3, 16, 16)
    how = views_for(data).named(kind)

    first, again, other = (augment(x, how, _chance(seed)) for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert first.shape == x.shape
