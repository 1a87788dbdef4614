from __future__ import annotations

import numpy as np

from tests.unit.graph.onnx_.onnx_cases import case, fixed, floats

_a, _b, _c = floats(3, 4), fixed(floats(4, 5)), fixed(floats(5))

CASES = [
    case("MatMul", _a, _b),
    case("MatMul", floats(2, 3, 4), _b, opset=9),
    case("MatMul", floats(4), _b),
    case("MatMul", _a, fixed(floats(4))),
    case("MatMul", floats(2, 3, 4), floats(2, 4, 5)),
    case("MatMul", floats(2, 1, 3, 4), fixed(floats(6, 4, 5))),
    case("MatMul", fixed(floats(3, 4)), floats(4, 5)),
    case(
        "MatMul",
        np.arange(6, dtype=np.int32).reshape(2, 3),
        fixed(np.arange(6, dtype=np.int32).reshape(3, 2)),
    ),
    case("Gemm", _a, _b, _c),
    case("Gemm", _a, _b),
    case("Gemm", _a, fixed(floats(5, 4)), _c, transB=1, opset=11),
    case("Gemm", floats(4, 3), _b, fixed(floats(1, 5)), transA=1),
    case("Gemm", _a, _b, fixed(floats(3, 1)), alpha=0.5, beta=2.0),
    case("Gemm", _a, _b, fixed(floats(3, 5)), beta=0.0),
    case("Gemm", _a, _b, _c, alpha=0.5),
    case("Gemm", _a, floats(4, 5), floats(5), opset=7),
    case("Gemm", floats(1, 4), _b, fixed(floats(1))),
    case("Einsum", _a, _b, equation="ij,jk->ik"),
    case("Einsum", floats(2, 3, 4, 5), floats(2, 6, 4, 5), equation="bqhd,bkhd->bhqk"),
    case("Einsum", floats(2, 3, 4), equation="...ij->...ji"),
]
