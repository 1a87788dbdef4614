"""Convolutions: even kernels, paddings beyond half the kernel, dilation, groups, depthwise, unbatched."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _conv(spatial: int) -> DrawCase:
    most = {1: 14, 2: 9, 3: 6}[spatial]

    def draw(d: Draw) -> Case:
        if d.flag(0.1):
            d.dtype = d.pick(torch.float16, torch.bfloat16)
        groups = d.pick(1, 1, 2, 3)
        per_group = d.pick(1, 1, 2, 3)
        in_channels, out_channels = groups * per_group, groups * d.integer(1, 3)
        kernel = [d.integer(1, 4) for _ in range(spatial)]
        num_listed = d.pick(1, spatial)
        x_shape = [d.integer(1, 2), in_channels, *(d.integer(1, most) for _ in range(spatial))]
        return build(
            f"aten.conv{spatial}d.default",
            input=d.tensor(*x_shape[1 if d.flag(0.05) else 0 :]),
            weight=d.tensor(out_channels, per_group, *kernel),
            bias=d.tensor(out_channels) if d.flag() else None,
            stride=[d.integer(1, 3) for _ in range(num_listed)],
            padding=[d.integer(0, 5) for _ in range(d.pick(1, spatial))],
            dilation=[d.integer(1, 3) for _ in range(num_listed)],
            groups=groups,
        )

    return draw


FAMILIES = {
    f"conv{n}d": Family(
        draw=_conv(n), targets=(f"aten.conv{n}d.default",), num_cases=1000 if n == 2 else 400, min_exact=0.6
    )
    for n in (1, 2, 3)
}
