from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import Array, case, fixed, floats

_x = floats(2, 6, 5, 4)
_c = [fixed(floats(6, seed=seed)) for seed in range(3)]
_var = fixed(np.abs(floats(6)) + 0.5)
_rows = floats(2, 3, 8)
_d = [fixed(floats(8, seed=seed)) for seed in range(2)]


def _lrn_of_4(x: Array) -> Array:
    """One channel before, two after: ONNX Runtime takes odd sizes only."""
    total = np.stack([(x[:, max(0, c - 1) : c + 3] ** 2).sum(axis=1) for c in range(x.shape[1])], axis=1)
    return np.asarray(x / (2.0 + 0.5 / 4 * total) ** 0.6, dtype=x.dtype)


CASES = [
    case("BatchNormalization", _x, *_c, _var, epsilon=1e-3),
    case("BatchNormalization", _x, *_c, _var, opset=7),
    case("BatchNormalization", floats(3, 6), *_c, _var, opset=9),
    case("BatchNormalization", _x, floats(6), floats(6), floats(6), np.abs(floats(6)) + 1),
    case("InstanceNormalization", _x, *_c[:2], epsilon=1e-2),
    case("InstanceNormalization", floats(2, 6, 9), *_c[:2], opset=6),
    case(
        "GroupNormalization", _x, fixed(floats(3)), fixed(floats(3)), opset=18, num_groups=3, by="reference"
    ),
    case("GroupNormalization", _x, *_c[:2], opset=21, num_groups=3),
    case("LayerNormalization", _rows, *_d),
    case("LayerNormalization", _rows, _d[0], epsilon=1e-2),
    case("LayerNormalization", _rows, fixed(floats(3, 8)), fixed(floats(3, 8)), axis=1),
    case("LayerNormalization", _rows, fixed(floats(8)), fixed(floats(1, 8)), axis=-2, by="reference"),
    case("RMSNormalization", _rows, _d[0], opset=23),
    case("RMSNormalization", _rows, fixed(floats(3, 8)), opset=23, axis=1, epsilon=1e-2),
    case("SimplifiedLayerNormalization", _rows, _d[0], epsilon=1e-5),
    case("LRN", _x, size=3),
    case("LRN", _x, size=4, alpha=0.5, beta=0.6, bias=2.0, by=_lrn_of_4),
    case("LRN", _x, size=5, alpha=0.5, beta=0.6, bias=2.0, opset=1),
    case("LpNormalization", _rows),
    case("LpNormalization", _rows, p=1, axis=1),
    case("MeanVarianceNormalization", _x),
    case("MeanVarianceNormalization", _x, axes=[1, 2], by="reference"),
]
