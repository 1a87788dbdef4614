"""Photographs for demos, as normalised tensors for a classifier."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.errors import ConfigError

#: Mean and standard deviation of R, G and B over ImageNet, for pixels in [0, 1].
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)


def photographs(image_size: int = 224) -> Tensor:
    """Return the two photographs that scikit-learn ships (a temple, a flower).

    Returns:
        ``x_NCHW`` of shape ``(2, 3, image_size, image_size)``, float32, normalised.

    Raises:
        ConfigError: If scikit-learn or Pillow is not installed.
    """
    try:
        from sklearn.datasets import load_sample_images

        pictures = load_sample_images().images
    except ImportError as error:
        raise ConfigError(
            f"the sample photographs need scikit-learn and Pillow ({error}): pip install scikit-learn pillow"
        ) from error
    return torch.cat([from_pixels(torch.tensor(picture), image_size=image_size) for picture in pictures])


def from_pixels(pixels_HWC: Tensor, *, image_size: int) -> Tensor:
    """Return the largest centred square of a picture, resized and normalised.

    Args:
        pixels_HWC: Red, green and blue, uint8.
        image_size: Rows and columns of the result.

    Returns:
        ``x_NCHW`` of shape ``(1, 3, image_size, image_size)``, float32.

    Raises:
        ConfigError: If the picture is not a colour picture of bytes, or ``image_size`` is below 1.
    """
    shape = tuple(pixels_HWC.shape)
    if len(shape) != 3 or shape[2] != 3 or pixels_HWC.dtype != torch.uint8:
        raise ConfigError(
            f"a picture has shape (H, W, 3) and dtype uint8, got {shape} and {pixels_HWC.dtype}"
        )
    if image_size < 1:
        raise ConfigError(f"image_size is {image_size}, must be at least 1")
    height, width, _ = shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square_CHW = pixels_HWC[top : top + side, left : left + side].permute(2, 0, 1).float() / 255
    resized_NCHW = F.interpolate(
        square_CHW[None], size=(image_size, image_size), mode="bilinear", antialias=True
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return (resized_NCHW - mean) / std
