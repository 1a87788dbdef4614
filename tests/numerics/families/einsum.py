"""Random equations: letters in any order, in some operands or all, summed or kept, written out or implied."""

from __future__ import annotations

from tests.numerics.cases import Case, Draw, Family, build

_TARGET = "aten.einsum.default"


def _einsum(d: Draw) -> Case:
    letters = "abcdefgh"[: d.integer(1, 5)]
    sizes = {letter: d.integer(1, 4) for letter in letters}
    operands = ["".join(letters[i] for i in d.some(range(len(letters)))) for _ in range(d.integer(1, 3))]
    met = sorted(set("".join(operands)))
    kept = "".join(met[i] for i in d.some(range(len(met)), least=0))
    has_dots, dots = d.flag(0.2), d.shape(0, 2, most=3)
    shapes = []
    for index, letters_ in enumerate(operands):
        shape = [1 if d.flag(0.1) else sizes[letter] for letter in letters_]
        if has_dots and (index == 0 or d.flag(0.7)):
            shape = [*dots, *shape]
            operands[index] = f"...{letters_}"
        shapes.append(shape)
    if has_dots:
        kept = f"...{kept}"
    left = ",".join(operands) if d.flag() else ", ".join(operands)
    equation = left if d.flag(0.1) else f"{left}->{kept}" if d.flag() else f"{left} -> {kept}"
    if d.flag(0.05):  # a diagonal
        return build(_TARGET, equation="aab->ab", tensors=[d.tensor(3, 3, d.integer(1, 4))])
    return build(_TARGET, equation=equation, tensors=[d.tensor(*shape) for shape in shapes])


FAMILIES = {
    "einsum": Family(draw=_einsum, targets=(_TARGET,), num_cases=400, is_arithmetic=True, min_exact=0.9)
}
