"""Reductions over dims: sum, mean, extrema, norms, variance.

Cut along every kept dim. Sum and mean are contracted over the first reduced dim of more than one element.
"""

from __future__ import annotations

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Result, Slice, Step
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, call, localised, normal_dim, refuse_contraction


def _reduced_dims(op: Operator, ndim: int) -> tuple[int, ...]:
    dims = dict(op.arguments).get("dim")
    if dims is None or dims == ():
        return tuple(range(ndim))
    listed = dims if isinstance(dims, tuple) else (dims,)
    return tuple(sorted(normal_dim(int(dim), ndim) for dim in listed))  # type: ignore[arg-type]


def _input_region(op: Operator, specs: Specs, region: Region) -> Region:
    shape = specs[op.arg("self").name].shape
    reduced = _reduced_dims(op, len(shape))
    keeps = bool(dict(op.arguments).get("keepdim", False))
    kept = iter(region.intervals)
    intervals = []
    for dim, size in enumerate(shape):
        if dim in reduced:
            intervals.append(Interval(0, size))
            if keeps:
                next(kept)
        else:
            intervals.append(next(kept))
    return Region(tuple(intervals))


def _contracted_dim(op: Operator, specs: Specs) -> int | None:
    """Return the first reduced dim of more than one element, or None."""
    shape = specs[op.arg("self").name].shape
    return next((dim for dim in _reduced_dims(op, len(shape)) if shape[dim] > 1), None)


def _contraction(op: Operator, specs: Specs) -> int | None:
    spec = specs[op.arg("self").name]
    dim = _contracted_dim(op, specs)
    is_float = spec.dtype in ("float32", "float64", "float16", "bfloat16")
    return spec.shape[dim] if dim is not None and is_float else None


def _rule(*, cost: float = 1.0, is_mean: bool = False, can_contract: bool = False) -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        if not can_contract:
            refuse_contraction(op, contraction)
        x = op.arg("self").name
        source = _input_region(op, specs, region)
        share = 1.0
        if contraction is not None:
            dim = _contracted_dim(op, specs)
            assert dim is not None
            source = source.replace(dim, contraction)
            share = contraction.length / specs[x].shape[dim]
        steps: tuple[Step, ...] = (localised(op, specs, self=Slice(x, source)),)
        if is_mean and contraction is not None:
            # Local means, weighted by their share of the contracted dim, add up to the mean of all.
            steps += (call("aten.mul.Scalar", self=Result(0), other=share),)
        return Cut(steps=steps, region=region, flops=int(cost * source.num_elements), contraction=contraction)

    return Rule(cut=cut, contraction=_contraction if can_contract else None)


_MEAN = _rule(is_mean=True, can_contract=True)
_SUM = _rule(can_contract=True)
RULES = {
    "aten.mean.dim": _MEAN,
    "aten.mean.default": _MEAN,
    "aten.sum.dim_IntList": _SUM,
    "aten.sum.default": _SUM,
    "aten.amax.default": _rule(),
    "aten.amin.default": _rule(),
    "aten.var.correction": _rule(cost=3.0),
    "aten.var.dim": _rule(cost=3.0),
    "aten.std.correction": _rule(cost=3.0),
    "aten.std.dim": _rule(cost=3.0),
    "aten.linalg_vector_norm.default": _rule(cost=2.0),
    "aten.any.dim": _rule(),
    "aten.all.dim": _rule(),
    "aten.argmax.default": _rule(),
    "aten.argmin.default": _rule(),
}
