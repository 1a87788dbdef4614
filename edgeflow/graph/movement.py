"""Rewrite chains of views and permutations as one view, one permutation and one view.

A chain is one permutation of factors of its dims, but it may merge unrelated dims on the way: patches taken
from ``x_NCHW`` as ``(N C H/p) p (W/p) p`` merge rows with channels, so that no box holds some rows of all
channels. Written as ``N C H/p p W/p p``, permuted once and merged at the end, rows stay a separate dim and
can be split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from edgeflow.graph.ir import ModelGraph, Operator, TensorRef, TensorSpec

_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "view.default", "_unsafe_view.default", "reshape.default", "flatten.using_ints", "unflatten.int",
        "unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims",
    )
)  # fmt: skip
_PERMUTATIONS = frozenset({"aten.permute.default", "aten.transpose.int"})


@dataclass(eq=False, slots=True)
class _Factor:
    """A factor of a dim; compared by identity, so factors of equal size stay distinct."""

    size: int


def join_movements(graph: ModelGraph) -> ModelGraph:
    """Rewrite every chain that has a view between two permutations; inner tensors must have one reader."""
    specs = dict(graph.specs)
    rewritten: dict[str, list[Operator]] = {}
    done: set[str] = set()
    for op in graph.operators:
        if op.name in done:
            continue
        chain = _chain(graph, op)
        done.update(link.name for link in chain)
        kinds = "".join("p" if link.target in _PERMUTATIONS else "v" for link in chain)
        first, last = kinds.find("p"), kinds.rfind("p")
        if "v" not in kinds[first + 1 : max(last, 0)]:
            continue
        joined = _joined(chain, specs)
        if joined is not None:
            rewritten.update({link.name: [] for link in chain})
            rewritten[chain[-1].name] = joined
    operators = tuple(new for op in graph.operators for new in rewritten.get(op.name, [op]))
    return replace(graph, operators=operators, specs=specs)


def _is_movement(op: Operator) -> bool:
    return op.target in _VIEWS or op.target in _PERMUTATIONS


def _chain(graph: ModelGraph, op: Operator) -> list[Operator]:
    chain = []
    while _is_movement(op):
        chain.append(op)
        readers = graph.consumers.get(op.output, ())
        if op.output in graph.outputs or len(readers) != 1:
            break
        op = readers[0]
    return chain


def _order(op: Operator, ndim: int) -> list[int]:
    if op.target == "aten.permute.default":
        return [dim % ndim for dim in op.arg("dims")]
    order = list(range(ndim))
    if ndim > 1:
        first, second = op.arg("dim0") % ndim, op.arg("dim1") % ndim
        order[first], order[second] = second, first
    return order


def _joined(chain: Sequence[Operator], specs: dict[str, TensorSpec]) -> list[Operator] | None:
    """Return the view, permutation and view that replace a chain, or None if a view cuts across factors.

    A first view or a permutation that changes nothing is left out.
    """
    source = chain[0].inputs[0]
    origin = [[_Factor(size)] if size > 1 else [] for size in specs[source].shape]
    dims = [list(factors) for factors in origin]
    for op in chain:
        if op.target in _PERMUTATIONS:
            dims = [dims[dim] for dim in _order(op, len(dims))]
        else:
            regrouped = _regrouped([f for dim in dims for f in dim], specs[op.output].shape, origin)
            if regrouped is None:
                return None
            dims = regrouped
    return _written(chain, source, origin, [factor for dim in dims for factor in dim], specs)


def _regrouped(
    factors: list[_Factor], shape: Sequence[int], origin: list[list[_Factor]]
) -> list[list[_Factor]] | None:
    """Assign factors to the dims of ``shape``; split a factor that spans two dims, in ``origin`` too.

    None if a factor and a dim do not divide each other.
    """
    rest = list(factors)
    dims: list[list[_Factor]] = []
    for size in shape:
        dim: list[_Factor] = []
        while size > 1:
            factor = rest.pop(0)
            if size % factor.size == 0:
                dim.append(factor)
                size //= factor.size
            elif factor.size % size == 0:
                inner = _Factor(factor.size // size)
                factor.size = size
                _insert_behind(origin, factor, inner)
                dim.append(factor)
                rest.insert(0, inner)
                size = 1
            else:
                return None
        dims.append(dim)
    return dims


def _insert_behind(origin: list[list[_Factor]], factor: _Factor, inner: _Factor) -> None:
    for dim in origin:
        if factor in dim:
            dim.insert(dim.index(factor) + 1, inner)


def _written(
    chain: Sequence[Operator],
    source: str,
    origin: list[list[_Factor]],
    order: list[_Factor],
    specs: dict[str, TensorSpec],
) -> list[Operator]:
    last = chain[-1]
    spec = specs[source]
    factors = [factor for dim in origin for factor in dim]
    fine = tuple(factor.size for factor in factors)
    dims = tuple(factors.index(factor) for factor in order)
    moved = tuple(factor.size for factor in order)
    target = specs[last.output].shape
    assert prod(fine) == prod(spec.shape) == prod(target)
    # `reshape`, not `view`: the source and the result of a permutation need not be contiguous.
    steps: list[tuple[str, str, object, tuple[int, ...]]] = []
    if fine != spec.shape:
        steps.append(("aten.reshape.default", "shape", fine, fine))
    if dims != tuple(range(len(dims))):
        steps.append(("aten.permute.default", "dims", dims, moved))
    steps.append(("aten.reshape.default", "shape", target, target))
    operators = []
    for index, (name, key, value, shape) in enumerate(steps):
        is_last = index == len(steps) - 1
        output = last.output if is_last else f"{last.output}_moved{index}"
        specs[output] = TensorSpec(shape=shape, dtype=spec.dtype)
        operators.append(
            Operator(
                name=last.name if is_last else output,
                target=name,
                arguments=(("self", TensorRef(source)), (key, value)),  # type: ignore[arg-type]
                outputs=(output,),
            )
        )
        source = output
    return operators
