"""Gather and scatter: operators that read or write elements at positions given by an index tensor.

Which elements are accessed depends on the values of the indices, so indexed dims are read whole. The result
is cut freely along all other dims and along the dims of the index tensor. Indexed dims must also stay whole
because negative indices count from their end.
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
    """Cut gather; along the other dims, element i of the result comes from element i of the input."""
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
    """Cut a gather whose operands broadcast along all dims except the indexed one."""
    refuse_contraction(op, contraction)
    x, indices = op.arg("self").name, op.arg("indices").name
    shape = specs[x].shape
    if op.arg("dim") is None or not shape:
        return move_whole(op, specs, region, contraction)
    dim = normal_dim(op.arg("dim"), len(shape))
    source = broadcast(region, specs[x]).replace(dim, Interval(0, shape[dim]))
    # The indexed dim does not broadcast: a size of one there is one result element.
    chosen = broadcast(region, specs[indices]).replace(dim, region[dim])
    step = localised(op, specs, self=Slice(x, source), indices=Slice(indices, chosen))
    return Cut(steps=(step,), region=region, flops=0)


def _cut_take(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    refuse_contraction(op, contraction)
    step = localised(op, specs, index=Slice(op.arg("index").name, region))
    return Cut(steps=(step,), region=region, flops=0)


def _cut_index(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    """Cut ``x[i, :, j]``.

    Indices broadcast together. The resulting dims replace the indexed ones if these are adjacent, and come
    first otherwise.
    """
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
    """Return the cut of a scatter: ``self`` with elements of ``source`` written at ``index`` along one dim.

    Args:
        source: Name of the argument with the tensor to write, or None if a number is written.
    """

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
            return cut_whole(
                op, specs, region, contraction
            )  # indices cover only a corner of `self`; the rest is unchanged

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
    """Cut index_add, index_copy and index_fill: they add, write or set slices along one dim."""
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
