"""Input intervals of sliding windows, one dim at a time, for convolutions and pools."""

from __future__ import annotations

from typing import NamedTuple

from edgeflow.sharding.cut import LocalScalar, Result, Slice, Step
from edgeflow.sharding.region import Interval
from edgeflow.sharding.rules.base import call


class Window(NamedTuple):
    """The input elements that a windowed operator reads along one dim, and the padding to add around them.

    Negative padding crops. It occurs only if all windows lie inside the padding: a slice must not be empty,
    so one element is read and cropped again.
    """

    interval: Interval
    before: int
    after: int

    @property
    def is_symmetric(self) -> bool:
        return self.before == self.after >= 0


def input_window(
    output: Interval, *, kernel: int, stride: int, padding: int, dilation: int, size: int
) -> Window:
    """Return the window that output elements ``[a, b)`` read along an input dim of ``size`` elements.

    It is ``[a*s - p, (b-1)*s - p + d*(k-1) + 1)``, clipped to the elements that exist. The clipped part
    becomes explicit padding, so zero padding is never transmitted.

    Raises:
        ValueError: If ``output`` is empty.

    Examples:
        >>> input_window(Interval(0, 4), kernel=3, stride=1, padding=1, dilation=1, size=8)
        Window(interval=Interval(start=0, stop=5), before=1, after=0)

    References:
        Zhao, Barijough, Gerstlauer, "DeepThings", IEEE TCAD 37(11), 2018 (there for odd kernels).
    """
    if output.length == 0:
        raise ValueError(f"no output elements in {output}")
    low = output.start * stride - padding
    high = (output.stop - 1) * stride - padding + dilation * (kernel - 1) + 1
    if high <= 0:
        return Window(Interval(0, 1), high - low, -1)
    if low >= size:
        return Window(Interval(size - 1, size), -1, high - low)
    return Window(Interval(max(low, 0), min(high, size)), before=max(0, -low), after=max(0, high - size))


def padded(
    source: Slice, windows: tuple[Window, ...], *, value: float | LocalScalar
) -> tuple[tuple[Step, ...], Slice | Result, tuple[int, ...]]:
    """Return (steps that pad, the padded operand, the padding left to the operator per dim).

    The operator itself pads dims with equal padding on both sides. Other padding takes an explicit step,
    which costs a copy.
    """
    own = tuple(window.before if window.is_symmetric else 0 for window in windows)
    explicit: list[LocalScalar] = []
    for window in reversed(windows):
        explicit += [0, 0] if window.is_symmetric else [window.before, window.after]
    if not any(explicit):
        return (), source, own
    return (
        (call("aten.constant_pad_nd.default", self=source, pad=tuple(explicit), value=value),),
        Result(0),
        own,
    )
