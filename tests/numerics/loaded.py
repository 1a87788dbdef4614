"""Captured reference models, shared by the tests of one process: an export takes longer than most tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import edgeflow as ef
from edgeflow.graph.ir import ModelGraph
from edgeflow.testing import zoo

Loaded = tuple[ModelGraph, zoo.Example, dict[str, Tensor]]

#: Models of at most this many bytes of weights are kept; of larger ones only the last.
_MOST_BYTES: Final = 2**23
_kept: dict[str, Loaded] = {}


def loaded(name: str) -> Loaded:
    """Return a captured model, its module and inputs, and the module's own answer by name."""
    if name not in _kept:
        found = _load(name)
        if found[0].weight_bytes > _MOST_BYTES:
            return found
        _kept[name] = found
    return _kept[name]


@lru_cache(maxsize=1)
def _load(name: str) -> Loaded:
    if name.startswith("hf-"):
        pytest.importorskip("transformers")
    example = zoo.build(name)
    graph = ef.capture(example.module, example.args, kwargs=example.kwargs)
    with torch.no_grad():
        expected = dict(tensors_of(example.module(*example.args, **example.kwargs)))
    return graph, example, expected


def tensors_of(answer: Any, name: str = "answer") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an answer, named by their place in it."""
    if isinstance(answer, Tensor):
        yield name, answer
    elif hasattr(answer, "items"):
        for key, item in answer.items():
            yield from tensors_of(item, f"{name}.{key}")
    else:  # tuples, lists, and classes that torch can flatten, such as key-value caches
        leaves, _ = pytree.tree_flatten(answer)
        for index, item in enumerate(leaves):
            if isinstance(item, Tensor):
                yield f"{name}[{index}]", item
