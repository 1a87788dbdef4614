"""Whole models by rows over three uneven devices, all of which work: halos exchanged, or computed again."""

from __future__ import annotations

import pytest

import edgeflow as ef
from edgeflow.plan import Decision, Plan, Weighed
from edgeflow.plan.program import Compute, Program
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.build import draft
from edgeflow.planner.layouts.layout import Layout, close
from edgeflow.testing import zoo_vision
from tests.numerics.loaded import loaded, tensors_of
from tests.numerics.test_models import TOLERANCE

_SHARES = (0.45, 0.2, 0.35)
_MODELS = (
    "tiny-resnet",
    "unet",
    "concat-dag",
    "openworld-tiny",
    "hf-resnet-small",
    *(name for name in zoo_vision.VISION if name.endswith("-small")),
)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "recomputed"])
@pytest.mark.parametrize("model", _MODELS)
def test_three_uneven_strips_answer_what_the_module_does(model: str, exchange: bool) -> None:
    graph, example, expected = loaded(model)
    analysis = analysis_of(graph)
    layout = Layout(kind="rows", devices=(0, 1, 2), shares=_SHARES, exchange=exchange)
    stages = close(analysis, draft(analysis, graph.operators, layout))
    plan = Plan(
        Decision(graph=graph, cluster=ef.Cluster.local([1.0] * 3), stages=stages), Weighed(strategy="test")
    )

    found = dict(tensors_of(ef.execute(plan, example.args, example.kwargs)))

    work = [_flops(plan.programs[rank]) for rank in range(3)]
    for rank, share in enumerate(_SHARES):
        assert work[rank] >= 0.6 * share * analysis.total_flops, (work, analysis.total_flops)
    if exchange:
        assert sum(work) <= 1.5 * analysis.total_flops, (work, analysis.total_flops)
    assert found.keys() == expected.keys()
    for name, theirs in expected.items():
        assert (found[name] - theirs).abs().max().item() <= TOLERANCE * theirs.abs().max().item(), name


def _flops(program: Program) -> int:
    return sum(
        kernel.flops for item in program.instructions if isinstance(item, Compute) for kernel in item.kernels
    )
