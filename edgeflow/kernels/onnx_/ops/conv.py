"""Convolutions and transposed convolutions in one, two and three dims; unfolding and folding.

Shapes: input ``x_NC...``, weight ``w_OI...``; inputs without a batch dim get one.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.kernels.onnx_.emit import Arguments
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import CannotEmit, Value


def _batched(g: Graph, x: Value, ndim: int) -> Value:
    return x if x.ndim == ndim else g.reshape(x, (1, *x.shape))


def _like(g: Graph, made: Value, x: Value) -> Value:
    return made if made.ndim == x.ndim else g.reshape(made, made.shape[1:])


def _size(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def _conv(g: Graph, a: Arguments) -> Value:
    x, weight, bias = a.tensor("input"), a.tensor("weight"), a.optional("bias")
    if a.get("transposed"):
        return _transposed(g, a)
    spatial = weight.ndim - 2
    padding = a.get("padding", 0)
    strides, dilations = (_default(a, key, spatial, 1) for key in ("stride", "dilation"))
    kernel = weight.shape[2:]
    if isinstance(padding, str):
        pads = _named_padding(padding, kernel, dilations)
    else:
        pads = _default(a, "padding", spatial, 0) * 2
    source = _batched(g, x, weight.ndim)
    sizes = [
        _size(
            source.shape[2 + dim], kernel[dim], strides[dim], dilations[dim], pads[dim] + pads[spatial + dim]
        )
        for dim in range(spatial)
    ]
    made = g.node(
        "Conv",
        [source, weight, bias],
        (source.shape[0], weight.shape[0], *sizes),
        x.dtype,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=a.get("groups", 1),
    )
    return _like(g, made, x)


def _default(a: Arguments, name: str, count: int, default: int) -> tuple[int, ...]:
    return a.ints(name, count) if name in a else (default,) * count


def _named_padding(name: str, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    if name == "valid":
        return (0,) * (2 * len(kernel))
    totals = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
    return (*(total // 2 for total in totals), *(total - total // 2 for total in totals))


def _transposed(g: Graph, a: Arguments) -> Value:
    x, weight, bias = a.tensor("input"), a.tensor("weight"), a.optional("bias")
    spatial = weight.ndim - 2
    kernel, groups = weight.shape[2:], a.get("groups", 1)
    strides, dilations = (_default(a, key, spatial, 1) for key in ("stride", "dilation"))
    padding, more = (_default(a, key, spatial, 0) for key in ("padding", "output_padding"))
    source = _batched(g, x, weight.ndim)
    # Computed without padding and cropped: the output padding may then exceed onnxruntime's limit.
    full = [
        (source.shape[2 + dim] - 1) * strides[dim] + dilations[dim] * (kernel[dim] - 1) + 1
        for dim in range(spatial)
    ]
    wanted = [full[dim] - 2 * padding[dim] + more[dim] for dim in range(spatial)]
    if min(wanted) <= 0:
        raise CannotEmit(f"a transposed convolution to {wanted}")
    fits = all(more[dim] <= padding[dim] for dim in range(spatial))
    pads = (*padding, *(padding[dim] - more[dim] for dim in range(spatial))) if fits else (0,) * (2 * spatial)
    shape = (source.shape[0], weight.shape[1] * groups)
    made = g.node(
        "ConvTranspose",
        [source, weight, bias if fits else None],
        (*shape, *(wanted if fits else full)),
        x.dtype,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=groups,
    )
    if not fits:
        before = [0, 0, *(-pad for pad in padding)]
        after = [0, 0, *(more[dim] - padding[dim] for dim in range(spatial))]
        made = g.pad(made, before, after, 0.0)
        if bias is not None:
            made = g.add(made, g.reshape(bias, (-1, *[1] * spatial)))
    return _like(g, made, x)


def _im2col(g: Graph, a: Arguments) -> Value:
    """Write every window as a column; windows of rows and of columns are gathered one after the other."""
    x = a.tensor("self")
    kernel, dilation, padding, stride = (
        a.ints(key) for key in ("kernel_size", "dilation", "padding", "stride")
    )
    source = _batched(g, x, 4)
    pads = (0, 0, *padding)
    made = g.pad(source, pads, pads, 0)
    counts = []
    for dim, at in ((0, 2), (1, 4)):
        count = _size(source.shape[2 + dim], kernel[dim], stride[dim], dilation[dim], 2 * padding[dim])
        counts.append(count)
        rows = [
            [tap * dilation[dim] + window * stride[dim] for window in range(count)]
            for tap in range(kernel[dim])
        ]
        made = g.gather(made, g.constant(rows, "int64"), at)
    made = g.transpose(made, (0, 1, 2, 4, 3, 5))
    features = source.shape[1] * kernel[0] * kernel[1]
    return _like_batch(g, g.reshape(made, (source.shape[0], features, counts[0] * counts[1])), x.ndim == 4)


def _like_batch(g: Graph, made: Value, has_batch: bool) -> Value:
    return made if has_batch else g.reshape(made, made.shape[1:])


def _col2im(g: Graph, a: Arguments) -> Value:
    x = a.tensor("self")
    kernel, dilation, padding, stride = (
        a.ints(key) for key in ("kernel_size", "dilation", "padding", "stride")
    )
    size = a.ints("output_size")
    source = _batched(g, x, 3)
    channels = source.shape[1] // (kernel[0] * kernel[1])
    made = g.node(
        "Col2Im",
        [source, g.ints(*size), g.ints(*kernel)],
        (source.shape[0], channels, *size),
        x.dtype,
        dilations=dilation,
        pads=(*padding, *padding),
        strides=stride,
    )
    return _like_batch(g, made, x.ndim == 3)


EMITTERS = {
    **dict.fromkeys(
        ("conv1d.default", "conv2d.default", "conv3d.default", "convolution", "conv1d.padding",
         "conv2d.padding", "conv3d.padding"),
        _conv,
    ),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input"), _transposed),
    "im2col": _im2col,
    "col2im": _col2im,
}  # fmt: skip
