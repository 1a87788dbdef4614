"""Adaptive average pooling in one, two and three dims.

Output element i of O is the mean of input elements ``[floor(i H / O), ceil((i + 1) H / O))``.

Shapes: input ``x_NC...``. Cut along batch, channels and every spatial dim. If the output has one row, pooling
is also contracted over the input rows: each device weights the mean of its rows by their share, which is
exact for uneven shares (a plain mean of means is not).
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Literal, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    Rule,
    Specs,
    call,
    cut_whole,
    localised,
    out_spec,
    refuse_contraction,
)


def window(index: int, *, size: int, made: int) -> Interval:
    """Return the input elements averaged by output element ``index``, for ``size`` inputs, ``made`` outputs.

    Examples:
        >>> [window(index, size=7, made=3) for index in range(3)]
        [Interval(start=0, stop=3), Interval(start=2, stop=5), Interval(start=4, stop=7)]
    """
    return Interval(index * size // made, -(-(index + 1) * size // made))


def _rule(spatial: int) -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        if specs[op.arg("self").name].ndim != 2 + spatial:  # unbatched: rare, so run whole
            return cut_whole(op, specs, region, contraction)
        return _cut(op, specs, region, contraction)

    def contraction(op: Operator, specs: Specs) -> int | None:
        spec = specs[op.arg("self").name]
        return spec.shape[2] if spec.ndim == 2 + spatial and out_spec(op, specs).shape[2] == 1 else None

    return Rule(cut=cut, contraction=contraction)


def _cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    x = op.arg("self").name
    spec, made = specs[x], out_spec(op, specs).shape
    if made[2] != 1:
        refuse_contraction(op, contraction)
    sources = []
    for dim in range(2, spec.ndim):
        first = window(region[dim].start, size=spec.shape[dim], made=made[dim])
        last = window(region[dim].stop - 1, size=spec.shape[dim], made=made[dim])
        sources.append(first.hull(last))
    if contraction is not None:
        sources[0] = contraction
    source = Slice(x, Region((*region.intervals[:2], *sources)))
    uneven = [dim for dim in range(2, spec.ndim) if _is_uneven(spec.shape[dim], made[dim], region[dim])]
    # Along an uneven dim the local pool keeps every element; a product with a weight matrix averages them.
    output_size = tuple(
        (source.region if dim in uneven else region)[dim].length for dim in range(2, spec.ndim)
    )
    steps = [localised(op, specs, self=source, output_size=output_size)]
    for dim in uneven:
        weights = _weights(region[dim], source.region[dim], spec.shape[dim], made[dim], spec.dtype)
        steps += _weighted(weights, dim, spec.ndim, len(steps))
    if contraction is not None:
        share = contraction.length / spec.shape[2]
        steps.append(call("aten.mul.Scalar", self=Result(len(steps) - 1), other=share))
    return Cut(steps=tuple(steps), region=region, flops=source.region.num_elements, contraction=contraction)


def _is_uneven(size: int, made: int, wanted: Interval) -> bool:
    """Whether pooling the slice to the wanted length would use other windows than pooling the whole."""
    return size % made != 0 and wanted != Interval(0, made)


def _weights(wanted: Interval, source: Interval, size: int, made: int, dtype: str) -> Literal:
    """Return the (input elements, output elements) matrix: 1 / window length inside a window, else 0."""
    windows = [window(index, size=size, made=made) for index in range(wanted.start, wanted.stop)]
    values = tuple(
        1.0 / item.length if item.start <= position < item.stop else 0.0
        for position in range(source.start, source.stop)
        for item in windows
    )
    return Literal((source.length, wanted.length), values, dtype)


def _weighted(weights: Literal, dim: int, ndim: int, index: int) -> list[Step]:
    """Return steps, the first at ``index``, that multiply the result before by ``weights`` along ``dim``."""
    if dim == ndim - 1:
        return [call("aten.matmul.default", self=Result(index - 1), other=weights)]
    return [
        call("aten.transpose.int", self=Result(index - 1), dim0=dim, dim1=ndim - 1),
        call("aten.matmul.default", self=Result(index), other=weights),
        call("aten.transpose.int", self=Result(index + 1), dim0=dim, dim1=ndim - 1),
    ]


RULES = {f"aten.adaptive_avg_pool{n}d.default": _rule(n) for n in (1, 2, 3)}
