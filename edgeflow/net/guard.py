"""Check the join token of every call to a gRPC server, before the call's first message is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import grpc

from edgeflow.errors import AccessDeniedError
from edgeflow.net.rpc_errors import abort
from edgeflow.net.security import TOKEN_KEY, Access

#: The health probe of an orchestrator, which has no token; it reveals only that the server is running.
HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"


class TokenGuard(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Refuses calls without the join token.

    Args:
        access: Holds the token; if it holds none, every call is admitted.
        open_methods: Full names of the methods that need no token, because they authenticate their callers
            in another way, or reveal nothing.
    """

    def __init__(self, access: Access, *, open_methods: Collection[str] = (HEALTH_CHECK,)) -> None:
        self._access = access
        self._open = frozenset(open_methods)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method in self._open:
            return continuation(handler_call_details)
        shown = [value for key, value in handler_call_details.invocation_metadata or () if key == TOKEN_KEY]
        # Several tokens in one call would let a caller try several guesses at once.
        if self._access.admits(shown[0] if len(shown) == 1 else None):
            return continuation(handler_call_details)
        return _REFUSAL


def _refuse(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    abort(context, AccessDeniedError("the join token is missing or wrong"))


#: A stream handler, also for unary methods: gRPC starts it before the first message has been received.
_REFUSAL: Final = grpc.stream_stream_rpc_method_handler(_refuse)
