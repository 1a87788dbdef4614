from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, floats

_x1, _x2, _x3 = floats(2, 3, 14), floats(1, 3, 10, 13), floats(1, 3, 6, 7, 8)

_WINDOWS = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 0, 1, 1]},
    {"kernel_shape": [4, 3], "strides": [3, 2], "pads": [2, 1, 0, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "strides": [1, 1], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 2], "strides": [3, 3], "auto_pad": "VALID"},
]
_CEIL = [
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [4, 4], "strides": [3, 3], "pads": [2, 0, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1},
]

CASES = [
    *(case("MaxPool", _x2, **window) for window in _WINDOWS),
    *(case("MaxPool", _x2, **window) for window in _CEIL),
    case("MaxPool", _x2, opset=1, kernel_shape=[2, 2], strides=[2, 2]),
    case("MaxPool", _x2, opset=22, kernel_shape=[3, 2], dilations=[2, 3], pads=[1, 0, 1, 1]),
    case("MaxPool", _x1, kernel_shape=[3], strides=[2], pads=[1, 1]),
    case("MaxPool", _x3, kernel_shape=[2, 3, 2], strides=[2, 2, 1], ceil_mode=1),
    case("MaxPool", _x2 - 10, kernel_shape=[3, 3], pads=[2, 2, 2, 2]),
    case("MaxPool", (_x2 * 40).astype(np.int8), kernel_shape=[3, 3], pads=[1, 1, 0, 0], strides=[2, 2]),
    case("MaxPool", _x2.astype(np.float64), kernel_shape=[2, 2]),
    *(case("AveragePool", _x2, count_include_pad=count, **window) for window in _WINDOWS for count in (0, 1)),
    *(
        case("AveragePool", _x2, opset=22, count_include_pad=count, **window)
        for window in _CEIL
        for count in (0, 1)
    ),
    case("AveragePool", _x2, opset=7, kernel_shape=[2, 2], strides=[2, 2]),
    case("AveragePool", _x1, kernel_shape=[3], strides=[2], pads=[1, 0]),
    case("AveragePool", _x3, kernel_shape=[2, 3, 2], strides=[2, 2, 1], pads=[0, 1, 1, 1, 1, 0]),
    case("LpPool", _x2, opset=11, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1]),
    case("LpPool", _x2, opset=18, kernel_shape=[3, 2], p=3),
    case("GlobalAveragePool", _x2),
    case("GlobalAveragePool", _x1),
    case("GlobalMaxPool", _x3, opset=1),
    case("GlobalLpPool", _x2),
    case("GlobalLpPool", _x2, p=3),
]
