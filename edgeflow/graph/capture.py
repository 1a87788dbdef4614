"""Capture a PyTorch module as a `ModelGraph` with ``torch.export``; composite operators are not decomposed.

Steps: export and functionalise; translate every call, with arguments by name; run the passes of
`edgeflow.graph.passes`, which drop identities, fold BatchNorm into convolutions and evaluate operators that
depend on weights only.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import math
import re
import sys
import warnings
from collections import namedtuple
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from edgeflow.errors import GraphError, UnsupportedOperatorError
from edgeflow.graph.aten import evaluate
from edgeflow.graph.ir import (
    NUMPY_DTYPES,
    ModelGraph,
    Operator,
    Structure,
    Symbol,
    TensorRef,
    TensorSpec,
    Value,
)
from edgeflow.graph.passes import simplify
from edgeflow.graph.structure import describe, to_array
from edgeflow.graph.verify import verify_graph

_MUTATIONS = (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION, OutputKind.USER_INPUT_MUTATION)
_DROPPED = ("aten._assert", "aten.sym_", "aten._check", "aten.sym_constrain_range")


def capture(
    module: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str = "",
) -> ModelGraph:
    """Capture a module as a DAG of operators.

    Shapes are fixed to those of the example inputs. The module is exported in evaluation mode; its training
    mode is restored afterwards.

    Args:
        module: Any module that ``torch.export`` accepts.
        args: Example positional inputs; nested tensors and constants.
        kwargs: Example keyword inputs.
        name: Name for display; the class name by default.

    Raises:
        GraphError: If the module cannot be exported, mutates its buffers or inputs, draws random numbers, or
            uses a dtype or an argument that a graph cannot represent; the message quotes the cause.

    Examples:
        >>> import torch
        >>> graph = capture(torch.nn.Linear(4, 2), (torch.zeros(1, 4),))
        >>> [op.target for op in graph.operators]
        ['aten.linear.default']
    """
    if not isinstance(module, torch.nn.Module):
        raise GraphError(f"capture takes a torch.nn.Module, got {type(module).__name__}")
    if not isinstance(args, tuple):
        raise GraphError(f"capture takes example inputs as a tuple, got {type(args).__name__}; write (x,)")
    example_kwargs = dict(kwargs or {})
    _know_caches()
    program, nest = _export(module, args, example_kwargs)
    graph = _translate(program, nest, args, example_kwargs, name or type(module).__name__)
    graph = simplify(graph, evaluate=evaluate)
    _refuse_empty(graph)
    verify_graph(graph)
    return graph


def _know_caches() -> None:
    """Register the key-value caches that ``transformers`` models return, so that torch can flatten them."""
    if "transformers" in sys.modules:
        with contextlib.suppress(ImportError):  # other releases keep it elsewhere, or do not need it
            executorch = importlib.import_module("transformers.integrations.executorch")
            executorch.register_dynamic_cache_export_support()


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Return the exported program, and the torch ``TreeSpec`` of the module's return value."""
    said = io.StringIO()
    with _eval_mode(module), torch.no_grad(), warnings.catch_warnings(), _overheard(said):
        warnings.simplefilter("ignore")
        try:
            with _flat_answers(module) as nests:
                program = torch.export.export(module, args, kwargs, strict=False)
            # An empty table decomposes nothing and only functionalises: in-place operators become pure.
            program = program.run_decompositions({})
            return program, nests[-1] if nests else program.call_spec.out_spec
        except Exception as error:
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise GraphError(
                f"torch.export cannot capture {type(module).__name__}: {type(error).__name__}: "
                f"{first_line}{_source_line(said.getvalue())}"
            ) from error


@contextlib.contextmanager
def _flat_answers(module: torch.nn.Module) -> Iterator[list[Any]]:
    """Make the module return the flat leaves of its output; yield a list that collects their ``TreeSpec``.

    torch also traces how an output object is built, and some classes compute then: a key-value cache appends.
    A module with forward hooks is left alone, since hooks must see the original output.
    """
    nests: list[Any] = []
    if module._forward_hooks:
        yield nests
        return
    forward = module.forward

    @functools.wraps(forward)
    def flat(*args: Any, **kwargs: Any) -> list[Any]:
        leaves, nest = pytree.tree_flatten(forward(*args, **kwargs))
        nests.append(nest)
        return leaves

    had_its_own = "forward" in vars(module)
    module.forward = flat
    try:
        yield nests
    finally:
        if had_its_own:
            module.forward = forward
        else:
            del module.forward


@contextlib.contextmanager
def _overheard(said: io.StringIO) -> Iterator[None]:
    """Redirect what a failing export prints besides its error, and mute its logger of symbolic shapes."""
    chatty = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before, chatty.disabled = chatty.disabled, True
    try:
        with contextlib.redirect_stderr(said):
            yield
    finally:
        chatty.disabled = before


def _source_line(said: str) -> str:
    """Return the source line at which an export failed, found in what it printed; empty if unknown."""
    found = re.findall(r"# File: (.+:\d+) in .*?, code: (.+)", said)
    return f" (at {found[-1][0]}: {found[-1][1].strip()})" if found else ""


@contextlib.contextmanager
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


def _translate(
    program: Any, nest: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> ModelGraph:
    signature = program.graph_signature
    _refuse_mutation(signature)
    specs: dict[str, TensorSpec] = {}
    weights = {}
    inputs = []
    arrays: dict[int, Any] = {}
    for spec in signature.input_specs:
        argument = spec.arg
        if spec.kind == InputKind.USER_INPUT:
            if isinstance(argument, TensorArgument):
                inputs.append(argument.name)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            value = _stored(program, spec)
            # Tied weights are one tensor under several names; the graph keeps sharing their memory.
            weights[argument.name] = arrays.setdefault(id(value), to_array(value))
        else:
            raise GraphError(f"{name}: an input of kind {spec.kind} ({argument}) is not supported")
    operators: list[Operator] = []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor):
                specs[node.name] = _spec(value, node.name)
        elif node.op == "call_function":
            _add_operator(node, operators, specs)
        elif node.op == "get_attr":
            raise GraphError(f"{name}: submodule graphs ({node.target}) are not supported")
    outputs, output_structure = _outputs(nest, signature)
    used = {ref for op in operators for ref in op.inputs} | set(outputs)
    # An input that no remaining operator reads is still an input.
    weights = {key: value for key, value in weights.items() if key in used}
    return ModelGraph(
        name=name,
        operators=tuple(operators),
        specs={k: v for k, v in specs.items() if k in used or k in inputs or k not in signature.parameters},
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        weights=weights,
        input_structure=_input_structure(args, kwargs),
        output_structure=output_structure,
        unflatten=_unflattener(nest, signature),
    )


def _refuse_mutation(signature: Any) -> None:
    for spec in signature.output_specs:
        if spec.kind in _MUTATIONS:
            raise GraphError(
                f"the module changes {spec.target!r} while it runs; "
                "a graph must not keep state between requests"
            )


def _refuse_empty(graph: ModelGraph) -> None:
    """Refuse empty tensors that are left after the passes: they have no regions to cut."""
    for name, spec in graph.specs.items():
        if 0 in spec.shape:
            raise GraphError(f"tensor {name!r} has shape {spec.shape}: empty tensors are not supported")


def _stored(program: Any, spec: Any) -> torch.Tensor:
    if spec.kind == InputKind.CONSTANT_TENSOR or spec.target not in program.state_dict:
        value = program.constants[spec.target]
    else:
        value = program.state_dict[spec.target]
    assert isinstance(value, torch.Tensor)
    return value


def _spec(value: torch.Tensor, name: str) -> TensorSpec:
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in NUMPY_DTYPES:
        raise GraphError(f"tensor {name!r} has dtype {dtype}; supported: {', '.join(NUMPY_DTYPES)}")
    shape = tuple(value.shape)
    if not all(isinstance(size, int) for size in shape):
        raise GraphError(f"tensor {name!r} has the dynamic shape {shape}; export with static shapes")
    return TensorSpec(shape=shape, dtype=dtype)


def _add_operator(node: Any, operators: list[Operator], specs: dict[str, TensorSpec]) -> None:
    if getattr(node.target, "__name__", "") == "getitem":
        return  # handled with the operator whose output it selects
    target = str(node.target)
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        raise UnsupportedOperatorError(f"{node.name}: {target} is not an ATen operator", operator=node.name)
    if target.startswith(_DROPPED):
        return
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        outputs: tuple[str, ...] = (node.name,)
        specs[node.name] = _spec(value, node.name)
    elif isinstance(value, list | tuple):
        names = {user.args[1]: user.name for user in node.users if "getitem" in str(user.target)}
        outputs = tuple(names.get(index, "") for index in range(len(value)))
        for index, item in enumerate(value):
            if outputs[index]:
                specs[outputs[index]] = _spec(item, outputs[index])
    else:
        raise UnsupportedOperatorError(
            f"{node.name}: {target} returns {type(value).__name__}, not tensors", operator=node.name
        )
    if any(outputs):
        operators.append(Operator(name=node.name, target=target, arguments=_arguments(node), outputs=outputs))


def _arguments(node: Any) -> tuple[tuple[str, Value], ...]:
    """Return every argument by its name in the schema, defaults filled in."""
    schema = node.target._schema.arguments
    filled = []
    for index, argument in enumerate(schema):
        if index < len(node.args):
            value = node.args[index]
        elif argument.name in node.kwargs:
            value = node.kwargs[argument.name]
        else:
            value = argument.default_value
        filled.append((argument.name, _value(value, node.name)))
    return tuple(filled)


def _value(value: Any, where: str) -> Value:
    if isinstance(value, torch.fx.Node):
        return TensorRef(value.name)
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else Symbol("float", str(value))
    if isinstance(value, list | tuple):
        return tuple(_value(item, where) for item in value)  # type: ignore[misc]
    if isinstance(value, torch.dtype):
        return Symbol("dtype", str(value).removeprefix("torch."))
    if isinstance(value, torch.layout):
        return Symbol("layout", str(value).removeprefix("torch."))
    if isinstance(value, torch.memory_format):
        return Symbol("memory_format", str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return Symbol("device", "")
    raise UnsupportedOperatorError(
        f"{where}: an argument of type {type(value).__name__} cannot be captured", operator=where
    )


def _outputs(nest: Any, signature: Any) -> tuple[list[str], Structure]:
    leaves = _output_leaves(signature)
    tensors = [leaf.name for leaf in leaves if isinstance(leaf, TensorArgument)]
    return tensors, _output_structure(nest, iter(leaves))


def _output_leaves(signature: Any) -> list[Any]:
    leaves = [spec.arg for spec in signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    for leaf in leaves:
        if not isinstance(leaf, TensorArgument | ConstantArgument):
            raise GraphError(f"an output of type {type(leaf).__name__} is not supported")
    return leaves


def _output_structure(spec: Any, leaves: Iterator[Any]) -> Structure:
    """Return the `Structure` of a torch ``TreeSpec`` and its leaves."""
    if spec.is_leaf():
        leaf = next(leaves)
        return (
            Structure(kind="tensor")
            if isinstance(leaf, TensorArgument)
            else Structure(kind="const", value=leaf.value)
        )
    items = tuple(_output_structure(child, leaves) for child in spec.children())
    if isinstance(spec.type, type) and issubclass(spec.type, list | tuple):
        kind = "list" if issubclass(spec.type, list) else "tuple"
        return Structure(kind=kind, items=items, type_name=spec.type.__name__)
    if spec.type is namedtuple:
        return Structure(kind="tuple", items=items, type_name=spec.context.__name__)
    keys = _keys(spec)
    if keys is None:
        return Structure(kind="tuple", items=items, type_name=spec.type.__name__)
    return Structure(kind="dict", items=items, keys=keys, type_name=spec.type.__name__)


def _keys(spec: Any) -> tuple[str, ...] | None:
    """Return the keys of a mapping, from its context or a part of it; None for a class without keys."""
    parts = spec.context if isinstance(spec.context, list | tuple) else ()
    for part in (parts, *parts):
        fits = isinstance(part, list | tuple) and len(part) == spec.num_children
        if fits and (issubclass(spec.type, Mapping) or all(isinstance(key, str) for key in part)):
            return tuple(str(key) for key in part)
    return None


def _unflattener(nest: Any, signature: Any) -> Any:
    """Return a function from flat output tensors to the module's return type."""
    leaves = _output_leaves(signature)

    def unflatten(tensors: list[Any]) -> Any:
        supply = iter(tensors)
        flat = [next(supply) if isinstance(leaf, TensorArgument) else leaf.value for leaf in leaves]
        return pytree.tree_unflatten(flat, nest)

    return unflatten


def _input_structure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Structure:
    return Structure(
        kind="tuple",
        items=tuple(
            describe(value, is_tensor=lambda x: isinstance(x, torch.Tensor)) for value in (args, kwargs)
        ),
    )
