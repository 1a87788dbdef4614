"""Cases to measure: operators with shapes of CNNs and Transformers, whole and in slices."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.graph.ir import NUMPY_DTYPES, ModelGraph, Operator, Structure, Symbol, TensorRef, TensorSpec
from edgeflow.kernels.base import Executor
from edgeflow.measure.kernels import Case, prepare_case
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import contraction_size, rule_of

#: Dtypes besides fp32 in which products are measured, if the back end runs them. int8 products are not among
#: them: no operator that workers run computes them.
DTYPES: Final = ("bfloat16", "float16")

#: Shares of a dim that slices take; efficiency falls in small ones.
_PARTS: Final = (0.55, 0.25, 0.1)
_INNER_PARTS: Final = (0.5, 0.2)


def slices(graph: ModelGraph, operator: Operator) -> Iterator[Case]:
    """Yield one operator whole, in parts of each dim of its output, and as partial sums."""
    shape = graph.specs[operator.first_output].shape
    whole = Region.full(shape)
    yield Case(graph, operator.name, whole)
    if len(operator.outputs) > 1:
        return
    for dim, size in enumerate(shape):
        for length in sorted({max(1, round(size * part)) for part in _PARTS} - {size}):
            start = (size - length) // 2
            yield Case(graph, operator.name, whole.replace(dim, Interval(start, start + length)))
    inner = contraction_size(operator, graph.specs) or 1
    for length in sorted({max(1, round(inner * part)) for part in _INNER_PARTS} - {inner}):
        yield Case(graph, operator.name, whole, Interval(0, length))


def graph_cases(graph: ModelGraph) -> list[Case]:
    """Return slices of every distinct operator of a graph, in a fixed order."""
    seen: set[object] = set()
    cases: list[Case] = []
    for operator in graph.operators:
        key = _kind_of(graph, operator)
        if key not in seen and not rule_of(operator).is_view:
            seen.add(key)
            cases += slices(graph, operator)
    random.Random(0).shuffle(cases)
    return cases


def _kind_of(graph: ModelGraph, operator: Operator) -> object:
    """Return all that an operator's duration depends on: its call, with shapes and dtypes for tensors."""

    def plain(value: Any) -> object:
        if isinstance(value, TensorRef):
            return graph.specs[value.name]
        return tuple(plain(item) for item in value) if isinstance(value, tuple) else value

    return operator.target, tuple((name, plain(value)) for name, value in operator.arguments)


def device_cases() -> list[Case]:
    """Return a few hundred slices of typical fp32 operators, shuffled in a fixed order.

    A slow device measures the first ones only; shuffled, these are a fair sample.
    """
    cases = [case for graph in _operators() for case in slices(graph, graph.operators[0])]
    random.Random(0).shuffle(cases)
    return cases


def product_cases(dtype: str, executor: Executor) -> list[Case]:
    """Return slices of the convolutions and products in a dtype that a back end runs, in a fixed order.

    Each operator is run once to find out; those that fail are left out.
    """
    cases = [
        case
        for graph in (*_convolutions(dtype), *_products(dtype))
        if _runs(graph, executor)
        for case in slices(graph, graph.operators[0])
    ]
    random.Random(0).shuffle(cases)
    return cases


def _runs(graph: ModelGraph, executor: Executor) -> bool:
    operator = graph.operators[0]
    # The least region: only whether the back end has the kernel is of interest.
    shape = graph.specs[operator.first_output].shape
    case = Case(graph, operator.name, Region.full(shape).replace(len(shape) - 2, Interval(0, 1)))
    try:
        prepare_case(case, executor).run_s(time.perf_counter)
    except (EdgeflowError, RuntimeError):  # NotImplementedError and the back ends' own are RuntimeErrors
        return False
    return True


def _operators() -> Iterator[ModelGraph]:
    yield from _convolutions()
    yield from _products()
    yield from _others()


def _convolutions(dtype: str = "float32") -> Iterator[ModelGraph]:
    for c_in, c_out, size, kernel, stride in (
        (3, 64, 224, 7, 2),
        (3, 32, 112, 3, 2),
        (16, 32, 64, 3, 1),
        (64, 64, 56, 3, 1),
        (128, 128, 28, 3, 1),
        (256, 256, 14, 3, 1),
        (512, 512, 7, 3, 1),
        (128, 128, 56, 3, 2),
        (256, 256, 28, 3, 2),
        (48, 96, 30, 5, 1),
    ):
        yield _conv(c_in, c_out, size, kernel=kernel, stride=stride, dtype=dtype)
    for c_in, c_out, size, stride in (
        (24, 96, 56, 1),
        (64, 256, 56, 1),
        (256, 64, 56, 1),
        (128, 512, 28, 1),
        (512, 128, 28, 1),
        (256, 1024, 14, 1),
        (1024, 256, 14, 1),
        (512, 2048, 7, 1),
        (2048, 512, 7, 1),
        (512, 1024, 28, 2),
    ):
        yield _conv(c_in, c_out, size, kernel=1, stride=stride, dtype=dtype)
    for channels, size, kernel, stride in (
        (32, 112, 3, 1),
        (96, 56, 3, 2),
        (192, 28, 5, 1),
        (384, 14, 3, 1),
        (960, 7, 5, 1),
        (96, 56, 7, 1),
    ):
        yield _conv(channels, channels, size, kernel=kernel, stride=stride, groups=channels, dtype=dtype)


def _conv(
    c_in: int, c_out: int, size: int, *, kernel: int, stride: int, groups: int = 1, dtype: str = "float32"
) -> ModelGraph:
    return operator_graph(
        "aten.conv2d.default",
        {"input": (1, c_in, size, size)},
        {"weight": (c_out, c_in // groups, kernel, kernel), "bias": (c_out,)},
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        groups=groups,
        dtype=dtype,
    )


def _products(dtype: str = "float32") -> Iterator[ModelGraph]:
    for tokens, inner, columns in (
        (1, 2048, 1000),
        (16, 256, 1024),
        (64, 384, 1152),
        (64, 1024, 256),
        (128, 768, 768),
        (197, 768, 3072),
        (197, 3072, 768),
        (320, 256, 256),
    ):
        yield operator_graph(
            "aten.linear.default",
            {"input": (1, tokens, inner)},
            {"weight": (columns, inner), "bias": (columns,)},
            dtype=dtype,
        )
    for heads, rows, inner, columns in ((12, 128, 64, 128), (8, 196, 32, 196), (4, 64, 64, 64)):
        yield operator_graph(
            "aten.matmul.default",
            {"self": (1, heads, rows, inner), "other": (1, heads, inner, columns)},
            dtype=dtype,
        )
    for heads, tokens, size in ((12, 197, 64), (12, 64, 64), (8, 320, 32), (4, 128, 32)):
        operand = (1, heads, tokens, size)
        yield operator_graph(
            "aten.scaled_dot_product_attention.default",
            {"query": operand, "key": operand, "value": operand},
            dtype=dtype,
        )


def _others() -> Iterator[ModelGraph]:
    maps: Sequence[tuple[int, ...]] = ((1, 64, 112, 112), (1, 256, 28, 28), (1, 512, 7, 7))
    tokens: Sequence[tuple[int, ...]] = ((1, 197, 768), (1, 197, 3072), (1, 16, 128))
    for shape in (*maps, *tokens):
        yield operator_graph("aten.relu.default", {"self": shape})
        yield operator_graph("aten.add.Tensor", {"self": shape, "other": shape})
    for shape in (*maps, *tokens):
        yield operator_graph("aten.gelu.default", {"self": shape})
        yield operator_graph("aten.sigmoid.default", {"self": shape})
    for shape in tokens:
        size = shape[-1]
        yield operator_graph(
            "aten.layer_norm.default",
            {"input": shape},
            {"weight": (size,), "bias": (size,)},
            normalized_shape=(size,),
        )
        yield operator_graph("aten.softmax.int", {"self": shape}, dim=-1)
    for shape in maps:
        yield operator_graph(
            "aten.max_pool2d.default", {"self": shape}, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)
        )
        yield operator_graph("aten.avg_pool2d.default", {"self": shape}, kernel_size=(2, 2), stride=(2, 2))
        yield operator_graph("aten.adaptive_avg_pool2d.default", {"self": shape}, output_size=(1, 1))
        yield operator_graph("aten.mean.dim", {"self": shape}, dim=(2, 3), keepdim=True)
        yield operator_graph("aten.constant_pad_nd.default", {"self": shape}, pad=(1, 1, 1, 1), value=0.0)
        yield operator_graph("aten.clone.default", {"self": shape})


def operator_graph(
    target: str,
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]] | None = None,
    *,
    dtype: str = "float32",
    **values: Any,
) -> ModelGraph:
    """Return a graph of one operator: tensors of ``dtype`` by shape, other arguments by value or default.

    Raises:
        ConfigError: If torch, which knows the defaults and the shape of the result, is not installed.
    """
    try:
        from edgeflow.graph.aten import overload
    except ImportError as error:
        raise ConfigError("a profile of this device needs torch, which is not installed here") from error
    weights = weights or {}
    specs = {name: TensorSpec(shape=shape, dtype=dtype) for name, shape in {**inputs, **weights}.items()}
    function = overload(target)
    arguments: list[tuple[str, Any]] = []
    for argument in function._schema.arguments:
        name = argument.name
        if name in specs:
            arguments.append((name, TensorRef(name)))
        elif name in values:
            arguments.append((name, values.pop(name)))
        else:
            default = argument.default_value
            arguments.append((name, tuple(default) if isinstance(default, list) else default))
    assert not values, f"{target} has no arguments {sorted(values)}"
    operator = Operator(name="operator", target=target, arguments=tuple(arguments), outputs=("result",))
    specs["result"] = TensorSpec(shape=_result_shape(operator, specs), dtype=dtype)
    generator = np.random.default_rng(0)
    one = Structure(kind="tensor")
    return ModelGraph(
        name=target,
        operators=(operator,),
        specs=specs,
        inputs=tuple(inputs),
        outputs=("result",),
        weights={
            name: generator.standard_normal(shape, dtype=np.float32).astype(NUMPY_DTYPES[dtype], copy=False)
            for name, shape in weights.items()
        },
        input_structure=Structure(kind="tuple", items=(one,) * len(inputs)),
        output_structure=one,
    )


def _result_shape(operator: Operator, specs: dict[str, TensorSpec]) -> tuple[int, ...]:
    """Run the call on tensors without values and return the shape of its result."""
    import torch

    from edgeflow.graph.aten import call_overload, overload, symbol_value

    def resolve(value: Any) -> Any:
        if isinstance(value, TensorRef):
            return torch.empty(specs[value.name].shape, device="meta")
        return symbol_value(value) if isinstance(value, Symbol) else value

    result = call_overload(
        overload(operator.target), [(name, resolve(value)) for name, value in operator.arguments]
    )
    return tuple(result.shape)
