"""Matrix products, with batches that broadcast; einsum."""

from __future__ import annotations

import math

from edgeflow.kernels.onnx_.emit import Arguments
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import FLOATS, CannotEmit, Value, result_dtype


def _linear(g: Graph, a: Arguments) -> Value:
    x, weight, bias = a.tensor("input"), a.tensor("weight"), a.optional("bias")
    if not x.is_float or x.ndim == 0:
        raise CannotEmit("a product of integers")
    if weight.ndim == 1:
        made = g.reduce("ReduceSum", g.mul(x, weight), [x.ndim - 1], keep=False)
        return made if bias is None else g.add(made, bias)
    rows = math.prod(x.shape[:-1])
    flat = g.reshape(x, (rows, x.shape[-1]))
    made = g.node("Gemm", [flat, weight, bias], (rows, weight.shape[0]), x.dtype, transB=1)
    return g.reshape(made, (*x.shape[:-1], weight.shape[0]))


def _matmul(g: Graph, a: Arguments) -> Value:
    x, y = a.tensor("self"), a.tensor("other" if "other" in a else "mat2" if "mat2" in a else "vec")
    if not x.ndim or not y.ndim or x.dtype != y.dtype or x.dtype == "bool":
        raise CannotEmit("a product of single numbers, or of two dtypes")
    left = g.reshape(x, (1, -1)) if x.ndim == 1 else x
    right = g.reshape(y, (-1, 1)) if y.ndim == 1 else y
    made = g.matmul(left, right)
    shape = list(made.shape)
    if y.ndim == 1:
        del shape[-1]
    if x.ndim == 1:
        del shape[-1 if y.ndim == 1 else -2]
    return g.reshape(made, shape)


def _added(first: str, second: str) -> object:
    def emit(g: Graph, a: Arguments) -> Value:
        x, left, right = a.tensor("self"), a.tensor(first), a.tensor(second)
        beta, alpha = a.get("beta", 1), a.get("alpha", 1)
        if not left.is_float:
            raise CannotEmit("a product of integers")
        if left.ndim == 2 and right.ndim == 2 and beta != 0:
            shape = (left.shape[0], right.shape[1])
            return g.node("Gemm", [left, right, x], shape, left.dtype, alpha=float(alpha), beta=float(beta))
        made = g.matmul(left, right, alpha=float(alpha))
        if beta == 0:
            return made
        return g.add(made, x if beta == 1 else g.mul(x, beta))

    return emit


def _einsum(g: Graph, a: Arguments) -> Value:
    """Emit ONNX `Einsum`; sizes follow from the letters, those of dots from the longest run of dims."""
    equation, tensors = a["equation"].replace(" ", ""), list(a["tensors"])
    dtype = result_dtype(*tensors)
    if dtype not in FLOATS:
        raise CannotEmit("an einsum of integers")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if any(len(set(term.replace("...", ""))) != len(term.replace("...", "")) for term in terms):
        raise CannotEmit("a diagonal")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    sizes: dict[str, int] = {}
    dots: tuple[int, ...] = ()
    for term, tensor in zip(terms, tensors, strict=True):
        head, _, tail = term.partition("...")
        shape = tensor.shape
        for letter, size in (*zip(head, shape, strict=False), *zip(tail[::-1], shape[::-1], strict=False)):
            if sizes.setdefault(letter, size) != size:
                raise CannotEmit("a letter that broadcasts")
        if "..." in term:
            run = shape[len(head) : len(shape) - len(tail)]
            if dots and run != dots:
                raise CannotEmit("an ellipsis that broadcasts")
            dots = run
    shape = tuple(
        size for part in right.replace("...", ".") for size in (dots if part == "." else (sizes[part],))
    )
    if any(letter not in left for letter in right):
        raise CannotEmit("an output letter that no input has")
    return g.node("Einsum", tensors, shape, dtype, equation=f"{left}->{right}")


EMITTERS = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm.default", "bmm.default", "mv"), _matmul),
    "addmm.default": _added("mat1", "mat2"),
    "baddbmm.default": _added("batch1", "batch2"),
    "einsum": _einsum,
}
