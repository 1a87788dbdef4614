"""Unfolding and folding: strides beyond the kernel and within it, padding, dilation, rows of any length."""

from __future__ import annotations

from typing import Any

from tests.numerics.cases import Case, Draw, Family, build


def _geometry(d: Draw) -> dict[str, Any]:
    return {
        "kernel_size": [d.integer(1, 3), d.integer(1, 3)],
        "dilation": [d.integer(1, 2), d.integer(1, 3)],
        "padding": [d.integer(0, 3), d.integer(0, 3)],
        "stride": [d.integer(1, 4), d.integer(1, 4)],
    }


def _im2col(d: Draw) -> Case:
    shape = [d.integer(1, 2), d.integer(1, 3), d.integer(1, 8), d.integer(1, 8)]
    x = d.tensor(*shape[1 if d.flag(0.05) else 0 :])
    return build("aten.im2col.default", self=x, **_geometry(d))


def _col2im(d: Draw) -> Case:
    geometry, size = _geometry(d), [d.integer(1, 8), d.integer(1, 8)]
    count = 1
    for dim in range(2):
        kernel, dilation, padding, stride = (
            geometry[key][dim] for key in ("kernel_size", "dilation", "padding", "stride")
        )
        count *= max(0, (size[dim] + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    features = d.integer(1, 3) * geometry["kernel_size"][0] * geometry["kernel_size"][1]
    shape = [d.integer(1, 2), features, count]
    columns = d.tensor(*shape[1 if d.flag(0.05) else 0 :])
    return build("aten.col2im.default", self=columns, output_size=size, **geometry)


def _unfold(d: Draw) -> Case:
    x = d.tensor(*d.shape(1, 3))
    dim = d.integer(0, x.ndim - 1)
    size = d.integer(1, x.shape[dim])
    return build(
        "aten.unfold.default", self=x, dimension=dim - d.pick(0, x.ndim), size=size, step=d.integer(1, 4)
    )


FAMILIES = {
    "im2col": Family(draw=_im2col, targets=("aten.im2col.default",), is_arithmetic=False, min_exact=0.2),
    "col2im": Family(draw=_col2im, targets=("aten.col2im.default",), min_exact=0.8),
    "unfold": Family(draw=_unfold, targets=("aten.unfold.default",), num_cases=150, is_arithmetic=False),
}
