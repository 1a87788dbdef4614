"""The frame format: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeflow.errors import CodecError
from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.net import wire
from edgeflow.net.wire import Decoder, Frame, Header, Kind
from tests.frames import sealed

#: The limit in the fuzz tests: what is larger must be refused before it is allocated.
FUZZ_LIMIT_BYTES = 1 << 16


def tensor_frame(array: Array, **fields: int) -> Frame:
    return Frame(
        kind=Kind.TENSOR, array=array, **{"epoch": 7, "source": 2, "request_id": 5, "tag": 3, **fields}
    )


def roundtrip(frame: Frame, chunk_bytes: int = wire.CHUNK_BYTES) -> Frame:
    decoder = Decoder()
    frames = [decoder.feed(message) for message in wire.encode(frame, chunk_bytes=chunk_bytes)]
    assert all(item is None for item in frames[:-1])
    assert frames[-1] is not None
    return frames[-1]


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (1, 3, 4, 5)])
def test_every_dtype_and_rank_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(math.prod(shape)) % 2).reshape(shape).astype(NUMPY_DTYPES[dtype])

    frame = roundtrip(tensor_frame(array))

    assert (frame.kind, frame.epoch, frame.source, frame.request_id, frame.tag) == (Kind.TENSOR, 7, 2, 5, 3)
    assert frame.array.dtype == array.dtype and frame.array.shape == shape
    assert np.array_equal(frame.array, array)
    assert frame.array.flags.writeable and frame.array.flags.owndata


def test_every_dtype_of_the_graph_has_a_code() -> None:
    assert set(wire._DTYPE_CODES) == set(NUMPY_DTYPES)
    assert len(set(wire._DTYPE_CODES.values())) == len(wire._DTYPE_CODES)


def test_header_bytes_are_golden() -> None:
    """Peers of another build read these bytes: a change of them needs a new protocol version."""
    frame = tensor_frame(np.array([[1.0, 2.0]], np.float32), epoch=1, source=-1, request_id=2, tag=9)
    expected = bytes.fromhex(
        "45464c57" + "03" + "02" + "01" + "02"  # magic, version, kind, dtype, ndim
        "0100000000000000" + "0200000000000000" + "09000000" + "ffffffff" + "0800000000000000"
        "b7f43471" + "13f01bf0"  # checksums of payload and header
        "0100000000000000" + "0200000000000000"  # shape
        "0000803f" + "00000040"
    )
    assert b"".join(wire.encode(frame)) == expected


@given(
    array=hnp.arrays(
        st.sampled_from(["f4", "i8", "u1"]), hnp.array_shapes(min_dims=0, max_dims=5, max_side=5)
    ),
    chunk_bytes=st.integers(1, 64),
    request_id=st.integers(0, 2**64 - 1),
    source=st.integers(-1, 2**31 - 1),
)
@settings(max_examples=100)
def test_any_chunking_comes_back(array: Array, chunk_bytes: int, request_id: int, source: int) -> None:
    frame = roundtrip(tensor_frame(array, request_id=request_id, source=source), chunk_bytes)
    assert frame.array.tobytes() == array.tobytes()
    assert (frame.request_id, frame.source) == (request_id, source)


def test_non_contiguous_arrays_are_packed() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[:, 1:4]
    assert np.array_equal(roundtrip(tensor_frame(array)).array, array)


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_noise_is_a_codec_error_or_a_frame(data: bytes) -> None:
    _feed(data)


def test_a_damaged_frame_is_a_codec_error_or_a_frame(rng: np.random.Generator) -> None:
    """Flip, cut and insert bytes: nothing but a `CodecError` comes out, and no large allocation is tried."""
    for _ in range(2000):
        array = np.arange(rng.integers(13), dtype=np.float32)
        message = bytearray(b"".join(wire.encode(tensor_frame(array))))
        for _ in range(rng.integers(1, 5)):
            position = int(rng.integers(max(1, len(message))))
            match ("flip", "cut", "insert")[rng.integers(3)]:
                case "flip" if message:
                    message[position] = rng.integers(256)
                case "cut":
                    del message[position:]
                case _:
                    message[position:position] = rng.bytes(int(rng.integers(1, 9)))
        _feed(bytes(message))


@given(position=st.integers(0, 8 * 95), count=st.integers(1, 32))
@settings(max_examples=500)
def test_flipped_bits_are_never_taken_for_a_tensor(position: int, count: int) -> None:
    """In the header for certain, which has a CRC-32; in the payload but for one in 4 billion."""
    message = bytearray(b"".join(wire.encode(tensor_frame(np.arange(8.0).reshape(2, 4).astype("f4")))))
    assert len(message) == 96
    for bit in range(position, min(position + count, 8 * len(message))):
        message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CodecError):
        wire.decode(bytes(message))


def _hostile(rng: np.random.Generator, low: int, high: int) -> int:
    """Return an extreme of a field's values, a small value, or any."""
    return (
        low,
        high,
        min(high, max(low, int(rng.integers(40)))),
        int(rng.integers(low, high, endpoint=True, dtype=np.int64 if low < 0 else np.uint64)),
    )[rng.integers(4)]


def test_headers_with_hostile_fields(rng: np.random.Generator) -> None:
    """Sealed by a checksum that holds; many have as many dims and bytes as they say, and so get furthest."""
    for _ in range(4000):
        shape = rng.choice(
            np.array([0, 1, 2, 2**31, 2**63, 2**64 - 1], np.uint64), rng.integers(1 + rng.choice([3, 20]))
        )
        kind, dtype = rng.integers(7), rng.integers(13)
        ndim = len(shape) if rng.random() < 0.5 else _hostile(rng, 0, 255)
        epoch, request_id, any_bytes = (_hostile(rng, 0, 2**64 - 1) for _ in range(3))
        of_shape = math.prod(shape.tolist()) * int(rng.choice([1, 2, 4, 8])) % 2**64
        num_bytes = of_shape if rng.random() < 0.7 else any_bytes
        tag, source = _hostile(rng, 0, 2**32 - 1), _hostile(rng, -(2**31), 2**31 - 1)
        fields = (kind, dtype, ndim, epoch, request_id, tag, source, num_bytes)
        fixed = struct.pack("<4sBBBBQQIiQQ", wire.MAGIC, wire.PROTOCOL_VERSION, *fields, 0)
        _feed(sealed(fixed + shape.astype("<u8").tobytes() + rng.bytes(int(rng.integers(33)))))


def _feed(data: bytes) -> None:
    try:
        frame = Decoder(max_payload_bytes=FUZZ_LIMIT_BYTES).feed(data)
    except CodecError:
        return
    except Exception as error:
        raise AssertionError(f"a foreign error of {data.hex()}") from error
    if frame is not None:
        assert frame.array.nbytes <= FUZZ_LIMIT_BYTES


def patched(offset: int, value: bytes, array: Array | None = None) -> bytes:
    message = bytearray(next(wire.encode(tensor_frame(np.zeros(2, np.float32) if array is None else array))))
    message[offset : offset + len(value)] = value
    return sealed(bytes(message))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "too few"),
        (patched(0, b"EFLX"), "magic"),
        (patched(4, b"\x01"), "protocol version 1"),
        (patched(5, b"\x09"), "unknown kind 9"),
        (patched(6, b"\x63"), "dtype code 99"),
        (patched(7, b"\x11"), "17 dims"),
        (patched(32, b"\x09"), "takes 8"),
        (patched(32, b"\x00\x00\x00\x00\x00\x01"), "the limit is"),
        (patched(5, b"\x04"), "not plain bytes"),
        (
            next(wire.encode(tensor_frame(np.zeros(2, np.float32)))) + b"x",
            "9 payload bytes, the header says 8",
        ),
        (next(wire.encode(tensor_frame(np.zeros(2, np.float32))))[:-1], "fewer than the header says"),
        (patched(56, b"\x02", np.array([True])), "neither 0 nor 1"),
    ],
)
def test_malformed_frames_say_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        wire.decode(data)


def test_a_huge_dim_beside_an_empty_one_is_refused() -> None:
    fixed = struct.pack("<4sBBBBQQIiQQ", wire.MAGIC, wire.PROTOCOL_VERSION, 2, 1, 2, 0, 0, 0, 0, 0, 0)
    with pytest.raises(CodecError, match="dim above"):
        wire.decode(sealed(fixed + struct.pack("<2Q", 0, 2**63)))


def test_admit_sees_the_header_before_the_payload_is_there() -> None:
    seen: list[Header] = []

    def refuse(header: Header) -> None:
        seen.append(header)
        raise CodecError("not expected")

    first = next(wire.encode(tensor_frame(np.zeros(100, np.float32)), chunk_bytes=4))
    with pytest.raises(CodecError, match="not expected"):
        Decoder(admit=refuse).feed(first)
    assert seen[0].shape == (100,) and seen[0].num_bytes == 400


def test_an_empty_message_in_mid_frame_is_malformed() -> None:
    decoder = Decoder()
    assert decoder.feed(next(wire.encode(tensor_frame(np.zeros(100)), chunk_bytes=4))) is None
    assert decoder.is_mid_frame
    with pytest.raises(CodecError, match="empty message"):
        decoder.feed(b"")


def test_a_dtype_without_a_code_cannot_be_sent() -> None:
    with pytest.raises(CodecError, match="complex64"):
        next(wire.encode(tensor_frame(np.zeros(1, np.complex64))))


def test_a_tag_that_does_not_fit_cannot_be_sent() -> None:
    with pytest.raises(CodecError, match="does not fit"):
        next(wire.encode(tensor_frame(np.zeros(1), tag=2**32)))
