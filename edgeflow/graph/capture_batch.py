"""Capture a module for several requests at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.graph.aten import evaluate_graph
from edgeflow.graph.batch import Batch, check_apart, check_size, join, make_batch, split
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.graph.structure import flatten_inputs


def capture_batch(
    module: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    size: int,
    name: str = "",
    single: ModelGraph | None = None,
) -> Batch:
    """Capture a module for one request and for ``size`` requests at once.

    Args:
        args: Example positional inputs of one request, as for `capture`.
        kwargs: Example keyword inputs of one request.
        size: Number of requests in a batch.
        name: Name for display; the class name by default.
        single: The graph for one request, if it was captured before.

    Raises:
        ConfigError: If dim 0 of an input or an output does not grow with the number of requests, or the
            answer to one request depends on the others.
        GraphError: If the module cannot be captured.

    Examples:
        >>> batch = capture_batch(torch.nn.Linear(4, 2), (torch.zeros(1, 4),), size=8)
        >>> batch.graph.specs[batch.graph.outputs[0]].shape
        (8, 2)
    """
    check_size(size)
    if single is None:
        single = capture(module, args, kwargs, name=name)

    def repeated(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.ndim == 0:
            raise ConfigError(
                f"{single.name} cannot answer {size} requests as one: an input is a number "
                "and has no batch dim"
            )
        return value.repeat(size, *[1] * (value.ndim - 1))

    many = pytree.tree_map(repeated, (args, dict(kwargs or {})))
    return try_batch(
        single,
        lambda: capture(module, *many, name=single.name),
        size=size,
        example=flatten_inputs(single, args, kwargs),
    )


def try_batch(
    single: ModelGraph, capture_many: Callable[[], ModelGraph], *, size: int, example: Mapping[str, Array]
) -> Batch:
    """Return the batch of a model, checked on ``size`` different requests run alone and together.

    The check takes about as long as running 2 * ``size`` requests on this machine, operator by operator.

    Args:
        single: The graph for one request.
        capture_many: Captures the graph for ``size`` requests.
        example: Inputs of one request; the other requests are derived from it.

    Raises:
        ConfigError: If the batch cannot be captured or run, shapes do not fit, or answers differ.
    """
    try:
        graph = capture_many()
    except EdgeflowError as error:
        raise ConfigError(f"{single.name} cannot be captured for {size} requests at once: {error}") from error
    batch = make_batch(single, graph, size=size)
    requests = list(_different(example, size))
    try:
        alone = [evaluate_graph(single, request) for request in requests]
        outputs = evaluate_graph(batch.graph, join(batch, requests))
    except (IndexError, RuntimeError) as error:  # kernels raise these for values out of their range
        raise ConfigError(
            f"{single.name} could not be run on {size} different requests, to check that a batch keeps "
            f"them apart: {type(error).__name__}: {error}"
        ) from error
    check_apart(single.name, alone, split(batch, [outputs[name] for name in batch.graph.outputs], size))
    return batch


def _different(example: Mapping[str, Array], count: int) -> Iterator[dict[str, Array]]:
    rng = np.random.default_rng(0)
    yield dict(example)
    for _ in range(count - 1):
        yield {name: _varied(array, rng) for name, array in example.items()}


def _varied(array: Array, rng: np.random.Generator) -> Array:
    """Return another valid value for an input: its elements in another order.

    If all elements are equal: noise is added to floats; integers, which may be indices, become zeros and
    ones.
    """
    flat = array.reshape(-1)
    if flat.size > 1 and (flat != flat[0]).any():
        return rng.permutation(flat).reshape(array.shape)
    if array.dtype.kind in "biu":
        return rng.integers(0, 2, array.shape).astype(array.dtype)
    return (array.astype(np.float64) + rng.standard_normal(array.shape)).astype(array.dtype)
