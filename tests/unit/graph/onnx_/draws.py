"""Random one-node models: attributes, shapes, dtypes and opsets that nobody picked by hand.

Each function draws one `Case` of its family. What a family draws is legal by the specification as far as that
is easy to say; where ONNX Runtime refuses a draw all the same, it is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import Array, Case, case, fixed

Draw = Callable[[np.random.Generator], Case]


def _pick(rng: np.random.Generator, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _ints(rng: np.random.Generator, low: int, high: int, count: int) -> list[int]:
    """Return ints from ``low`` up to and including ``high``."""
    return [int(value) for value in rng.integers(low, high + 1, count)]


def _real(rng: np.random.Generator, *shape: int, dtype: type = np.float32) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def _bytes(rng: np.random.Generator, dtype: type, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def _maybe(rng: np.random.Generator, **attributes: Any) -> dict[str, Any]:
    """Keep each attribute or leave it to its default."""
    return {key: value for key, value in attributes.items() if rng.random() < 0.6}


def _padding(rng: np.random.Generator, kernel: list[int]) -> dict[str, Any]:
    """Draw ``pads`` smaller than the kernel, or ``auto_pad``."""
    kind = _pick(rng, "none", "pads", "pads", "pads", "VALID", "SAME_UPPER", "SAME_LOWER")
    if kind == "none":
        return {}
    if kind == "pads":
        return {"pads": [int(rng.integers(0, size)) for size in (*kernel, *kernel)]}
    return {"auto_pad": kind}


def conv(rng: np.random.Generator) -> Case:
    rank = _pick(rng, 1, 2, 2, 3)
    kernel, sizes = _ints(rng, 1, 4, rank), _ints(rng, 8, 12, rank)
    group = _pick(rng, 1, 1, 2, 3)
    inside, outside = group * _pick(rng, 1, 2), group * _pick(rng, 1, 2)
    options = {"opset": _pick(rng, 1, 11, 17, 22), "group": group, **_padding(rng, kernel)}
    options |= _maybe(rng, strides=_ints(rng, 1, 3, rank))
    if options.get("auto_pad", "VALID") == "VALID":  # ONNX Runtime wants no dilation beside SAME
        options |= _maybe(rng, dilations=_ints(rng, 1, 2, rank))
    bias = [fixed(_real(rng, outside))] if rng.random() < 0.5 else []
    weight = fixed(_real(rng, outside, inside // group, *kernel))
    return case("Conv", _real(rng, _pick(rng, 1, 2), inside, *sizes), weight, *bias, **options)


def conv_transpose(rng: np.random.Generator) -> Case:
    rank = _pick(rng, 1, 2, 2, 3)
    kernel, sizes, strides = _ints(rng, 2, 4, rank), _ints(rng, 3, 6, rank), _ints(rng, 1, 3, rank)
    group = _pick(rng, 1, 2)
    inside, each = group * 2, _pick(rng, 1, 3)
    options = {"opset": _pick(rng, 1, 11, 22), "group": group, "strides": strides}
    options |= _padding(rng, [1 + (size - 1) // 2 for size in kernel])
    options |= _maybe(rng, dilations=_ints(rng, 1, 2, rank))
    if "auto_pad" not in options:
        options |= _maybe(rng, output_padding=[int(rng.integers(0, stride)) for stride in strides])
    weight = fixed(_real(rng, inside, each, *kernel))
    bias = [fixed(_real(rng, group * each))] if rng.random() < 0.5 else []
    return case("ConvTranspose", _real(rng, 1, inside, *sizes), weight, *bias, **options)


def pool(rng: np.random.Generator) -> Case:
    op_type = _pick(rng, "MaxPool", "AveragePool", "LpPool")
    rank = _pick(rng, 1, 2, 2, 3)
    kernel, sizes = _ints(rng, 1, 4, rank), _ints(rng, 8, 12, rank)
    options = {"opset": _pick(rng, 11, 19, 22), "kernel_shape": kernel, **_padding(rng, kernel)}
    options |= _maybe(rng, strides=_ints(rng, 1, 4, rank))
    if op_type == "AveragePool":
        options |= _maybe(rng, count_include_pad=1)
    if op_type == "LpPool":
        options |= _maybe(rng, p=_pick(rng, 1, 2, 3))
    elif "auto_pad" not in options:
        options |= _maybe(rng, ceil_mode=1)
    if op_type == "MaxPool" and "auto_pad" not in options:
        options |= _maybe(rng, dilations=_ints(rng, 1, 2, rank))
    return case(op_type, _real(rng, 1, 2, *sizes), **options)


def resize(rng: np.random.Generator) -> Case:
    opset = _pick(rng, 11, 13, 18, 19)
    mode = _pick(rng, "nearest", "linear", "cubic")
    places = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
    places += ["half_pixel_symmetric"] if opset >= 19 else []
    options: dict[str, Any] = {
        "opset": opset,
        "mode": mode,
        "coordinate_transformation_mode": _pick(rng, *places),
    }
    if mode == "nearest":
        options |= _maybe(
            rng, nearest_mode=_pick(rng, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        )
    if mode == "cubic":
        options |= _maybe(rng, cubic_coeff_a=_pick(rng, -0.5, -0.75), exclude_outside=1)
    x = _real(rng, 1, 2, *_ints(rng, 3, 9, 2))
    roi = fixed(np.zeros(0, np.float32)) if opset == 11 else None  # optional only later
    if rng.random() < 0.5:
        scales = np.array([1, 1, *_pick(rng, [2, 2], [0.5, 2], [1.5, 0.75], [3, 1])], np.float32)
        return case("Resize", x, roi, fixed(scales), **options)
    sizes = fixed([1, 2, *_ints(rng, 2, 14, 2)])
    return case("Resize", x, roi, fixed(np.zeros(0, np.float32)) if opset == 11 else None, sizes, **options)


def pad(rng: np.random.Generator) -> Case:
    x = _real(rng, *_ints(rng, 3, 6, _pick(rng, 1, 2, 3, 4)))
    opset = _pick(rng, 2, 11, 18, 19)
    mode = _pick(rng, "constant", "reflect", "edge", *(["wrap"] if opset >= 19 else []))
    low = -1 if mode == "constant" else 0
    pads = _ints(rng, low, 2, 2 * x.ndim)
    if opset < 11:
        return case("Pad", x, opset=opset, pads=pads, mode=mode, **_maybe(rng, value=0.5))
    value = fixed(np.float32(1.5)) if mode == "constant" and rng.random() < 0.5 else None
    if opset >= 18 and rng.random() < 0.5:
        dims = sorted(rng.choice(x.ndim, size=int(rng.integers(1, x.ndim + 1)), replace=False).tolist())
        pads = _ints(rng, low, 2, 2 * len(dims))
        axes = [dim - x.ndim if rng.random() < 0.5 else dim for dim in dims]
        return case("Pad", x, fixed(pads), value, fixed(axes), opset=opset, mode=mode)
    return case("Pad", x, fixed(pads), value, opset=opset, mode=mode)


def slicing(rng: np.random.Generator) -> Case:
    x = _real(rng, *_ints(rng, 4, 8, _pick(rng, 1, 2, 3)))
    dims = rng.permutation(x.ndim)[: int(rng.integers(1, x.ndim + 1))].tolist()
    starts, ends, steps = [], [], []
    for dim in dims:
        size = x.shape[dim]
        if rng.random() < 0.5:
            step, start = int(rng.integers(1, 3)), int(rng.integers(0, size - 1))
            end = _pick(rng, 2**31 - 1, size, int(rng.integers(start + 1, size + 1)))
        else:
            step, start = -int(rng.integers(1, 3)), _pick(rng, size + 5, -1, size - 1)
            end = _pick(rng, -(2**31), int(rng.integers(-size - 1, -1)))
        starts.append(start if rng.random() < 0.5 or start >= size or start < 0 else start - size)
        ends.append(end)
        steps.append(step)
    axes = [dim - x.ndim if rng.random() < 0.3 else dim for dim in dims]
    opset = _pick(rng, 10, 11, 13)
    return case("Slice", x, fixed(starts), fixed(ends), fixed(axes), fixed(steps), opset=opset)


def splitting(rng: np.random.Generator) -> Case:
    x = _real(rng, *_ints(rng, 4, 9, 3))
    axis = _pick(rng, 0, 1, 2, -1)
    size = x.shape[axis]
    first = int(rng.integers(1, size))
    opset = _pick(rng, 2, 11, 13, 18)
    if opset >= 18 and rng.random() < 0.5:
        return case("Split", x, opset=opset, outputs=2, axis=axis, num_outputs=2)
    if opset < 13:
        return case("Split", x, opset=opset, outputs=2, axis=axis, split=[first, size - first])
    return case("Split", x, fixed([first, size - first]), opset=opset, outputs=2, axis=axis)


def reduction(rng: np.random.Generator) -> Case:
    names = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    op_type = f"Reduce{_pick(rng, *names)}"
    x = np.abs(_real(rng, *_ints(rng, 2, 5, _pick(rng, 1, 2, 3, 4)))) + np.float32(0.1)
    if op_type in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd") and rng.random() < 0.3:
        x = rng.integers(-4, 5, x.shape).astype(_pick(rng, np.int32, np.int64))
    opset = _pick(rng, 11, 13, 18)
    dims = rng.permutation(x.ndim)[: int(rng.integers(1, x.ndim + 1))]
    axes = [int(dim - x.ndim if rng.random() < 0.3 else dim) for dim in dims]
    options = {"opset": opset, **_maybe(rng, keepdims=_pick(rng, 0, 1))}
    takes_input = opset >= 18 or (opset >= 13 and op_type == "ReduceSum")
    if rng.random() < 0.2:
        options |= _maybe(rng, noop_with_empty_axes=1) if takes_input else {}
        return case(op_type, x, **options)
    if takes_input:
        return case(op_type, x, fixed(axes), **options)
    return case(op_type, x, axes=axes, **options)


def arg_extreme(rng: np.random.Generator) -> Case:
    x = rng.integers(0, 4, _ints(rng, 2, 6, 3)).astype(np.float32)  # with equals
    options = _maybe(rng, axis=_pick(rng, 0, 1, -1), keepdims=0, select_last_index=1)
    return case(_pick(rng, "ArgMax", "ArgMin"), x, opset=_pick(rng, 12, 13), **options)


def top_k(rng: np.random.Generator) -> Case:
    x = rng.integers(0, 9, _ints(rng, 3, 6, 3)).astype(np.float32)
    axis = _pick(rng, 0, 1, -1)
    k = fixed([int(rng.integers(1, x.shape[axis] + 1))])
    return case("TopK", x, k, opset=11, outputs=2, axis=axis, **_maybe(rng, largest=0))


def gathering(rng: np.random.Generator) -> Case:
    op_type = _pick(rng, "Gather", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
    x = _real(rng, *_ints(rng, 3, 6, 3))
    axis = _pick(rng, 0, 1, 2, -1)
    size = x.shape[axis]
    wrap = fixed if rng.random() < 0.5 else np.asarray
    if op_type == "Gather":
        shape = _pick(rng, (), (3,), (2, 2))
        indices = np.asarray(rng.integers(-size, size, shape), dtype=_pick(rng, np.int32, np.int64))
        return case(op_type, x, wrap(indices), axis=axis, opset=_pick(rng, 11, 13))
    if op_type == "GatherElements":
        return case(op_type, x, wrap(rng.integers(-size, size, x.shape)), axis=axis)
    if op_type == "ScatterElements":
        order = np.argsort(rng.random(x.shape), axis=axis)  # no position twice
        return case(op_type, x, wrap(order), _real(rng, *x.shape), axis=axis, opset=_pick(rng, 11, 16, 18))
    depth = int(rng.integers(1, 4))
    if op_type == "ScatterND":
        rows = rng.permutation(x.shape[0])[:2].reshape(2, 1)
        return case(op_type, x, wrap(rows), _real(rng, 2, *x.shape[1:]), opset=_pick(rng, 11, 16))
    columns = [rng.integers(-x.shape[dim], x.shape[dim], (2, 3)) for dim in range(depth)]
    return case(op_type, x, wrap(np.stack(columns, axis=-1)), opset=_pick(rng, 12, 13))


def softmax(rng: np.random.Generator) -> Case:
    x = 3 * _real(rng, *_ints(rng, 2, 5, _pick(rng, 2, 3, 4)))
    axis = int(rng.integers(-x.ndim, x.ndim))
    opset = _pick(rng, 11, 13)
    return case(_pick(rng, "Softmax", "LogSoftmax", "Hardmax"), x, opset=opset, **_maybe(rng, axis=axis))


def product(rng: np.random.Generator) -> Case:
    if rng.random() < 0.5:
        m, k, n = _ints(rng, 1, 5, 3)
        trans_a, trans_b = int(rng.integers(2)), int(rng.integers(2))
        a, b = _real(rng, *((k, m) if trans_a else (m, k))), _real(rng, *((n, k) if trans_b else (k, n)))
        c = _pick(rng, [], [fixed(_real(rng, *_pick(rng, (), (n,), (1, n), (m, 1), (m, n))))])
        options = _maybe(rng, alpha=_pick(rng, 0.5, 2.0), beta=_pick(rng, 0.0, 0.25))
        opset = _pick(rng, 7, 11, 13) if c else 11
        return case("Gemm", a, fixed(b), *c, transA=trans_a, transB=trans_b, opset=opset, **options)
    k, n = _ints(rng, 1, 5, 2)
    a_shape = _pick(rng, (k,), (3, k), (2, 3, k), (2, 1, 3, k))
    b_shape = _pick(rng, (k,), (k, n), (2, k, n), (4, k, n))
    if len(a_shape) == len(b_shape) == 3 or len(a_shape) == 3:
        b_shape = _pick(rng, (k,), (k, n), (2, k, n), (1, k, n))
    b = _real(rng, *b_shape)
    return case("MatMul", _real(rng, *a_shape), fixed(b) if rng.random() < 0.5 else b, opset=13)


def binary(rng: np.random.Generator) -> Case:
    op_type = _pick(rng, "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mod", "PRelu", "Less", "Equal")
    shape = _ints(rng, 2, 4, _pick(rng, 1, 2, 3))
    other = [1 if rng.random() < 0.4 else size for size in shape][int(rng.integers(0, len(shape))) :]
    a, b = _real(rng, *shape), np.abs(_real(rng, *other)) + np.float32(0.5)
    if op_type in ("Add", "Sub", "Mul", "Div", "Mod") and (op_type == "Mod" or rng.random() < 0.4):
        dtype = _pick(rng, np.int32, np.int64)
        a = rng.integers(-9, 10, shape).astype(dtype)
        b = np.where(rng.random(other) < 0.5, 1, -1) * rng.integers(1, 5, other)
        b = b.astype(dtype)
    options = _maybe(rng, fmod=1) if op_type == "Mod" else {}
    if op_type == "Pow":
        a = np.abs(a) + np.float32(0.1)
    return case(op_type, a, fixed(b) if rng.random() < 0.5 else b, opset=_pick(rng, 13, 14, 17), **options)


def elementwise(rng: np.random.Generator) -> Case:
    op_type, options = _pick(
        rng,
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.7}),
        ("Selu", {"alpha": 1.5, "gamma": 1.2}),
        ("Celu", {"alpha": 0.6}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("ThresholdedRelu", {"alpha": 0.4}),
        ("Shrink", {"bias": 0.2, "lambd": 0.3}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("Round", {}),
        ("Sign", {}),
        ("Erf", {}),
        ("Sigmoid", {}),
    )
    x = 3 * _real(rng, *_ints(rng, 2, 5, 2))
    if op_type == "Round":
        x = np.round(2 * x) / 2  # halves are what rounding is about
    return case(op_type, x, opset=_pick(rng, 13, 17), **_maybe(rng, **options))


def clip(rng: np.random.Generator) -> Case:
    dtype = _pick(rng, np.float32, np.float64, np.int32, np.int64, np.int8)
    x = (10 * _real(rng, 3, 5)).astype(dtype)
    low, high = (_pick(rng, None, fixed(np.array(value, dtype))) for value in _ints(rng, -9, 9, 2))
    return case("Clip", x, low, high, opset=_pick(rng, 12, 13))


def norm(rng: np.random.Generator) -> Case:
    op_type = _pick(rng, "LayerNormalization", "GroupNormalization", "InstanceNormalization", "LRN")
    if op_type == "LayerNormalization":
        x = _real(rng, *_ints(rng, 2, 5, 3))
        axis = int(rng.integers(-3, 3))
        shape = x.shape[axis % 3 :]
        scale, bias = fixed(_real(rng, *shape)), _pick(rng, [], [fixed(_real(rng, *shape))])
        return case(op_type, x, scale, *bias, axis=axis, opset=17, **_maybe(rng, epsilon=1e-2))
    groups, each = _ints(rng, 1, 3, 2)
    x = _real(rng, 2, groups * each, *_ints(rng, 2, 4, 2))
    if op_type == "LRN":
        options = _maybe(rng, alpha=0.02, beta=0.5, bias=2.0)
        return case(op_type, x, size=_pick(rng, 1, 3, 5), opset=13, **options)
    weights = [fixed(_real(rng, x.shape[1])) for _ in range(2)]
    if op_type == "InstanceNormalization":
        return case(op_type, x, *weights, opset=_pick(rng, 6, 22), **_maybe(rng, epsilon=1e-2))
    return case(op_type, x, *weights, num_groups=groups, opset=21, **_maybe(rng, epsilon=1e-2))


def quantised(rng: np.random.Generator) -> Case:
    dtype = _pick(rng, np.uint8, np.int8)
    op_type = _pick(rng, "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "DynamicQuantizeLinear")
    if op_type == "DynamicQuantizeLinear":
        return case(op_type, _real(rng, 3, 4) + np.float32(rng.normal()), opset=11, outputs=3)
    if op_type == "MatMulInteger":
        k = int(rng.integers(1, 6))
        zeros = _pick(rng, [], [fixed(_bytes(rng, dtype)), fixed(_bytes(rng, np.uint8))])
        return case(op_type, _bytes(rng, dtype, 3, k), fixed(_bytes(rng, np.uint8, k, 2)), *zeros, opset=10)
    shape = _ints(rng, 2, 4, 3)
    axis = int(rng.integers(-3, 3))
    count = () if rng.random() < 0.5 else (shape[axis],)
    scale = fixed(np.asarray(0.01 + 0.05 * rng.random(count), np.float32))
    zero = [fixed(_bytes(rng, dtype, *count))] if rng.random() < 0.7 or dtype is np.int8 else []
    x = 3 * _real(rng, *shape) if op_type == "QuantizeLinear" else _bytes(rng, dtype, *shape)
    return case(op_type, x, scale, *zero, axis=axis, opset=_pick(rng, 13, 19, 21))


def layout(rng: np.random.Generator) -> Case:
    op_type = _pick(rng, "Transpose", "DepthToSpace", "SpaceToDepth", "Tile", "Expand", "Trilu", "Flatten")
    if op_type in ("DepthToSpace", "SpaceToDepth"):
        x = _real(rng, 1, 8, 4, 6)
        options = {"mode": _pick(rng, "DCR", "CRD")} if op_type == "DepthToSpace" else {}
        return case(op_type, x, blocksize=2, opset=13, **options)
    x = _real(rng, *_ints(rng, 2, 4, 3))
    if op_type == "Transpose":
        return case(op_type, x, **_maybe(rng, perm=rng.permutation(3).tolist()))
    if op_type == "Tile":
        return case(op_type, x, fixed(_ints(rng, 1, 3, 3)), opset=13)
    if op_type == "Expand":
        x = x[:, :1]
        shape = _pick(rng, [x.shape[0], 5, 1], [3, 1, 4, 1], [5, 1], [1])
        return case(op_type, x, fixed(shape), opset=13)
    if op_type == "Trilu":
        return case(op_type, x, fixed(np.array(_ints(rng, -2, 2, 1)[0])), opset=14, **_maybe(rng, upper=0))
    return case(op_type, x, opset=13, **_maybe(rng, axis=int(rng.integers(-3, 4))))


def counting(rng: np.random.Generator) -> Case:
    if rng.random() < 0.5:
        depth = int(rng.integers(3, 6))
        indices = rng.integers(-depth - 1, depth + 1, (2, 3))
        values = fixed(np.array([0.5, 2.0], np.float32))
        axis = int(rng.integers(-3, 3))
        return case("OneHot", indices, fixed(np.array(depth)), values, opset=11, axis=axis)
    x = _real(rng, *_ints(rng, 2, 5, 3))
    axis = fixed(np.array(int(rng.integers(-3, 3))))
    return case("CumSum", x, axis, opset=14, **_maybe(rng, exclusive=1, reverse=1))


def grid_sample(rng: np.random.Generator) -> Case:
    opset = _pick(rng, 16, 20)
    mode = _pick(rng, "nearest", *(("bilinear", "bicubic") if opset < 20 else ("linear", "cubic")))
    options = _maybe(rng, padding_mode=_pick(rng, "zeros", "border", "reflection"), align_corners=1)
    grid = (1.2 * rng.random((1, 3, 4, 2)) - 0.6).astype(np.float32) * 2
    return case("GridSample", _real(rng, 1, 2, 5, 6), grid, opset=opset, mode=mode, tolerance=1e-4, **options)


FAMILIES: dict[str, Draw] = {
    function.__name__: function
    for function in (
        arg_extreme,
        binary,
        clip,
        conv,
        conv_transpose,
        counting,
        elementwise,
        gathering,
        grid_sample,
        layout,
        norm,
        pad,
        pool,
        product,
        quantised,
        reduction,
        resize,
        slicing,
        softmax,
        splitting,
        top_k,
    )
}
