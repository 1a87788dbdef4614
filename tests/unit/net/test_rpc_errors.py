"""Our exceptions over the wire and back: none is forgotten, none changes."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from edgeflow import errors
from edgeflow.errors import (
    CodecError,
    DeadlineExceededError,
    EdgeflowError,
    InfeasiblePlanError,
    UnsupportedOperatorError,
    WorkerFailedError,
    WorkerUnreachableError,
)
from edgeflow.net.rpc_errors import (
    CLASS_KEY,
    ErrorDescription,
    abort,
    decode_description,
    describe,
    encode_description,
    from_rpc_error,
    rebuild,
    translated,
)
from edgeflow.net.statuses import STATUSES


def every_class(base: type[EdgeflowError] = EdgeflowError) -> list[type[EdgeflowError]]:
    return [base, *(cls for child in base.__subclasses__() for cls in every_class(child))]


OURS = [cls for cls in every_class() if cls.__module__ == errors.__name__]


def make(cls: type[EdgeflowError], message: str) -> EdgeflowError:
    if cls is InfeasiblePlanError:
        return cls(message, constraint="memory", required=5e9, available=4e9)
    if cls is UnsupportedOperatorError:
        return cls(message, operator="aten.fft.default")
    return cls(message)


class FakeContext:
    """What a servicer's context does with an error, and what a client then sees: an `RpcError`."""

    def __init__(self) -> None:
        self.metadata: tuple[Any, ...] = ()
        self.error: FakeRpcError | None = None

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.metadata = metadata

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.error = FakeRpcError(code, details, self.metadata)
        raise Exception  # as grpc does


class FakeRpcError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        super().__init__()
        self._parts = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> Any:
        return self._parts[2]


def over_the_wire(error: Exception) -> EdgeflowError:
    context: Any = FakeContext()
    with pytest.raises(Exception), translated(context):  # noqa: B017
        raise error
    return from_rpc_error(context.error, where="worker a:1")


@pytest.mark.parametrize("cls", OURS)
def test_every_class_has_a_status(cls: type[EdgeflowError]) -> None:
    assert cls in STATUSES


@pytest.mark.parametrize("cls", OURS)
def test_every_class_comes_back_as_itself(cls: type[EdgeflowError]) -> None:
    error = make(cls, "stage 3 needs 5,000 bytes – größer")
    back = over_the_wire(error)
    assert type(back) is cls
    assert str(back) == f"worker a:1: {error}"
    assert vars(back) == vars(error)
    assert vars(rebuild(decode_description(encode_description(describe(error))))) == vars(error)


def test_a_subclass_that_the_table_lacks_travels_as_its_base() -> None:
    class Special(CodecError):
        pass

    assert describe(Special("x")).name == "CodecError"


def test_foreign_exceptions_get_a_neutral_sentence(caplog: pytest.LogCaptureFixture) -> None:
    back = over_the_wire(ValueError("/home/me/secret"))
    assert type(back) is WorkerFailedError
    assert "secret" not in str(back)
    assert "secret" in caplog.text  # but the worker's log has it


def test_an_abort_within_passes_through() -> None:
    context: Any = FakeContext()
    with pytest.raises(Exception), translated(context):  # noqa: B017
        abort(context, CodecError("inner"))
    assert context.error.details() == "inner"


def test_long_sentences_are_cut() -> None:
    assert len(describe(CodecError("x" * 100_000)).message) == 2000


@pytest.mark.parametrize(
    ("code", "cls", "says"),
    [
        (
            grpc.StatusCode.UNAVAILABLE,
            WorkerUnreachableError,
            "worker a:1 cannot be reached after 2.5 s: gone",
        ),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError, "did not answer after 2.5 s"),
        (grpc.StatusCode.CANCELLED, WorkerUnreachableError, "cancelled"),
        (grpc.StatusCode.UNIMPLEMENTED, WorkerFailedError, "UNIMPLEMENTED: gone"),
    ],
)
def test_errors_of_grpc_itself(code: grpc.StatusCode, cls: type[EdgeflowError], says: str) -> None:
    error = from_rpc_error(FakeRpcError(code, "gone"), where="worker a:1", waited_s=2.5)
    assert type(error) is cls and says in str(error)


@pytest.mark.parametrize(
    "description",
    [
        ErrorDescription(name="SystemExit", message="m"),
        ErrorDescription(name="CodecError", message="m", fields={"unknown": 1}),
        ErrorDescription(name="InfeasiblePlanError", message="m"),
    ],
)
def test_what_cannot_be_rebuilt_is_a_failed_worker(description: ErrorDescription) -> None:
    error = rebuild(description)
    assert type(error) is WorkerFailedError and "m" in str(error) and description.name in str(error)


def test_hostile_metadata_and_notices() -> None:
    metadata = ((CLASS_KEY, "CodecError"), ("edgeflow-error-fields-bin", b"\xff{"))
    assert type(from_rpc_error(FakeRpcError(grpc.StatusCode.UNKNOWN, "x", metadata), where="w")) is CodecError
    for data in (b"", b"\xff", b"[]", b'{"name": 1, "message": "x"}'):
        with pytest.raises(CodecError, match="failure notice"):
            decode_description(data)
