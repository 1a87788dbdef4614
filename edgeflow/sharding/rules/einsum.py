"""Einsum: cut along every letter of the result, contracted over one summed letter."""

from __future__ import annotations

from typing import NamedTuple

from edgeflow.graph.ir import Operator
from edgeflow.sharding.cut import Cut, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, cut_whole, localised, refuse_contraction


class _Equation(NamedTuple):
    """Letters of each operand and of the result, the size of each letter, and the summed letters."""

    operands: tuple[str, ...]
    result: str
    sizes: dict[str, int]
    summed: tuple[str, ...]


def _parsed(op: Operator, specs: Specs) -> _Equation | None:
    """Return the equation with its result written out, or None if this rule cannot cut it.

    Not supported: a letter twice in one operand (a diagonal), and an ellipsis without an explicit result.
    """
    left, arrow, result = str(op.arg("equation")).replace(" ", "").partition("->")
    operands = tuple(left.split(","))
    if "." in left:
        if not arrow:
            return None
        operands, result = _without_ellipsis(
            operands, result, [specs[ref.name].ndim for ref in op.arg("tensors")]
        )
    if any(len(set(letters)) != len(letters) for letters in operands):
        return None
    if not arrow:
        result = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    sizes: dict[str, int] = {}
    for letters, ref in zip(operands, op.arg("tensors"), strict=True):
        for letter, size in zip(letters, specs[ref.name].shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))  # dims of one element broadcast
    summed = tuple(letter for letter in dict.fromkeys("".join(operands)) if letter not in result)
    return _Equation(operands, result, sizes, summed)


def _without_ellipsis(
    operands: tuple[str, ...], result: str, ndims: list[int]
) -> tuple[tuple[str, ...], str]:
    """Replace ``...`` by unused letters, one per dim that it stands for; these dims align on the right."""
    counts = [
        ndim - len(letters) + 3 if "." in letters else 0
        for letters, ndim in zip(operands, ndims, strict=True)
    ]
    used = set("".join(operands))
    free = [
        letter
        for letter in map(chr, range(ord("A"), ord("z") + 1))
        if letter.isalpha() and letter not in used
    ]
    dims = "".join(free[: max(counts)])
    written = tuple(
        letters.replace("...", dims[len(dims) - count :])
        for letters, count in zip(operands, counts, strict=True)
    )
    return written, result.replace("...", dims)


def _contracted_letter(op: Operator, specs: Specs, equation: _Equation) -> str | None:
    """Return the first summed letter that can be split: one that has the same size in all its operands.

    None if there is no such letter, or the result is not of floating point.
    """
    if not specs[op.output].dtype.startswith(("float", "bfloat")):
        return None
    for letter in equation.summed:
        lengths = {
            specs[ref.name].shape[letters.index(letter)]
            for letters, ref in zip(equation.operands, op.arg("tensors"), strict=True)
            if letter in letters
        }
        if len(lengths) == 1:
            return letter
    return None


def _cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
    equation = _parsed(op, specs)
    if equation is None:
        return cut_whole(op, specs, region, contraction)
    wanted = dict(zip(equation.result, region.intervals, strict=True))
    wanted.update({letter: Interval(0, equation.sizes[letter]) for letter in equation.summed})
    if contraction is not None:
        letter = _contracted_letter(op, specs, equation)
        if letter is None:
            refuse_contraction(op, contraction)
        else:
            wanted[letter] = contraction
    parts = []
    for letters, ref in zip(equation.operands, op.arg("tensors"), strict=True):
        sizes = specs[ref.name].shape
        intervals = (
            Interval(0, 1) if size == 1 else wanted[letter]
            for letter, size in zip(letters, sizes, strict=True)
        )
        parts.append(Slice(ref.name, Region(tuple(intervals))))
    work = 2
    for letter in (*equation.result, *equation.summed):
        work *= wanted[letter].length
    step = localised(op, specs, tensors=tuple(parts))
    return Cut(steps=(step,), region=region, flops=work, contraction=contraction)


def _contraction(op: Operator, specs: Specs) -> int | None:
    equation = _parsed(op, specs)
    letter = None if equation is None else _contracted_letter(op, specs, equation)
    return None if equation is None or letter is None else equation.sizes[letter]


RULES = {"aten.einsum.default": Rule(cut=_cut, contraction=_contraction)}
