from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_q, _k, _v = floats(2, 4, 5, 8), floats(2, 4, 6, 8, seed=1), floats(2, 4, 6, 8, seed=2)
_kv = floats(2, 2, 6, 8, seed=1), floats(2, 2, 6, 8, seed=2)
_flat = floats(2, 5, 32), floats(2, 5, 32, seed=1), floats(2, 5, 32, seed=2)
_cos, _sin = fixed(floats(10, 4)), fixed(floats(10, 4, seed=1))
_positions = np.arange(10).reshape(2, 5)

CASES = [
    case("Attention", _q, _k, _v, opset=23),
    case("Attention", _q, _k, _v, opset=23, scale=0.3, is_causal=1, by="reference"),
    case("Attention", _q, _k, _v, floats(5, 6), opset=23),
    case("Attention", _q, _k, _v, floats(2, 1, 5, 6) > -1, opset=23),
    case("Attention", _q, _k, _v, floats(5, 6), opset=23, is_causal=1, by="reference"),
    case("Attention", _q, _k, _v, floats(5, 6) > -2, opset=23, is_causal=1, by="reference"),
    case("Attention", _q, *_kv, opset=23),
    case("Attention", *_flat, opset=23, q_num_heads=4, kv_num_heads=4),
    case("RotaryEmbedding", _q, fixed(floats(10, 4)), _sin, _positions, opset=23),
    case("RotaryEmbedding", _q, _cos, _sin, _positions, opset=23, interleaved=1),
    case("RotaryEmbedding", floats(2, 5, 32), _cos, _sin, _positions, opset=23, num_heads=4),
    case("RotaryEmbedding", _q, fixed(floats(2, 5, 4)), fixed(floats(2, 5, 4, seed=1)), opset=23),
    case(
        "RotaryEmbedding",
        _q,
        fixed(floats(10, 2)),
        fixed(floats(10, 2, seed=1)),
        _positions,
        opset=23,
        rotary_embedding_dim=4,
    ),
]
