"""One number a channel; sampling at a grid; antialiased resampling."""

from __future__ import annotations

from typing import Any

import torch

from tests.numerics.cases import Case, Draw, Family, build


def _prelu(d: Draw) -> Case:
    x = d.tensor(*d.shape(1, 4))
    channels = x.shape[1] if x.ndim > 1 else 1
    return build("aten.prelu.default", self=x, weight=d.tensor(d.pick(1, channels)))


def _batch_norm(d: Draw) -> Case:
    x = d.tensor(*d.shape(2, 5, most=5))
    channels = x.shape[1]
    has_statistics = d.flag(0.9)
    return build(
        "aten.batch_norm.default",
        input=x,
        weight=d.tensor(channels) if d.flag() else None,
        bias=d.tensor(channels) if d.flag() else None,
        running_mean=d.tensor(channels) if has_statistics else None,
        running_var=d.tensor(channels, positive=True) if has_statistics else None,
        training=not has_statistics,
        momentum=0.1,
        eps=d.pick(1e-5, 0.1),
        cudnn_enabled=False,
    )


def _grid_sampler(d: Draw) -> Case:
    spatial = d.pick(2, 2, 3)
    batch = d.integer(1, 2)
    image = d.tensor(batch, d.integer(1, 3), *(d.integer(1, 5) for _ in range(spatial)))
    grid = d.tensor(batch, *(d.integer(1, 5) for _ in range(spatial)), spatial)
    more: dict[str, Any] = {
        "interpolation_mode": d.integer(0, 2) if spatial == 2 else d.integer(0, 1),
        "padding_mode": d.integer(0, 2),
        "align_corners": d.flag(),
    }
    target = d.pick("grid_sampler", f"grid_sampler_{spatial}d")
    return build(f"aten.{target}.default", input=image, grid=grid, **more)


def _antialiased(d: Draw) -> Case:
    d.dtype = torch.float32
    shape = [d.integer(1, 2), d.integer(1, 3), d.integer(1, 7), d.integer(1, 7)]
    return build(
        f"aten._upsample_{d.pick('bilinear', 'bicubic')}2d_aa.vec",
        input=d.tensor(*shape),
        output_size=[d.integer(1, 7), d.integer(1, 7)],
        align_corners=d.flag(),
        scale_factors=None,
    )


FAMILIES = {
    "prelu": Family(draw=_prelu, targets=("aten.prelu.default",), num_cases=150),
    "batch_norm": Family(
        draw=_batch_norm, targets=("aten.batch_norm.default",), num_cases=150, min_exact=0.8
    ),
    "grid_sampler": Family(
        draw=_grid_sampler,
        targets=("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default"),
    ),
    "antialiased": Family(
        draw=_antialiased,
        targets=("aten._upsample_bilinear2d_aa.vec", "aten._upsample_bicubic2d_aa.vec"),
        num_cases=100,
        min_exact=0.1,
    ),
}
