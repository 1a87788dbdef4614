from __future__ import annotations

from functools import partial

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_fused = partial(case, domain="com.microsoft")
_x, _skip = floats(2, 5, 8), floats(2, 5, 8, seed=1)
_d = [fixed(floats(8, seed=seed)) for seed in range(3)]
_qkv = floats(2, 5, 32), floats(2, 6, 32, seed=1), floats(2, 6, 32, seed=2)
_image, _kernel, _bias = floats(1, 3, 6, 7), fixed(floats(4, 3, 3, 3)), fixed(floats(4))
_padding = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], np.int32)

CASES = [
    _fused("Gelu", _x),
    _fused("BiasGelu", _x, _d[0]),
    _fused("FastGelu", _x),
    _fused("FastGelu", _x, _d[0]),
    _fused("QuickGelu", _x),
    _fused("QuickGelu", _x, alpha=1.5),
    _fused("SkipLayerNormalization", _x, _skip, _d[0], _d[1], epsilon=1e-5),
    _fused("SkipLayerNormalization", _x, _skip, *_d, outputs=["y0", "", "", "y3"], epsilon=1e-5),
    _fused("SkipSimplifiedLayerNormalization", _x, _skip, _d[0], epsilon=1e-5),
    _fused("SkipSimplifiedLayerNormalization", _x, _skip, _d[0], outputs=["y0", "", "", "y3"], epsilon=1e-5),
    _fused("FusedMatMul", _x, fixed(floats(8, 4)), alpha=0.5),
    _fused("FusedMatMul", _x, _skip, transB=1),
    _fused("FusedMatMul", _x, _skip, transA=1, alpha=2.0),
    _fused("FusedConv", _image, _kernel, _bias, activation="Relu", pads=[1, 1, 1, 1]),
    _fused("FusedConv", _image, _kernel, _bias, floats(1, 4, 4, 5), activation="Relu"),
    _fused("FusedConv", _image, _kernel, activation="LeakyRelu", activation_params=[0.2]),
    _fused("FusedConv", _image, _kernel, activation="Clip", activation_params=[0.0, 6.0]),
    _fused("FusedConv", _image, _kernel, activation="HardSigmoid", activation_params=[0.2, 0.5]),
    _fused("FusedConv", _image, _kernel, activation="Sigmoid"),
    _fused("FusedGemm", floats(3, 5), fixed(floats(5, 4)), _bias, activation="Tanh"),
    _fused("FusedGemm", floats(3, 5), fixed(floats(5, 4)), activation="LeakyRelu", activation_alpha=0.3),
    _fused("MultiHeadAttention", *_qkv, num_heads=4),
    _fused("MultiHeadAttention", *_qkv, fixed(floats(96)), num_heads=4, scale=0.2),
    _fused("MultiHeadAttention", *_qkv, None, _padding, num_heads=4),
    _fused("MultiHeadAttention", *_qkv, None, None, floats(2, 4, 5, 6), num_heads=4),
]
