from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats, onnx

_x = floats(2, 3, 4)

CASES = [
    case("Constant", value=onnx.numpy_helper.from_array(floats(2, 3)), opset=9),
    case("Constant", value_float=1.5),
    case("Constant", value_floats=[1.5, 2.5]),
    case("Constant", value_int=3),
    case("Constant", value_ints=[3, 4], opset=12),
    case("Shape", _x, opset=1),
    case("Shape", _x, opset=15, start=1),
    case("Shape", _x, opset=15, start=-2, end=-1),
    case("Size", _x),
    case("ConstantOfShape", fixed([2, 3])),
    case("ConstantOfShape", fixed([2, 3]), value=onnx.numpy_helper.from_array(np.array([7], np.int64))),
    case("Range", fixed(2), fixed(9), fixed(3)),
    case("Range", fixed(np.float32(1)), fixed(np.float32(-1)), fixed(np.float32(-0.5))),
    case("EyeLike", floats(3, 4)),
    case("EyeLike", floats(3, 4), k=1, dtype=int(onnx.TensorProto.INT64)),
    case("NonZero", fixed([[1, 0, 2], [0, 0, 3]])),
]
