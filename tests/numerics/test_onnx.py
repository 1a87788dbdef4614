"""Whole models: torch writes an ONNX file, edgeflow reads it, splits it, and answers as the module does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.graph.onnx_.capture import capture_onnx
from edgeflow.planner import plan
from edgeflow.rank.local import execute
from edgeflow.testing import zoo

pytest.importorskip("onnx", reason="the onnx package is not installed")

#: Relative to the largest element of an output.
_TOLERANCE = 1e-4
#: Of int8, likewise.
_STEP = 1 / 127
#: Slow devices on a fast network, so that ``auto`` splits even small models.
_CLUSTER = Cluster(
    devices=tuple(
        Device(name=f"device{rank}", flops_per_second=rate, memory_bytes=2**30, overhead_s=1e-7)
        for rank, rate in enumerate((1e8, 0.6e8, 0.35e8))
    ),
    network=Link(bandwidth_bytes_per_s=1e9, latency_s=1e-5),
)

_SPLIT = {
    "tiny-resnet": "coedge",
    "unet": "coedge",
    "concat-dag": "coedge",
    "tiny-vit": "megatron",
    "tiny-bert": "megatron",
    "openworld-tiny": "coedge",
    "hf-resnet-small": "coedge",
    "hf-vit-small": "megatron",
    "hf-bert-small": "megatron",
}
#: Which exporter writes a model, and for which opset: attention and norms differ most.
_FAST = [
    ("tiny-resnet", "script", 14),
    ("unet", "dynamo", 18),
    ("concat-dag", "script", 17),
    ("tiny-vit", "script", 14),
    ("tiny-vit", "dynamo", 23),
    ("tiny-bert", "script", 17),
    ("openworld-tiny", "dynamo", 18),
    ("hf-resnet-small", "script", 17),
    ("hf-vit-small", "dynamo", 18),
    ("hf-bert-small", "dynamo", 23),
]
_ALL = [
    (name, exporter, opset)
    for name in _SPLIT
    for exporter, opset in [("script", 14), ("script", 17), ("script", 20), ("dynamo", 18), ("dynamo", 23)]
]


class _Positional(torch.nn.Module):
    """A module whose keyword inputs go by position, and whose outputs are a flat tuple."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *args: torch.Tensor) -> Any:
        split = len(args) - len(self.names)
        made = self.module(*args[:split], **dict(zip(self.names, args[split:], strict=True)))
        leaves = pytree.tree_leaves(made)
        return leaves[0] if len(leaves) == 1 else tuple(leaves)


def _exported(name: str, exporter: str, opset: int, path: Path) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """Write a model to a file; return what it answers, and to what."""
    example = zoo.build(name)
    module = _Positional(example.module, tuple(example.kwargs)).eval()
    args = (*example.args, *example.kwargs.values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporters' own
        expected = module(*args)
        torch.onnx.export(
            module,
            args,
            str(path),
            dynamo=exporter == "dynamo",
            opset_version=opset,
            input_names=[f"input.{index}" for index in range(len(args))],
            external_data=True,
            verbose=False,
        )
    return expected, args


def _check(name: str, exporter: str, opset: int, path: Path) -> None:
    if exporter == "dynamo":
        pytest.importorskip("onnxscript", reason="torch.onnx.export(dynamo=True) needs onnxscript")
    if name.startswith("hf-"):
        pytest.importorskip("transformers", reason="the transformers package is not installed")
    expected, args = _exported(name, exporter, opset, path)

    graph = capture_onnx(path)

    assert graph.inputs == tuple(f"input.{index}" for index in range(len(args)))
    for strategy in (_SPLIT[name], "auto"):
        made = plan(graph, _CLUSTER, strategy=strategy)
        answer = execute(made, args)
        for mine, true in zip(pytree.tree_leaves(answer), pytree.tree_leaves(expected), strict=True):
            error = float((mine - true).abs().max() / true.abs().max())
            assert error < _TOLERANCE, f"{strategy} is off by {error:.1e}"
        assert len(made.devices) > 1, f"{strategy} uses one device only"


@pytest.mark.parametrize(("name", "exporter", "opset"), _FAST)
def test_a_model_from_an_onnx_file_answers_as_its_module(
    name: str, exporter: str, opset: int, tmp_path: Path
) -> None:
    _check(name, exporter, opset, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter", "opset"), [row for row in _ALL if row not in _FAST])
def test_every_model_from_every_exporter_answers_as_its_module(
    name: str, exporter: str, opset: int, tmp_path: Path
) -> None:
    _check(name, exporter, opset, tmp_path / "model.onnx")


class _Pictures:
    """What quantisation measures ranges on."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.left = [
            np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed in range(4)
        ]

    def get_next(self) -> dict[str, Any] | None:
        return {"input.0": self.left.pop()} if self.left else None

    def set_range(self, start_index: int, end_index: int) -> None:
        raise NotImplementedError


def _saturates(onnxruntime: Any) -> bool:
    """Whether two products of bytes that add up to more than 16 bits come out wrong, as without VNNI."""
    from onnx import TensorProto, helper

    def value(name: str, kind: int, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    weight = helper.make_tensor("w", TensorProto.INT8, (4, 1), [127] * 4)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [value("x", TensorProto.UINT8, 1, 4)],
        [value("y", TensorProto.INT32, 1, 1)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"x": np.full((1, 4), 255, np.uint8)})
    return bool(found[0, 0] != 4 * 255 * 127)


@pytest.fixture(scope="module", params=["tiny-resnet", "openworld-tiny"])
def float_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, tuple[torch.Tensor, ...]]:
    """Return a file to quantise, and the inputs of its model."""
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    _, args = _exported(request.param, "script", 17, path)
    return path, args


@pytest.mark.parametrize("how", ["weights", "all"])
def test_a_quantised_model_answers_as_the_file_says(
    float_model: tuple[Path, tuple[torch.Tensor, ...]], how: str, tmp_path: Path
) -> None:
    """int8: integer products of ONNX's dynamic quantisation, and pairs of (de)quantisation around each node.

    What single nodes compute is tested exactly elsewhere. In a whole model, a float sum on the edge between
    two steps may fall either way, with whoever computes it: answers may be some steps of 8 bits apart.
    """
    onnxruntime = pytest.importorskip("onnxruntime", reason="the onnxruntime package is not installed")
    quantization = pytest.importorskip("onnxruntime.quantization")
    if how == "weights" and _saturates(onnxruntime):
        pytest.skip("onnxruntime's products of signed and unsigned bytes saturate on this processor")
    source, (x,) = float_model
    path = tmp_path / "int8.onnx"
    if how == "weights":
        quantization.quantize_dynamic(source, path)
    else:
        quantization.quantize_static(source, path, _Pictures(tuple(x.shape)), per_channel=True)
    options = onnxruntime.SessionOptions()
    # What the file says, not what may replace it: see `edgeflow.models.load`.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"input.0": x.numpy()})

    graph = capture_onnx(path)

    assert any(op.target == "aten.round.default" for op in graph.operators)
    for strategy in ("single", "coedge", "auto"):
        answer = execute(plan(graph, _CLUSTER, strategy=strategy), (x,))
        for mine, true in zip(pytree.tree_leaves(answer), expected, strict=True):
            error = float(np.abs(mine.numpy() - true).max() / np.abs(true).max())
            assert error < 2 * _STEP, f"{strategy} is off by {error:.1e}"
