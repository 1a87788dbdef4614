"""What the MODEL argument means: a saved graph, a factory in a Python module, or a reference model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeflow.cli.screen import waiting
from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Structure, TensorSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with something to run it on.

    Attributes:
        name: As it was asked for.
        graph: Captured.
        args: Positional inputs of one request.
        kwargs: Keyword inputs of one request.
        reference: Returns what one device answers to them, without a plan: the module's own output or,
            for a saved graph, that of its operators one after the other.
    """

    name: str
    graph: ModelGraph
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reference: Callable[[], Any]


def load_subject(model: str, *, seed: int = 0) -> Subject:
    """Return the model that MODEL names, captured.

    Args:
        model: A path, ``package.module:factory``, or a name.
        seed: Of random inputs, for a saved graph.

    Raises:
        ConfigError: If it names nothing, or the factory fails or returns something else.
        GraphError: If the model cannot be captured.
    """
    if Path(model).exists():
        return _from_file(model, seed=seed)
    if ":" in model:
        return _captured(model, *_from_factory(model))
    return _captured(model, *_from_zoo(model))


def _from_zoo(name: str) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    from edgeflow.testing import zoo

    if name not in zoo.ZOO:
        what = f"there is no file {name!r}" if "/" in name or "." in name else f"no model is called {name!r}"
        raise ConfigError(
            f"{what}; give a saved graph, package.module:factory, or one of: {', '.join(sorted(zoo.ZOO))}"
        )
    with waiting(f"building {name}"):
        module, args, kwargs = zoo.build(name)
    return module, tuple(args), dict(kwargs)


def _from_factory(text: str) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    """Call ``package.module:factory``; modules of the current folder can be named, as with ``python -m``."""
    module_name, _, attribute = text.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"expected package.module:factory, got {text!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with waiting(f"building {text}"):
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
            made = factory()
        except EdgeflowError:
            raise
        except Exception as error:
            # Whatever the user's code raises is theirs to mend; the traceback is there with --debug.
            raise ConfigError(f"{text} failed: {type(error).__name__}: {error}") from error
    return _checked(made, text)


def _checked(made: object, text: str) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    import torch

    match made:
        case (torch.nn.Module() as module, tuple() as args):
            return module, args, {}
        case (torch.nn.Module() as module, tuple() as args, dict() as kwargs):
            return module, args, kwargs
    got = f"({', '.join(type(x).__name__ for x in made)})" if isinstance(made, tuple) else type(made).__name__
    raise ConfigError(
        f"{text} must return (module, args) or (module, args, kwargs) with a tuple of args; got {got}"
    )


def _captured(
    name: str, module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Subject:
    from edgeflow.graph.capture import capture

    with waiting(f"capturing {name}"):
        graph = capture(module, args, kwargs, name=name)

    def reference() -> Any:
        import torch

        module.eval()
        with torch.inference_mode():
            return module(*args, **kwargs)

    return Subject(name=name, graph=graph, args=args, kwargs=kwargs, reference=reference)


def _from_file(path: str, *, seed: int) -> Subject:
    from edgeflow.graph.file import load_graph

    with waiting(f"reading {path}"):
        graph = load_graph(path)
    args, kwargs = random_inputs(graph, seed=seed)
    return Subject(
        name=Path(path).stem,
        graph=graph,
        args=args,
        kwargs=kwargs,
        reference=lambda: run_graph(graph, args, kwargs),
    )


def run_graph(graph: ModelGraph, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run every operator of a graph whole, one after the other: the plainest way there is."""
    from edgeflow.graph.aten import evaluate
    from edgeflow.graph.structure import flatten_inputs, unflatten_outputs

    values = {**graph.weights, **flatten_inputs(graph, args, kwargs)}
    for op in graph.operators:
        values.update(zip(op.outputs, evaluate(op, values), strict=True))
    return unflatten_outputs(graph, values)


def random_inputs(graph: ModelGraph, *, seed: int) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return inputs of the right shapes: normal numbers where they are real, zeros where they are not.

    Integers may be indices, and zero is one that every table has.
    """
    rng = np.random.default_rng(seed)
    leaves = iter([_random(graph.specs[name], rng) for name in graph.inputs])

    def build(structure: Structure) -> Any:
        if structure.kind == "tensor":
            return next(leaves)
        if structure.kind == "const":
            return structure.value
        items = [build(item) for item in structure.items]
        if structure.kind == "dict":
            return dict(zip(structure.keys, items, strict=True))
        return tuple(items) if structure.kind == "tuple" else items

    args, kwargs = build(graph.input_structure)
    return tuple(args), kwargs


def _random(spec: TensorSpec, rng: np.random.Generator) -> Array:
    dtype = NUMPY_DTYPES[spec.dtype]
    if "float" in spec.dtype:
        return np.asarray(rng.standard_normal(spec.shape), dtype=dtype)
    if spec.dtype == "bool":
        return np.ones(spec.shape, dtype=dtype)
    return np.zeros(spec.shape, dtype=dtype)
