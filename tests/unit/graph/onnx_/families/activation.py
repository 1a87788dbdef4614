from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_x = 3 * floats(2, 5, 4)
_ints = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
_scalar = fixed(np.float32(-1))

CASES = [
    case("LeakyRelu", _x),
    case("LeakyRelu", _x, alpha=0.3, opset=6),
    case("PRelu", _x, fixed(floats(5, 1))),
    case("PRelu", _x, floats(4)),
    case("PRelu", _x, fixed(floats(1)), opset=9),
    case("ThresholdedRelu", _x, alpha=0.7),
    case("ThresholdedRelu", _x),
    case("Clip", _x, min=-1.0, max=2.0, opset=6),
    case("Clip", _x, max=0.5, opset=6),
    case("Clip", _x, opset=6),
    case("Clip", _x, _scalar, fixed(np.float32(2))),
    case("Clip", _x, None, fixed(np.float32(2)), opset=11),
    case("Clip", _x, _scalar),
    case("Clip", _x),
    case("Clip", _x, np.array(-1, np.float32), np.array(2, np.float32)),
    case("Clip", _x, _scalar, np.array(2, np.float32), opset=12),
    case("Clip", _x, None, np.array(1, np.float32), opset=12),
    case("Clip", _ints, fixed(np.int32(-2)), fixed(np.int32(3))),
    case("Elu", _x),
    case("Elu", _x, alpha=0.4, opset=22),
    case("Celu", _x, alpha=0.7),
    case("Selu", _x),
    case("Selu", _x, alpha=1.2, gamma=0.6),
    case("HardSigmoid", _x),
    case("HardSigmoid", _x, alpha=1 / 6, beta=0.5),
    case("HardSigmoid", _x, alpha=0.3, beta=0.4, opset=6),
    case("HardSwish", _x),
    case("Swish", _x, opset=24, by="reference"),
    case("Swish", _x, opset=24, alpha=0.5, by="reference"),
    case("Mish", _x, opset=18),
    case("Gelu", _x, opset=20),
    case("Gelu", _x, opset=20, approximate="tanh"),
    case("Softplus", 20 * _x),
    case("Softsign", _x),
    case("Shrink", _x, lambd=1.5, bias=0.5),
    case("Shrink", _x),
    *(
        case(op_type, _x, opset=opset, **attributes)
        for op_type in ("Softmax", "LogSoftmax", "Hardmax")
        for opset, attributes in [
            (1, {}),
            (11, {"axis": 0}),
            (11, {"axis": 1}),
            (11, {"axis": -1}),
            (13, {}),
            (13, {"axis": 1}),
            (17, {"axis": -3}),
        ]
    ),
    case("Softmax", floats(2, 5, 1, 1), opset=9),
]
