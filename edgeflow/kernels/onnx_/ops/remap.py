"""Operators that copy elements by a fixed map: flips, rolls, padding from the input, shuffles."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.ops.shape import pad_dims
from edgeflow.kernels.onnx_.values import CannotEmit, Value, dim_of


def _chosen(g: Graph, x: Value, dim: int, positions: Sequence[int]) -> Value:
    if list(positions) == list(range(x.shape[dim])):
        return x
    return g.gather(x, g.constant(list(positions), "int64"), dim)


def _flip(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    for dim in {dim_of(dim, x.ndim) for dim in a.ints("dims")} if x.ndim else ():
        x = _chosen(g, x, dim, range(x.shape[dim])[::-1])
    return x


def _roll(g: Graph, a: Arguments) -> Value:
    x, dims, shifts = a.tensor("self"), a.ints("dims"), a.ints("shifts")
    if not dims:
        shape = x.shape
        flat = g.reshape(x, (-1,))
        size = flat.shape[0]
        return g.reshape(_chosen(g, flat, 0, [(i - shifts[0]) % size for i in range(size)]), shape)
    for dim, shift in zip(dims, shifts, strict=True):
        dim = dim_of(dim, x.ndim)
        size = x.shape[dim]
        x = _chosen(g, x, dim, [(index - shift) % size for index in range(size)])
    return x


def _padded(g: Graph, x: Value, pad: Sequence[int], mode: str) -> Value:
    before, after = pad_dims(x, pad)
    for dim in range(x.ndim):
        first, last, size = before[dim], after[dim], x.shape[dim]
        kept = size + min(first, 0) + min(last, 0)
        places = range(-first, size + last)
        if mode == "circular":
            low = max(-first, 0)
            positions = [(place - low) % kept + low for place in places]
        else:
            positions = [_mirrored(place, size - 1, reflects=mode == "reflect") for place in places]
        x = _chosen(g, x, dim, positions)
    return x


def _mirrored(position: int, last: int, *, reflects: bool) -> int:
    """Return the element of ``0..last`` that reflection puts at ``position``, which may lie outside."""
    if reflects:
        position = abs(position)
        position = position if position <= last else 2 * last - position
    return min(max(position, 0), last)


def _pad_by(mode: str) -> Emitter:
    return lambda g, a: _padded(g, a.tensor("self"), a.ints("padding"), mode)


def _pad(g: Graph, a: Arguments) -> Value:
    x, mode = a.tensor("self"), a.get("mode", "constant")
    if mode == "constant":
        value = a.get("value")
        return g.pad(x, *pad_dims(x, a.ints("pad")), 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise CannotEmit(f"padding by {mode}")
    return _padded(g, x, a.ints("pad"), mode)


def _pixel_shuffle(g: Graph, a: Arguments) -> Value:
    x, factor = a.tensor("self"), a["upscale_factor"]
    *lead, channels, rows, columns = x.shape
    count, deep = len(lead), channels // factor**2
    split = g.reshape(x, (*lead, deep, factor, factor, rows, columns))
    order = (*range(count + 1), count + 3, count + 1, count + 4, count + 2)
    return g.reshape(g.transpose(split, order), (*lead, deep, rows * factor, columns * factor))


def _pixel_unshuffle(g: Graph, a: Arguments) -> Value:
    x, factor = a.tensor("self"), a["downscale_factor"]
    *lead, channels, rows, columns = x.shape
    count = len(lead)
    split = g.reshape(x, (*lead, channels, rows // factor, factor, columns // factor, factor))
    order = (*range(count + 1), count + 2, count + 4, count + 1, count + 3)
    shape = (*lead, channels * factor**2, rows // factor, columns // factor)
    return g.reshape(g.transpose(split, order), shape)


def _channel_shuffle(g: Graph, a: Arguments) -> Value:
    x, groups = a.tensor("self"), a["groups"]
    split = g.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    return g.reshape(g.swap(split, 1, 2), x.shape)


def _unfold(g: Graph, a: Arguments) -> Value:
    """Emit windows along one dim, their elements in a new last dim."""
    x, size, step = a.tensor("self"), a["size"], a["step"]
    if not x.ndim:
        raise CannotEmit("windows of a single number")
    dim = dim_of(a["dimension"], x.ndim)
    count = (x.shape[dim] - size) // step + 1
    places = g.constant([[window * step + at for at in range(size)] for window in range(count)], "int64")
    made = g.gather(x, places, dim)
    order = [at for at in range(made.ndim) if at != dim + 1]
    return g.transpose(made, (*order, dim + 1))


def _diagonal(g: Graph, a: Arguments) -> Value:
    x, offset = a.tensor("self"), a.get("offset", 0)
    first, second = (dim_of(a.get(key, default), x.ndim) for key, default in (("dim1", 0), ("dim2", 1)))
    rest = [dim for dim in range(x.ndim) if dim not in (first, second)]
    rows, columns = x.shape[first], x.shape[second]
    start = (max(0, -offset), max(0, offset))
    count = max(0, min(rows - start[0], columns - start[1]))
    if not count:
        raise CannotEmit("a diagonal without elements")
    flat = g.reshape(
        g.transpose(x, (*rest, first, second)), (*(x.shape[dim] for dim in rest), rows * columns)
    )
    places = [(start[0] + at) * columns + start[1] + at for at in range(count)]
    return _chosen(g, flat, flat.ndim - 1, places)


EMITTERS = {
    "flip": _flip,
    "roll": _roll,
    "pad": _pad,
    **{f"reflection_pad{n}d": _pad_by("reflect") for n in (1, 2, 3)},
    **{f"replication_pad{n}d": _pad_by("replicate") for n in (1, 2, 3)},
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "unfold": _unfold,
    "diagonal": _diagonal,
}
