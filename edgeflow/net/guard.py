"""The join token at the door of a gRPC server: calls without it end before their message is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import grpc

from edgeflow.errors import AccessDeniedError
from edgeflow.net.rpc_errors import abort
from edgeflow.net.security import TOKEN_KEY, Access

#: What an orchestrator asks, which has no token; it says that the server serves, nothing else.
HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"


class TokenGuard(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Lets calls through that show the join token.

    Args:
        access: Holds the token; without one every call goes through.
        open_methods: Full names of methods that need no token: what has another way to know its callers, or
            says nothing.
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
        # Who shows several may be trying many at once.
        if self._access.admits(shown[0] if len(shown) == 1 else None):
            return continuation(handler_call_details)
        return _REFUSAL


def _refuse(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    abort(context, AccessDeniedError("the join token is missing or wrong"))


#: As a stream whatever the method is: a stream is answered before a message of it has been received.
_REFUSAL: Final = grpc.stream_stream_rpc_method_handler(_refuse)
