"""Chains of views and permutations: joined where they merge what does not belong together, else left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeflow.graph.aten import evaluate
from edgeflow.graph.ir import ModelGraph, Operator, Structure, TensorRef, TensorSpec
from edgeflow.graph.passes import simplify
from edgeflow.planner.analysis import analysis_of
from tests.unit.graph.interpret import Calls, captured, run, targets

#: ``("permute", order)`` or ``("reshape", shape)``.
Move = tuple[str, tuple[int, ...]]


def patches(x: Tensor) -> Tensor:
    """Pixels of 2x2 patches as a batch: ``x_NCHW`` to ``(N 4) (H/2 W/2) C``."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch * channels * (height // 2), 2, width // 2, 2).transpose(1, 2)
    x = x.reshape(batch, channels, height * width // 4, 4).transpose(1, 3)
    return x.reshape(batch * 4, height * width // 4, channels)


def test_patches_keep_rows_apart_from_channels() -> None:
    graph = captured(Calls(patches), torch.randn(1, 3, 8, 6), tolerance=0.0)
    found = analysis_of(graph)

    assert targets(graph) == ["reshape", "permute", "reshape"]
    labels = next(labels for labels in found.labellings if labels[graph.inputs[0]] == 2)
    assert labels[graph.outputs[0]] == 1, "rows of patches are the outer part of the second dim"


def test_two_permutations_in_a_row_are_left() -> None:
    graph = captured(Calls(lambda x: x.permute(2, 0, 1).transpose(0, 1)), torch.randn(2, 3, 4))

    assert targets(graph) == ["permute", "transpose"]


def test_a_shuffle_is_left_as_it_is() -> None:
    graph = captured(
        Calls(lambda x: x.view(1, 2, 3, 4).transpose(1, 2).reshape(1, 6, 4)), torch.randn(1, 6, 4)
    )

    assert targets(graph)[1] == "transpose"
    assert not any("moved" in name for name in graph.specs)


def test_what_others_read_on_the_way_is_still_made() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        middle = x.transpose(0, 1).reshape(6, 4)
        return middle.reshape(3, 2, 4).transpose(1, 2), middle + 1

    captured(Calls(function), torch.randn(2, 3, 4), tolerance=0.0)


def test_a_view_across_factors_is_left() -> None:
    """Six columns cut into fours: no factor of one is a factor of the other."""
    graph = captured(
        Calls(lambda x: x.transpose(0, 1).reshape(4, 9).transpose(0, 1)), torch.randn(6, 6), tolerance=0.0
    )

    assert targets(graph) == ["transpose", "_unsafe_view", "transpose"]


def test_random_chains_are_what_they_were(rng: np.random.Generator) -> None:
    """Chains that no model has, written as graphs at once: an export of each would take most of the time."""
    num_joined = 0
    for _ in range(120):
        sizes = tuple(int(rng.choice([1, 2, 2, 3, 4, 6])) for _ in range(int(rng.integers(2, 5))))
        x = torch.arange(float(np.prod(sizes))).reshape(sizes)
        steps = _random_chain(rng, sizes)
        before = _graph(sizes, steps)
        after = simplify(before, evaluate=evaluate)
        assert torch.equal(run(after, (x,)), _called(steps, x))
        num_joined += any("moved" in name for name in after.specs)

    assert num_joined > 5


def test_a_random_chain_that_torch_exports_is_the_same_graph(rng: np.random.Generator) -> None:
    sizes, steps = (2, 3, 4), [("permute", (2, 0, 1)), ("reshape", (4, 6)), ("permute", (1, 0))]
    exported = captured(Calls(lambda x: _called(steps, x)), torch.randn(sizes), tolerance=0.0)
    written = simplify(_graph(sizes, steps), evaluate=evaluate)

    assert targets(exported) == targets(written)
    assert [exported.specs[op.output] for op in exported.operators] == [
        written.specs[op.output] for op in written.operators
    ]


def _random_chain(rng: np.random.Generator, sizes: tuple[int, ...]) -> list[Move]:
    steps: list[Move] = []
    shape = sizes
    for _ in range(int(rng.integers(2, 7))):
        if rng.random() < 0.5:
            order = tuple(int(dim) for dim in rng.permutation(len(shape)))
            steps.append(("permute", order))
            shape = tuple(shape[dim] for dim in order)
        else:
            shape = _refactored(rng, int(np.prod(shape)))
            steps.append(("reshape", shape))
    return steps


def _called(steps: list[Move], x: Tensor) -> Tensor:
    for name, argument in steps:
        x = x.permute(argument) if name == "permute" else x.reshape(argument)
    return x + 0


def _graph(sizes: tuple[int, ...], steps: list[Move]) -> ModelGraph:
    """Return the graph that `torch.export` writes for `_called`."""
    specs = {"x": TensorSpec(shape=sizes)}
    operators = []
    source, shape = "x", sizes
    for index, (name, argument) in enumerate([*steps, ("add", (0,))]):
        output = f"{name}{index}"
        if name == "permute":
            shape = tuple(shape[dim] for dim in argument)
            target, more = "aten.permute.default", (("dims", argument),)
        elif name == "reshape":
            shape = argument
            target, more = "aten.reshape.default", (("shape", argument),)
        else:
            target, more = "aten.add.Scalar", (("other", 0), ("alpha", 1))
        operators.append(
            Operator(
                name=output, target=target, arguments=(("self", TensorRef(source)), *more), outputs=(output,)
            )
        )
        specs[output] = TensorSpec(shape=shape)
        source = output
    tensor = Structure(kind="tensor")
    inputs = (Structure(kind="tuple", items=(tensor,)), Structure(kind="dict"))
    return ModelGraph(
        name="chain",
        operators=tuple(operators),
        specs=specs,
        inputs=("x",),
        outputs=(source,),
        weights={},
        input_structure=Structure(kind="tuple", items=inputs),
        output_structure=tensor,
    )


def _refactored(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    shape = []
    while count > 1 and len(shape) < 4:
        divisors = [size for size in range(2, count + 1) if count % size == 0]
        size = int(rng.choice(divisors))
        shape.append(size)
        count //= size
    return (*shape, count)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6, 1)])
def test_dims_of_one_element_are_no_factors(shape: tuple[int, ...]) -> None:
    captured(
        Calls(lambda x: x.transpose(0, 1).reshape(1, -1, 1).permute(2, 1, 0)),
        torch.randn(shape),
        tolerance=0.0,
    )
