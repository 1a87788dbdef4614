from __future__ import annotations

import itertools

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_x = floats(1, 2, 5, 6)
_grid = np.tanh(floats(1, 3, 4, 2)) * np.float32(1.2)
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
_ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_ROI = fixed([], np.float32)
_SCALES = [
    fixed(np.array(scales, np.float32)) for scales in ([1, 1, 2, 3], [1, 1, 0.6, 0.5], [1, 1, 1.7, 0.8])
]
_SIZES = [fixed(sizes) for sizes in ([1, 2, 10, 12], [1, 2, 3, 4], [1, 2, 7, 1])]

CASES = [
    case("Upsample", _x, scales=[1.0, 1.0, 2.0, 3.0], opset=7),
    case("Upsample", _x, scales=[1.0, 1.0, 2.0, 2.0], mode="linear", opset=8),
    case("Upsample", _x, _SCALES[0], opset=9),
    case("Upsample", _x, fixed(np.array([1, 1, 2, 2], np.float32)), opset=9, mode="linear"),
    case("Resize", _x, _SCALES[0], opset=10),
    case("Resize", _x, _SCALES[2], opset=10, mode="linear"),
    *(
        case(
            "Resize",
            _x,
            None,
            scales,
            mode="nearest",
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
            opset=13,
        )
        for scales, coordinates, rounding in itertools.product(_SCALES, _COORDINATES, _ROUNDING)
    ),
    *(
        case(
            "Resize",
            _x,
            None,
            None,
            sizes,
            mode="nearest",
            coordinate_transformation_mode=coordinates,
            opset=18,
        )
        for sizes, coordinates in itertools.product(_SIZES, _COORDINATES)
    ),
    *(
        case("Resize", _x, _ROI, scales, mode=mode, coordinate_transformation_mode=coordinates, opset=opset)
        for mode, scales, coordinates, opset in itertools.product(
            ("linear", "cubic"), _SCALES, _COORDINATES, (11, 19)
        )
    ),
    *(
        case("Resize", _x, None, None, sizes, mode=mode, coordinate_transformation_mode=coordinates)
        for mode, sizes, coordinates in itertools.product(("linear", "cubic"), _SIZES, _COORDINATES)
    ),
    case("Resize", _x, None, _SCALES[2], mode="cubic", cubic_coeff_a=-0.5),
    case("Resize", _x, None, _SCALES[2], mode="cubic", exclude_outside=1),
    case(
        "Resize",
        _x,
        None,
        _SCALES[1],
        mode="linear",
        coordinate_transformation_mode="half_pixel_symmetric",
        opset=19,
    ),
    case(
        "Resize",
        _x,
        _ROI,
        _SCALES[0],
        mode="nearest",
        coordinate_transformation_mode="tf_half_pixel_for_nn",
        opset=11,
    ),
    case("Resize", _x, fixed([], np.float32), _SCALES[0], opset=11),
    case("Resize", _x, None, fixed(np.array([2, 0.5], np.float32)), axes=[3, 2], opset=18, mode="linear"),
    case(
        "Resize", _x, None, None, fixed([9, 9]), axes=[2, 3], opset=18, keep_aspect_ratio_policy="not_larger"
    ),
    case(
        "Resize", _x, None, None, fixed([9, 9]), axes=[2, 3], opset=18, keep_aspect_ratio_policy="not_smaller"
    ),
    case("Resize", floats(2, 3, 7), None, fixed(np.array([1, 1, 2], np.float32)), mode="linear"),
    case("Resize", floats(1, 2, 3, 4, 5), None, fixed(np.array([1, 1, 2, 2, 2], np.float32)), mode="linear"),
    case("Resize", floats(4, 5), None, fixed(np.array([2, 2], np.float32)), mode="nearest"),
    case("Resize", floats(1, 4, 5, 2), None, fixed(np.array([1, 2, 2, 1], np.float32)), mode="linear"),
    case("Resize", _x, None, fixed(np.array([1, 1, 1, 1], np.float32))),
    case("Resize", _x, None, _SCALES[0], mode="linear", antialias=1, opset=18),
    *(
        case("GridSample", _x, _grid, mode=mode, padding_mode=padding, align_corners=corners)
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (0, 1)
    ),
    case("GridSample", _x, _grid, mode="linear", opset=20),
    case("GridSample", _x, _grid, mode="cubic", opset=20),
]
