"""Convert between nested torch tensors or arrays, as callers hold them, and flat, named numpy arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Structure, TensorSpec

#: Types of constants that are allowed beside tensors in a call's arguments.
_CONSTANTS: Final = (type(None), bool, int, float, str)


class Outputs(dict[str, Any]):
    """Named outputs of a model: a dict with items by key, by attribute and by position."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, int):
            return super().__getitem__(key)
        # A module may use numbers as keys, in any order; the graph stores keys as strings.
        return super().__getitem__(str(key)) if str(key) in self else list(self.values())[key]


def to_array(value: Any) -> Array:
    """Return a torch tensor or array-like as a numpy array, without a copy if possible."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.dtype == torch.bfloat16:
            bits: Array = value.contiguous().view(torch.int16).numpy()
            return bits.view(NUMPY_DTYPES["bfloat16"])
        array: Array = value.numpy()
        return array
    return np.asarray(value)


def to_torch(array: Array) -> Any:
    """Return a numpy array as a torch tensor; it shares memory unless the array is read-only."""
    import torch

    if not array.flags.writeable:
        array = array.copy()
    if array.dtype == NUMPY_DTYPES["bfloat16"]:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def describe(value: Any, *, is_tensor: Any) -> Structure:
    """Return the structure of nested tuples, lists, mappings, tensors and constants.

    Raises:
        ConfigError: If it holds anything else.
    """
    if is_tensor(value):
        return Structure(kind="tensor")
    if isinstance(value, Mapping):
        return Structure(
            kind="dict",
            items=tuple(describe(item, is_tensor=is_tensor) for item in value.values()),
            keys=tuple(str(key) for key in value),
            type_name=type(value).__name__,
        )
    if isinstance(value, tuple | list):
        return Structure(
            kind="tuple" if isinstance(value, tuple) else "list",
            items=tuple(describe(item, is_tensor=is_tensor) for item in value),
            type_name=type(value).__name__,
        )
    if isinstance(value, _CONSTANTS):
        return Structure(kind="const", value=value)
    raise ConfigError(
        f"cannot describe a {type(value).__name__}; use tensors, numbers, tuples, lists and dicts"
    )


def flatten_inputs(
    graph: ModelGraph, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> dict[str, Array]:
    """Return the graph's inputs by name, from the arguments of a call.

    Raises:
        ConfigError: If the nesting, a shape, a dtype or a constant differs from capture; the message names
            the input and shows both.
    """
    args_structure, kwargs_structure = graph.input_structure.items
    leaves = list(_match(args_structure, tuple(args), "argument"))
    leaves += _match(kwargs_structure, dict(kwargs or {}), "keyword argument")
    return {
        name: _checked(name, value, graph.specs[name])
        for name, value in zip(graph.inputs, leaves, strict=True)
    }


def unflatten_inputs(
    graph: ModelGraph, arrays: Mapping[str, Array]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return (args, kwargs) of the module from inputs by name; the inverse of `flatten_inputs`."""
    args, kwargs = _build(graph.input_structure, iter([arrays[name] for name in graph.inputs]))
    return tuple(args), dict(kwargs)


def check_same_inputs(graph: ModelGraph, other: ModelGraph) -> None:
    """Check that every call of ``graph`` is also a valid call of ``other``.

    Raises:
        ConfigError: If the name, dtype, shape or nesting of an input differs; the message shows both.
    """
    what = f"graph {other.name!r} takes other inputs than {graph.name!r}"
    ours, theirs = (
        {name: f"{each.specs[name].dtype} {each.specs[name].shape}" for name in each.inputs}
        for each in (graph, other)
    )
    differing = [
        f"{name!r} is {theirs.get(name, 'missing')}, was {ours.get(name, 'missing')}"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise ConfigError(f"{what}: {'; '.join(differing)}")
    before, after = (_shown(each.input_structure, iter(each.inputs)) for each in (graph, other))
    if before != after:
        raise ConfigError(f"{what}: they nest as {after}, were {before}")


def _shown(structure: Structure, names: Iterator[str]) -> str:
    """Return the nesting of inputs as text; equal texts accept the same calls."""
    if structure.kind == "tensor":
        return next(names)
    if structure.kind == "const":
        return repr(structure.value)
    items = [_shown(item, names) for item in structure.items]
    if structure.kind == "dict":
        return f"{{{', '.join(f'{key!r}: {item}' for key, item in zip(structure.keys, items, strict=True))}}}"
    return f"({', '.join(items)})"


def unflatten_outputs(graph: ModelGraph, arrays: Mapping[str, Array]) -> Any:
    """Return outputs nested as the module returns them: torch tensors if torch is loaded, else arrays."""
    convert = to_torch if "torch" in sys.modules else np.asarray
    # One tensor may appear twice among the outputs; each gets its own object.
    flat = [convert(arrays[name]) for name in graph.outputs]
    if graph.unflatten is not None:
        return graph.unflatten(flat)
    leaves = iter(flat)
    return _build(graph.output_structure, leaves)


def _match(structure: Structure, value: Any, what: str) -> Iterator[Any]:
    if structure.kind == "tensor":
        yield value
    elif structure.kind == "const":
        # Compare constants only: a tensor does not compare to a single bool.
        if not isinstance(value, _CONSTANTS) or value != structure.value:
            got = repr(value) if isinstance(value, _CONSTANTS) else f"a {type(value).__name__}"
            raise ConfigError(f"{what}: the graph was captured with {structure.value!r}, got {got}")
    elif structure.kind == "dict":
        given = {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else None
        if given is None or given.keys() != set(structure.keys):
            got = type(value).__name__ if given is None else str(sorted(given))
            raise ConfigError(f"{what}: expected the keys {sorted(structure.keys)}, got {got}")
        for key, item in zip(structure.keys, structure.items, strict=True):
            yield from _match(item, given[key], f"{what} {key!r}")
    else:
        if not isinstance(value, tuple | list) or len(value) != len(structure.items):
            got = str(len(value)) if isinstance(value, tuple | list) else type(value).__name__
            raise ConfigError(f"{what}: expected {len(structure.items)} items, got {got}")
        for index, (item, part) in enumerate(zip(structure.items, value, strict=True)):
            yield from _match(item, part, f"{what} {index}")


def _checked(name: str, value: Any, spec: TensorSpec) -> Array:
    try:
        array = to_array(value)
    except ValueError as error:  # a list of lists of unequal length
        raise ConfigError(f"input {name!r}: {type(value).__name__} is not a tensor: {error}") from error
    if array.shape != spec.shape:
        raise ConfigError(
            f"input {name!r}: the graph was captured for shape {spec.shape}, got {tuple(array.shape)}"
        )
    if array.dtype != NUMPY_DTYPES[spec.dtype]:
        raise ConfigError(f"input {name!r}: the graph was captured for {spec.dtype}, got {array.dtype}")
    return array


def _build(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure.kind == "tensor":
        return next(leaves)
    if structure.kind == "const":
        return structure.value
    items = [_build(item, leaves) for item in structure.items]
    if structure.kind == "dict":
        return Outputs(zip(structure.keys, items, strict=True))
    return tuple(items) if structure.kind == "tuple" else items
