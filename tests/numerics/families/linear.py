"""Matrix products, with batches that broadcast and sums that are added once."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _some_infinite(d: Draw, x: torch.Tensor) -> torch.Tensor:
    """Now and then an operand holds what is no number: sums of parts must hold it too."""
    if x.numel() and d.flag(0.1):
        x.view(-1)[d.integer(0, x.numel() - 1)] = d.pick(float("inf"), float("-inf"), float("nan"))
    return x


def _linear(d: Draw) -> Case:
    num_in, num_out = d.integer(1, 9), d.integer(1, 9)
    if d.flag(0.05):  # a weight of one dim: a dot product
        return build("aten.linear.default", input=d.tensor(*d.shape(1, 2), num_in), weight=d.tensor(num_in))
    return build(
        "aten.linear.default",
        input=_some_infinite(d, d.tensor(*d.shape(0, 3, most=5), num_in)),
        weight=d.tensor(num_out, num_in),
        bias=d.tensor(num_out) if d.flag() else None,
    )


def _matmul(d: Draw) -> Case:
    inner = d.integer(1, 9)
    if d.flag(0.1):  # vectors
        left, right = d.pick(([], [4]), ([3], []), ([2, 3], []), ([], []))
        other = d.tensor(*right[:-1], inner, *right[-1:])
        return build("aten.matmul.default", self=d.tensor(*left, inner), other=other)
    batch = d.shape(0, 3, most=4)
    return build(
        "aten.matmul.default",
        self=_some_infinite(d, d.tensor(*d.broadcastable(batch), d.integer(1, 7), inner)),
        other=d.tensor(*d.broadcastable(batch), inner, d.integer(1, 7)),
    )


def _product(target: str, num_batch_dims: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        batch, inner = d.shape(num_batch_dims, num_batch_dims), d.integer(1, 9)
        make = d.integers if d.flag(0.1) else d.tensor
        if d.flag(0.1):  # a square, of which each operand is another slice
            x = make(*batch, inner, inner)
            return build(target, self=x, mat2=x)
        return build(
            target, self=make(*batch, d.integer(1, 7), inner), mat2=make(*batch, inner, d.integer(1, 7))
        )

    return draw


def _added(target: str, first: str, second: str, num_batch_dims: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        batch, inner = d.shape(num_batch_dims, num_batch_dims), d.integer(1, 9)
        rows, columns = d.integer(1, 7), d.integer(1, 7)
        operands = {first: d.tensor(*batch, rows, inner), second: d.tensor(*batch, inner, columns)}
        added = d.tensor(*d.broadcastable((*batch, rows, columns)))
        return build(target, self=added, beta=d.pick(1, 0, d.real()), alpha=d.pick(1, d.real()), **operands)

    return draw


FAMILIES = {
    "linear": Family(draw=_linear, targets=("aten.linear.default",), min_exact=0.9),
    "matmul": Family(draw=_matmul, targets=("aten.matmul.default",), min_exact=0.9),
    "mm": Family(draw=_product("aten.mm.default", 0), targets=("aten.mm.default",), num_cases=100),
    "bmm": Family(draw=_product("aten.bmm.default", 1), targets=("aten.bmm.default",), num_cases=100),
    "addmm": Family(
        draw=_added("aten.addmm.default", "mat1", "mat2", 0), targets=("aten.addmm.default",), num_cases=150
    ),
    "baddbmm": Family(
        draw=_added("aten.baddbmm.default", "batch1", "batch2", 1),
        targets=("aten.baddbmm.default",),
        num_cases=150,
    ),
}
