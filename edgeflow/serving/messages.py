"""Decode HTTP requests and encode answers: JSON, optionally followed by raw tensors.

With the binary tensor extension, ``Inference-Header-Content-Length`` is the length of the JSON; the raw bytes
of the inputs that have a ``binary_data_size`` follow it, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.graph.ir import Array
from edgeflow.serving.tensors import (
    TensorInfo,
    check_input,
    from_raw,
    from_values,
    to_raw,
    to_values,
)

HEADER_LENGTH: Final = "inference-header-content-length"

Parameters = dict[str, Any]


class InputTensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: Any = None


class RequestedOutput(msgspec.Struct):
    name: str
    parameters: Parameters = {}


class InferRequest(msgspec.Struct):
    """The JSON of a request; unknown keys are ignored."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: Parameters = {}
    outputs: list[RequestedOutput] = []


class Request(NamedTuple):
    """A checked request: the inputs, the outputs to return, in order, and the names of those in raw bytes."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[TensorInfo, ...]
    binary: frozenset[str]
    timeout_s: float | None


def decode_request(
    body: bytes, header_length: str | None, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> Request:
    """Return the request in ``body``.

    Args:
        header_length: Value of ``Inference-Header-Content-Length``, if it was sent.
        inputs: Inputs of the model.
        outputs: Outputs of the model.

    Raises:
        ConfigError: If the request is malformed, or does not fit the model.
    """
    split = _header_length(header_length, len(body))
    try:
        request = msgspec.json.decode(body[:split], type=InferRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"request: {error}") from error
    return Request(
        id=request.id,
        inputs=_inputs(request.inputs, memoryview(body)[split:], inputs),
        outputs=choose_outputs([item.name for item in request.outputs], outputs),
        binary=_binary(request, outputs),
        timeout_s=timeout_of(request.parameters),
    )


def encode_answer(
    model: str, version: str, request: Request, arrays: Mapping[str, Array]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON if raw tensors follow, else None.

    Raises:
        ConfigError: If an output with a value that is not finite would have to be written as JSON.
    """
    raw: list[bytes] = []
    outputs = []
    for info in request.outputs:
        item: dict[str, Any] = {"name": info.name, "datatype": info.datatype, "shape": info.shape}
        if info.name in request.binary:
            raw.append(to_raw(arrays[info.name]))
            item["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            item["data"] = to_values(info, arrays[info.name])
        outputs.append(item)
    answer = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id:
        answer["id"] = request.id
    header = msgspec.json.encode(answer)
    return b"".join((header, *raw)), len(header) if raw else None


def choose_outputs(names: Sequence[str], outputs: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """Return the outputs called ``names``, each once; all outputs if ``names`` is empty.

    Raises:
        ConfigError: If the model has no output of that name.
    """
    by_name = {info.name: info for info in outputs}
    for name in names:
        if name not in by_name:
            raise ConfigError(f"there is no output {name[:80]!r}; there are: {', '.join(by_name)}")
    return tuple(by_name[name] for name in dict.fromkeys(names)) or tuple(outputs)


def check_names(given: Sequence[str], inputs: Sequence[TensorInfo]) -> None:
    """Raise `ConfigError` unless each input of the model is given exactly once."""
    expected = sorted(info.name for info in inputs)
    if sorted(given) != expected:
        shown = ", ".join(name[:80] for name in sorted(given)[: len(expected) + 3])
        raise ConfigError(f"the model takes the inputs {', '.join(expected)}; got {shown or 'none'}")


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """Return the request's time limit in seconds: the parameter ``timeout``, which is in microseconds.

    Returns:
        None if the parameter is absent or 0.

    Raises:
        ConfigError: If it is not a number of microseconds.
    """
    value = parameters.get("timeout")
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:18])
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"the parameter timeout must be a number of microseconds, got {value!r:.40}")
    return value / 1e6 if value else None


def max_body_bytes(inputs: Sequence[TensorInfo]) -> int:
    """Return the size limit of a request: 32 bytes per number as JSON, the raw bytes, and 1 MiB."""
    return (1 << 20) + sum(32 * info.num_elements + info.num_bytes for info in inputs)


def _header_length(text: str | None, num_bytes: int) -> int:
    if text is None:
        return num_bytes
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) > num_bytes:
        raise ConfigError(f"{HEADER_LENGTH}: {text[:40]!r} is not a length within {num_bytes:,} bytes")
    return int(text)


def _inputs(given: Sequence[InputTensor], raw: memoryview, inputs: Sequence[TensorInfo]) -> dict[str, Array]:
    check_names([item.name for item in given], inputs)
    by_name = {info.name: info for info in inputs}
    arrays: dict[str, Array] = {}
    start = 0
    for item in given:
        info = by_name[item.name]
        check_input(info, item.datatype, item.shape)
        size = item.parameters.get("binary_data_size")
        if size is None:
            arrays[item.name] = from_values(info, item.data)
            continue
        if item.data is not None:
            raise ConfigError(f"input {item.name!r} has both data and binary data")
        if type(size) is not int or not 0 <= size <= len(raw) - start:
            raise ConfigError(
                f"input {item.name!r}: binary_data_size {size!r:.40}, but {len(raw) - start:,} bytes are left"
            )
        arrays[item.name] = from_raw(info, raw[start : start + size])
        start += size
    if start != len(raw):
        raise ConfigError(f"{len(raw) - start:,} bytes of binary data belong to no input")
    return arrays


def _binary(request: InferRequest, outputs: Sequence[TensorInfo]) -> frozenset[str]:
    default = bool(request.parameters.get("binary_data_output", False))
    names = {info.name for info in outputs} if default and not request.outputs else set()
    names |= {item.name for item in request.outputs if item.parameters.get("binary_data", default)}
    return frozenset(names)
