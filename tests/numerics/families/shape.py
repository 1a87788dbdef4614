"""Operators that move elements: exact to the bit, and free of arithmetic."""

from __future__ import annotations

from typing import Any

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _any_tensor(d: Draw, *shape: int) -> torch.Tensor:
    return d.pick(d.tensor, d.tensor, d.integers, d.bools)(*shape)  # type: ignore[no-any-return]


def _grouped(d: Draw, factors: list[int]) -> list[int]:
    """A shape whose dims are products of consecutive factors, with dims of one element in between."""
    shape, product = [], 1
    for factor in factors:
        product *= factor
        if d.flag(0.6):
            shape.append(product)
            product = 1
        if d.flag(0.1):
            shape.append(1)
    return [*shape, product] if product > 1 or not shape else shape


def _reshape(d: Draw) -> Case:
    """Two random factorisations of one product: of the same factors in order, or in disorder."""
    factors = [d.pick(1, 2, 2, 3, 4, 5) for _ in range(d.integer(0, 5))]
    source = _grouped(d, factors)
    target = _grouped(d, factors if d.flag(0.7) else d.shuffled(factors))
    if target and d.flag(0.2):
        target[d.integer(0, len(target) - 1)] = -1
    x = _any_tensor(d, *([] if d.flag(0.1) and not factors else source))
    if d.flag(0.3):
        return build("aten.reshape.default", self=x, shape=target)
    return build(d.pick("aten.view.default", "aten._unsafe_view.default"), self=x, size=target)


def _flatten(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(0, 5, most=4))
    first, last = sorted(d.integer(0, max(0, x.ndim - 1)) for _ in range(2))
    shift = d.pick(0, max(1, x.ndim))
    return build("aten.flatten.using_ints", self=x, start_dim=first - shift, end_dim=last - shift)


def _unflatten(d: Draw) -> Case:
    shape = list(d.shape(1, 4, most=4))
    dim, sizes = d.integer(0, len(shape) - 1), [d.integer(1, 4) for _ in range(d.integer(1, 3))]
    shape[dim] = 1
    for size in sizes:
        shape[dim] *= size
    if d.flag(0.3):
        sizes[d.integer(0, len(sizes) - 1)] = -1
    return build(
        "aten.unflatten.int", self=_any_tensor(d, *shape), dim=dim - d.pick(0, len(shape)), sizes=sizes
    )


def _unsqueeze(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(0, 4))
    return build("aten.unsqueeze.default", self=x, dim=d.integer(-x.ndim - 1, x.ndim))


def _squeeze(d: Draw) -> Case:
    x = _any_tensor(d, *(d.pick(1, d.integer(1, 5)) for _ in range(d.integer(0, 5))))
    last = max(1, x.ndim) - 1
    kind = d.integer(0, 2)
    if kind == 0:
        return build("aten.squeeze.default", self=x)
    if kind == 1:
        return build("aten.squeeze.dim", self=x, dim=d.integer(-last - 1, last))
    return build("aten.squeeze.dims", self=x, dim=[dim - d.pick(0, x.ndim) for dim in d.some(range(x.ndim))])


def _view(d: Draw) -> Case:
    draw: DrawCase = d.pick(
        _reshape, _reshape, _reshape, _reshape, _flatten, _unflatten, _unsqueeze, _squeeze
    )
    return draw(d)


_VIEWS = (
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
    "aten.unflatten.int", "aten.unsqueeze.default", "aten.squeeze.default", "aten.squeeze.dim",
    "aten.squeeze.dims",
)  # fmt: skip


def _permute(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(0, 5, most=5))
    kind = d.integer(0, 3)
    if kind == 0:
        return build("aten.t.default", self=_any_tensor(d, *d.shape(0, 2)))
    if kind == 1:
        return build("aten.mT.default", self=_any_tensor(d, *d.shape(2, 4)))
    if kind == 2:
        last = max(1, x.ndim) - 1
        return build(
            "aten.transpose.int", self=x, dim0=d.integer(-last - 1, last), dim1=d.integer(-last - 1, last)
        )
    order = d.shuffled(range(x.ndim))
    return build("aten.permute.default", self=x, dims=[dim - d.pick(0, x.ndim) for dim in order])


def _expand(d: Draw) -> Case:
    shape = d.shape(0, 4)
    x = _any_tensor(d, *d.broadcastable(shape))
    offset = len(shape) - x.ndim
    size = [-1 if dim >= offset and d.flag(0.2) else size for dim, size in enumerate(shape)]
    return build("aten.expand.default", self=x, size=size)


def _slice(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(1, 4, most=9))
    dim = d.integer(0, x.ndim - 1)
    reach = x.shape[dim] + 2

    def bound() -> Any:
        return d.pick(None, d.integer(-reach, reach), d.integer(-reach, reach))

    return build(
        "aten.slice.Tensor",
        self=x,
        dim=dim - d.pick(0, x.ndim),
        start=bound(),
        end=d.pick(bound(), 2**63 - 1),
        step=d.integer(1, 4),
    )


def _select(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(1, 4))
    dim = d.integer(0, x.ndim - 1)
    index = d.integer(-x.shape[dim], x.shape[dim] - 1)
    return build("aten.select.int", self=x, dim=dim - d.pick(0, x.ndim), index=index)


def _joined(d: Draw, shapes: list[list[int]]) -> list[torch.Tensor]:
    """Tensors of these shapes: of one dtype or of several, now and then the same one twice."""
    one_kind = d.pick(d.tensor, d.integers, d.bools)
    has_one_kind = d.flag(0.7)
    tensors = [one_kind(*shape) if has_one_kind else _any_tensor(d, *shape) for shape in shapes]
    if d.flag(0.2):
        tensors.append(tensors[0])
    return tensors


def _cat(d: Draw) -> Case:
    shape = list(d.shape(1, 4, most=4))
    dim = d.integer(0, len(shape) - 1)
    shapes = [[*shape[:dim], d.integer(1, 5), *shape[dim + 1 :]] for _ in range(d.integer(1, 4))]
    return build("aten.cat.default", tensors=_joined(d, shapes), dim=dim - d.pick(0, len(shape)))


def _stack(d: Draw) -> Case:
    shape = list(d.shape(0, 3, most=4))
    dim = d.integer(-len(shape) - 1, len(shape))
    return build("aten.stack.default", tensors=_joined(d, [shape] * d.integer(1, 4)), dim=dim)


def _pad(d: Draw) -> Case:
    x = d.integers(*d.shape(1, 4)) if d.flag(0.2) else d.tensor(*d.shape(1, 4))
    num_dims = d.integer(0, x.ndim)
    value = d.pick(0, 7) if x.dtype == torch.int64 else d.pick(0, 1.5, float("-inf"))
    pad = [d.integer(-3, 5) for _ in range(2 * num_dims)]
    return build("aten.constant_pad_nd.default", self=x, pad=pad, value=value)


def _repeat_interleave(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(1, 4, most=4))
    dim = None if d.flag(0.1) else d.integer(-x.ndim, x.ndim - 1)
    return build("aten.repeat_interleave.self_int", self=x, repeats=d.integer(1, 4), dim=dim)


FAMILIES = {
    "view": Family(
        draw=_view,
        targets=_VIEWS,
        num_cases=1000,
        is_arithmetic=False,
        min_exact=0.5,
    ),
    "permute": Family(
        draw=_permute,
        targets=("aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.mT.default"),
        is_arithmetic=False,
    ),
    "expand": Family(draw=_expand, targets=("aten.expand.default",), is_arithmetic=False),
    "slice": Family(draw=_slice, targets=("aten.slice.Tensor",), is_arithmetic=False),
    "select": Family(draw=_select, targets=("aten.select.int",), num_cases=100, is_arithmetic=False),
    "cat": Family(draw=_cat, targets=("aten.cat.default",), is_arithmetic=False),
    "stack": Family(draw=_stack, targets=("aten.stack.default",), num_cases=150, is_arithmetic=False),
    "pad": Family(draw=_pad, targets=("aten.constant_pad_nd.default",), num_cases=400, is_arithmetic=False),
    "repeat_interleave": Family(
        draw=_repeat_interleave,
        targets=("aten.repeat_interleave.self_int",),
        num_cases=150,
        is_arithmetic=False,
        min_exact=0.8,
    ),
}
