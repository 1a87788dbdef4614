"""Hellos: written to a frame and read from one."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow.errors import CodecError
from edgeflow.net.transport.base import Hello
from edgeflow.net.wire import Decoder, Frame, Kind, encode


@pytest.mark.parametrize("hello", [Hello(0, -1), Hello(2**64 - 1, 7, bytes(range(64)))])
def test_a_hello_comes_back_over_the_wire(hello: Hello) -> None:
    (message,) = encode(hello.frame())
    assert Hello.of(Decoder().feed(message)) == hello


def test_other_frames_are_no_hello() -> None:
    cancel = Frame(kind=Kind.CANCEL, epoch=1, source=0, array=np.empty(0, np.uint8))
    with pytest.raises(CodecError, match="must begin with a hello, got CANCEL"):
        Hello.of(cancel)
    with pytest.raises(CodecError, match="got a part of a frame"):
        Hello.of(None)
