"""ONNX operators as torch functions, one module per family; importing this package registers all of them."""

from __future__ import annotations

from edgeflow.graph.onnx_.node import find, operations
from edgeflow.graph.onnx_.ops import (  # noqa: F401
    activation,
    arithmetic,
    attention,
    constant,
    conv,
    index,
    linear,
    microsoft,
    norm,
    pad,
    pool,
    quantize,
    reduce,
    resize,
    shape,
)

__all__ = ["find", "operations"]
