"""Pools in one to three dims: every rounding and divisor rule of torch; to a given size, divisible or not."""

from __future__ import annotations

from typing import Any

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build

_MOST = {1: 14, 2: 11, 3: 6}


def _window(d: Draw, spatial: int) -> dict[str, Any]:
    kernel = [d.integer(1, 5) for _ in range(d.pick(1, spatial))]
    # torch allows at most half the kernel.
    padding = [d.integer(0, size // 2) for size in kernel]
    stride = d.pick([], [d.integer(1, 4)], [d.integer(1, 4) for _ in range(spatial)])
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": d.flag()}


def _shape(d: Draw, spatial: int) -> list[int]:
    shape = [d.integer(1, 2), d.integer(1, 3), *(d.integer(1, _MOST[spatial]) for _ in range(spatial))]
    return shape[1:] if d.flag(0.05) else shape


def _max_pool(spatial: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        shape = _shape(d, spatial)
        x = d.integers(*shape) if d.flag(0.05) else d.tensor(*shape)
        dilation = [d.integer(1, 3)]
        return build(f"aten.max_pool{spatial}d.default", self=x, dilation=dilation, **_window(d, spatial))

    return draw


def _average_pool(spatial: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        if d.flag(0.1):
            d.dtype = d.pick(torch.float16, torch.bfloat16)
        more = _window(d, spatial)
        if spatial > 1:
            more["divisor_override"] = d.pick(None, None, 1, 3, 7)
        return build(
            f"aten.avg_pool{spatial}d.default",
            self=d.tensor(*_shape(d, spatial)),
            count_include_pad=d.flag(),
            **more,
        )

    return draw


def _adaptive_pool(spatial: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        if d.flag(0.1):
            d.dtype = d.pick(torch.float16, torch.bfloat16)
        output_size = [d.pick(1, d.integer(1, 6)) for _ in range(spatial)]
        shape = _shape(d, spatial)
        for dim in range(-spatial, 0):
            if d.flag(0.4):
                shape[dim] = output_size[dim] * d.integer(1, 4)
        return build(
            f"aten.adaptive_avg_pool{spatial}d.default", self=d.tensor(*shape), output_size=output_size
        )

    return draw


FAMILIES = {
    name: family
    for n in (1, 2, 3)
    for name, family in {
        f"max_pool{n}d": Family(
            draw=_max_pool(n),
            targets=(f"aten.max_pool{n}d.default",),
            num_cases=400 if n == 2 else 200,
            min_exact=0.8,
        ),
        f"avg_pool{n}d": Family(
            draw=_average_pool(n),
            targets=(f"aten.avg_pool{n}d.default",),
            num_cases=400 if n == 2 else 200,
            min_exact=0.8,
        ),
        f"adaptive_avg_pool{n}d": Family(
            draw=_adaptive_pool(n),
            targets=(f"aten.adaptive_avg_pool{n}d.default",),
            num_cases=300 if n == 2 else 150,
            min_exact=0.8,
        ),
    }.items()
}
