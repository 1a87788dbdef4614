"""Linear and cubic resampling by size and by factor, corners aligned or not; pixel shuffles."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _resample(name: str, spatial: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        if d.flag(0.1):
            d.dtype = d.pick(torch.float16, torch.bfloat16)
        shape = [d.integer(1, 2), d.integer(1, 2), *(d.integer(1, 7) for _ in range(spatial))]
        by_factor = d.flag()
        factor = d.pick(2.0, 3.0, 1.5, 0.5, 1.3)
        return build(
            f"aten.{name}.vec",
            input=d.tensor(*shape),
            output_size=None if by_factor else [d.integer(1, 12) for _ in range(spatial)],
            align_corners=d.flag(),
            scale_factors=[factor] * spatial if by_factor else None,
        )

    return draw


def _shuffle(d: Draw) -> Case:
    factor = d.integer(1, 3)
    x = d.tensor(d.integer(1, 2), d.integer(1, 3) * factor**2, d.integer(1, 5), d.integer(1, 5))
    return build("aten.pixel_shuffle.default", self=x, upscale_factor=factor)


def _unshuffle(d: Draw) -> Case:
    factor = d.integer(1, 3)
    x = d.tensor(d.integer(1, 2), d.integer(1, 3), d.integer(1, 4) * factor, d.integer(1, 4) * factor)
    return build("aten.pixel_unshuffle.default", self=x, downscale_factor=factor)


_RESAMPLED = {
    "upsample_linear1d": 1,
    "upsample_bilinear2d": 2,
    "upsample_trilinear3d": 3,
    "upsample_bicubic2d": 2,
}
FAMILIES = {
    **{
        name: Family(draw=_resample(name, spatial), targets=(f"aten.{name}.vec",))
        for name, spatial in _RESAMPLED.items()
    },
    "pixel_shuffle": Family(
        draw=_shuffle, targets=("aten.pixel_shuffle.default",), is_arithmetic=False, min_exact=0.3
    ),
    "pixel_unshuffle": Family(
        draw=_unshuffle, targets=("aten.pixel_unshuffle.default",), is_arithmetic=False, min_exact=0.3
    ),
}
