"""Transformers cut by hand where a planner would hardly cut them: the answer is the module's all the same.

Shares are uneven to the extreme: devices without any tokens or heads, one token on a device, more devices
than heads or groups of heads. Tokens, batch and features are each split in turn.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import edgeflow as ef
from edgeflow.cost import CostModel
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.task import Run, Task, finish_runs
from edgeflow.testing import zoo
from tests.numerics.loaded import loaded

MODELS = (
    "hf-gpt2-small", "hf-llama-small", "hf-llama-cache-small", "hf-mistral-small", "hf-falcon-small",
    "hf-t5-encoder-small", "hf-bert-small", "hf-modernbert-small", "hf-deberta-small", "hf-swin-small",
    "hf-bart-small", "hf-clip-small", "hf-whisper-encoder-small", "transformer-encoder", "tiny-vit-fused",
)  # fmt: skip
#: One lazy device, one with next to nothing, one with nothing, and the rest.
SHARES = (0.05, 0.62, 0.0, 0.3, 0.03)
#: bfloat16 keeps 8 bits; a partial sum is rounded before it is added.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 5e-3}


def plan_of(graph: ModelGraph, *, kind: Any, shares: tuple[float, ...], labelling: int = 0) -> Plan:
    """The whole graph in one layout."""
    cluster = ef.Cluster.local([1.0] * len(shares))
    task = Task(graph=graph, cluster=cluster, cost=CostModel(cluster=cluster))
    layout = Layout(kind=kind, devices=tuple(range(len(shares))), shares=shares, labelling=labelling)
    return finish_runs(task, [Run(graph.operators, layout)], strategy="by hand", label="by hand")


def check(plan: Plan, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Each tensor of the answer is the module's, NaN where it is NaN."""
    with torch.no_grad():
        expected, _ = pytree.tree_flatten(module(*args, **kwargs))
    found, _ = pytree.tree_flatten(ef.execute(plan, args, kwargs))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        if isinstance(theirs, Tensor):
            assert mine.dtype == theirs.dtype
            largest = theirs[theirs.isfinite()].abs().max().item() if theirs.isfinite().any() else 1.0
            tolerance = TOLERANCES.get(theirs.dtype, 0.0) * largest
            torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("model", MODELS)
def test_heads_and_columns_in_extreme_shares(model: str) -> None:
    graph, example, _ = loaded(model)

    for shares in (SHARES, (1.0, 1.0, 1.0, 1.0), (0.01, 1.0)):
        check(plan_of(graph, kind="tensor", shares=shares), *example)


@pytest.mark.parametrize("model", MODELS)
def test_every_dim_of_every_input_in_extreme_shares(model: str) -> None:
    graph, example, _ = loaded(model)
    labellings = analysis_of(graph).labellings

    assert labellings
    for index in range(len(labellings)):
        check(plan_of(graph, kind="rows", shares=SHARES, labelling=index), *example)


def test_tokens_of_a_causal_model_are_really_split() -> None:
    """Rows of scores that a device makes begin in mid-sequence: its mask is not the whole one's corner."""
    graph, example, _ = loaded("hf-gpt2-small")
    plan = plan_of(graph, kind="rows", shares=(0.3, 0.7))

    steps = [step for program in plan.programs.values() for step in _steps(program)]
    assert any(step.target == "aten.scaled_dot_product_attention.default" for step in steps)
    assert len([stage for stage in plan.stages if stage.kind == "rows" and len(stage.shards) == 2]) > 2
    check(plan, *example)


def _steps(program: Any) -> list[Any]:
    kernels = [kernel for item in program.instructions for kernel in getattr(item, "kernels", ())]
    return [step for kernel in kernels for step in kernel.steps]


# ------------------------------------------------------------------------------------- number formats


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["tensor", "rows"])
def test_half_precision_stays_half_precision(dtype: torch.dtype, kind: str) -> None:
    _, example, _ = loaded("hf-llama-small")
    module = zoo.build("hf-llama-small").module.to(dtype)
    graph = ef.capture(module, example.args, kwargs=example.kwargs)

    assert str(dtype).removeprefix("torch.") in {spec.dtype for spec in graph.specs.values()}
    check(plan_of(graph, kind=kind, shares=(0.5, 0.2, 0.3)), module, example.args, example.kwargs)


# ------------------------------------------------------------------------------ what is not a number


class Attention(nn.Module):
    """Written out or fused, under a mask that comes with the request, or causal, in any number of heads."""

    def __init__(self, *, heads: int = 3, fused: bool, causal: bool = False) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)
        self.heads, self.fused, self.causal = heads, fused, causal

    def forward(self, x_NLD: Tensor, mask: Tensor | None = None) -> Tensor:
        n, length, _ = x_NLD.shape
        q, k, v = (
            part.view(n, length, self.heads, -1).transpose(1, 2) for part in self.qkv(x_NLD).chunk(3, dim=-1)
        )
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-1, -2)
            if self.causal:
                above = torch.ones(length, length, dtype=torch.bool).triu(1)
                scores = scores.masked_fill(above, float("-inf"))
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            y = scores.softmax(-1) @ v
        o_NLD: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return o_NLD


@pytest.mark.parametrize("kind", ["tensor", "rows"])
@pytest.mark.parametrize("fused", [True, False])
def test_tokens_that_see_nothing_are_what_torch_says_they_are(fused: bool, kind: str) -> None:
    """NaN where a softmax of nothing but minus infinity is written out, zeros in fused attention."""
    torch.manual_seed(0)
    module, x = Attention(fused=fused).eval(), torch.randn(2, 7, 24)
    mask = torch.rand(2, 1, 7, 7) > 0.4
    mask[0, :, 3] = mask[1, :, :2] = False
    with torch.no_grad():
        assert module(x, mask).isnan().any() != fused

    graph = ef.capture(module, (x, mask))
    for labelling in range(len(analysis_of(graph).labellings)):
        check(plan_of(graph, kind=kind, shares=SHARES, labelling=labelling), module, (x, mask), {})


@pytest.mark.parametrize("kind", ["tensor", "rows"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("heads", [1, 3])
def test_causal_attention_under_every_split(fused: bool, heads: int, kind: str) -> None:
    torch.manual_seed(0)
    module, x = Attention(fused=fused, causal=True, heads=heads).eval(), torch.randn(3, 11, 24)
    graph = ef.capture(module, (x,))

    for labelling in range(len(analysis_of(graph).labellings)):
        for shares in (SHARES, (1.0, 10.0), (10.0, 1.0), (0.0, 1.0, 0.0)):
            check(plan_of(graph, kind=kind, shares=shares, labelling=labelling), module, (x,), {})


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_sums_of_parts_hold_what_is_no_number(value: float) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    x = torch.randn(5, 6)
    x[1, 2] = value
    graph = ef.capture(module, (x,))

    for kind in ("tensor", "rows"):
        check(plan_of(graph, kind=kind, shares=SHARES), module, (x,), {})


class Router(nn.Module):
    """Each token to two of five experts: values and places of the largest are both read."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 5)
        self.experts = nn.Parameter(torch.randn(5, 12, 12))

    def forward(self, x_ND: Tensor) -> Tensor:
        weights, chosen = self.gate(x_ND).softmax(-1).topk(2, dim=-1)
        y_NED = torch.einsum("nd,edf->nef", x_ND, self.experts)
        picked = y_NED.gather(1, chosen[..., None].expand(-1, -1, 12))
        return (picked * weights[..., None]).sum(1)


def test_both_results_of_one_operator_are_split() -> None:
    torch.manual_seed(0)
    module, x = Router().eval(), torch.randn(9, 12)
    graph = ef.capture(module, (x,))
    (topk,) = (op for op in graph.operators if "topk" in op.target)

    assert {analysis_of(graph).labels[name] for name in topk.outputs} == {0}
    for kind in ("tensor", "rows"):
        for labelling in range(len(analysis_of(graph).labellings)):
            check(plan_of(graph, kind=kind, shares=SHARES, labelling=labelling), module, (x,), {})
