"""Runs one program for one request, without knowing where frames come from.

A generator: it yields the keys of the frames that it can go on with, is sent whichever arrives first, and
returns the outputs. The in-process executor and the ranks of a deployment drive the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

import numpy as np

from edgeflow.errors import CodecError
from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.kernels.base import Runnable
from edgeflow.net.stream import Allocate
from edgeflow.net.wire import Header
from edgeflow.plan.encoding import wire_spec
from edgeflow.plan.program import TOKEN, TOKEN_DTYPE, Assemble, Compute, Free, Program, Receive, Send
from edgeflow.plan.walk import Walk
from edgeflow.rank.encoding import decode, encode
from edgeflow.rank.schedule import FrameKey
from edgeflow.threads import SYSTEM, Threads

SendFunction = Callable[[Send, Array], None]
RecordFunction = Callable[[int, float, float], None]

#: A program under way: yields acceptable frames, receives whichever arrives first, returns the outputs.
Running = Generator[tuple[FrameKey, ...], tuple[FrameKey, Array], dict[str, Array]]

_TOKEN: Array = np.zeros(TOKEN.shape, NUMPY_DTYPES[TOKEN_DTYPE])
_NARROW = (NUMPY_DTYPES["float16"], NUMPY_DTYPES["bfloat16"])


def run(
    runnable: Runnable,
    program: Program,
    inputs: Mapping[str, Array],
    *,
    send: SendFunction,
    record: RecordFunction | None = None,
    speed: float = 1.0,
    empty: Allocate = np.empty,
    clock: Threads = SYSTEM,
) -> Running:
    """Run ``program``; see the module's docstring.

    Args:
        inputs: The client's tensors by name; empty for a device.
        send: Called with a contiguous array of the instruction's region; must not block.
        record: Called with the index of each instruction, its start and its stop, in seconds of ``clock``;
            a receive's time is the time waited.
        empty: Makes the arrays that parts are put together in.
        speed: Below 1, a slower device is emulated: a Compute is stretched to measured / speed.
        clock: What is measured and slept by.
    """
    buffers: dict[int, Array] = {buffer: inputs[name] for name, buffer in program.inputs}
    #: Frames that decided the way through the program; the walk comes to their receives next.
    chosen: dict[FrameKey, Array] = {}
    walk = Walk(program)
    brake = _Brake(speed, clock)
    now = clock.now
    while (step := walk.next()) is not None:
        if isinstance(step, Send):
            send(step, _TOKEN)
            continue
        if isinstance(step, tuple):
            by_key = {key: receive for receive in step for key in frame_keys(receive)}
            key, array = yield tuple(by_key)
            chosen[key] = array
            walk.choose(by_key[key])
            continue
        start = now()
        instruction = program.instructions[step]
        match instruction:
            case Receive():
                keys = frame_keys(instruction)
                known = next((key for key in keys if key in chosen), None)
                if known is not None:
                    payload = chosen.pop(known)
                else:
                    _, payload = yield keys
                buffers[instruction.buffer] = _decoded(instruction, payload)
                del payload
            case Send():
                send(instruction, _content(instruction, program, buffers))
            case Assemble():
                buffers[instruction.buffer] = assemble(instruction, program, buffers, empty=empty)
            case Compute():
                runnable.compute(step, buffers)
                if speed < 1:
                    brake.hold(now() - start)
            case Free():
                for buffer in instruction.buffers:
                    buffers.pop(buffer, None)
                continue
        if record is not None:
            record(step, start, now())
    return {name: buffers[buffer] for name, buffer in program.outputs}


class _Brake:
    """Makes work take longer by sleeping. A sleep that took too long shortens the next one."""

    def __init__(self, speed: float, clock: Threads) -> None:
        self._factor = 1 / speed - 1
        self._clock = clock
        self._owed_s = 0.0

    def hold(self, worked_s: float) -> None:
        self._owed_s += worked_s * self._factor
        if self._owed_s > 0:
            start_s = self._clock.now()
            self._clock.sleep(self._owed_s)
            self._owed_s -= self._clock.now() - start_s


def frame_keys(receive: Receive) -> tuple[FrameKey, ...]:
    """Return the frames that satisfy a receive: one from each rank that may send it."""
    return tuple(FrameKey(peer, receive.tag) for peer in receive.peers)


def receives_of(program: Program) -> dict[FrameKey, Receive]:
    """Return every frame that a program receives."""
    return {key: item for item in program.receives for key in frame_keys(item)}


def check_due(header: Header, expected: Receive) -> None:
    """Raise `CodecError` if a frame is not what a receive waits for."""
    shape, dtype = wire_spec(expected.region.shape, expected.dtype, expected.encoding)
    if header.dtype != dtype or header.shape != shape:
        raise CodecError(
            f"frame {header.tag} from rank {header.source} is {header.dtype}{list(header.shape)}, "
            f"not {dtype}{list(shape)}"
        )


def _content(instruction: Send, program: Program, buffers: Mapping[int, Array]) -> Array:
    if instruction.buffer < 0:
        return _TOKEN
    within = program.buffers[instruction.buffer].region
    # Not `ascontiguousarray`, which makes one dim out of none.
    content = np.asarray(buffers[instruction.buffer][instruction.region.slices(within)], order="C")
    return encode(content, instruction.encoding, instruction.tensor) if instruction.encoding else content


def _decoded(instruction: Receive, payload: Array) -> Array:
    if not instruction.encoding:
        return payload
    return decode(payload, instruction.encoding, instruction.region.shape)


def assemble(
    instruction: Assemble,
    program: Program,
    buffers: Mapping[int, Array],
    *,
    empty: Allocate = np.empty,
) -> Array:
    """Return the region that the parts make up: copied, or summed in order.

    Sums of 16-bit floats are taken in 32 bits and rounded once.
    """
    target = instruction.region
    dtype = NUMPY_DTYPES[instruction.dtype]
    parts = [
        (
            part.region.slices(target),
            buffers[part.buffer][part.region.slices(program.buffers[part.buffer].region)],
        )
        for part in instruction.parts
    ]
    if not instruction.is_sum:
        whole = empty(target.shape, dtype)
        for where, piece in parts:
            whole[where] = piece
        return whole
    wide = np.dtype(np.float32) if dtype in _NARROW else dtype
    total = empty(target.shape, wide)
    if len(parts) > 1 and all(piece.shape == target.shape for _, piece in parts):
        np.add(parts[0][1], parts[1][1], out=total, dtype=wide)
        rest = parts[2:]
    else:
        total.fill(0)
        rest = parts
    for where, piece in rest:
        total[where] += piece.astype(wide, copy=False)
    return total.astype(dtype, copy=False)
