from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_x = floats(3, 4, 5)
_table = fixed(floats(10, 4))
_ids = np.array([[1, 9, 0], [3, 3, 2]])
_signed = np.array([[0, -1, 2], [1, 1, -3]])
_ties = np.array([[3, 1, 3, 2], [0, 0, 5, 5]], dtype=np.float32)

CASES = [
    case("Gather", _table, _ids),
    case("Gather", _table, _ids.astype(np.int32), opset=1),
    case("Gather", floats(10, 4), _ids),
    case("Gather", _x, _signed),
    case("Gather", _x, _signed, axis=2),
    case("Gather", _x, fixed(-1), axis=1),
    case("Gather", _x, fixed([1]), axis=1),
    case("Gather", _x, fixed([0, 2]), axis=1),
    case("Gather", _x, fixed([3, 1, 2]), axis=-1),
    case("Gather", _x, fixed([4, 3, 2]), axis=-1),
    case("Gather", _x, fixed([2, 1, 0]), axis=0),
    case("Gather", _x, fixed([1, 1]), axis=-1),
    case("Gather", _x, fixed([[0, 1], [2, -1]]), axis=1),
    case("Gather", fixed(floats(2, 3, 4)), np.array(1)),
    case("GatherElements", _x, _signed[:, :, None], axis=1),
    case("GatherElements", _x, fixed(np.zeros((3, 4, 2), np.int32)), axis=-1, opset=11),
    case("GatherND", _x, fixed([[0, 1], [2, -1]])),
    case("GatherND", _x, np.array([[0, 1, 4], [2, -1, 0]]), opset=11),
    case("GatherND", _x, fixed([[[1], [0]], [[2], [3]], [[0], [0]]]), batch_dims=1),
    case("GatherND", floats(2, 3, 4, 2), fixed([[[0], [1], [2]], [[3], [0], [1]]]), batch_dims=2),
    case("Scatter", _x, fixed([[[1, 0]]]), fixed(floats(1, 1, 2)), axis=1, opset=9),
    case("ScatterElements", _x, fixed([[[1, -2]]]), fixed(floats(1, 1, 2)), axis=1),
    *(
        case(
            "ScatterElements",
            _x,
            fixed([[[1, 1, 0]]]),
            floats(1, 1, 3),
            axis=2,
            reduction=reduction,
            opset=18,
        )
        for reduction in ("none", "add", "mul", "max", "min")
        if reduction != "none"
    ),
    case("ScatterND", _x, fixed([[0, 1], [2, 3]]), fixed(floats(2, 5))),
    case("ScatterND", _x, np.array([[0], [2]]), floats(2, 4, 5), opset=11),
    case("ScatterND", _x, fixed([[1], [1]]), fixed(floats(2, 4, 5)), opset=16, reduction="add"),
    case("Compress", _x, fixed([True, False, True]), axis=0),
    case("Compress", _x, fixed([False, True, True]), opset=9),
    case("OneHot", np.array([1, -1, 0, 7]), fixed(4), fixed(np.array([0, 1], np.float32))),
    case("OneHot", _ids, fixed(10), fixed(np.array([-1, 3])), axis=0),
    case("OneHot", fixed([2, 0]), fixed([3]), floats(2), axis=1, opset=9),
    *(
        case("CumSum", _x, fixed(axis), exclusive=exclusive, reverse=reverse)
        for axis in (0, -1)
        for exclusive in (0, 1)
        for reverse in (0, 1)
    ),
    case("CumSum", np.arange(6, dtype=np.int32).reshape(2, 3), fixed(1), opset=11),
    case("TopK", _ties, k=2, opset=1, outputs=2, by="reference"),
    case("TopK", _ties, fixed([3]), outputs=2),
    case("TopK", _ties, fixed([2]), largest=0, outputs=2, opset=11),
    case("TopK", _x, fixed([2]), axis=1, outputs=2, opset=10),
    case("TopK", _x, fixed([1]), axis=0, outputs=2, opset=24),
]
