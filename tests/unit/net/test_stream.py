"""Frames out of a stream: the same frames however the bytes are cut, and nothing else gets in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.errors import CodecError
from edgeflow.graph.ir import Array
from edgeflow.net.stream import SCRATCH_BYTES, FrameReader
from edgeflow.net.wire import Frame, Header, Kind, byte_view, encode_header

LIMIT_BYTES = 1 << 18


def frame(array: Array, tag: int = 0) -> Frame:
    return Frame(kind=Kind.TENSOR, epoch=1, source=0, request_id=2, tag=tag, array=array)


def wire(item: Frame) -> bytes:
    return encode_header(item) + byte_view(item.array).tobytes()


def read(reader: FrameReader, data: bytes, *sizes: int) -> list[Frame]:
    """Feed ``data`` in pieces, as a socket would: at most ``sizes`` bytes each, in turn."""
    frames: list[Frame] = []
    rest = memoryview(data)
    for size in itertools.cycle(sizes):
        if not rest:
            break
        target = reader.target
        assert len(target) > 0
        count = min(size, len(target), len(rest))
        target[:count] = rest[:count]
        rest = rest[count:]
        frames += reader.filled(count)
    return frames


@given(
    st.lists(
        st.sampled_from([0, 1, 3, 1000, SCRATCH_BYTES // 4 - 12, SCRATCH_BYTES // 4, 40_000]), max_size=6
    ),
    st.lists(st.sampled_from([1, 2, 47, 48, 49, 4095]) | st.integers(1, 2 * SCRATCH_BYTES), max_size=8),
)
def test_frames_come_back_however_the_bytes_are_cut(sizes: list[int], cuts: list[int]) -> None:
    sent = [frame(np.arange(size, dtype=np.float32), tag) for tag, size in enumerate(sizes)]
    reader = FrameReader()
    got = read(reader, b"".join(map(wire, sent)), *cuts, 30_000)

    assert [item.tag for item in got] == list(range(len(sizes)))
    for before, after in zip(sent, got, strict=True):
        assert np.array_equal(before.array, after.array)
        assert after.array.flags.writeable
    assert not reader.is_mid_frame


@pytest.mark.parametrize("step", [1, 7, 41, SCRATCH_BYTES])
def test_every_cut_of_headers(step: int) -> None:
    sent = [frame(np.zeros((1, 2, 0)), 1), frame(np.float32(3.5).reshape(()), 2), frame(np.ones(5, bool), 3)]
    got = read(FrameReader(), b"".join(map(wire, sent)), step)
    assert [(item.tag, item.array.shape) for item in got] == [(1, (1, 2, 0)), (2, ()), (3, (5,))]
    assert got[1].array == 3.5


def test_a_frame_without_its_end_is_unfinished() -> None:
    for size in (10, 100_000):
        data = wire(frame(np.zeros(size, np.uint8)))
        for stop in (1, 45, len(data) - 1):
            reader = FrameReader()
            assert read(reader, data[:stop], 1 << 20) == [] and reader.is_mid_frame


def test_nothing_is_allocated_before_a_header_is_admitted() -> None:
    def admit(header: Header) -> None:
        raise CodecError("no")

    def allocate(shape: tuple[int, ...], dtype: object) -> Array:
        raise AssertionError("allocated")

    reader = FrameReader(admit=admit, allocate=allocate)
    with pytest.raises(CodecError, match="no"):
        read(reader, wire(frame(np.zeros(9))), 1 << 20)
    limited = FrameReader(max_payload_bytes=71, allocate=allocate)
    with pytest.raises(CodecError, match="72 bytes, the limit is 71"):
        read(limited, wire(frame(np.zeros(9))), 1 << 20)


def test_a_bool_that_is_none_is_refused_small_and_large() -> None:
    for size in (4, 2 * SCRATCH_BYTES):
        data = bytearray(wire(frame(np.ones(size, bool))))
        data[-1] = 2
        with pytest.raises(CodecError, match="bool"):
            read(FrameReader(), bytes(data), 1 << 20)


@settings(max_examples=300)
@given(st.data())
def test_broken_bytes_raise_codec_errors_and_nothing_else(data: st.DataObject) -> None:
    """A good stream with some bytes changed, inserted or dropped."""
    good = b"".join(wire(frame(np.arange(size, dtype=np.int16), size)) for size in (0, 5, 40_000))
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 140))
        match data.draw(st.sampled_from(["change", "insert", "drop"])):
            case "change":
                broken[at] = data.draw(st.integers(0, 255))
            case "insert":
                broken[at:at] = data.draw(st.binary(max_size=9))
            case "drop":
                del broken[at : at + data.draw(st.integers(1, 9))]
    try:
        got = read(FrameReader(max_payload_bytes=LIMIT_BYTES), bytes(broken), 1 << 14)
    except CodecError:
        return
    assert all(item.array.nbytes <= LIMIT_BYTES for item in got)
