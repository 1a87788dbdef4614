from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import Array, case, fixed, floats

_x = 3 * floats(2, 4, 5)
_image = floats(1, 4, 6, 5)


def _bytes(*shape: int, dtype: type = np.uint8, seed: int = 0) -> Array:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)


def _scale(value: float) -> object:
    return fixed(np.float32(value))


def _zero(value: int, dtype: type = np.uint8) -> object:
    return fixed(np.array(value, dtype))


_scales4 = fixed(np.array([0.1, 0.02, 0.3, 0.05], np.float32))

CASES = [
    case("QuantizeLinear", _x, _scale(0.02), _zero(128)),
    case("QuantizeLinear", _x, _scale(0.03), _zero(-3, np.int8), opset=10),
    case("QuantizeLinear", _x, _scale(0.03), opset=13),
    case("QuantizeLinear", _x, _scales4, fixed(np.array([1, 2, -3, 4], np.int8)), axis=1),
    case("DequantizeLinear", _bytes(2, 4, 5), _scale(0.02), _zero(128), opset=10),
    case(
        "DequantizeLinear",
        _bytes(2, 4, 5, dtype=np.int8),
        _scales4,
        fixed(np.array([1, 2, -3, 4], np.int8)),
        axis=1,
    ),
    case("DequantizeLinear", _bytes(2, 4, 5, dtype=np.int8), _scale(0.5)),
    case(
        "DequantizeLinear",
        _bytes(2, 3),
        _scale(0.5),
        opset=23,
        output_dtype=10,
        by=lambda x, s: (x * s).astype(np.float16),
    ),
    case("DequantizeLinear", np.arange(6, dtype=np.int32), _scale(0.25)),
    case("DynamicQuantizeLinear", _x, opset=11, outputs=3),
    case("DynamicQuantizeLinear", np.abs(_x), opset=11, outputs=3),
    case(
        "MatMulInteger",
        _bytes(3, 4),
        fixed(_bytes(4, 5, dtype=np.int8)),
        _zero(12),
        _zero(-3, np.int8),
        opset=10,
    ),
    case("MatMulInteger", _bytes(2, 3, 4), fixed(_bytes(4, 5)), opset=10),
    case("MatMulInteger", _bytes(3, 4), fixed(_bytes(4, 5)), _zero(12), fixed(_bytes(5)), opset=10),
    case(
        "ConvInteger",
        _bytes(1, 4, 6, 5),
        fixed(_bytes(3, 4, 3, 3)),
        _zero(7),
        _zero(9),
        pads=[1, 1, 1, 1],
        opset=10,
    ),
    case(
        "QLinearMatMul",
        _bytes(3, 4),
        _scale(0.1),
        _zero(3),
        fixed(_bytes(4, 5)),
        _scale(0.2),
        _zero(100),
        _scale(9.0),
        _zero(120),
        opset=10,
    ),
    case(
        "QLinearConv",
        _bytes(1, 4, 6, 5),
        _scale(0.1),
        _zero(100),
        fixed(_bytes(3, 4, 3, 3, dtype=np.int8)),
        fixed(np.array([0.1, 0.2, 0.3], np.float32)),
        fixed(np.zeros(3, np.int8)),
        _scale(20.0),
        _zero(120),
        fixed(np.array([100, -200, 300], np.int32)),
        opset=10,
        strides=[2, 1],
        pads=[1, 0, 0, 1],
    ),
]
