"""Batches: a graph that answers several requests at once, stacked along dim 0.

Shapes are fixed at capture, so a batch needs a separate graph, captured from repeated example inputs
(`edgeflow.graph.capture_batch`). This module checks that such a graph answers each request as the single
graph does, stacks requests into its inputs, and splits its outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import Array, ModelGraph, Structure, TensorSpec

#: Largest difference, relative to an output's largest value, that another order of summation explains.
_TOLERANCE: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The graph of a model for one request, and the graph of the same model for ``size`` requests.

    Attributes:
        size: Number of requests that one run answers.
        single: The graph for one request.
        graph: The graph for ``size`` requests, to be planned and deployed. Inputs and outputs are ``size``
            times as long in dim 0. It returns a flat tuple of outputs, whatever the module returns.
    """

    size: int
    single: ModelGraph
    graph: ModelGraph


def check_size(size: int) -> None:
    """Check the number of requests of a batch.

    Raises:
        ConfigError: If ``size`` is less than 1.
    """
    if size < 1:
        raise ConfigError(f"a batch holds at least 1 request, got {size}")


def make_batch(single: ModelGraph, graph: ModelGraph, *, size: int) -> Batch:
    """Return the batch made of two graphs of one model.

    Raises:
        ConfigError: If ``size`` is less than 1, or an input or output of ``graph`` is not that of
            ``single``, ``size`` times as long in dim 0. The message names all such tensors.

    Notes:
        Shapes do not prove that requests are independent: if dim 0 is a sequence, tokens of one request
        attend to those of the next. See `check_apart`.
    """
    check_size(size)
    wrong = [
        *_unlike("input", single, single.inputs, graph, graph.inputs, size),
        *_unlike("output", single, single.outputs, graph, graph.outputs, size),
    ]
    if wrong:
        raise ConfigError(
            f"{single.name} cannot answer {size} requests as one, since dim 0 is not the batch dim: "
            f"{'; '.join(wrong)}"
        )
    flat = Structure(kind="tuple", items=(Structure(kind="tensor"),) * len(graph.outputs))
    return Batch(size=size, single=single, graph=replace(graph, output_structure=flat, unflatten=None))


def join(batch: Batch, requests: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the inputs of the batch graph.

    Missing requests are filled with copies of the last one rather than zeros, since the model is known to
    accept it.

    Args:
        requests: Inputs of each request, by the single graph's names; 1 to ``batch.size`` requests.

    Raises:
        ValueError: If there is no request, or more than ``batch.size``.
    """
    if not 1 <= len(requests) <= batch.size:
        raise ValueError(f"{len(requests)} requests for a batch of {batch.size}")
    padded = [*requests, *[requests[-1]] * (batch.size - len(requests))]
    return {
        theirs: np.concatenate([request[ours] for request in padded])
        for ours, theirs in zip(batch.single.inputs, batch.graph.inputs, strict=True)
    }


def split(batch: Batch, outputs: Sequence[Array], num_requests: int) -> list[dict[str, Array]]:
    """Return the outputs of each request, by the single graph's names, from the batch's flat outputs."""
    lengths = [batch.single.specs[name].shape[0] for name in batch.single.outputs]
    return [
        {
            name: array[index * length : (index + 1) * length]
            for name, array, length in zip(batch.single.outputs, outputs, lengths, strict=True)
        }
        for index in range(num_requests)
    ]


def check_apart(
    name: str, alone: Iterable[Mapping[str, Array]], together: Iterable[Mapping[str, Array]]
) -> None:
    """Check that a batch answered each request as the single graph did.

    Args:
        name: Name of the model.
        alone: Outputs of different requests, each run separately.
        together: Outputs of the same requests, run as one batch.

    Raises:
        ConfigError: If an output differs by more than another order of summation explains; the message names
            it.
    """
    for ours, theirs in zip(alone, together, strict=True):
        for key, expected in ours.items():
            if not _is_close(theirs[key], expected):
                raise ConfigError(
                    f"{name} does not keep requests apart: its output {key!r} differs between a request run "
                    "alone and in a batch, so dim 0 is not only the batch dim"
                )


def _unlike(
    what: str, single: ModelGraph, ours: Sequence[str], graph: ModelGraph, theirs: Sequence[str], size: int
) -> list[str]:
    """Return one message per tensor that is not ``size`` times as long."""
    if len(ours) != len(theirs):
        return [f"it has {len(ours)} {what}s for one request and {len(theirs)} for {size}"]
    pairs = [(name, single.specs[name], graph.specs[other]) for name, other in zip(ours, theirs, strict=True)]
    return [
        f"{what} {name!r} is {_words(one)} for one request and {_words(many)} for {size}"
        for name, one, many in pairs
        if not _is_repeated(one, many, size)
    ]


def _is_repeated(one: TensorSpec, many: TensorSpec, size: int) -> bool:
    return one.dtype == many.dtype and bool(one.shape) and many.shape == (size * one.shape[0], *one.shape[1:])


def _is_close(array: Array, expected: Array) -> bool:
    a, b = array.astype(np.float64), expected.astype(np.float64)
    largest = float(np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
    return np.allclose(a, b, rtol=0.0, atol=_TOLERANCE * largest, equal_nan=True)


def _words(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"
