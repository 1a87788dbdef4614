"""One-node ONNX files, and what others compute for them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgeflow.graph.ir import ModelGraph
from edgeflow.graph.onnx_.capture import OnnxModule, bind_shapes, capture_onnx
from edgeflow.graph.onnx_.read import read_file
from edgeflow.graph.onnx_.resolve import resolve
from edgeflow.graph.structure import to_array, to_torch
from tests.unit.graph.interpret import run

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the onnxruntime package is not installed")

Array = npt.NDArray[Any]
Judge = str | Callable[..., Array]

#: Files say which version of the format they are in; the newest that every supported reader takes.
_IR_VERSION = 10


@dataclass(frozen=True)
class Fixed:
    """An input that the file holds a value for."""

    value: Array


def fixed(value: Any, dtype: Any = None) -> Fixed:
    """Return an initialiser; Python ints are int64, as ONNX wants its axes and shapes."""
    return Fixed(np.asarray(value, dtype=dtype))


def floats(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Return normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def one_node(
    op_type: str,
    *inputs: Array | Fixed | None,
    opset: int = 17,
    outputs: int | Sequence[str] = 1,
    domain: str = "",
    **attributes: Any,
) -> Any:
    """Return a model of one node; its inputs are ``x0``, ``x1``, ..., its outputs ``y0``, ...."""
    wanted = [f"y{index}" for index in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = onnx.helper.make_node(
        op_type,
        ["" if value is None else f"x{index}" for index, value in enumerate(inputs)],
        wanted,
        name="the_node",
        domain=domain,
        **attributes,
    )
    given = {f"x{index}": value for index, value in enumerate(inputs) if value is not None}
    graph = onnx.helper.make_graph(
        [node],
        "one_node",
        [value_info(name, value) for name, value in given.items() if not isinstance(value, Fixed)],
        [onnx.ValueInfoProto(name=name) for name in wanted if name],
        [
            onnx.numpy_helper.from_array(value.value, name)
            for name, value in given.items()
            if isinstance(value, Fixed)
        ],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    if domain:
        opsets.append(onnx.helper.make_opsetid(domain, 1))
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def value_info(name: str, array: Array) -> Any:
    """Return the declaration of an input like ``array``."""
    return onnx.helper.make_tensor_value_info(
        name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
    )


def captured(model: Any, **options: Any) -> ModelGraph:
    """Write a model to a file and capture that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return capture_onnx(path, **options)


def answers(graph: ModelGraph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return what a graph computes, by the outputs' names (``y0`` for a tensor alone)."""
    return named(run(graph, tuple(to_torch(inputs[name]) for name in graph.inputs)))


def expected(model: Any, inputs: Mapping[str, Array], *, by: str = "onnxruntime") -> dict[str, Array]:
    """Return what ONNX Runtime computes, or ONNX's own reference in Python."""
    names = [item.name for item in model.graph.output]
    if by == "reference":
        from onnx.reference import ReferenceEvaluator

        return dict(zip(names, ReferenceEvaluator(model).run(None, dict(inputs)), strict=True))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact on older processors too
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


@dataclass(frozen=True, eq=False)
class Case:
    """A one-node model, inputs for it, and whose answers are right; `case` makes one."""

    op_type: str
    inputs: tuple[Array | Fixed | None, ...]
    options: Mapping[str, Any]
    tolerance: float
    by: Judge

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.options.items()]
        return "-".join([self.op_type, *words]).replace(" ", "")

    @property
    def domain(self) -> str:
        return str(self.options.get("domain", ""))

    @property
    def opset(self) -> int:
        return 1 if self.domain else int(self.options.get("opset", 17))

    @property
    def model(self) -> Any:
        return one_node(self.op_type, *self.inputs, **self.options)

    @property
    def given(self) -> dict[str, Array]:
        """What a request brings, by name."""
        named = {f"x{index}": value for index, value in enumerate(self.inputs)}
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}

    def compare(self, mine: Mapping[str, Array]) -> None:
        """Check answers against the right ones."""
        if isinstance(self.by, str):
            right = expected(self.model, self.given, by=self.by)
        else:
            values = [item.value if isinstance(item, Fixed) else item for item in self.inputs]
            right = {"y0": np.asarray(self.by(*values))}
        assert mine.keys() == right.keys()
        for name, value in right.items():
            assert_near(mine[name], np.asarray(value), tolerance=self.tolerance)


def case(
    op_type: str,
    *inputs: Array | Fixed | None,
    tolerance: float = 1e-5,
    by: Judge = "onnxruntime",
    **options: Any,
) -> Case:
    """Return a case.

    Args:
        tolerance: Relative to the largest element of an output.
        by: ``onnxruntime``; ``reference`` where that lacks the operator; or what computes the output.
        options: See `one_node`.
    """
    return Case(op_type, inputs, options, tolerance, by)


def assert_near(mine: Array, right: Array, *, tolerance: float) -> None:
    """Check shape, dtype and values; integers and truth values must be the same."""
    assert mine.shape == right.shape
    assert mine.dtype == right.dtype
    if right.dtype.kind != "f":
        np.testing.assert_array_equal(mine, right)
        return
    largest = np.abs(right[np.isfinite(right)]).max(initial=1.0)
    np.testing.assert_allclose(mine, right, rtol=0, atol=tolerance * float(largest))


def module_answers(model: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return what the module that is captured computes, without ``torch.export``: it is much faster."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        file = read_file(path)
        module = OnnxModule(resolve(file, bind_shapes(file.inputs, {}, where=path.name)))
    with torch.no_grad():
        made = module(*(to_torch(inputs[item.name].copy()) for item in file.inputs))
    return named(made)


def named(made: Any) -> dict[str, Array]:
    """Return tensors by the outputs' names, ``y0`` for one alone."""
    by_name = {"y0": made} if isinstance(made, torch.Tensor) else made
    return {name: to_array(value) for name, value in by_name.items()}
