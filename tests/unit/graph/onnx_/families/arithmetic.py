from __future__ import annotations

import ml_dtypes
import numpy as np

from tests.unit.graph.onnx_.onnx_cases import Array, case, fixed, floats, onnx

_x, _row, _column = floats(3, 4), floats(4, seed=1), floats(3, 1, seed=2)
_positive = np.abs(_x) + 0.1
_ints = np.array([[-7, 7, -8, 5], [3, -3, 9, 0]], dtype=np.int32)
_divisors = np.array([2, -2, 3, -5], dtype=np.int32)
_bytes = np.array([[0, 1, 200, 255]], dtype=np.uint8)
_bools = np.array([[True, False, True, False]])
_special = np.array([np.nan, np.inf, -np.inf, 0.0, 1.5], dtype=np.float32)

_DOMAINS: dict[str, Array] = {
    "Acos": np.tanh(_x),
    "Acosh": 1 + _positive,
    "Asin": np.tanh(_x),
    "Atanh": np.tanh(_x),
    "BitwiseNot": _ints,
    "IsNaN": _special,
    "Log": _positive,
    "Not": _bools,
    "Reciprocal": _positive,
    "Round": np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.4], dtype=np.float32),
    "Sqrt": _positive,
}
_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Cos Cosh Erf Exp Floor IsNaN Log Neg Not Reciprocal
    Relu Round Sigmoid Sign Sin Sinh Sqrt Tan Tanh
""".split()
_LOGIC = ("And", "Or", "Xor")
_BITS = ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
_COMPARE = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")

CASES = [
    *(case(op_type, _DOMAINS.get(op_type, _x), opset=18) for op_type in _UNARY),
    case("Abs", _ints),
    case("Neg", _ints),
    case("Sign", _ints),
    case("Relu", _ints, opset=14),
    *(
        case(op_type, a, b)
        for op_type in ("Add", "Sub", "Mul", "Div")
        for a, b in [
            (_x, fixed(_row)),
            (_column, _row),
            (fixed(np.float32(2)), _x),
            (_ints, fixed(_divisors)),
        ]
    ),
    case("Add", _x, fixed(floats(3)), opset=6, broadcast=1, axis=0, by=lambda a, b: a + b[:, None]),
    case(
        "Mul",
        floats(2, 3, 4, 5),
        fixed(floats(3, 4)),
        opset=6,
        broadcast=1,
        axis=1,
        by=lambda a, b: a * b[..., None],
    ),
    case("Sub", _x, fixed(_row), opset=6, broadcast=1, by=np.subtract),
    case("Add", _x.astype(np.float16), fixed(_row.astype(np.float16)), tolerance=1e-3),
    case("Add", _x.astype(np.float64), fixed(_row.astype(np.float64))),
    case("Div", np.array([-7, 7, 8], dtype=np.int64), fixed([2, -2, 3])),
    case("Mod", _ints, fixed(_divisors)),
    case("Mod", _ints, fixed(_divisors), fmod=1),
    case("Mod", _x, fixed(_row), fmod=1),
    case("Pow", _positive, fixed(np.float32(2))),
    case("Pow", _positive, fixed(np.float32(0.5)), opset=7),
    case("Pow", _positive, fixed(_row)),
    case("Pow", _positive, _row),
    case("Pow", np.abs(_ints), fixed(np.int32(2))),
    case("Pow", np.abs(_ints), fixed(np.float32(2)), opset=13),
    case("Pow", _positive, fixed(np.int64(3)), opset=15),
    case("BitShift", _bytes, fixed(np.uint8(1)), direction="LEFT"),
    case("BitShift", _bytes, fixed(np.uint8(3)), direction="RIGHT"),
    *(case(op_type, _x, fixed(_row), _column) for op_type in ("Max", "Min", "Sum", "Mean")),
    *(case(op_type, _x) for op_type in ("Max", "Min", "Sum", "Mean")),
    case("Max", _ints, fixed(_divisors)),
    *(case(op_type, _bools, fixed(_bools[:, ::-1].copy())) for op_type in _LOGIC),
    *(case(op_type, _ints, fixed(_divisors), opset=18) for op_type in _BITS),
    *(case(op_type, _ints, fixed(_ints[:, ::-1].copy())) for op_type in _COMPARE),
    *(case(op_type, _x, fixed(_row)) for op_type in _COMPARE),
    case("Equal", _bools, fixed(_bools[:, ::-1].copy())),
    case("Greater", _x, fixed(_row), opset=7),
    case("Where", _x > 0, _x, fixed(_row)),
    case("Where", _x > 0, fixed(np.float32(0)), _x, opset=9),
    case("IsInf", _special),
    case("IsInf", _special, detect_negative=0),
    case("IsInf", _special, detect_positive=0),
    case("Identity", _x),
    case("Dropout", _x, opset=7, ratio=0.3),
    case("Dropout", _x, opset=10),
    case("Dropout", _x, fixed(np.float32(0.5))),
    case("Dropout", _x, fixed(np.float32(0.5)), fixed(False), outputs=2),
    *(
        case("Cast", 2.6 * _x, to=int(to))
        for to in (
            onnx.TensorProto.INT64,
            onnx.TensorProto.INT32,
            onnx.TensorProto.BOOL,
            onnx.TensorProto.DOUBLE,
            onnx.TensorProto.FLOAT16,
            onnx.TensorProto.FLOAT,
        )
    ),
    case("Cast", _ints, to=int(onnx.TensorProto.FLOAT), opset=9),
    case("Cast", _bools, to=int(onnx.TensorProto.INT8)),
    case("Cast", _x.astype(ml_dtypes.bfloat16), to=int(onnx.TensorProto.FLOAT), by="reference"),
    case("CastLike", _x, fixed(np.int64(0))),
]
