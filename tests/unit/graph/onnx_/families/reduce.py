from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import Array, case, fixed, floats

_x = floats(2, 3, 4)
_OPERATORS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
""".split()
_ties = np.array([[1, 3, 3, 0], [2, 2, 1, 2]], dtype=np.float32)


def _input(op_type: str) -> Array:
    return np.abs(_x) + 0.5 if op_type == "ReduceLogSum" else _x


CASES = [
    *(
        case(op_type, _input(op_type), opset=opset, **attributes)
        for op_type in _OPERATORS
        for opset, attributes in [
            (11, {"axes": [1]}),
            (11, {"axes": [0, -1], "keepdims": 0}),
            (1, {}),
            (18, {"keepdims": 0}),
        ]
        if not (op_type == "ReduceSum" and "axes" in attributes and opset >= 13)
    ),
    *(case(op_type, _input(op_type), fixed([1, 2]), opset=18) for op_type in _OPERATORS),
    *(case(op_type, _input(op_type), fixed([-1]), opset=18, keepdims=0) for op_type in _OPERATORS),
    case("ReduceSum", _x, fixed([0]), opset=13),
    case("ReduceSum", _x, fixed([], np.int64), opset=13, noop_with_empty_axes=1),
    case("ReduceMean", _x, opset=18, noop_with_empty_axes=1),
    case("ReduceSum", np.arange(12, dtype=np.int32).reshape(3, 4), fixed([1])),
    case("ReduceMean", np.arange(12, dtype=np.int32).reshape(3, 4), axes=[1]),
    case("ReduceMax", np.arange(12, dtype=np.int64).reshape(3, 4), axes=[0]),
    case("ReduceProd", np.arange(1, 7, dtype=np.int32).reshape(2, 3), axes=[1]),
    *(
        case(op_type, _ties, opset=13, **attributes)
        for op_type in ("ArgMax", "ArgMin")
        for attributes in [
            {},
            {"axis": 1},
            {"axis": -1, "keepdims": 0},
            {"axis": 1, "select_last_index": 1},
        ]
    ),
    case("ArgMax", _x, axis=2, opset=1),
]
