"""The torch back end on programs of one Compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgeflow as ef
from edgeflow.errors import UnsupportedOperatorError
from edgeflow.graph.ir import NUMPY_DTYPES, Array, Symbol
from edgeflow.kernels import (
    Executor,
    Hashes,
    Runnable,
    make_executor,
)
from edgeflow.kernels.base import Weights
from edgeflow.plan.program import Buffer, Compute, Kernel, Program, WeightSlice
from edgeflow.sharding.cut import Literal, LocalValue, Result, Slice, Step
from edgeflow.sharding.region import Region
from edgeflow.testing import zoo

FOUR = Region.full((4,))


def kernel(*steps: Step, output: str = "y", region: Region = FOUR) -> Kernel:
    return Kernel(operator="op", steps=steps, outputs=((output, region),), flops=0, num_bytes=0)


def step(target: str, **arguments: LocalValue) -> Step:
    return Step(f"aten.{target}", tuple(arguments.items()))


def x(start: int = 0, stop: int = 4) -> Slice:
    return Slice("x", Region.of([(start, stop)]))


def computed(
    *kernels: Kernel,
    values: Array,
    outputs: dict[str, Region] | None = None,
    held: Region = FOUR,
    weights: dict[tuple[str, Region], Array] | None = None,
) -> list[Array]:
    """Run kernels on ``x`` and return what they make."""
    wanted = outputs or {"y": FOUR}
    dtypes = {dtype: name for name, dtype in NUMPY_DTYPES.items()}
    buffers = (
        Buffer("x", held, dtypes[values.dtype]),
        *(Buffer(name, region, "float32") for name, region in wanted.items()),
    )
    compute = Compute(
        stage="s",
        kernels=kernels,
        inputs=(("x", 0),),
        outputs=tuple((name, index + 1) for index, name in enumerate(wanted)),
    )
    program = Program(
        rank=0,
        instructions=(compute,),
        buffers=buffers,
        weights=tuple(WeightSlice(name, region, "float32") for name, region in weights or {}),
    )
    contents = {0: values}
    make_executor("torch").prepare(program, weights or {}).compute(0, contents)
    return [contents[index + 1] for index in range(len(wanted))]


def test_a_kernel_is_the_call_that_it_names() -> None:
    (y,) = computed(kernel(step("relu.default", self=x())), values=np.array([-1, 0, 1, 2], np.float32))

    np.testing.assert_array_equal(y, [0, 0, 1, 2])


def test_slices_are_in_the_tensors_own_coordinates() -> None:
    """The buffer holds elements 10 to 14; elements 11 and 12 are its second and third."""
    values = np.array([-1, 5, -6, 7], np.float32)

    (y,) = computed(
        kernel(step("abs.default", self=x(11, 13)), region=Region.of([(11, 13)])),
        values=values,
        held=Region.of([(10, 14)]),
        outputs={"y": Region.of([(12, 13)])},
    )

    np.testing.assert_array_equal(y, [6])


def test_steps_read_the_results_of_earlier_ones() -> None:
    first = step("abs.default", self=x())
    second = step("add.Tensor", self=Result(0), other=Result(0), alpha=3)

    (y,) = computed(kernel(first, second), values=np.array([-1, 0, 1, 2], np.float32))

    np.testing.assert_array_equal(y, [4, 0, 4, 8])


def test_kernels_read_what_earlier_ones_made() -> None:
    first = kernel(step("abs.default", self=x()), output="a")
    second = kernel(step("neg.default", self=Slice("a", Region.of([(1, 3)]))), region=Region.of([(1, 3)]))

    a, y = computed(
        first,
        second,
        values=np.array([-1, -2, 3, -4], np.float32),
        outputs={"a": FOUR, "y": Region.of([(1, 3)])},
    )

    np.testing.assert_array_equal(a, [1, 2, 3, 4])
    np.testing.assert_array_equal(y, [-2, -3])


def test_literals_symbols_and_lists_are_arguments() -> None:
    literal = Literal((4,), (1.0, 2.0, 3.0, 4.0))
    joined = step("cat.default", tensors=(x(0, 2), x(2, 4)), dim=0)
    divided = step("div.Tensor", self=Result(0), other=literal)
    clamped = step("clamp.default", self=Result(1), min=Symbol("float", "-inf"), max=1.5)
    cast = step("_to_copy.default", self=Result(2), dtype=Symbol("dtype", "float64"))

    (y,) = computed(kernel(joined, divided, clamped, cast), values=np.array([1, 4, 3, -4], np.float32))

    np.testing.assert_array_equal(y, [1, 1.5, 1, -1])
    assert y.dtype == np.float64


def test_weights_are_found_by_their_slice() -> None:
    part = Region.of([(0, 1), (4, 8)])
    product = step("linear.default", input=x(), weight=Slice("w", part), bias=None)

    (y,) = computed(
        kernel(product, region=Region.full((1,))),
        values=np.ones(4, np.float32),
        weights={("w", part): np.array([[1, 2, 3, 4]], np.float32)},
        outputs={"y": Region.full((1,))},
    )

    np.testing.assert_array_equal(y, [10])


def test_an_operator_of_several_outputs() -> None:
    sort = Kernel(
        operator="op",
        steps=(step("sort.default", self=x(), dim=0, descending=True),),
        outputs=(("", FOUR), ("y", FOUR)),
        flops=0,
        num_bytes=0,
    )

    (order,) = computed(sort, values=np.array([3, 1, 4, 2], np.float32))

    np.testing.assert_array_equal(order, [2, 0, 3, 1])


def test_bfloat16_goes_in_and_comes_out() -> None:
    values = np.array([-1, 0.5, 3, -4], NUMPY_DTYPES["bfloat16"])

    (y,) = computed(kernel(step("relu.default", self=x())), values=values)

    assert y.dtype == NUMPY_DTYPES["bfloat16"]
    np.testing.assert_array_equal(y.astype(np.float32), [0, 0.5, 3, 0])


def test_inputs_that_must_not_be_written_to_are_read() -> None:
    values = np.ones(4, np.float32)
    values.flags.writeable = False

    (y,) = computed(kernel(step("neg.default", self=x())), values=values)

    np.testing.assert_array_equal(y, [-1, -1, -1, -1])


def test_a_weight_that_is_missing() -> None:
    with pytest.raises(KeyError):
        computed(kernel(step("neg.default", self=Slice("w", FOUR))), values=np.ones(4, np.float32))


@pytest.mark.parametrize("target", ["no_such_operator.default", "relu.no_such_overload"])
def test_an_operator_that_torch_lacks(target: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=target):
        computed(kernel(step(target, self=x())), values=np.ones(4, np.float32))


def test_an_operator_that_is_not_atens() -> None:
    foreign = Step("os.system.default", ())
    with pytest.raises(UnsupportedOperatorError, match="is not an ATen overload"):
        computed(kernel(foreign), values=np.ones(4, np.float32))


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 3e-2), ("float16", 4e-3)])
def test_floats_may_be_computed_in_16_bits(dtype: str, tolerance: float) -> None:
    """Half the memory and, where the device has units for it, more speed; it is asked for, never assumed."""
    example = zoo.build("tiny-resnet")
    graph = ef.capture(example.module, example.args, name="tiny-resnet")
    plan = ef.plan(graph, ef.Cluster.local(speeds=[1.0, 0.5]), strategy="edgeflow_paper")
    with torch.no_grad():
        expected = example.module(*example.args)

    given = ef.execute(plan, example.args, executor=make_executor("torch", dtype=dtype))

    assert given.dtype == torch.float32
    difference = float((given - expected).abs().max() / expected.abs().max())
    assert 1e-6 < difference < tolerance


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_a_gpu_and_a_cpu_share_a_plan() -> None:
    example = zoo.build("tiny-vit")
    graph = ef.capture(example.module, example.args, name="tiny-vit")
    plan = ef.plan(graph, ef.Cluster.local(speeds=[1.0, 0.5]), strategy="megatron")
    executors = {0: make_executor("torch", device="cuda"), 1: make_executor("torch")}
    with torch.no_grad():
        expected = example.module(*example.args)

    given = ef.execute(plan, example.args, executor=_ByRank(executors, make_executor("torch")))

    torch.testing.assert_close(given, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


class _ByRank:
    """Each rank's own back end."""

    name = "by rank"

    def __init__(self, executors: dict[int, Executor], other: Executor) -> None:
        self._executors = executors
        self._other = other

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> Runnable:
        return self._executors.get(program.rank, self._other).prepare(program, weights, hashes)
