"""Several requests as one: a graph that takes them together, stacked along dim 0.

Shapes are fixed at capture, so a batch has a graph of its own, captured from example inputs that are repeated
(`edgeflow.graph.capture_batch`). Here: whether such a graph answers each request as the single one does, and
the way from requests to its inputs and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import Array, ModelGraph, Structure, TensorSpec

#: Largest difference, relative to an output's largest value, that sums in another order explain.
_TOLERANCE: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """A model that answers one request, and the same model for ``size`` of them.

    Attributes:
        size: Requests that one run answers.
        single: Takes and answers one request.
        graph: Takes ``size`` requests, each of its inputs and outputs ``size`` times as long in dim 0; to be
            planned and deployed. It answers with the flat tuple of its outputs, whatever the module returns.
    """

    size: int
    single: ModelGraph
    graph: ModelGraph


def check_size(size: int) -> None:
    """Check how many requests a batch is to hold.

    Raises:
        ConfigError: If that is none.
    """
    if size < 1:
        raise ConfigError(f"a batch holds at least 1 request, got {size}")


def make_batch(single: ModelGraph, graph: ModelGraph, *, size: int) -> Batch:
    """Return the batch of two graphs of one model.

    Raises:
        ConfigError: If ``size`` is none, or a tensor that goes in or comes out of ``graph`` is not the single
            one's, ``size`` times as long in dim 0; the message names all that are not.

    Notes:
        Shapes do not show whether requests are kept apart: tokens of a sequence that lies in dim 0 attend to
        those of the next one. See `check_apart`.
    """
    check_size(size)
    wrong = [
        *_unlike("input", single, single.inputs, graph, graph.inputs, size),
        *_unlike("output", single, single.outputs, graph, graph.outputs, size),
    ]
    if wrong:
        raise ConfigError(
            f"{single.name} cannot answer {size} requests as one, since dim 0 is not the requests': "
            f"{'; '.join(wrong)}"
        )
    flat = Structure(kind="tuple", items=(Structure(kind="tensor"),) * len(graph.outputs))
    return Batch(size=size, single=single, graph=replace(graph, output_structure=flat, unflatten=None))


def join(batch: Batch, requests: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the inputs of the batch's graph; the last request stands in for those that are missing.

    It, not zeros: it is known to be an input that the model takes.

    Args:
        requests: The inputs of each by the single graph's names; one to ``batch.size`` of them.
    """
    if not 1 <= len(requests) <= batch.size:
        raise ValueError(f"{len(requests)} requests for a batch of {batch.size}")
    padded = [*requests, *[requests[-1]] * (batch.size - len(requests))]
    return {
        theirs: np.concatenate([request[ours] for request in padded])
        for ours, theirs in zip(batch.single.inputs, batch.graph.inputs, strict=True)
    }


def split(batch: Batch, outputs: Sequence[Array], num_requests: int) -> list[dict[str, Array]]:
    """Return the outputs of each request, by the single graph's names, out of the batch's flat ones."""
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
    """Refuse a batch that answered some request otherwise than the single graph did.

    Args:
        name: Of the model.
        alone: Outputs of different requests, each run on its own.
        together: Outputs of the same requests, run as a batch.

    Raises:
        ConfigError: If an output is further away than float sums in another order are; the message names it.
    """
    for ours, theirs in zip(alone, together, strict=True):
        for key, expected in ours.items():
            if not _is_close(theirs[key], expected):
                raise ConfigError(
                    f"{name} does not keep requests apart: its output {key!r} is another one beside other "
                    "requests than alone, so dim 0 is not only the requests'"
                )


def _unlike(
    what: str, single: ModelGraph, ours: Sequence[str], graph: ModelGraph, theirs: Sequence[str], size: int
) -> list[str]:
    """What is not ``size`` times as long, in words."""
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
