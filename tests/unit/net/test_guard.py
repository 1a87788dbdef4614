"""The token guard: which calls reach their method, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc
import pytest

from edgeflow.net.guard import HEALTH_CHECK, TokenGuard
from edgeflow.net.security import TOKEN_KEY, Access

TOKEN = "the-token-of-this-cluster"
DESCRIBE = "/edgeflow.v1.Worker/Describe"


class Details(NamedTuple):
    method: str
    invocation_metadata: Sequence[tuple[str, str]] | None


class Aborted(Exception):
    pass


class Context:
    """Ends calls as gRPC does: by an exception."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None

    def set_trailing_metadata(self, metadata: object) -> None:
        pass

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code = code
        raise Aborted(details)


def handler_of(guard: TokenGuard, method: str, *metadata: tuple[str, str]) -> Any:
    """Return "reached" if the call goes through, else the handler that takes its place."""
    continued: Any = lambda details: "reached"  # noqa: E731
    details: Any = Details(method, metadata or None)
    return guard.intercept_service(continued, details)


def test_a_call_with_the_token_goes_through() -> None:
    guard = TokenGuard(Access(token=TOKEN))
    assert handler_of(guard, DESCRIBE, ("other", "x"), (TOKEN_KEY, TOKEN)) == "reached"


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("other", TOKEN)],
        [(TOKEN_KEY, TOKEN + "x")],
        [(TOKEN_KEY, "a-guess-of-sixteen"), (TOKEN_KEY, TOKEN)],
    ],
)
def test_other_calls_end_before_a_message_is_read(metadata: list[tuple[str, str]]) -> None:
    handler = handler_of(TokenGuard(Access(token=TOKEN)), DESCRIBE, *metadata)
    assert handler.request_streaming and handler.response_streaming
    context = Context()

    def messages() -> Any:
        raise AssertionError("a message was read")
        yield

    with pytest.raises(Aborted, match="join token is missing or wrong"):
        handler.stream_stream(messages(), context)
    assert context.code is grpc.StatusCode.UNAUTHENTICATED


def test_open_methods_and_clusters_without_a_token_ask_for_none() -> None:
    assert handler_of(TokenGuard(Access(token=TOKEN)), HEALTH_CHECK) == "reached"
    assert handler_of(TokenGuard(Access()), DESCRIBE) == "reached"
    closed = TokenGuard(Access(token=TOKEN), open_methods=())
    assert handler_of(closed, HEALTH_CHECK) != "reached"
