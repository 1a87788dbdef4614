"""From a module to a graph that computes the same, or to an error that says why not."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeflow.errors import GraphError, UnsupportedOperatorError
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import Symbol
from tests.unit.graph.interpret import Calls, assert_same, captured, run, targets

Point = namedtuple("Point", ["x", "y"])


def x_of(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


# ---------------------------------------------------------------------------------- what comes out


def test_composite_operators_stay_whole() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    graph = captured(layer, x_of(2, 5, 8))

    assert {"linear", "scaled_dot_product_attention", "layer_norm"} <= set(targets(graph))
    assert not {"mm", "addmm", "bmm", "native_layer_norm"} & set(targets(graph))


def test_defaults_are_filled_in_by_name() -> None:
    graph = captured(nn.Conv2d(3, 4, 3), x_of(1, 3, 8, 8))
    (conv,) = graph.operators

    assert [name for name, _ in conv.arguments] == [
        "input", "weight", "bias", "stride", "padding", "dilation", "groups",
    ]  # fmt: skip
    assert conv.arg("groups") == 1
    with pytest.raises(GraphError, match="has no argument 'kernel'"):
        conv.arg("kernel")


def test_values_that_json_cannot_say_are_symbols() -> None:
    graph = captured(Calls(lambda x: x.masked_fill(x > 0, float("-inf")).to(torch.float64)), x_of(4))
    masked, cast = graph.operators[-2:]

    assert masked.arg("value") == Symbol("float", "-inf")
    assert cast.arg("dtype") == Symbol("dtype", "float64")


def test_operators_in_place_become_pure() -> None:
    graph = captured(Calls(lambda x: (x * 2).add_(1).relu_()), x_of(4))

    assert targets(graph) == ["mul", "add", "relu"]


def test_a_write_into_a_slice_becomes_pure() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[0].fill_(7.0)
        return y

    captured(Calls(function), x_of(3, 2))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x.topk(2, dim=1), ("topk",)),
        (lambda x: x.max(dim=1), ("max",)),
        (lambda x: x.max(dim=1).indices, ("max",)),
        (lambda x: x.sort()[1], ("sort",)),
        (lambda x: F.adaptive_max_pool2d(x[None], 2), ("adaptive_max_pool2d",)),
    ],
)
def test_operators_of_several_outputs_stay_one(function: Any, names: tuple[str, ...]) -> None:
    graph = captured(Calls(function), x_of(3, 5, 4))

    assert set(names) <= set(targets(graph))


def test_an_output_that_nobody_reads_has_no_name() -> None:
    graph = captured(Calls(lambda x: x.max(dim=1).indices + 1), x_of(3, 5))
    (op,) = (op for op in graph.operators if "max" in op.target)

    assert op.outputs[0] == ""
    assert graph.specs[op.outputs[1]].dtype == "int64"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_keep_their_dtype(dtype: torch.dtype) -> None:
    graph = captured(nn.Linear(4, 3).to(dtype), x_of(2, 4).to(dtype))

    assert {spec.dtype for spec in graph.specs.values()} == {str(dtype).removeprefix("torch.")}


def test_tied_weights_are_one_tensor() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.embed(tokens))
            return out

    graph = captured(Tied(), torch.tensor([[1, 2, 4]]))

    assert graph.weight_bytes == 5 * 4 * 4


def test_recurrent_layers_are_one_operator() -> None:
    graph = captured(nn.LSTM(4, 3, num_layers=2, batch_first=True), x_of(2, 5, 4))

    assert targets(graph) == ["lstm"]


# --------------------------------------------------------------------------- what goes in and comes out


def four(a: Any, b: Any = None, *, c: Any = None, d: Any = None) -> Any:
    return a * 1000 + b * 100 + c * 10 + d


@pytest.mark.parametrize("order", ["bcd", "dcb", "cdb"])
def test_keywords_may_come_in_any_order(order: str) -> None:
    class Four(nn.Module):
        def forward(self, a: Any, b: Any = None, *, c: Any = None, d: Any = None) -> Any:
            return four(a, b, c=c, d=d)

    values = {name: torch.tensor([float(index)]) for index, name in enumerate("abcd", start=1)}
    graph = capture(Four(), (values["a"],), {name: values[name] for name in order})

    for again in ("bcd", "dbc"):
        result = run(graph, (values["a"],), {name: values[name] for name in again})
        assert result.item() == 1234.0


@pytest.mark.parametrize(
    "given",
    [
        {"z": torch.ones(2), "a": torch.zeros(2)},
        OrderedDict(z=torch.ones(2), a=torch.zeros(2)),
        {1: torch.ones(2), 0: torch.zeros(2)},
    ],
    ids=["words", "ordered", "numbers"],
)
def test_mappings_go_in_by_key(given: dict[Any, torch.Tensor]) -> None:
    first, second = given
    module = Calls(lambda d: d[first] * 10 + d[second])
    graph = captured(module, given)

    reordered = type(given)((key, given[key]) for key in reversed(given))
    assert_same(run(graph, (reordered,)), module(given))


def test_lists_tuples_and_named_tuples_go_in() -> None:
    captured(Calls(lambda xs: xs[0] * 10 + xs[1][0]), [torch.ones(2), (torch.zeros(2), None)])
    graph = captured(Calls(lambda p: Point(p.x * 10, p.y + 1)), Point(torch.ones(2), torch.zeros(2)))

    assert graph.output_structure.type_name == "Point"


def test_constants_go_in_with_the_tensors() -> None:
    graph = captured(Calls(lambda x, k, mode, flag, nothing: x * k), x_of(3), 2.5, "fast", True, None)

    assert len(graph.inputs) == 1


def test_an_unused_input_stays_an_input() -> None:
    assert len(captured(Calls(lambda x, y: x * 2), x_of(3), x_of(4)).inputs) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: {"z": x * 2, "a": (x * 3, [x * 4, {"w": x * 5}])},
        lambda x: OrderedDict(z=x * 2, a=None),
        lambda x: (x * 2, None, 3, 2.5, "text"),
        lambda x: [x * 2],
        lambda x: (x, x * 2),
        lambda x: x,
        lambda x: (x, x.view(-1), x),
        lambda x: [x * 2] * 2,
        lambda x: (x.sum(), x.shape[0]),
    ],
    ids="nest ordered constants list input only-input views twice scalar".split(),
)
def test_whatever_nest_comes_out(function: Any) -> None:
    captured(Calls(function), x_of(3))


def test_an_output_may_be_a_weight() -> None:
    """Some device must own it, so an operator makes it; asked for twice it is made once."""

    class Prototypes(nn.Module):
        scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(2, 3))
            self.register_buffer("scale", torch.tensor(3.0))

        def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
            return self.table, x * self.scale, self.table, self.scale

    graph = captured(Prototypes(), x_of(2))

    assert targets(graph) == ["mul", "clone", "clone"]
    assert set(graph.outputs) <= set(graph.producer)


# ------------------------------------------------------------------------------------- what is refused


def test_a_module_comes_back_in_the_mode_that_it_was_in() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4))
    module.train()
    module[2].eval()
    capture(module, (x_of(2, 4),))

    assert [child.training for child in module] == [True, True, False]

    broken = Calls(lambda x: x[x > 0] if x.sum() > 0 else x).train()
    with pytest.raises(GraphError):
        capture(broken, (x_of(3),))
    assert broken.training


def test_a_failed_export_names_the_line_of_the_module(capfd: pytest.CaptureFixture[str]) -> None:
    """And nothing but the error: torch prints half a graph when it gives up."""

    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(
        GraphError, match=r"\(at .*test_capture\.py:\d+: return x if x\.sum\(\) > 0 else -x\)"
    ):
        capture(Branch(), (x_of(3),))

    assert capfd.readouterr() == ("", "")


def test_control_flow_on_data_is_refused_with_its_cause() -> None:
    with pytest.raises(GraphError, match=r"cannot capture Calls: .*data-dependent"):
        capture(Calls(lambda x: x * 2 if x.sum() > 0 else x), (x_of(3),))


def test_a_python_error_in_the_module_is_quoted() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("weights were never loaded")

    with pytest.raises(GraphError, match="weights were never loaded"):
        capture(Calls(function), (x_of(3),))


def test_a_module_with_state_is_refused() -> None:
    class Counter(nn.Module):
        seen: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add_(1)
            return x + self.seen

    with pytest.raises(GraphError, match="changes 'seen' while it runs"):
        capture(Counter(), (x_of(3),))


def test_a_module_that_writes_into_its_weights_is_refused() -> None:
    class Learner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.weight.add_(1)
            return x + self.weight

    with pytest.raises(GraphError, match="changes 'weight' while it runs"):
        capture(Learner(), (x_of(3),))


def test_a_branch_as_an_operator_is_refused() -> None:
    with pytest.raises(GraphError, match="submodule graphs"):
        capture(Calls(lambda x: torch.cond(x.sum() > 0, torch.neg, torch.abs, (x,))), (x_of(3),))


def test_a_module_that_writes_into_its_input_is_refused() -> None:
    with pytest.raises(GraphError, match="while it runs"):
        capture(Calls(lambda x: x.add_(1)), (x_of(3),))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + torch.rand_like(x),
        lambda x: x + torch.randn(3),
        lambda x: x + torch.empty(3).uniform_(),
        lambda x: x + torch.empty(3).exponential_(),
        lambda x: torch.bernoulli(x.abs().clamp(max=1)),
        lambda x: F.gumbel_softmax(x, dim=0),
        lambda x: F.dropout(x, 0.5, training=True),
        lambda x: F.alpha_dropout(x, 0.5, training=True),
        lambda x: F.rrelu(x, training=True),
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=0.3),
    ],
    ids="rand_like randn uniform exponential bernoulli gumbel dropout alpha rrelu attention".split(),
)
def test_random_numbers_are_refused(function: Any) -> None:
    """Dropout is dropped in evaluation only; a module that asks for it all the same is not exact."""
    with pytest.raises(UnsupportedOperatorError, match="draws random numbers") as caught:
        capture(Calls(function), (x_of(3),))

    assert caught.value.operator


def test_shapes_that_depend_on_data_are_refused() -> None:
    with pytest.raises(GraphError, match="dynamic shape"):
        capture(Calls(lambda x: x.nonzero()), (x_of(3),))


def test_numbers_that_depend_on_data_are_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="not tensors"):
        capture(Calls(lambda x: x * x.sum().item()), (x_of(3),))


def test_operators_of_other_libraries_are_refused() -> None:
    @torch.library.custom_op("edgeflow_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(torch.empty_like)
    with pytest.raises(
        UnsupportedOperatorError, match=r"edgeflow_tests\.twice\.default is not an ATen operator"
    ):
        capture(Calls(lambda x: twice(x)), (x_of(3),))


def test_dtypes_beyond_numbers_are_refused() -> None:
    with pytest.raises(GraphError, match=r"complex64; supported: float32, float64"):
        capture(Calls(lambda x: torch.fft.fft(x).abs()), (x_of(4),))


def test_empty_tensors_are_refused() -> None:
    with pytest.raises(GraphError, match="empty tensors are not supported"):
        capture(Calls(lambda x: torch.cat([x, torch.zeros(0)])), (x_of(4),))


def test_what_is_not_a_module_is_refused() -> None:
    with pytest.raises(GraphError, match=r"takes a torch\.nn\.Module, got function"):
        capture(four, (x_of(3),))  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"as a tuple, got Tensor; write \(x,\)"):
        capture(nn.ReLU(), x_of(3))  # type: ignore[arg-type]
