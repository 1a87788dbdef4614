from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_x, _x2, _matrix = floats(1, 2, 5, 6), floats(2, 3, 7), floats(3, 4)
_spatial = [0, 0, 1, 2, 0, 0, 0, 1]

CASES = [
    case("Pad", _x, pads=_spatial, opset=2),
    case("Pad", _x, pads=_spatial, value=1.5, opset=10),
    case("Pad", _x, paddings=_spatial, opset=1, by="reference"),
    case("Pad", _x, fixed([1, 0, 1, 2, 0, 2, 0, 1]), fixed(np.float32(-2))),
    case("Pad", _x, fixed([0, 0, -1, 2, 0, 0, 0, -3])),
    case("Pad", _x, fixed([0] * 8)),
    case("Pad", _x, fixed([1, 2, 0, 1]), None, fixed([-1, 1]), opset=18),
    case("Pad", np.arange(6, dtype=np.int64).reshape(2, 3), fixed([0, 1, 1, 0]), fixed(9)),
    *(
        case("Pad", x, fixed(pads), mode=mode, opset=19)
        for mode in ("reflect", "edge", "wrap")
        for x, pads in [
            (_x, _spatial),
            (_x, [0, 1, 1, 2, 0, 0, 0, 1]),
            (_x2, [0, 0, 3, 0, 0, 2]),
            (_matrix, [1, 2, 2, 3]),
            (floats(1, 2, 4, 5, 3), [0, 0, 1, 0, 2, 0, 0, 2, 1, 1]),
        ]
    ),
    case("Pad", _matrix, fixed([0, -1, 1, 2]), mode="edge"),
    case("Pad", _x, pads=_spatial, mode="reflect", opset=10),
]
