"""Rate of encoding and decoding frames in bytes per second, without a network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from result import Result, median_s

from edgeflow.net.wire import Decoder, Frame, Kind, encode

SHAPES = ((1, 64, 1, 56), (1, 64, 28, 56), (1, 256, 112, 112))


def run(seed: int) -> Iterator[Result]:
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        array = rng.standard_normal(shape).astype(np.float32)
        frame = Frame(kind=Kind.TENSOR, epoch=1, source=0, request_id=1, tag=1, array=array)
        messages = list(encode(frame))
        encode_s = median_s(lambda frame=frame: list(encode(frame)), repeats=50)
        decode_s = median_s(lambda messages=messages: _decode(messages), repeats=50)
        yield Result(
            benchmark="wire",
            case="x".join(str(size) for size in shape),
            values={
                "num_bytes": float(array.nbytes),
                "encode_bytes_per_s": array.nbytes / encode_s,
                "decode_bytes_per_s": array.nbytes / decode_s,
                "both_us": (encode_s + decode_s) * 1e6,
            },
            settings={"dtype": "float32", "repeats": 50},
            seed=seed,
        )


def _decode(messages: list[bytes]) -> None:
    decoder = Decoder()
    for message in messages:
        decoder.feed(message)
