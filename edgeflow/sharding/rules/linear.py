"""Matrix products: linear, matmul, mm, bmm, addmm, baddbmm.

Cut along rows, columns and batch; contracted over the inner dim.

Column-parallel is a region of output features (torch stores them as the weight's rows); row-parallel is a
contraction over input features, where only the device with the first interval adds the bias.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, LocalValue, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, broadcast, call, cut_whole, localised


def _inner(size: int, contraction: Interval | None) -> Interval:
    return Interval(0, size) if contraction is None else contraction


def _is_first(contraction: Interval | None) -> bool:
    return contraction is None or contraction.start == 0


def _cut_linear(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    x, w, bias = op.arg("input"), op.arg("weight"), op.arg("bias")
    if specs[w.name].ndim != 2:
        return cut_whole(op, specs, region, contraction)
    features = region[len(region) - 1]
    inner = _inner(specs[w.name].shape[1], contraction)
    step = localised(
        op,
        specs,
        input=Slice(x.name, Region((*region.intervals[:-1], inner))),
        weight=Slice(w.name, Region((features, inner))),
        bias=Slice(bias.name, Region((features,))) if bias is not None and _is_first(contraction) else None,
    )
    flops = 2 * region.num_elements * inner.length
    return Cut(steps=(step,), region=region, flops=flops, contraction=contraction)


def _operands(a: str, b: str, specs: Specs, region: Region, inner: Interval) -> tuple[Slice, Slice]:
    """Return slices of ``a_..MK`` and ``b_..KN`` for ``region`` of ``y_..MN``; batch dims broadcast."""
    batch = Region(region.intervals[:-2])
    rows, columns = region[len(region) - 2], region[len(region) - 1]

    def slice_of(name: str, last: tuple[Interval, Interval]) -> Slice:
        spec = specs[name]
        lead = broadcast(batch, type(spec)(shape=spec.shape[:-2], dtype=spec.dtype))
        return Slice(name, Region((*lead.intervals, *last)))

    return slice_of(a, (rows, inner)), slice_of(b, (inner, columns))


def _product(first: str, second: str) -> Rule:
    """Return the rule for ``y = first @ second``, given the names of the two arguments."""

    def is_plain(op: Operator, specs: Specs) -> bool:
        return min(specs[op.arg(first).name].ndim, specs[op.arg(second).name].ndim) >= 2

    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        if not is_plain(op, specs):
            return cut_whole(op, specs, region, contraction)
        a, b = op.arg(first).name, op.arg(second).name
        inner = _inner(specs[a].shape[-1], contraction)
        left, right = _operands(a, b, specs, region, inner)
        changes: dict[str, LocalValue] = {first: left, second: right}
        return Cut(
            steps=(localised(op, specs, **changes),),
            region=region,
            flops=2 * region.num_elements * inner.length,
            contraction=contraction,
        )

    def contraction(op: Operator, specs: Specs) -> int | None:
        return specs[op.arg(first).name].shape[-1] if is_plain(op, specs) else None

    return Rule(cut=cut, contraction=contraction)


def _cut_added(first: str, second: str) -> Rule:
    """Return the rule for ``y = beta * self + alpha * (first @ second)``, given two argument names."""

    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        a, b, added = op.arg(first).name, op.arg(second).name, op.arg("self")
        inner = _inner(specs[a].shape[-1], contraction)
        left, right = _operands(a, b, specs, region, inner)
        flops = 2 * region.num_elements * inner.length
        if _is_first(contraction):
            changes: dict[str, LocalValue] = {
                first: left,
                second: right,
                "self": Slice(added.name, broadcast(region, specs[added.name])),
            }
            steps: tuple[Step, ...] = (localised(op, specs, **changes),)
        else:
            product = call("aten.matmul.default", self=left, other=right)
            steps = (product, call("aten.mul.Scalar", self=Result(0), other=op.arg("alpha")))
        return Cut(steps=steps, region=region, flops=flops, contraction=contraction)

    def contraction(op: Operator, specs: Specs) -> int | None:
        return specs[op.arg(first).name].shape[-1]

    return Rule(cut=cut, contraction=contraction)


RULES = {
    "aten.linear.default": Rule(
        cut=_cut_linear,
        contraction=lambda op, specs: (
            specs[op.arg("weight").name].shape[-1] if specs[op.arg("weight").name].ndim == 2 else None
        ),
    ),
    "aten.matmul.default": _product("self", "other"),
    "aten.mm.default": _product("self", "mat2"),
    "aten.bmm.default": _product("self", "mat2"),
    "aten.addmm.default": _cut_added("mat1", "mat2"),
    "aten.baddbmm.default": _cut_added("batch1", "batch2"),
}
