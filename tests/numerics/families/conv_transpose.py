"""Transposed convolutions: strides beyond the kernel, output padding, dilation, groups."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _conv_transpose(spatial: int) -> DrawCase:
    most = {1: 10, 2: 6, 3: 4}[spatial]
    target = f"aten.conv_transpose{spatial}d.{'default' if spatial == 1 else 'input'}"

    def draw(d: Draw) -> Case:
        if d.flag(0.1):
            d.dtype = d.pick(torch.float16, torch.bfloat16)
        groups = d.pick(1, 1, 2, 3)
        in_channels = groups * d.integer(1, 3)
        stride = [d.integer(1, 4) for _ in range(spatial)]
        dilation = [d.integer(1, 3) for _ in range(spatial)]
        return build(
            target,
            input=d.tensor(d.integer(1, 2), in_channels, *(d.integer(1, most) for _ in range(spatial))),
            weight=d.tensor(in_channels, d.integer(1, 3), *(d.integer(1, 4) for _ in range(spatial))),
            bias=d.tensor(groups * 3) if d.flag(0.3) else None,
            stride=stride,
            padding=[d.integer(0, 2) for _ in range(spatial)],
            output_padding=[d.integer(0, max(s, k) - 1) for s, k in zip(stride, dilation, strict=True)],
            groups=groups,
            dilation=dilation,
        )

    return draw


FAMILIES = {
    f"conv_transpose{n}d": Family(
        draw=_conv_transpose(n),
        targets=(f"aten.conv_transpose{n}d.{'default' if n == 1 else 'input'}",),
        num_cases=600 if n == 2 else 250,
        min_exact=0.6,
    )
    for n in (1, 2, 3)
}
