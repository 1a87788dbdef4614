"""Graphs of other dtypes end to end: bytes, memory, transfers, rates and measurements."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor, nn

import edgeflow as ef
from edgeflow.cluster.device import Device
from edgeflow.cost import CostModel, Measurement, work_of
from edgeflow.cost.work import Work
from edgeflow.dtypes import DTYPE_BITS
from edgeflow.graph.ir import NUMPY_DTYPES, ModelGraph, TensorSpec
from edgeflow.measure.cases import operator_graph
from edgeflow.measure.kernels import Case, kernel_of
from edgeflow.plan.program import Kernel
from edgeflow.plan.verify import plan_memory_bytes
from edgeflow.sharding.region import Region

CLUSTER = ef.Cluster.local([1.0, 1.0])
INPUTS, WEIGHTS = {"input": (1, 8, 64)}, {"weight": (32, 64)}


def linear(dtype: str = "float32") -> ModelGraph:
    return operator_graph("aten.linear.default", INPUTS, WEIGHTS, dtype=dtype)


def with_weights(dtype: str) -> ModelGraph:
    """The same layer with weights of another dtype, as a quantised operator will have them."""
    graph = linear()
    specs = {**graph.specs, "weight": TensorSpec(shape=WEIGHTS["weight"], dtype=dtype)}
    return ModelGraph(
        **{**{name: getattr(graph, name) for name in graph.__dataclass_fields__}, "specs": specs}
    )


def kernel(graph: ModelGraph) -> Kernel:
    return kernel_of(Case(graph, "operator", Region.full(graph.specs["result"].shape)))


def work(graph: ModelGraph) -> Work:
    return work_of(kernel(graph))


def test_every_dtype_of_arrays_has_its_size() -> None:
    assert {name: 8 * dtype.itemsize for name, dtype in NUMPY_DTYPES.items()}.items() <= DTYPE_BITS.items()
    assert TensorSpec(shape=(5, 3), dtype="int4").num_bytes == 8


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_moves_half_of_the_bytes(dtype: str) -> None:
    half, full = work(linear(dtype)), work(linear())

    assert (half.dtype, full.dtype) == (dtype, "float32")
    assert (2 * half.weight_bytes, 2 * half.input_bytes, 2 * half.output_bytes) == (
        full.weight_bytes,
        full.input_bytes,
        full.output_bytes,
    )
    assert half.flops == full.flops


@pytest.mark.parametrize(("dtype", "share"), [("int8", 4), ("uint8", 4), ("int4", 8), ("uint4", 8)])
def test_narrow_weights_are_read_as_they_are_and_multiplied_in_the_dtype_of_the_activations(
    dtype: str, share: int
) -> None:
    narrow, full = work(with_weights(dtype)), work(linear())

    assert share * narrow.weight_bytes == full.weight_bytes
    assert (narrow.input_bytes, narrow.output_bytes) == (full.input_bytes, full.output_bytes)
    assert narrow.dtype == "float32"


def test_a_kernel_of_single_precision_is_encoded_as_before() -> None:
    assert b"dtypes" not in msgspec.json.encode(kernel(linear()))
    decoded = msgspec.json.decode(msgspec.json.encode(kernel(linear("bfloat16"))), type=Kernel)
    assert dict(decoded.dtypes) == dict.fromkeys(("input", "weight", "result"), "bfloat16")


def test_the_roofline_uses_the_rate_of_the_dtype_or_that_of_fp32() -> None:
    device = Device(
        name="a",
        flops_per_second=1e6,
        memory_bytes=1 << 30,
        memory_bandwidth_bytes_per_s=1e15,
        overhead_s=0.0,
        rates=(("bfloat16", 4e6),),
    )
    cost = CostModel(cluster=ef.Cluster(devices=(device,), network=None))

    full_s = cost.kernel_s(0, kernel(linear()))
    assert cost.kernel_s(0, kernel(linear("bfloat16"))) == pytest.approx(full_s / 4)
    assert cost.kernel_s(0, kernel(linear("float16"))) == pytest.approx(full_s)


def test_a_measurement_of_one_dtype_is_not_used_for_another() -> None:
    whole = kernel(linear())
    measured = Measurement(5.0, flops=whole.flops, num_bytes=whole.num_bytes, dtypes=whole.dtypes)
    rate = CLUSTER.devices[0].flops_per_second
    cost = CostModel(cluster=CLUSTER, measured={"operator": measured}, measured_flops_per_second=rate)

    assert cost.kernel_s(0, whole) == pytest.approx(5.0)
    for other in (linear("bfloat16"), with_weights("int8")):
        assert cost.kernel_s(0, kernel(other)) < 1e-3


class _Half(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x)
        return result


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_plan_of_a_half_precision_module_has_half_of_the_memory_and_of_the_transfers(
    dtype: torch.dtype,
) -> None:
    def plan(of: torch.dtype) -> ef.Plan:
        graph = ef.capture(_Half(of), (torch.ones(64, 64, dtype=of),))
        return ef.plan(graph, CLUSTER, strategy="megatron")

    full, half = plan(torch.float32), plan(dtype)

    assert full.stages == half.stages
    assert ef.predict(full).transferred_bytes == 2 * ef.predict(half).transferred_bytes > 0
    whole, halved = plan_memory_bytes(full), plan_memory_bytes(half)
    assert whole == {rank: 2 * size for rank, size in halved.items()}


class _Quantised(nn.Module):
    """int8 weights that are widened in the graph before the product."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randint(-9, 9, (64, 64), dtype=torch.int8))
        self.register_buffer("table", torch.randint(0, 9, (100, 64), dtype=torch.uint8))

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        rows = nn.functional.embedding(ids, self.table).float()
        return nn.functional.linear(rows, self.weight * scale)


def test_int8_weights_and_uint8_tables_count_a_byte_per_element() -> None:
    graph = ef.capture(_Quantised(), (torch.zeros(8, dtype=torch.int64), torch.ones(1)))
    plan = ef.plan(graph, ef.Cluster.local(), strategy="single")
    kernels = {
        item.operator: work_of(item)
        for instruction in plan.programs[0].instructions
        for item in getattr(instruction, "kernels", ())
    }
    (lookup,) = (found for name, found in kernels.items() if name.startswith("embedding"))
    (widen,) = (found for name, found in kernels.items() if name.startswith("mul"))

    assert (lookup.dtype, lookup.output_bytes, lookup.input_bytes) == ("uint8", 8 * 64, 8 * 64)
    assert (widen.dtype, widen.input_bytes, widen.output_bytes) == ("float32", 64 * 64 + 4, 4 * 64 * 64)
    assert graph.weight_bytes == 64 * 64 + 100 * 64
