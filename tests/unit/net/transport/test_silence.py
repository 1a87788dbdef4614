"""A link is dead when an acknowledgement is due and none comes; the times are passed in."""

from __future__ import annotations

import socket
import time

import grpc
import pytest

from edgeflow.errors import LinkSilentError, WorkerUnreachableError
from edgeflow.net.transport.bytestream import PlainStream
from edgeflow.net.transport.grpc_ import _reason
from edgeflow.net.transport.silence import Heard, Silence

NEAR_S = 0.001


def due(ago_s: float, round_trip_s: float = NEAR_S) -> Heard:
    return Heard(is_due=True, ago_s=ago_s, round_trip_s=round_trip_s)


def idle(ago_s: float) -> Heard:
    return Heard(is_due=False, ago_s=ago_s, round_trip_s=NEAR_S)


def test_silence_is_counted_from_the_last_word_while_something_is_due() -> None:
    silence = Silence()
    assert silence.look(due(0.1), 10.0) is None
    assert silence.look(due(1.9), 11.8) is None
    assert silence.look(due(2.2), 12.1) == 12.1 - 10.0
    assert silence.look(due(0.05), 12.35) is None  # it is there after all


def test_what_is_sent_after_a_long_rest_has_all_the_time() -> None:
    silence = Silence()
    assert silence.look(idle(100.0), 10.0) is None
    assert silence.look(due(100.2), 10.2) is None
    assert silence.look(due(101.9), 11.9) is None
    assert silence.look(due(102.3), 12.3) is not None


def test_an_answer_between_two_looks_begins_anew() -> None:
    silence = Silence()
    for step in range(40):  # acknowledged a while ago, again and again, and never all of it
        assert silence.look(due(1.5), 10.0 + step) is None


def test_a_link_that_is_slow_by_itself_has_more_time() -> None:
    silence = Silence()
    assert silence.look(due(0.0, 1.5), 10.0) is None
    assert silence.look(due(4.0, 1.5), 14.0) is None
    assert silence.look(due(4.6, 1.5), 14.6) is not None


def test_a_system_that_cannot_say_it_never_accuses() -> None:
    silence = Silence()
    assert silence.look(due(0.0), 0.0) is None
    assert silence.look(None, 100.0) is None
    assert silence.look(due(100.0), 100.1) is None  # what came before is forgotten


def test_a_process_that_reads_nothing_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its system has no room for more, and says so as long as it is asked."""
    limit_s = 0.4
    monkeypatch.setattr("edgeflow.net.transport.silence.SILENT_S", limit_s)
    server = socket.create_server(("127.0.0.1", 0))
    connected = socket.create_connection(server.getsockname())
    other, _ = server.accept()
    stream, silence = PlainStream(connected), Silence()
    try:
        until_s = time.monotonic() + 2 * limit_s
        while time.monotonic() < until_s:
            while stream.send_now([memoryview(bytes(1 << 16))]):
                pass
            heard = stream.heard
            assert heard is not None and silence.look(heard, time.monotonic()) is None
            time.sleep(0.05)
        assert stream.num_unacknowledged > 0
    finally:
        for item in (connected, other, server):
            item.close()


class Ended(grpc.RpcError):
    """What gRPC raises on a stream that has ended."""

    def __init__(self, details: str) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("details", "is_silent"),
    [
        ("Stream removed (recvmsg:Connection timed out (110))", True),
        ("ping timeout", True),
        ("Stream removed (recvmsg:Connection reset by peer (104))", False),
        ("Socket closed", False),
    ],
)
def test_a_stream_that_ended_in_silence_is_told_from_one_that_was_closed(
    details: str, is_silent: bool
) -> None:
    error = _reason(Ended(details), "pi4:7000")
    assert isinstance(error, WorkerUnreachableError) and "pi4:7000" in str(error)
    assert isinstance(error, LinkSilentError) == is_silent
