"""Pools: maxima and means over windows, by torch's rules of rounding and divisors; adaptive means."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.kernels.onnx_.emit import Arguments, Emitter
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value


class _Geometry:
    """The windows of one call: output sizes, and the elements beyond the padding at the end."""

    def __init__(self, a: Arguments, spatial: int, sizes: tuple[int, ...]) -> None:
        self.kernel = a.ints("kernel_size", spatial)
        self.stride = a.ints("stride", spatial) or self.kernel
        self.padding = a.ints("padding", spatial) if "padding" in a else (0,) * spatial
        self.dilation = a.ints("dilation", spatial) if "dilation" in a else (1,) * spatial
        self.sizes = sizes
        self.out = tuple(self._out(dim, bool(a.get("ceil_mode"))) for dim in range(spatial))
        self.excess = tuple(self._excess(dim) for dim in range(spatial))

    def _out(self, dim: int, ceil: bool) -> int:
        span = self.sizes[dim] + 2 * self.padding[dim] - self.dilation[dim] * (self.kernel[dim] - 1) - 1
        count = (-(-span // self.stride[dim]) if ceil else span // self.stride[dim]) + 1
        # A window that begins in the padding at the end does not count.
        if ceil and (count - 1) * self.stride[dim] >= self.sizes[dim] + self.padding[dim]:
            count -= 1
        return count

    def _excess(self, dim: int) -> int:
        reach = (self.out[dim] - 1) * self.stride[dim] + self.dilation[dim] * (self.kernel[dim] - 1) + 1
        return max(0, reach - self.sizes[dim] - 2 * self.padding[dim])

    def counts(self, dim: int, *, with_padding: bool) -> list[int]:
        """Return the number of elements that each window counts, as ATen's ``avg_pool2d`` does."""
        counts = []
        for index in range(self.out[dim]):
            start = index * self.stride[dim] - self.padding[dim]
            stop = min(start + self.kernel[dim], self.sizes[dim] + self.padding[dim])
            if not with_padding:
                start, stop = max(start, 0), min(stop, self.sizes[dim])
            counts.append(stop - start)
        return counts


def _pooled(spatial: int, pool: Callable[[Graph, Arguments, Value, _Geometry], Value]) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x = a.tensor("self")
        source = x if x.ndim == 2 + spatial else g.reshape(x, (1, *x.shape))
        made = pool(g, a, source, _Geometry(a, spatial, source.shape[2:]))
        return made if x.ndim == 2 + spatial else g.reshape(made, made.shape[1:])

    return emit


def _largest(g: Graph, a: Arguments, x: Value, w: _Geometry) -> Value:
    if not x.is_float:
        raise CannotEmit("maxima of integers over windows")
    made = g.node(
        "MaxPool",
        [x],
        (*x.shape[:2], *w.out),
        x.dtype,
        kernel_shape=w.kernel,
        strides=w.stride,
        dilations=w.dilation,
        pads=(*w.padding, *(pad + more for pad, more in zip(w.padding, w.excess, strict=True))),
    )
    if max(w.dilation) == 1:
        return made
    # A dilated window may cover padding alone; onnxruntime then returns the lowest number.
    lowest = float(np.finfo(NUMPY_DTYPES[x.dtype]).min)
    return g.where(g.compare("LessOrEqual", made, lowest), g.constant(-math.inf, x.dtype), made)


def _average(g: Graph, a: Arguments, x: Value, w: _Geometry) -> Value:
    """Emit the mean over the whole window with zeros, then a factor where torch divides by fewer elements."""
    pads = (*w.padding, *w.padding)
    if any(w.excess):
        after = [pad + more for pad, more in zip(w.padding, w.excess, strict=True)]
        x, pads = g.pad(x, (0, 0, *w.padding), (0, 0, *after), 0.0), (0,) * len(pads)
    made = g.node(
        "AveragePool",
        [x],
        (*x.shape[:2], *w.out),
        x.dtype,
        kernel_shape=w.kernel,
        strides=w.stride,
        pads=pads,
        count_include_pad=1,
    )
    factors = _factors(a, w)
    return made if np.all(factors == 1) else g.mul(made, g.constant(factors, x.dtype))


def _factors(a: Arguments, w: _Geometry) -> Array:
    size, divisor = math.prod(w.kernel), a.get("divisor_override")
    if divisor is not None:
        return np.array(size / divisor)
    factors = np.array(float(size))
    for dim in range(len(w.out)):
        counts = np.array(w.counts(dim, with_padding=bool(a.get("count_include_pad", True))), np.float64)
        factors = factors[..., None] / counts
    return factors


def _adaptive(spatial: int) -> Emitter:
    def emit(g: Graph, a: Arguments) -> Value:
        x, wanted = a.tensor("self"), a.ints("output_size", spatial)
        made = x
        dims = range(x.ndim - spatial, x.ndim)
        whole = [dim for dim, size in zip(dims, wanted, strict=True) if size == 1]
        if len(whole) == spatial:
            return g.reduce("ReduceMean", x, whole, keep=True)
        for dim, size in zip(dims, wanted, strict=True):
            made = _adapted(g, made, dim, size)
        return made

    return emit


def _adapted(g: Graph, x: Value, dim: int, wanted: int) -> Value:
    """Emit means along one dim: over equal parts if the size divides, else by a matrix of weights."""
    size = x.shape[dim]
    if wanted == size:
        return x
    if size % wanted == 0:
        parts = g.reshape(x, (*x.shape[:dim], wanted, size // wanted, *x.shape[dim + 1 :]))
        return g.reduce("ReduceMean", parts, [dim + 1], keep=False)
    weights = np.zeros((size, wanted), np.float64)
    for index in range(wanted):
        start, stop = index * size // wanted, -(-(index + 1) * size // wanted)
        weights[start:stop, index] = 1 / (stop - start)
    last = x.ndim - 1
    return g.swap(g.matmul(g.swap(x, dim, last), g.constant(weights, x.dtype)), dim, last)


EMITTERS = {
    **{f"max_pool{n}d.default": _pooled(n, _largest) for n in (1, 2, 3)},
    **{f"avg_pool{n}d.default": _pooled(n, _average) for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d.default": _adaptive(n) for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d.default": _adaptive(n) for n in (2, 3)},
}
