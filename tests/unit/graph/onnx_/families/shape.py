from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_x = floats(2, 3, 4)
_ones = floats(2, 1, 3, 1)
_image = floats(2, 8, 4, 6)
_last, _first = np.iinfo(np.int64).max, np.iinfo(np.int64).min

CASES = [
    case("Reshape", _x, fixed([4, -1])),
    case("Reshape", _x, fixed([0, -1]), opset=5),
    case("Reshape", _x, fixed([0, 0, 2, 2])),
    case("Reshape", _x, shape=[6, 4], opset=1, by=lambda x: x.reshape(6, 4)),
    case("Reshape", floats(1), fixed([], np.int64)),
    case("Reshape", _x, fixed([2, 12]), allowzero=1),
    case("Flatten", _x),
    case("Flatten", _x, axis=0),
    case("Flatten", _x, axis=-1),
    case("Flatten", _x, axis=3),
    case("Transpose", _x),
    case("Transpose", _x, perm=[1, 0, 2]),
    case("Squeeze", _ones, axes=[1], opset=11),
    case("Squeeze", _ones, opset=11),
    case("Squeeze", _ones, fixed([-1, 1])),
    case("Squeeze", _ones),
    case("Unsqueeze", _x, axes=[0, 2], opset=11),
    case("Unsqueeze", _x, fixed([-1, 0])),
    case("Expand", floats(3, 1), fixed([2, 1, 4])),
    case("Expand", _x, fixed([1])),
    case("Tile", _x, fixed([2, 1, 3])),
    case("Concat", _x, fixed(floats(2, 1, 4)), _x, axis=1),
    case("Concat", _x, axis=0),
    case("Concat", _x, _x, axis=-1, opset=4),
    case("Split", _x, axis=2, split=[1, 3], outputs=2, opset=11),
    case("Split", _x, axis=-1, outputs=2, opset=11),
    case("Split", _x, fixed([1, 2]), axis=1, outputs=2),
    case("Split", floats(2, 8), axis=1, outputs=3, num_outputs=3, opset=18),
    case("Split", _x, axis=2, outputs=("", "y0"), num_outputs=2, opset=18, by=lambda x: x[:, :, 2:]),
    case("Slice", _x, starts=[0, 1], ends=[1, -1], opset=9),
    case("Slice", _x, starts=[-2], ends=[_last], axes=[2], opset=1),
    case("Slice", _x, fixed([1]), fixed([3]), fixed([2])),
    case("Slice", _x, fixed([0, 1]), fixed([5, _last]), fixed([0, -1]), fixed([1, 2]), opset=10),
    case("Slice", _x, fixed([-1]), fixed([_first]), fixed([1]), fixed([-1])),
    case("Slice", _x, fixed([9]), fixed([0]), fixed([2]), fixed([-2])),
    case("Slice", _x, fixed([0, 0]), fixed([1, 2])),
    case("DepthToSpace", _image, blocksize=2),
    case("DepthToSpace", _image, blocksize=2, mode="CRD"),
    case("SpaceToDepth", _image, blocksize=2),
    case("SpaceToDepth", _image, blocksize=2, mode="CRD", opset=28, by="reference"),
    case("Trilu", _x),
    case("Trilu", _x, fixed(1)),
    case("Trilu", _x, fixed(-1), upper=0),
    case("Trilu", _x > 0, upper=0),
]
