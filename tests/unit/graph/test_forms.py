"""Operators that are alike: found, and told apart from those that only look like it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeflow.graph.capture import capture
from edgeflow.graph.forms import forms_of
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.sharding.cutter import Cutter
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import contraction_size, cut
from edgeflow.testing import zoo


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.third = nn.Linear(8, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.third(self.second(self.first(x)))
        y = x + x
        return (y * x).softmax(-1) + y.softmax(0)


def test_equal_layers_are_alike_and_others_are_not() -> None:
    graph = capture(_Twice(), (torch.zeros(3, 8),))
    forms = forms_of(graph)
    linears = [op for op in graph.operators if op.target == "aten.linear.default"]
    assert [forms.of(op).first.name for op in linears] == [linears[0].name, linears[0].name, linears[2].name]
    names = forms.of(linears[1]).names
    assert names is not None
    assert names == dict(
        zip((*linears[0].inputs, linears[0].output), (*linears[1].inputs, linears[1].output), strict=True)
    )
    # One tensor twice is not two tensors, and another dim is another operator.
    others = [op for op in graph.operators if op not in linears]
    softmaxes = [op for op in others if "softmax" in op.target]
    assert forms.of(softmaxes[1]).first is softmaxes[1]
    adds = [op for op in others if "add" in op.target]
    assert len(adds) == 2
    assert forms.of(adds[1]).first is adds[1]


def regions_of(graph: ModelGraph, name: str) -> list[Region]:
    full = Region.full(graph.specs[name].shape)
    halves = [
        full.replace(dim, part)
        for dim, (_, size) in enumerate(full.intervals)
        if size > 1
        for part in (Interval(0, size // 2), Interval(size // 3, size))
    ]
    return [full, *halves]


@pytest.mark.parametrize(
    "model", ["tiny-resnet", "tiny-vit", "hf-swin-small", "concat-dag", "hf-llama-small"]
)
def test_what_is_shared_is_what_each_would_be_told_alone(model: str) -> None:
    example = zoo.build(model)
    graph = capture(example.module, example.args, example.kwargs, name=model)
    cutter, forms = Cutter(graph), forms_of(graph)
    num_shared = 0
    for op in graph.operators:
        num_shared += forms.of(op).names is not None
        size = contraction_size(op, graph.specs)
        asked: list[tuple[Region, Interval | None]] = [
            (region, None) for region in regions_of(graph, op.first_output)
        ]
        if size is not None and size > 1:
            asked.append((Region.full(graph.specs[op.first_output].shape), Interval(size // 2, size)))
        for region, contraction in asked:
            alone = cut(op, graph.specs, region, contraction)
            assert cutter.cut(op, region, contraction) == alone
            assert cutter.needs(op, region, contraction) == alone.needs
            stage = Stage(name="s0", kind="", operators=(op.name,), shards=())
            piece = Piece(region, contraction)
            work = stage_kernels(graph, stage, Shard(0, ((op.first_output, piece),)))
            assert [kernel.operator for kernel in work.kernels] == [op.name]
            assert work.kernels[0].steps == alone.steps
            assert work.kernels[0].flops == alone.flops
            assert {item.tensor for item in work.weights} | {name for name, _ in work.needs} == set(
                alone.needs
            )
            assert {name for name, _ in work.kernels[0].outputs} <= set(op.outputs)
    assert num_shared > 0
