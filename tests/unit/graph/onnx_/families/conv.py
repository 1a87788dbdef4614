from __future__ import annotations

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_x1, _x2, _x3 = floats(2, 4, 13), floats(1, 4, 9, 11), floats(1, 4, 5, 6, 7)
_b = fixed(floats(6))
_k3 = fixed(floats(6, 4, 3, 3))
_grouped = fixed(floats(6, 2, 3, 2))
_t3, _t_grouped = fixed(floats(4, 6, 3, 3)), fixed(floats(4, 3, 3, 2))

CASES = [
    case("Conv", _x2, _k3),
    case("Conv", _x2, _k3, _b, opset=22, pads=[1, 1, 1, 1], strides=[2, 1]),
    case("Conv", _x2, _k3, _b, opset=1, pads=[0, 1, 2, 1], strides=[2, 2]),
    case("Conv", _x2, _k3, pads=[2, 0, 1, 3], dilations=[2, 3]),
    case("Conv", _x2, _grouped, _b, group=2, kernel_shape=[3, 2]),
    case("Conv", _x1, fixed(floats(6, 4, 4)), _b, pads=[1, 2], strides=[3]),
    case("Conv", _x3, fixed(floats(6, 4, 3, 2, 1)), _b, pads=[1, 1, 0, 1, 0, 0]),
    case("Conv", _x2, _k3, auto_pad="VALID", strides=[2, 2]),
    *(
        case("Conv", x, w, auto_pad=auto_pad, strides=strides)
        for auto_pad in ("SAME_UPPER", "SAME_LOWER")
        for x, w, strides in [
            (_x2, _k3, [1, 1]),
            (_x2, _k3, [2, 3]),
            (_x2, fixed(floats(6, 4, 4, 2)), [2, 1]),
            (_x1, fixed(floats(6, 4, 2)), [1]),
            (_x3, fixed(floats(6, 4, 2, 2, 3)), [1, 2, 2]),
        ]
    ),
    case("Conv", _x2, floats(6, 4, 3, 3), floats(6)),
    case("ConvTranspose", _x2, _t3),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 3], pads=[0, 1, 2, 0], opset=1),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], pads=[0, 0, 1, 1], output_padding=[1, 0]),
    case("ConvTranspose", _x2, _t3, _b, strides=[3, 3], pads=[1, 0, 0, 0], output_padding=[2, 2]),
    case("ConvTranspose", _x2, _t3, dilations=[2, 1], pads=[2, 1, 2, 1], opset=22),
    case("ConvTranspose", _x2, _t_grouped, _b, group=2, strides=[2, 1]),
    case("ConvTranspose", _x1, fixed(floats(4, 6, 4)), _b, strides=[3], pads=[1, 0]),
    case("ConvTranspose", _x3, fixed(floats(4, 6, 2, 2, 2)), _b, strides=[2, 2, 2]),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], output_shape=[19, 22]),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], output_shape=[18, 22], auto_pad="SAME_UPPER"),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], output_shape=[18, 22], auto_pad="SAME_LOWER"),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], auto_pad="SAME_LOWER"),
    case("ConvTranspose", _x2, _t3, _b, strides=[2, 2], auto_pad="VALID"),
]
