"""Reference models by every back end, on one device and split over two: what the module itself answers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import edgeflow as ef
from edgeflow.kernels import Executor
from edgeflow.plan.program import Compute
from edgeflow.rank.local import weights_of
from edgeflow.testing import zoo

pytest.importorskip("onnxruntime")

from edgeflow.kernels.onnxruntime_ import OnnxRuntimeExecutor
from edgeflow.kernels.torch_ import TorchExecutor
from tests.numerics.test_onnx_kernels import ZOO_TARGETS

#: Convolutions, attention, a language model, a decoder with transposed convolutions, an encoder with masks.
_FAST = ("tiny-resnet", "tiny-vit-fused", "tiny-bert", "unet", "openworld-tiny", "hf-bert-small")
_TOLERANCE = 1e-4


def _onnxruntime() -> Executor:
    return OnnxRuntimeExecutor(threads=1, fallback=None)


def _openvino() -> Executor:
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    from edgeflow.kernels.openvino_ import OpenVinoExecutor

    # It refuses some masked attention (2026.4: "all consumers of a scalar expression ..."); torch runs that.
    return OpenVinoExecutor(threads=1, fallback=TorchExecutor(threads=1))


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _answers(name: str, executor: Executor) -> Iterator[tuple[str, Tensor, Tensor]]:
    example = zoo.build(name)
    graph = ef.capture(example.module, example.args, kwargs=example.kwargs, name=name)
    with torch.no_grad():
        expected = _tensors(example.module(*example.args, **example.kwargs))
    cluster = ef.Cluster.local(speeds=[1.0, 0.6])
    for strategy in ("single", "edgeflow_paper", "megatron"):
        plan = ef.plan(graph, cluster, strategy=strategy)
        given = _tensors(ef.execute(plan, example.args, example.kwargs, executor=executor))
        for one, other in zip(given, expected, strict=True):
            yield strategy, one, other


@pytest.mark.parametrize("make", [_onnxruntime, _openvino])
@pytest.mark.parametrize("name", _FAST)
def test_a_model_answers_as_its_module_does(name: str, make: object) -> None:
    executor = make()  # type: ignore[operator]
    for strategy, given, expected in _answers(name, executor):
        _check(given, expected, f"{name} by {strategy}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(zoo.ZOO))
def test_every_reference_model_runs_without_torch_kernels(name: str) -> None:
    for strategy, given, expected in _answers(name, _onnxruntime()):
        _check(given, expected, f"{name} by {strategy}")


def test_the_list_of_targets_holds_what_models_call() -> None:
    for name in _FAST:
        example = zoo.build(name)
        graph = ef.capture(example.module, example.args, kwargs=example.kwargs, name=name)
        program = ef.plan(graph, ef.Cluster.local(speeds=[1.0]), strategy="single").programs[0]
        kernels = [
            kernel for item in program.instructions if isinstance(item, Compute) for kernel in item.kernels
        ]
        assert {step.target for kernel in kernels for step in kernel.steps} <= set(ZOO_TARGETS)


def test_equal_kernels_are_compiled_once() -> None:
    """A plan that is made again finds what it has in common with the one before."""
    example = zoo.build("tiny-resnet")
    graph = ef.capture(example.module, example.args, name="tiny-resnet")
    program = ef.plan(graph, ef.Cluster.local(speeds=[1.0]), strategy="single").programs[0]
    executor = OnnxRuntimeExecutor(threads=1)
    hashes = {(item.tensor, item.region): item.tensor for item in program.weights}

    first = executor.prepare(program, weights_of(graph, program), hashes)
    again = executor.prepare(program, weights_of(graph, program), hashes)
    other = executor.prepare(program, weights_of(graph, program), dict.fromkeys(hashes, "other"))

    assert first.models == again.models
    assert not set(first.models) & set(other.models)


def _check(given: Tensor, expected: Tensor, what: str) -> None:
    if not expected.is_floating_point():
        assert torch.equal(given, expected), what
        return
    assert given.dtype == expected.dtype
    largest = float(expected.abs().max())
    difference = float((given - expected).abs().max())
    assert difference <= _TOLERANCE * largest, f"{what}: {difference:g} of {largest:g}"
