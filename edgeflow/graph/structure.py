"""Between what callers hold (nested torch tensors or numpy arrays) and flat, named numpy arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph, Structure, TensorSpec

#: What may stand between tensors in a call's arguments.
_CONSTANTS: Final = (type(None), bool, int, float, str)


class Outputs(dict[str, Any]):
    """A mapping whose items are attributes too, and which a position indexes: a model's named outputs."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, int):
            return super().__getitem__(key)
        # A module may well name its outputs by numbers, in any order; the graph knows them as words.
        return super().__getitem__(str(key)) if str(key) in self else list(self.values())[key]


def to_array(value: Any) -> Array:
    """Return a torch tensor or array-like as numpy, without a copy where that is possible."""
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
    """Return a numpy array as a torch tensor that shares its memory where that is possible."""
    import torch

    if not array.flags.writeable:
        array = array.copy()
    if array.dtype == NUMPY_DTYPES["bfloat16"]:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def describe(value: Any, *, is_tensor: Any) -> Structure:
    """Return the structure of a nest of tuples, lists, mappings, tensors and constants."""
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
    """Return the graph's inputs by name out of a call's arguments.

    Raises:
        ConfigError: If the arguments do not nest as they did at capture, or a shape, dtype or constant
            differs; the message names the input and shows both.
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
    """Undo `flatten_inputs`: return positional and keyword arguments, as the module takes them."""
    args, kwargs = _build(graph.input_structure, iter([arrays[name] for name in graph.inputs]))
    return tuple(args), dict(kwargs)


def check_same_inputs(graph: ModelGraph, other: ModelGraph) -> None:
    """Refuse ``other`` unless each call of ``graph`` is the same call for it.

    Raises:
        ConfigError: If an input has another name, dtype or shape, or they nest otherwise in a call; the
            message shows what differs, of both.
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
    """A nest of inputs for people; alike for those that the same calls fit."""
    if structure.kind == "tensor":
        return next(names)
    if structure.kind == "const":
        return repr(structure.value)
    items = [_shown(item, names) for item in structure.items]
    if structure.kind == "dict":
        return f"{{{', '.join(f'{key!r}: {item}' for key, item in zip(structure.keys, items, strict=True))}}}"
    return f"({', '.join(items)})"


def unflatten_outputs(graph: ModelGraph, arrays: Mapping[str, Array]) -> Any:
    """Return what the module would return: torch tensors where torch is loaded, else numpy arrays."""
    convert = to_torch if "torch" in sys.modules else np.asarray
    # One tensor may be named twice, as an answer and inside another one; each gets its own object.
    flat = [convert(arrays[name]) for name in graph.outputs]
    if graph.unflatten is not None:
        return graph.unflatten(flat)
    leaves = iter(flat)
    return _build(graph.output_structure, leaves)


def _match(structure: Structure, value: Any, what: str) -> Iterator[Any]:
    if structure.kind == "tensor":
        yield value
    elif structure.kind == "const":
        # Only constants compare as one truth value; a tensor in their place must not be asked.
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
