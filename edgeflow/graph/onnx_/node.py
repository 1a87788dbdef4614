"""ONNX nodes, and the table of the functions that implement operators.

A function takes the `Node`, then its inputs in the order of the ONNX specification, None for an absent
optional input. It returns one tensor or a tuple of tensors::

    @onnx_op("Trilu", since=14, constants="k")
    def trilu(node: Node, x: Tensor, k: Array | None = None) -> Tensor: ...

It is called on ``meta`` tensors, to find shapes and constants, and again under ``torch.export``. So it may
use the shapes and dtypes of tensors but not their values. Inputs whose values it needs are named in
``constants`` and passed as numpy arrays.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from torch import Tensor

from edgeflow.errors import CodecError, UnsupportedOperatorError
from edgeflow.graph.ir import Array

#: The newest supported opset of the ``ai.onnx`` domain.
NEWEST_OPSET: Final = 28
#: Domain of the operators that ONNX Runtime writes when it saves an optimised model.
MICROSOFT: Final = "com.microsoft"
#: Most elements of a tensor that a function makes from a few numbers (1 GiB of int64), since a damaged or
#: malicious file may ask for any size.
_MAX_MADE: Final = 2**27

_T = TypeVar("_T")

Function = Callable[..., Tensor | tuple[Tensor | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of an ONNX graph.

    Attributes:
        op_type: The operator, for example ``Conv``.
        name: The name in the file; may be empty.
        domain: Domain of the operator; empty for the standard one.
        opset: The file's version of that domain.
        attributes: By name: int, float, str, tensor, subgraph, or a tuple of them.
        outputs: Names; empty for an output that is not read.
        known: Per input, whether its value does not depend on a request.
    """

    op_type: str
    name: str = ""
    domain: str = ""
    opset: int
    attributes: Mapping[str, Any]
    outputs: tuple[str, ...]
    known: tuple[bool, ...] = ()

    @property
    def where(self) -> str:
        """The node for messages: ``Conv '/stem/conv' (opset 17)``."""
        domain = f"{self.domain} " if self.domain else ""
        name = self.name or (self.outputs[0] if self.outputs else "")
        return f"{self.op_type} {name!r} ({domain}opset {self.opset})"

    def integer(self, key: str, default: int | None = None) -> int:
        """Return an int attribute; raise `CodecError` if it is missing without a default, or not an int.

        The other getters do the same for their types.
        """
        return self._typed(key, default, int, "an int")

    def real(self, key: str, default: float | None = None) -> float:
        return self._typed(key, default, float, "a float")

    def text(self, key: str, default: str | None = None) -> str:
        return self._typed(key, default, str, "a string")

    def tensor(self, key: str, default: Tensor | None = None) -> Tensor:
        return self._typed(key, default, Tensor, "a tensor")

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        return self._list(key, default, int, "ints")

    def reals(self, key: str, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        return self._list(key, default, float, "floats")

    def has(self, key: str) -> bool:
        return key in self.attributes

    def wants(self, index: int) -> bool:
        """Whether the output at an index is read."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def is_known(self, index: int) -> bool:
        return index < len(self.known) and self.known[index]

    def check_size(self, sizes: Iterable[int]) -> None:
        """Raise `UnsupportedOperatorError` if a tensor to be made is too large, before it is allocated."""
        shape = tuple(sizes)
        if math.prod(shape) > _MAX_MADE:
            raise self.unsupported(f"a constant of shape {shape}; at most {_MAX_MADE:,} elements are made")

    def unsupported(self, why: str) -> UnsupportedOperatorError:
        """Return the error for a node that torch cannot compute exactly, or that is not implemented."""
        return UnsupportedOperatorError(f"{self.where}: {why}", operator=self.name or self.op_type)

    def malformed(self, why: str) -> CodecError:
        """Return the error for a node that violates the ONNX specification."""
        return CodecError(f"{self.where}: {why}")

    def _typed(self, key: str, default: _T | None, kind: type[_T], words: str) -> _T:
        value = self.attributes.get(key, default)
        if value is None:
            raise self.malformed(f"the attribute {key!r} is missing")
        if not isinstance(value, kind):
            raise self.malformed(f"the attribute {key!r} should be {words}, not {type(value).__name__}")
        return value

    def _list(self, key: str, default: tuple[_T, ...] | None, kind: type[_T], words: str) -> tuple[_T, ...]:
        values: tuple[Any, ...] = self._typed(key, default, tuple, f"a list of {words}")
        if not all(isinstance(item, kind) for item in values):
            raise self.malformed(f"the attribute {key!r} should be a list of {words}, got {values}")
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The function that implements an operator from some opset on.

    Attributes:
        function: See the module's docstring.
        since: The first opset with these semantics.
        parameters: Names of its inputs, in order.
        num_required: Number of inputs that must be given.
        is_variadic: Whether it takes any number of further inputs.
        constants: Inputs that must not depend on a request; passed as arrays.
        if_known: Inputs that are passed as arrays if they do not depend on a request, else as tensors.
    """

    function: Function
    since: int
    parameters: tuple[str, ...]
    num_required: int
    is_variadic: bool
    constants: frozenset[str]
    if_known: frozenset[str]


_TABLE: dict[tuple[str, str], list[Operation]] = {}


def onnx_op(
    *op_types: str, since: int = 1, domain: str = "", constants: str = "", if_known: str = ""
) -> Callable[[Function], Function]:
    """Return a decorator that registers a function for operators; see the module's docstring.

    Args:
        op_types: The operators that the function implements.
        since: The first opset that it implements; functions with a smaller ``since`` implement earlier ones.
        domain: Domain of the operators.
        constants: Names of parameters, separated by blanks; see `Operation`.
        if_known: Names of parameters, separated by blanks; see `Operation`.
    """

    def register(function: Function) -> Function:
        given = list(inspect.signature(function).parameters.values())[1:]
        named = [item for item in given if item.kind is not inspect.Parameter.VAR_POSITIONAL]
        operation = Operation(
            function=function,
            since=since,
            parameters=tuple(item.name for item in named),
            num_required=sum(item.default is inspect.Parameter.empty for item in named),
            is_variadic=len(named) < len(given),
            constants=frozenset(constants.split()),
            if_known=frozenset(if_known.split()),
        )
        assert operation.constants | operation.if_known <= set(operation.parameters), function
        for op_type in op_types:
            versions = _TABLE.setdefault((domain, op_type), [])
            assert all(item.since != since for item in versions), f"two functions for {op_type} since {since}"
            versions.append(operation)
            versions.sort(key=lambda item: item.since)
        return function

    return register


def find(op_type: str, *, domain: str, opset: int) -> Operation | None:
    """Return the implementation of an operator in an opset, or None."""
    found = None
    for operation in _TABLE.get((domain, op_type), ()):
        if operation.since <= opset:
            found = operation
    return found


def operations() -> Iterator[tuple[str, str, Operation]]:
    """Yield (domain, operator, implementation) for every registered function, sorted."""
    for domain, op_type in sorted(_TABLE):
        for operation in _TABLE[domain, op_type]:
            yield domain, op_type, operation


def as_ints(array: Array) -> tuple[int, ...]:
    """Return the elements of an array as Python ints."""
    return tuple(int(value) for value in array.reshape(-1))
