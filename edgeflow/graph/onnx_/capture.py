"""Capture an ONNX file as a `ModelGraph`."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from edgeflow.errors import ConfigError, GraphError
from edgeflow.graph.capture import capture
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.graph.onnx_.affine import fold_affine
from edgeflow.graph.onnx_.read import Input, read_file
from edgeflow.graph.onnx_.resolve import Resolved, resolve
from edgeflow.graph.passes import rename
from edgeflow.graph.verify import verify_graph

#: Limit for one input of one request.
_MAX_INPUT_BYTES: Final = 2**32


def capture_onnx(
    path: str | Path, *, name: str = "", input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> ModelGraph:
    """Capture an ONNX file.

    The graph takes the file's inputs by position, in the file's order and with the file's names. An input
    with a default value in the file becomes a constant. A model with one output returns a tensor, with
    several outputs a dict by name. Shapes are fixed; everything that the file computes from shapes is
    evaluated now.

    Args:
        path: The file. External weights must be in its folder.
        name: Name for display; the file name without suffix by default.
        input_shapes: Input name -> shape, for inputs with open dims.

    Raises:
        ConfigError: If there is no such file, the ``onnx`` package is not installed, or the shape of an
            input is open, names an unknown input, or contradicts the file. One message names all open inputs.
        CodecError: If the file is damaged or is not an ONNX model.
        UnsupportedOperatorError: If torch cannot compute an operator exactly, or it is not implemented; the
            message names the operator, the node and the opset.
        GraphError: If the model has a dtype or a value that a graph cannot represent, or evaluating it takes
            more memory than the size of its weights explains.

    Examples:
        >>> capture_onnx("model.onnx", input_shapes={"image": (1, 3, 224, 224)})  # doctest: +SKIP
        ModelGraph('model', 122 operators, 108 weights)
    """
    path = Path(path)
    file = read_file(path)
    shapes = bind_shapes(file.inputs, input_shapes or {}, where=path.name)
    _check_size(file.inputs, shapes, where=path.name)
    module = OnnxModule(resolve(file, shapes))
    examples = tuple(torch.zeros(shapes[item.name], dtype=item.dtype) for item in file.inputs)
    graph = fold_affine(capture(module, examples, name=name or path.stem))
    verify_graph(graph)
    return _with_names(graph, dict(zip(graph.inputs, (item.name for item in file.inputs), strict=True)))


class OnnxModule(nn.Module):
    """A resolved ONNX graph as a module: takes inputs by position, returns a tensor or a dict of tensors."""

    def __init__(self, resolved: Resolved) -> None:
        super().__init__()
        self.resolved = resolved
        self._buffer_names = _identifiers(resolved.known, taken=dir(self))
        for name, value in resolved.known.items():
            self.register_buffer(self._buffer_names[name], value)

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        values = dict(zip(self.resolved.inputs, inputs, strict=True))
        values |= {name: self.get_buffer(buffer) for name, buffer in self._buffer_names.items()}
        for call in self.resolved.calls:
            values |= {key: value for key, value in call.run(values).items() if key not in values}
        outputs = {name: values[key] for name, key in self.resolved.outputs.items()}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def bind_shapes(
    inputs: Iterable[Input], given: Mapping[str, tuple[int, ...]], *, where: str
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every input: the file's shape with open dims replaced by the given ones.

    Raises:
        ConfigError: If a dim is open and not given, or a given shape contradicts the file or names no input.

    Examples:
        >>> x = Input(name="x", shape=("batch", 3, 8, 8), dtype=torch.float32)
        >>> bind_shapes([x], {"x": (2, 3, 8, 8)}, where="model.onnx")
        {'x': (2, 3, 8, 8)}
    """
    inputs = list(inputs)
    unknown = sorted(set(given) - {item.name for item in inputs})
    if unknown:
        names = ", ".join(repr(item.name) for item in inputs)
        raise ConfigError(f"{where}: input_shapes names {', '.join(map(repr, unknown))}; its inputs: {names}")
    _refuse_open([item for item in inputs if item.name not in given], where)
    return {item.name: _bound(item, given.get(item.name), where) for item in inputs}


def _refuse_open(inputs: Iterable[Input], where: str) -> None:
    """Raise `ConfigError` if inputs have open dims; the message names all and shows how to give them."""
    found, calls, flags = [], [], []
    for item in inputs:
        if item.shape is None:
            found.append(f"input {item.name!r} has no shape in the file")
            sizes = ["..."]
        else:
            dims = [f"dim {dim} ({size!r})" for dim, size in enumerate(item.shape) if isinstance(size, str)]
            if not dims:
                continue
            found.append(f"input {item.name!r} of shape {_words(item.shape)} leaves {', '.join(dims)} open")
            sizes = ["?" if isinstance(size, str) else str(size) for size in item.shape]
        calls.append(f"{item.name!r}: ({', '.join(sizes)})")
        flags.append(f"--input-shape {shlex.quote(item.name + '=' + 'x'.join(sizes))}")
    if found:
        raise ConfigError(
            f"{where}: {'; '.join(found)}. Give numbers: input_shapes={{{', '.join(calls)}}}, "
            f"on the command line {' '.join(flags)}"
        )


def _bound(item: Input, given: tuple[int, ...] | None, where: str) -> tuple[int, ...]:
    who = f"{where}: input {item.name!r}"
    if given is None:
        assert item.shape is not None, "open inputs are refused before"
        return tuple(int(size) for size in item.shape)
    if not all(isinstance(size, int) and size > 0 for size in given):
        raise ConfigError(f"{who}: input_shapes gives {given}; sizes are positive ints")
    if item.shape is not None:
        fits = len(given) == len(item.shape) and all(
            isinstance(size, str) or size == mine for size, mine in zip(item.shape, given, strict=True)
        )
        if not fits:
            raise ConfigError(f"{who} has the shape {_words(item.shape)}, input_shapes gives {tuple(given)}")
    return tuple(given)


def _check_size(inputs: Iterable[Input], shapes: Mapping[str, tuple[int, ...]], *, where: str) -> None:
    """Raise `GraphError` if an input is too large, before an example of it is allocated."""
    for item in inputs:
        num_bytes = math.prod(shapes[item.name]) * item.dtype.itemsize
        if num_bytes > _MAX_INPUT_BYTES:
            raise GraphError(
                f"{where}: input {item.name!r} of shape {shapes[item.name]} has {num_bytes:,} bytes; "
                f"at most {_MAX_INPUT_BYTES:,} are supported"
            )


def _words(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _identifiers(names: Iterable[str], *, taken: Iterable[str]) -> dict[str, str]:
    """Return a distinct attribute name for each name: ``layer1.0.weight`` -> ``layer1_0_weight``."""
    used = set(taken)
    found = {}
    for name in names:
        base = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "tensor"
        identifier, number = base, 1
        while identifier in used:
            number += 1
            identifier = f"{base}_{number}"
        used.add(identifier)
        found[name] = identifier
    return found


def _with_names(graph: ModelGraph, names: Mapping[str, str]) -> ModelGraph:
    """Return the graph with some tensors renamed; other tensors that have these names get new ones."""
    names = dict(names)
    for name in set(names.values()) & (graph.specs.keys() - names.keys()):
        other = name
        while other in graph.specs or other in names.values():
            other += "_"
        names[name] = other

    def new(name: str) -> str:
        return names.get(name, name)

    operators = tuple(
        Operator(
            name=op.name,
            target=op.target,
            arguments=rename(op, names).arguments,
            outputs=tuple(new(output) for output in op.outputs),
        )
        for op in graph.operators
    )
    return replace(
        graph,
        operators=operators,
        specs={new(name): spec for name, spec in graph.specs.items()},
        weights={new(name): value for name, value in graph.weights.items()},
        inputs=tuple(new(name) for name in graph.inputs),
        outputs=tuple(new(name) for name in graph.outputs),
    )
