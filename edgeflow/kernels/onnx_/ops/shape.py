"""Views, permutations, slices, concatenations, pads: elements move, none is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeflow.kernels.onnx_.emit import Arguments
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value, broadcast_shapes, dim_of, result_dtype


def _reshape(g: Graph, a: Arguments) -> Value:
    return g.reshape(a["self"], a.ints("size" if "size" in a else "shape"))


def _flatten(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    first, last = dim_of(a.get("start_dim", 0), x.ndim), dim_of(a.get("end_dim", -1), x.ndim)
    middle = math.prod(x.shape[first : last + 1])
    return g.reshape(x, (*x.shape[:first], middle, *x.shape[last + 1 :]))


def _unflatten(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    dim = dim_of(a["dim"], x.ndim)
    sizes = list(a.ints("sizes"))
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[dim] // -math.prod(sizes)
    return g.reshape(x, (*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


def _unsqueeze(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    dim = a["dim"] % (x.ndim + 1)
    return g.reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]))


def _squeeze(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    chosen = {dim_of(dim, x.ndim) for dim in (a.ints("dim") if "dim" in a else range(x.ndim))}
    return g.reshape(x, [size for dim, size in enumerate(x.shape) if size != 1 or dim not in chosen])


def _permute(g: Graph, a: Arguments) -> Value:
    return g.transpose(a["self"], a.ints("dims"))


def _transpose(g: Graph, a: Arguments) -> Value:
    return g.swap(a["self"], a["dim0"], a["dim1"])


def _last_two(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    return g.swap(x, -2, -1) if x.ndim > 1 else x


def _expand(g: Graph, a: Arguments) -> Value:
    x, size = a.tensor("self"), a.ints("size")
    own = (1,) * (len(size) - x.ndim) + x.shape
    return g.expand(x, [mine if wanted == -1 else wanted for wanted, mine in zip(size, own, strict=True)])


def _expand_as(g: Graph, a: Arguments) -> Value:
    return g.expand(a["self"], a.tensor("other").shape)


def _slice(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    dim = dim_of(a.get("dim", 0), x.ndim)
    start, stop, step = slice(a.get("start"), a.get("end"), a.get("step", 1)).indices(x.shape[dim])
    return g.slice(x, [start], [max(start, stop)], [dim], [step])


def _select(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    dim = dim_of(a["dim"], x.ndim)
    index = a["index"] % x.shape[dim]
    taken = g.slice(x, [index], [index + 1], [dim])
    return g.reshape(taken, (*x.shape[:dim], *x.shape[dim + 1 :]))


def _of_one_dtype(g: Graph, parts: Sequence[Value]) -> list[Value]:
    dtype = result_dtype(*parts)
    return [g.cast(part, dtype) for part in parts]


def _cat(g: Graph, a: Arguments) -> Value:
    given = a["tensors"]
    # By a legacy rule of torch an empty 1-D tensor can be concatenated with any other.
    parts = [part for part in _of_one_dtype(g, given) if part.shape != (0,)] or [given[0]]
    return g.concat(parts, dim_of(a.get("dim", 0), parts[0].ndim))


def _stack(g: Graph, a: Arguments) -> Value:
    parts = _of_one_dtype(g, a["tensors"])
    dim = a.get("dim", 0) % (parts[0].ndim + 1)
    return g.concat([g.reshape(p, (*p.shape[:dim], 1, *p.shape[dim:])) for p in parts], dim)


def _pieces(g: Graph, x: Value, dim: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    shapes = [((*x.shape[:dim], size, *x.shape[dim + 1 :]), x.dtype) for size in sizes]
    if len(shapes) == 1:
        return (x,)
    return tuple(g.nodes("Split", [x, g.ints(*sizes)], shapes, axis=dim))


def _split(g: Graph, a: Arguments) -> tuple[Value, ...]:
    x = a.tensor("self")
    dim = dim_of(a.get("dim", 0), x.ndim)
    size = x.shape[dim]
    if "chunks" in a:
        part = -(-size // a["chunks"])
    elif isinstance(a.get("split_size"), int):
        part = a["split_size"]
    else:
        return _pieces(g, x, dim, a.ints("split_sizes" if "split_sizes" in a else "split_size"))
    if part <= 0:
        raise CannotEmit("an empty split")
    return _pieces(g, x, dim, [min(part, size - start) for start in range(0, size, part)])


def _unbind(g: Graph, a: Arguments) -> tuple[Value, ...]:
    x = a.tensor("self")
    dim = dim_of(a.get("dim", 0), x.ndim)
    pieces = _pieces(g, x, dim, [1] * x.shape[dim])
    return tuple(g.reshape(piece, (*x.shape[:dim], *x.shape[dim + 1 :])) for piece in pieces)


def pad_dims(x: Value, pad: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return torch's padding list, last dim first, as elements before and after every dim."""
    before, after = [0] * x.ndim, [0] * x.ndim
    for index in range(len(pad) // 2):
        before[x.ndim - 1 - index] = pad[2 * index]
        after[x.ndim - 1 - index] = pad[2 * index + 1]
    return before, after


def _constant_pad(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    before, after = pad_dims(x, a.ints("pad"))
    value = a.get("value")
    return g.pad(x, before, after, 0 if value is None else value)


def _repeat_interleave(g: Graph, a: Arguments) -> Value:
    x, repeats = a.tensor("self"), a["repeats"]
    if not isinstance(repeats, int):
        raise CannotEmit("repeats of each element")
    if a.get("dim") is None:
        x, dim = g.reshape(x, (-1,)), 0
    else:
        dim = dim_of(a["dim"], x.ndim)
    head, size, tail = x.shape[:dim], x.shape[dim], x.shape[dim + 1 :]
    wide = g.expand(g.reshape(x, (*head, size, 1, *tail)), (*head, size, repeats, *tail))
    return g.reshape(wide, (*head, size * repeats, *tail))


def _repeat(g: Graph, a: Arguments) -> Value:
    x, repeats = a.tensor("self"), a.ints("repeats" if "repeats" in a else "dims")
    ndim = max(x.ndim, len(repeats))
    x = g.reshape(x, (1,) * (ndim - x.ndim) + x.shape)
    repeats = (1,) * (ndim - len(repeats)) + repeats
    if all(count == 1 for count in repeats):
        return x
    shape = tuple(size * count for size, count in zip(x.shape, repeats, strict=True))
    return g.node("Tile", [x, g.ints(*repeats)], shape, x.dtype)


def _same(g: Graph, a: Arguments) -> Value:
    return a.tensor("self")


def _broadcast(g: Graph, a: Arguments) -> tuple[Value, ...]:
    shape = broadcast_shapes(*(item.shape for item in a["tensors"]))
    return tuple(g.expand(item, shape) for item in a["tensors"])


EMITTERS = {
    **dict.fromkeys(("view.default", "reshape", "_unsafe_view"), _reshape),
    "flatten.using_ints": _flatten,
    "unflatten.int": _unflatten,
    "unsqueeze": _unsqueeze,
    **dict.fromkeys(("squeeze.default", "squeeze.dim", "squeeze.dims"), _squeeze),
    "permute": _permute,
    **dict.fromkeys(("transpose.int", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("t", "mT"), _last_two),
    **dict.fromkeys(("expand", "broadcast_to"), _expand),
    "expand_as": _expand_as,
    "slice.Tensor": _slice,
    "select.int": _select,
    **dict.fromkeys(("cat.default", "concat.default", "concatenate.default"), _cat),
    "stack": _stack,
    **dict.fromkeys(("split.Tensor", "split.sizes", "split_with_sizes", "chunk"), _split),
    "unbind.int": _unbind,
    "constant_pad_nd": _constant_pad,
    "repeat_interleave.self_int": _repeat_interleave,
    **dict.fromkeys(("repeat", "tile"), _repeat),
    **dict.fromkeys(("clone", "contiguous", "alias", "detach", "lift_fresh", "positive"), _same),
    "broadcast_tensors": _broadcast,
}
