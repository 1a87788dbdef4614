"""The effect of a chain of views on the dims of its source tensor, computed from shapes.

Every dim of the source is a product of *factors*: reshapes regroup them, permutations reorder them, slices
shorten the outermost factor of a dim. So a chain of any length equals one reshape, one permutation and one
reshape of a box of its source, unless a reshape splits a factor by a number that does not divide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from edgeflow.graph.ir import Operator, TensorRef, TensorSpec

#: A factor: (dim of the source, index among the dim's factors, outermost first).
Place = tuple[int, int]
#: An operator and the spec of its result.
Made = tuple[Operator, TensorSpec]

_RESHAPES = frozenset(
    f"aten.{name}"
    for name in (
        "view.default", "_unsafe_view.default", "reshape.default", "flatten.using_ints", "unflatten.int",
        "unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims",
    )
)  # fmt: skip
_PERMUTES = frozenset(("aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.mT.default"))
_SLICES = frozenset(("aten.slice.Tensor", "aten.select.int"))


@dataclass(frozen=True, slots=True)
class Chain:
    """A view of a source.

    Attributes:
        bounds: Per dim of the source, the visible elements ``(start, stop)``.
        factors: Per dim of the source, the sizes that multiply to the number of visible elements, outermost
            first; empty for a dim of one element.
        dims: Per dim of the view, the factors whose product it is, outermost first.
    """

    bounds: tuple[tuple[int, int], ...]
    factors: tuple[tuple[int, ...], ...]
    dims: tuple[tuple[Place, ...], ...]

    @staticmethod
    def of(shape: Sequence[int]) -> Chain:
        """Return the view that shows the whole source unchanged."""
        return Chain(
            bounds=tuple((0, size) for size in shape),
            factors=tuple((size,) if size > 1 else () for size in shape),
            dims=tuple(((dim, 0),) if size > 1 else () for dim, size in enumerate(shape)),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(prod(self._size(place) for place in places) for places in self.dims)

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape of the visible box of the source."""
        return tuple(stop - start for start, stop in self.bounds)

    @property
    def factor_shape(self) -> tuple[int, ...]:
        """Shape of the visible box of the source with every factor as a separate dim."""
        return tuple(size for sizes in self.factors for size in sizes)

    @property
    def order(self) -> tuple[int, ...]:
        """The permutation of `factor_shape` that brings the factors into the view's order."""
        position = {
            place: index
            for index, place in enumerate(
                (dim, i) for dim, sizes in enumerate(self.factors) for i in range(len(sizes))
            )
        }
        return tuple(position[place] for places in self.dims for place in places)

    def _size(self, place: Place) -> int:
        return self.factors[place[0]][place[1]]

    def permuted(self, order: Sequence[int]) -> Chain:
        return replace(self, dims=tuple(self.dims[dim] for dim in order))

    def reshaped(self, shape: Sequence[int]) -> Chain | None:
        """Return the view with its factors regrouped, or None if a factor does not divide evenly."""
        chain, taken = self, 0
        counts = []
        for size in shape:
            count, rest = 0, size
            while rest > 1:
                place = [place for places in chain.dims for place in places][taken + count]
                factor = chain._size(place)
                if factor > rest:
                    if factor % rest:
                        return None
                    chain, factor = chain._torn(place, rest), rest
                if rest % factor:
                    return None
                rest //= factor
                count += 1
            counts.append(count)
            taken += count
        places = [place for places in chain.dims for place in places]
        dims, first = [], 0
        for count in counts:
            dims.append(tuple(places[first : first + count]))
            first += count
        return replace(chain, dims=tuple(dims))

    def _torn(self, place: Place, outer: int) -> Chain:
        """Return the view with one factor split into ``outer`` and the rest."""
        dim, index = place
        sizes = self.factors[dim]
        torn = (*sizes[:index], outer, sizes[index] // outer, *sizes[index + 1 :])

        def moved(old: Place) -> tuple[Place, ...]:
            if old == place:
                return (place, (dim, index + 1))
            return ((dim, old[1] + 1),) if old[0] == dim and old[1] > index else (old,)

        return replace(
            self,
            factors=(*self.factors[:dim], torn, *self.factors[dim + 1 :]),
            dims=tuple(tuple(new for old in places for new in moved(old)) for places in self.dims),
        )

    def narrowed(self, dim: int, start: int, stop: int) -> Chain | None:
        """Return elements ``[start, stop)`` of a dim, or None if they are not a box of the source."""
        places = self.dims[dim]
        if not places:
            return self
        (source, index), inner = places[0], prod(self._size(place) for place in places[1:])
        if start % inner or stop % inner or index:
            return None if (start, stop) != (0, self.shape[dim]) else self
        unit = prod(self.factors[source][1:])
        first = self.bounds[source][0]
        bounds = list(self.bounds)
        bounds[source] = (first + start // inner * unit, first + stop // inner * unit)
        factors = list(self.factors)
        factors[source] = ((stop - start) // inner, *factors[source][1:])
        return replace(self, bounds=tuple(bounds), factors=tuple(factors))._without_ones(source)

    def _without_ones(self, source: int) -> Chain:
        """Return the view without the outermost factor of a source dim if that factor is 1."""
        if self.factors[source][0] != 1:
            return self
        factors = list(self.factors)
        factors[source] = factors[source][1:]

        def moved(old: Place) -> tuple[Place, ...]:
            if old[0] != source:
                return (old,)
            return ((source, old[1] - 1),) if old[1] else ()

        dims = tuple(tuple(new for old in places for new in moved(old)) for places in self.dims)
        return replace(self, factors=tuple(factors), dims=dims)

    def after(self, op: Operator, shape: tuple[int, ...]) -> Chain | None:
        """Return the chain extended by the view ``op`` with result ``shape``; None if it is not a box."""
        if op.target in _RESHAPES:
            return self.reshaped(shape)
        if op.target in _PERMUTES:
            return self.permuted(permutation(op, len(self.dims)))
        if op.target == "aten.select.int":
            dim, index = op.arg("dim") % len(self.dims), op.arg("index")
            index += self.shape[dim] if index < 0 else 0
            chosen = self.narrowed(dim, index, index + 1)
            return (
                None
                if chosen is None
                else replace(chosen, dims=(*chosen.dims[:dim], *chosen.dims[dim + 1 :]))
            )
        if op.target == "aten.slice.Tensor" and op.arg("step") == 1:
            dim = op.arg("dim") % len(self.dims)
            start = op.arg("start") or 0
            start = min(max(start + self.shape[dim] if start < 0 else start, 0), self.shape[dim])
            return self.narrowed(dim, start, start + shape[dim])
        return None


def is_reshape(op: Operator) -> bool:
    return op.target in _RESHAPES


def is_view(op: Operator) -> bool:
    """Whether `Chain.after` may be able to follow ``op``."""
    return op.target in _RESHAPES or op.target in _PERMUTES or op.target in _SLICES


def permutation(op: Operator, ndim: int) -> tuple[int, ...]:
    """Return the order of dims of a permute or transpose: dim i of the result is input dim ``order[i]``."""
    arguments = dict(op.arguments)
    if "dims" in arguments:
        return tuple(int(dim) % ndim for dim in op.arg("dims"))
    order = list(range(ndim))
    if ndim < 2:  # torch accepts transposes of vectors and scalars
        return tuple(order)
    first, second = (
        (op.arg("dim0") % ndim, op.arg("dim1") % ndim) if "dim0" in arguments else (ndim - 2, ndim - 1)
    )
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def write(chain: Chain, source: str, output: str, *, shape: tuple[int, ...], dtype: str) -> list[Made]:
    """Return the one to three operators that make ``output`` from the visible box of ``source``.

    An unchanged box is reshaped to its own shape, so that there is always one operator.
    """
    held, order, factors = chain.source_shape, chain.order, chain.factor_shape
    calls: list[tuple[str, str, tuple[int, ...], tuple[int, ...]]] = []
    if order != tuple(range(len(order))):
        if held != factors:
            calls.append(("aten.reshape.default", "shape", factors, factors))
        held = tuple(factors[dim] for dim in order)
        calls.append(("aten.permute.default", "dims", order, held))
    if held != shape or not calls:
        calls.append(("aten.reshape.default", "shape", shape, shape))
    made: list[Made] = []
    for index, (target, key, value, result) in enumerate(calls):
        name = output if index == len(calls) - 1 else f"{output}_{key}{index}"
        arguments = (("self", TensorRef(source)), (key, value))
        operator = Operator(name=name, target=target, arguments=arguments, outputs=(name,))
        made.append((operator, TensorSpec(shape=result, dtype=dtype)))
        source = name
    return made
