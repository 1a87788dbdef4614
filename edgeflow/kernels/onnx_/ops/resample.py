"""Resampling to another size: nearest by torch's positions, linear and cubic by ONNX's `Resize`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value


def _sizes(a: Arguments, x: Value) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Return the spatial output sizes, and the factors if the call gives them."""
    factors = a.get("scale_factors")
    if factors is None:
        return a.ints("output_size"), None
    sizes = tuple(int(size * factor) for size, factor in zip(x.shape[2:], factors, strict=True))
    return sizes, tuple(float(factor) for factor in factors)


def _smooth(mode: str) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("input")
        sizes, factors = _sizes(a, x)
        if mode == "cubic" and x.ndim != 4:
            raise CannotEmit("cubic resampling of other than images")
        is_aligned = bool(a.get("align_corners"))
        if factors is not None and not is_aligned:
            same = [made == size for made, size in zip(sizes, x.shape[2:], strict=True)]
            if mode == "linear":  # a dim that keeps its size is copied, whatever the factor
                factors = tuple(1.0 if kept else factor for kept, factor in zip(same, factors, strict=True))
            elif all(same) and any(factor != 1 for factor in factors):
                raise CannotEmit("a cubic resampling to the same size")
        if factors is None or is_aligned:
            inputs = [x, None, None, g.ints(*x.shape[:2], *sizes)]
        else:
            inputs = [x, None, g.constant([1.0, 1.0, *factors], "float32"), None]
        return g.node(
            "Resize",
            inputs,
            (*x.shape[:2], *sizes),
            x.dtype,
            mode=mode,
            cubic_coeff_a=-0.75,
            coordinate_transformation_mode="align_corners" if is_aligned else "half_pixel",
        )

    return emit


def _nearest(*, exact: bool) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("input")
        sizes, factors = _sizes(a, x)
        for at, made in enumerate(sizes):
            dim = 2 + at
            positions = _positions(
                x.shape[dim], made, None if factors is None else factors[at], x.ndim, exact
            )
            if positions != list(range(x.shape[dim])):
                x = g.gather(x, g.constant(positions, "int64"), dim)
        return x

    return emit


def _positions(size: int, made: int, factor: float | None, ndim: int, exact: bool) -> Sequence[int]:
    """Return source positions as ATen computes them: in float32, from the call's factor if there is one."""
    repeats, rest = divmod(made, size)
    if ndim == 4 and not exact and rest == 0 and repeats in (1, 2):
        # In two dims alone, ATen copies or doubles whatever the factor.
        return [index // repeats for index in range(made)]
    scale = np.float32(1.0 / factor) if factor else np.float32(size) / np.float32(made)
    index = np.arange(made, dtype=np.float32) + np.float32(0.5 if exact else 0.0)
    return [int(at) for at in np.minimum(np.floor(index * scale).astype(np.int64), size - 1)]


EMITTERS = {
    "upsample_linear1d.vec": _smooth("linear"),
    "upsample_bilinear2d.vec": _smooth("linear"),
    "upsample_trilinear3d.vec": _smooth("linear"),
    "upsample_bicubic2d.vec": _smooth("cubic"),
    **{f"upsample_nearest{n}d.vec": _nearest(exact=False) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d.vec": _nearest(exact=True) for n in (1, 2, 3)},
}
