"""Pictures as tensors."""

from __future__ import annotations

import sys

import pytest
import torch

from edgeflow.errors import ConfigError
from edgeflow.openworld import images


def test_photographs_are_two_normalised_pictures() -> None:
    pytest.importorskip("sklearn")
    x = images.photographs(64)

    assert x.shape == (2, 3, 64, 64)
    assert x.dtype == torch.float32
    assert 0.3 < x.std() < 3
    assert not torch.equal(x[0], x[1])


def test_the_centre_square_is_kept() -> None:
    pixels = torch.zeros(4, 8, 3, dtype=torch.uint8)
    pixels[:, 2:6] = 255

    x = images.from_pixels(pixels, image_size=4)

    torch.testing.assert_close(x, x.amax(dim=(2, 3), keepdim=True).expand_as(x))
    torch.testing.assert_close(x[0, :, 0, 0], (1 - torch.tensor(images._MEAN)) / torch.tensor(images._STD))


@pytest.mark.parametrize("pixels", [torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(4, 4, 3)])
def test_what_is_no_colour_picture_is_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=r"got \(4, 4"):
        images.from_pixels(pixels, image_size=4)


def test_empty_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size is 0"):
        images.from_pixels(torch.zeros(4, 4, 3, dtype=torch.uint8), image_size=0)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(ConfigError, match="pip install scikit-learn"):
        images.photographs()
