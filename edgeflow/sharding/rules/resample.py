"""Linear and cubic resampling, pixel shuffles.

Each output element is a weighted sum of a few input elements along each spatial dim. Weights are computed
from global positions, so a slice gets the same values as the whole map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Literal, LocalScalar, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, call, localised, out_spec, refuse_contraction

_Floats = npt.NDArray[np.float64]

#: ATen's cubic convolution coefficient.
_CUBIC = -0.75


def _positions(op: Operator, size: int, made: int, spatial_dim: int, *, clamp: bool) -> _Floats:
    """Return the input position of each output element, as ATen computes it."""
    index = np.arange(made, dtype=np.float64)
    if clamp and size == made:
        return index  # ATen ignores the scale factor here
    if op.arg("align_corners"):
        return index * ((size - 1) / (made - 1) if made > 1 else 0.0)
    factors = op.arg("scale_factors")
    given = factors[spatial_dim] if factors is not None else None
    scale = 1.0 / given if given else size / made
    where = (index + 0.5) * scale - 0.5
    return np.maximum(where, 0.0) if clamp else where


def _linear_taps(where: _Floats, size: int) -> list[tuple[npt.NDArray[np.int64], _Floats]]:
    low = np.minimum(np.floor(where).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = np.minimum(where - low, 1.0)
    return [(low, 1.0 - weight), (high, weight)]


def _cubic_taps(where: _Floats, size: int) -> list[tuple[npt.NDArray[np.int64], _Floats]]:
    low = np.floor(where).astype(np.int64)
    t = where - low

    def near(x: _Floats) -> _Floats:
        return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1

    def far(x: _Floats) -> _Floats:
        return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC

    weights = (far(t + 1), near(t), near(1 - t), far(2 - t))
    return [(np.clip(low - 1 + tap, 0, size - 1), weight) for tap, weight in enumerate(weights)]


def _rule(*, is_cubic: bool) -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        refuse_contraction(op, contraction)
        x = op.arg("input").name
        spec, made = specs[x], out_spec(op, specs).shape
        num_taps = 4 if is_cubic else 2
        flops = 2 * num_taps * (spec.ndim - 2) * region.num_elements
        if all(region[dim] == Interval(0, made[dim]) for dim in range(2, spec.ndim)):
            source = Region((*region.intervals[:2], *Region.full(spec.shape).intervals[2:]))
            return Cut(steps=(localised(op, specs, input=Slice(x, source)),), region=region, flops=flops)
        intervals = list(region.intervals)
        taps_of: list[tuple[int, list[tuple[npt.NDArray[np.int64], _Floats]]]] = []
        for dim in range(2, spec.ndim):
            where = _positions(op, spec.shape[dim], made[dim], dim - 2, clamp=not is_cubic)
            taps = (_cubic_taps if is_cubic else _linear_taps)(where, spec.shape[dim])
            chosen = slice(region[dim].start, region[dim].stop)
            taps = [(index[chosen], weight[chosen]) for index, weight in taps]
            low, high = min(int(i.min()) for i, _ in taps), max(int(i.max()) for i, _ in taps)
            intervals[dim] = Interval(low, high + 1)
            taps_of.append((dim, [(index - low, weight) for index, weight in taps]))
        source_slice = Slice(x, Region(tuple(intervals)))
        steps = _weighted_sums(source_slice, taps_of, spec.ndim, spec.dtype)
        return Cut(steps=steps, region=region, flops=flops)

    return Rule(cut=cut)


def _weighted_sums(
    source: Slice,
    taps_of: Sequence[tuple[int, list[tuple[npt.NDArray[np.int64], _Floats]]]],
    ndim: int,
    dtype: str,
) -> tuple[Step, ...]:
    """Return steps that sum, along each dim in turn, the elements at each tap times its weights."""
    steps: list[Step] = []
    operand: LocalScalar = source
    for dim, taps in taps_of:
        total: LocalScalar = None
        for index, weight in taps:
            positions = Literal((len(index),), tuple(float(i) for i in index), "int64")
            steps.append(call("aten.index_select.default", self=operand, dim=dim, index=positions))
            column = (len(index), *[1] * (ndim - 1 - dim))
            factor = Literal(column, tuple(float(w) for w in weight), dtype)
            steps.append(call("aten.mul.Tensor", self=Result(len(steps) - 1), other=factor))
            if total is not None:
                steps.append(call("aten.add.Tensor", self=total, other=Result(len(steps) - 1), alpha=1))
            total = Result(len(steps) - 1)
        operand = total
    return tuple(steps)


def _cut_pixel_shuffle(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut ``y_N,C,Hr,Wr`` from ``x_N,Crr,H,W``; widened to whole blocks of r x r."""
    refuse_contraction(op, contraction)
    factor = op.arg("upscale_factor")
    *lead, channels, rows, columns = region.intervals
    low = tuple(Interval(i.start // factor, -(-i.stop // factor)) for i in (rows, columns))
    deep = Interval(channels.start * factor**2, channels.stop * factor**2)
    made = tuple(Interval(i.start * factor, i.stop * factor) for i in low)
    source = Slice(op.arg("self").name, Region((*lead, deep, *low)))
    return Cut(steps=(localised(op, specs, self=source),), region=Region((*lead, channels, *made)), flops=0)


def _cut_pixel_unshuffle(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut ``y_N,Crr,H,W`` from ``x_N,C,Hr,Wr``; widened to whole groups of r * r channels."""
    refuse_contraction(op, contraction)
    factor = op.arg("downscale_factor")
    *lead, channels, rows, columns = region.intervals
    shallow = Interval(channels.start // factor**2, -(-channels.stop // factor**2))
    wide = tuple(Interval(i.start * factor, i.stop * factor) for i in (rows, columns))
    source = Slice(op.arg("self").name, Region((*lead, shallow, *wide)))
    deep = Interval(shallow.start * factor**2, shallow.stop * factor**2)
    return Cut(
        steps=(localised(op, specs, self=source),), region=Region((*lead, deep, rows, columns)), flops=0
    )


_LINEAR = _rule(is_cubic=False)
RULES = {
    "aten.upsample_linear1d.vec": _LINEAR,
    "aten.upsample_bilinear2d.vec": _LINEAR,
    "aten.upsample_trilinear3d.vec": _LINEAR,
    "aten.upsample_bicubic2d.vec": _rule(is_cubic=True),
    "aten.pixel_shuffle.default": Rule(cut=_cut_pixel_shuffle),
    "aten.pixel_unshuffle.default": Rule(cut=_cut_pixel_unshuffle),
}
