"""Random views of pictures, a whole batch at once: one warp, then changes of light, then a hole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Limits of the random changes of a view; 0 (or False) switches a change off.

    Attributes:
        shift: Largest shift along rows and columns, as a share of the picture.
        zoom: Smallest and largest magnification; drawn evenly on a logarithmic scale.
        stretch: Largest ratio of the magnifications along rows and columns, at least 1.
        rotate_deg: Largest rotation.
        shear: Largest shear, in columns per row.
        flip: Whether half of the views are mirrored left to right.
        brightness: Largest change of all values, as a share of the range.
        contrast: Largest relative change of differences.
        tint: Largest relative change of a single colour; for colour pictures.
        grey: Probability that a colour picture loses its colours.
        noise: Standard deviation of noise.
        hole: Side of a square that is blanked, as a share of the picture.
    """

    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    stretch: float = 1.0
    rotate_deg: float = 0.0
    shear: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    tint: float = 0.0
    grey: float = 0.0
    noise: float = 0.0
    hole: float = 0.0


def augment(x_NCHW: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Return one random view of every picture.

    Args:
        x_NCHW: Values in [0, 1], float; a warp fills pixels from outside with 0.
        generator: The only source of randomness: equal states give equal views.

    Returns:
        Same shape, values in [0, 1].
    """

    def uniform(limit: float, *shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=generator) - 1) * limit

    num, channels, height, width = x_NCHW.shape
    grid = F.affine_grid(_warps(num, how, generator), [num, channels, height, width], align_corners=False)
    y = F.grid_sample(x_NCHW, grid, align_corners=False)
    if how.contrast or how.brightness:
        mean = y.mean(dim=(1, 2, 3), keepdim=True)
        gain = 1 + uniform(how.contrast, num, 1, 1, 1)
        y = (y - mean) * gain + mean + uniform(how.brightness, num, 1, 1, 1)
    if how.tint:
        y = y * (1 + uniform(how.tint, num, channels, 1, 1))
    if how.grey:
        loses = torch.rand((num, 1, 1, 1), generator=generator) < how.grey
        y = torch.where(loses, y.mean(dim=1, keepdim=True), y)
    if how.noise:
        y = y + how.noise * torch.randn(y.shape, generator=generator)
    if how.hole:
        y = y * ~_holes(num, height, width, how.hole, generator)
    return y.clamp(0, 1)


def _warps(num: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Return matrices ``(N, 2, 3)`` from coordinates of the view to those of the picture, both in [-1, 1]."""

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(num, generator=generator) - 1) * limit

    low, high = (math.log(zoom) for zoom in how.zoom)
    zoom = torch.exp(low + (high - low) * torch.rand(num, generator=generator))
    ratio = torch.exp(uniform(math.log(how.stretch) / 2))
    turn, shear = uniform(math.radians(how.rotate_deg)), uniform(how.shear)
    sign = torch.ones(num)
    if how.flip:
        sign = torch.where(torch.rand(num, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(turn), torch.sin(turn)
    along_x = torch.stack([sign * cos / (zoom * ratio), (shear * cos - sin) * ratio / zoom], dim=1)
    along_y = torch.stack([sign * sin / (zoom * ratio), (shear * sin + cos) * ratio / zoom], dim=1)
    # A share of the picture is twice that in coordinates that go from -1 to 1.
    shift = torch.stack([uniform(2 * how.shift), uniform(2 * how.shift)], dim=1)
    return torch.cat([torch.stack([along_x, along_y], dim=1), shift[:, :, None]], dim=2)


def _holes(num: int, height: int, width: int, share: float, generator: torch.Generator) -> Tensor:
    """Return ``(N, 1, H, W)``, True in a square whose centre lies anywhere in the picture."""
    masks = []
    for size in (height, width):
        centre = torch.rand((num, 1), generator=generator) * size
        masks.append((torch.arange(size) + 0.5 - centre).abs() < share * size / 2)
    rows_NH, columns_NW = masks
    return (rows_NH[:, :, None] & columns_NW[:, None, :])[:, None]
