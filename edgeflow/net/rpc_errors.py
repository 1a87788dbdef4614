"""Encode edgeflow's exceptions as gRPC status and metadata, and rebuild them on the other side.

An error crosses the wire as a status code, a message, and two trailing metadata entries: the name of the
class and its fields as JSON. The other side raises the same class with the same message. In the data plane,
which has no status, the same description is the payload of a failure or goodbye frame.

Every other exception becomes INTERNAL with a neutral message, because its text may hold paths and values that
the peer must not see.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import grpc
import msgspec

from edgeflow.errors import (
    CodecError,
    DeadlineExceededError,
    EdgeflowError,
    WorkerFailedError,
    WorkerUnreachableError,
)
from edgeflow.net.statuses import STATUSES, mapped_class

logger = logging.getLogger(__name__)

CLASS_KEY: Final = "edgeflow-error"
FIELDS_KEY: Final = "edgeflow-error-fields-bin"

#: Longer messages are cut: gRPC refuses more than 8 KiB of metadata, and the message counts as metadata.
MAX_MESSAGE_CHARS: Final = 2000

_NEUTRAL: Final = "internal error; see the worker's log"

_BY_NAME: Final = {cls.__name__: cls for cls in STATUSES}


class ErrorDescription(msgspec.Struct, frozen=True, kw_only=True):
    """An `EdgeflowError` as plain data."""

    name: str
    message: str
    fields: dict[str, None | bool | int | float | str] = {}


def describe(error: BaseException) -> ErrorDescription:
    """Return ``error`` as plain data; one that is no `EdgeflowError` gets a neutral message."""
    if not isinstance(error, EdgeflowError):
        return ErrorDescription(name=WorkerFailedError.__name__, message=_NEUTRAL)
    cls = mapped_class(type(error))
    fields = {
        key: value
        for key, value in vars(error).items()
        if not key.startswith("_") and isinstance(value, None | bool | int | float | str)
    }
    return ErrorDescription(name=cls.__name__, message=str(error)[:MAX_MESSAGE_CHARS], fields=fields)


def rebuild(description: ErrorDescription, *, where: str = "") -> EdgeflowError:
    """Return the error that ``description`` describes.

    An unknown class, or fields that the class does not take, make a `WorkerFailedError`.

    Args:
        where: The peer that sent it, put before the message: ``worker 10.0.0.2:7000 (rank 1)``.
    """
    message = f"{where}: {description.message}" if where else description.message
    cls = _BY_NAME.get(description.name)
    if cls is None:
        return WorkerFailedError(f"{message} ({description.name})")
    try:
        return cls(message, **description.fields)
    except TypeError:
        return WorkerFailedError(f"{message} ({description.name})")


def encode_description(description: ErrorDescription) -> bytes:
    return msgspec.json.encode(description)


def decode_description(data: bytes) -> ErrorDescription:
    """Return the description in ``data``.

    Raises:
        CodecError: If ``data`` is not the JSON of a description.
    """
    try:
        return msgspec.json.decode(data, type=ErrorDescription)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"failure notice: {error}") from error


def abort(context: grpc.ServicerContext, error: EdgeflowError) -> NoReturn:
    """End the call with the status of ``error``."""
    description = describe(error)
    context.set_trailing_metadata(
        (
            (CLASS_KEY, description.name),
            (FIELDS_KEY, msgspec.json.encode(description.fields)),
        )
    )
    context.abort(STATUSES[_BY_NAME[description.name]].grpc, description.message)


@contextlib.contextmanager
def translated(context: grpc.ServicerContext) -> Iterator[None]:
    """End the call with the status of any exception that the body raises."""
    try:
        yield
    except EdgeflowError as error:
        abort(context, error)
    except Exception as error:
        # The body may have called `abort`, which raises a bare Exception without a message.
        if type(error) is Exception and not error.args:
            raise
        logger.exception("rpc.failed")
        abort(context, WorkerFailedError(_NEUTRAL))


def from_rpc_error(error: grpc.RpcError, *, where: str, waited_s: float | None = None) -> EdgeflowError:
    """Return the `EdgeflowError` for a failed call.

    Args:
        where: The peer that was called, for the message.
        waited_s: How long the caller waited, for the message.
    """
    metadata: dict[str, str | bytes] = dict(_call(error, "trailing_metadata") or ())
    details = str(_call(error, "details") or "no details")
    name = metadata.get(CLASS_KEY)
    if isinstance(name, str):
        fields = _fields(metadata.get(FIELDS_KEY))
        return rebuild(ErrorDescription(name=name, message=details, fields=fields), where=where)
    code = _call(error, "code")
    waited = "" if waited_s is None else f" after {waited_s:.1f} s"
    if code is grpc.StatusCode.UNAVAILABLE:
        return WorkerUnreachableError(f"{where} cannot be reached{waited}: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError(f"{where} did not answer{waited}")
    if code is grpc.StatusCode.CANCELLED:
        return WorkerUnreachableError(f"{where}: the call was cancelled{waited}")
    return WorkerFailedError(f"{where} failed with {getattr(code, 'name', code)}: {details}")


def _call(error: grpc.RpcError, name: str) -> Any:
    method = getattr(error, name, None)
    return method() if callable(method) else None


def _fields(data: object) -> dict[str, None | bool | int | float | str]:
    if not isinstance(data, bytes):
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, None | bool | int | float | str])
    except msgspec.DecodeError:
        return {}
