"""Pools: every rounding and divisor rule of torch, windows that divide their input or do not."""

from __future__ import annotations

from typing import Any

import torch

from tests.numerics.cases import Case, Draw, Family, build


def _window(d: Draw) -> dict[str, Any]:
    kernel = [d.integer(1, 5) for _ in range(d.pick(1, 2))]
    # torch allows at most half the kernel.
    padding = [d.integer(0, size // 2) for size in kernel]
    stride = d.pick([], [d.integer(1, 4)], [d.integer(1, 4), d.integer(1, 4)])
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": d.flag()}


def _shape(d: Draw) -> list[int]:
    shape = [d.integer(1, 2), d.integer(1, 3), d.integer(1, 11), d.integer(1, 11)]
    return shape[1:] if d.flag(0.05) else shape


def _max_pool(d: Draw) -> Case:
    x = d.integers(*_shape(d)) if d.flag(0.05) else d.tensor(*_shape(d))
    return build("aten.max_pool2d.default", self=x, dilation=[d.integer(1, 3)], **_window(d))


def _average_pool(d: Draw) -> Case:
    if d.flag(0.1):
        d.dtype = d.pick(torch.float16, torch.bfloat16)
    return build(
        "aten.avg_pool2d.default",
        self=d.tensor(*_shape(d)),
        count_include_pad=d.flag(),
        divisor_override=d.pick(None, None, 1, 3, 7),
        **_window(d),
    )


def _adaptive_pool(d: Draw) -> Case:
    output_size = [d.pick(1, d.integer(1, 6)) for _ in range(2)]
    shape = _shape(d)
    for dim in (-2, -1):
        if d.flag():
            shape[dim] = output_size[dim] * d.integer(1, 4)
    return build("aten.adaptive_avg_pool2d.default", self=d.tensor(*shape), output_size=output_size)


FAMILIES = {
    "max_pool2d": Family(draw=_max_pool, targets=("aten.max_pool2d.default",), num_cases=500, min_exact=0.9),
    "avg_pool2d": Family(
        draw=_average_pool, targets=("aten.avg_pool2d.default",), num_cases=500, min_exact=0.9
    ),
    "adaptive_avg_pool2d": Family(
        draw=_adaptive_pool, targets=("aten.adaptive_avg_pool2d.default",), min_exact=0.5
    ),
}
