"""Operators that look elements up, or put them, at places that a tensor of integers names.

Which elements are read depends on values, so along the dims that are looked up in everything is taken; along
all others, and along the dims of the indices themselves, the result is cut freely. Negative indices count
from the end of a dim, which is therefore never shortened.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator, TensorRef
from edgeflow.sharding.cut import Cut, LocalScalar, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import (
    CutFunction,
    Rule,
    Specs,
    broadcast,
    cut_whole,
    full,
    localised,
    move_whole,
    normal_dim,
    out_spec,
    refuse_contraction,
)


def _cut_embedding(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    weight, indices = op.arg("weight").name, op.arg("indices").name
    features = region[len(region) - 1]
    step = localised(
        op,
        specs,
        weight=Slice(weight, Region((Interval(0, specs[weight].shape[0]), features))),
        indices=Slice(indices, Region(region.intervals[:-1])),
    )
    return Cut(steps=(step,), region=region, flops=0)


def _cut_index_select(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    x, index = op.arg("self").name, op.arg("index").name
    shape = specs[x].shape
    if not shape:
        return move_whole(op, specs, region, contraction)
    dim = normal_dim(op.arg("dim"), len(shape))
    chosen = Region((region[dim],)) if specs[index].ndim else Region(())
    step = localised(
        op, specs, self=Slice(x, region.replace(dim, Interval(0, shape[dim]))), index=Slice(index, chosen)
    )
    return Cut(steps=(step,), region=region, flops=0)


def _cut_gather(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Along the other dims element i of the result comes from element i of what is read."""
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    shape = specs[x].shape
    if not shape or not len(region):
        return move_whole(op, specs, region, contraction)
    dim = normal_dim(op.arg("dim"), len(shape))
    source = Slice(x, region.replace(dim, Interval(0, shape[dim])))
    step = localised(op, specs, self=source, index=Slice(op.arg("index").name, region))
    return Cut(steps=(step,), region=region, flops=0)


def _cut_take_along_dim(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """`gather` whose operands broadcast in all dims but one."""
    refuse_contraction(op, contraction)
    x, indices = op.arg("self").name, op.arg("indices").name
    shape = specs[x].shape
    if op.arg("dim") is None or not shape:
        return move_whole(op, specs, region, contraction)
    dim = normal_dim(op.arg("dim"), len(shape))
    source = broadcast(region, specs[x]).replace(dim, Interval(0, shape[dim]))
    # Along the dim itself one index stands for itself, not for many.
    chosen = broadcast(region, specs[indices]).replace(dim, region[dim])
    step = localised(op, specs, self=Slice(x, source), indices=Slice(indices, chosen))
    return Cut(steps=(step,), region=region, flops=0)


def _cut_take(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    step = localised(op, specs, index=Slice(op.arg("index").name, region))
    return Cut(steps=(step,), region=region, flops=0)


def _cut_index(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """``x[i, :, j]``: indices broadcast; their dims stand in place if they are side by side, else first."""
    refuse_contraction(op, contraction)
    x, indices = op.arg("self").name, op.arg("indices")
    shape = specs[x].shape
    given = [dim for dim, ref in enumerate(indices) if ref is not None]
    if not given or any(specs[indices[dim].name].dtype in ("bool", "uint8") for dim in given):
        return move_whole(op, specs, region, contraction)
    num_dims = max(specs[indices[dim].name].ndim for dim in given)
    is_adjacent = given == list(range(given[0], given[-1] + 1))
    first = given[0] if is_adjacent else 0
    places = Region(region.intervals[first : first + num_dims])
    others = iter((*region.intervals[:first], *region.intervals[first + num_dims :]))
    source = Region(
        tuple(Interval(0, size) if dim in given else next(others) for dim, size in enumerate(shape))
    )
    local: tuple[LocalScalar, ...] = tuple(
        None if ref is None else Slice(ref.name, broadcast(places, specs[ref.name])) for ref in indices
    )
    step = localised(op, specs, self=Slice(x, source), indices=local)
    return Cut(steps=(step,), region=region, flops=0)


def _scatter(*, source: str | None) -> CutFunction:
    """``self`` with ``source`` (a tensor or, with None, a number) put where ``index`` says along one dim."""

    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        refuse_contraction(op, contraction)
        x, index = op.arg("self"), op.arg("index")
        shape, others = specs[x.name].shape, [index]
        if source is not None:
            others.append(op.arg(source))
        if not shape or any(specs[ref.name].ndim != len(shape) for ref in others):
            return cut_whole(op, specs, region, contraction)
        dim = normal_dim(op.arg("dim"), len(shape))
        if any(
            size != shape[at] for ref in others for at, size in enumerate(specs[ref.name].shape) if at != dim
        ):
            return cut_whole(op, specs, region, contraction)  # what lies beyond the indices stays as it is

        def part(ref: TensorRef) -> Slice:
            return Slice(ref.name, region.replace(dim, Interval(0, specs[ref.name].shape[dim])))

        made = region.replace(dim, Interval(0, shape[dim]))
        changes = {"self": part(x), "index": part(index)}
        if source is not None:
            changes[source] = part(op.arg(source))
        step = localised(op, specs, **changes)
        return Cut(steps=(step,), region=made, flops=made.num_elements)

    return cut


def _cut_index_add(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Whole slices of ``source`` put at, or added to, places along one dim; `index_fill` puts a number."""
    refuse_contraction(op, contraction)
    x = op.arg("self").name
    shape = specs[x].shape
    source = dict(op.arguments).get("source")
    if not shape or (isinstance(source, TensorRef) and specs[source.name].ndim != len(shape)):
        return cut_whole(op, specs, region, contraction)
    dim = normal_dim(op.arg("dim"), len(shape))
    made = region.replace(dim, Interval(0, shape[dim]))
    changes = {"self": Slice(x, made)}
    if isinstance(source, TensorRef):
        changes["source"] = Slice(
            source.name, region.replace(dim, Interval(0, specs[source.name].shape[dim]))
        )
    return Cut(steps=(localised(op, specs, **changes),), region=made, flops=made.num_elements)


def _cut_one_hot(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    classes = out_spec(op, specs).shape[-1]
    step = localised(
        op, specs, self=Slice(op.arg("self").name, Region(region.intervals[:-1])), num_classes=classes
    )
    made = region.replace(len(region) - 1, Interval(0, classes))
    return Cut(steps=(step,), region=made, flops=0)


def _cut_buckets(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    boundaries = full(op.arg("boundaries").name, specs)
    step = localised(op, specs, self=Slice(op.arg("self").name, region), boundaries=boundaries)
    return Cut(steps=(step,), region=region, flops=8 * region.num_elements)


_INDEX = Rule(cut=_cut_index, is_lookup=True)
RULES = {
    "aten.embedding.default": Rule(cut=_cut_embedding, is_lookup=True),
    "aten.index_select.default": Rule(cut=_cut_index_select, is_lookup=True),
    "aten.gather.default": Rule(cut=_cut_gather, is_lookup=True),
    "aten.take_along_dim.default": Rule(cut=_cut_take_along_dim, is_lookup=True),
    "aten.take.default": Rule(cut=_cut_take, is_lookup=True),
    "aten.index.Tensor": _INDEX,
    "aten._unsafe_index.Tensor": _INDEX,
    "aten.scatter.src": Rule(cut=_scatter(source="src")),
    "aten.scatter.value": Rule(cut=_scatter(source=None)),
    "aten.scatter.reduce": Rule(cut=_scatter(source="src")),
    "aten.scatter.value_reduce": Rule(cut=_scatter(source=None)),
    "aten.scatter_add.default": Rule(cut=_scatter(source="src")),
    "aten.scatter_reduce.two": Rule(cut=_scatter(source="src")),
    "aten.index_add.default": Rule(cut=_cut_index_add),
    "aten.index_copy.default": Rule(cut=_cut_index_add),
    "aten.index_fill.int_Scalar": Rule(cut=_cut_index_add),
    "aten.one_hot.default": Rule(cut=_cut_one_hot, is_lookup=True),
    "aten.bucketize.Tensor": Rule(cut=_cut_buckets),
}
