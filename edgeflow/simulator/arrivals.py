"""Arrival times of requests: regular, random, recorded, or each on the answer to the previous one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.files import read_text
from edgeflow.units import parse_seconds

_EXAMPLES: Final = "closed:1, every:50 ms, poisson:20/s, trace:FILE"


class ClosedLoop(msgspec.Struct, frozen=True):
    """``in_flight`` clients; each sends its next request as soon as it has its answer."""

    in_flight: int = 1

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise ConfigError(f"requests in flight must be at least 1, got {self.in_flight}")


class Every(msgspec.Struct, frozen=True):
    """One request every ``interval_s`` seconds, the first at 0."""

    interval_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.interval_s < float("inf"):
            raise ConfigError(f"interval_s must not be negative, got {self.interval_s:g}")

    def times(self, requests: int) -> Iterator[float]:
        return (index * self.interval_s for index in range(requests))


class Poisson(msgspec.Struct, frozen=True):
    """Independent clients: exponential gaps with mean ``1 / rate_per_s``; equal seeds give equal gaps."""

    rate_per_s: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate_per_s < float("inf"):
            raise ConfigError(f"a rate of arrivals must be positive and finite, got {self.rate_per_s:g}/s")

    def times(self, requests: int) -> Iterator[float]:
        rng = Random(self.seed)
        return itertools.accumulate(rng.expovariate(self.rate_per_s) for _ in range(requests))


class Recorded(msgspec.Struct, frozen=True):
    """Arrivals at given times.

    Attributes:
        times_s: At least one, in seconds from the start, in order.
        name: Where they are from, for messages.
    """

    times_s: tuple[float, ...]
    name: str = "the trace of arrivals"

    def __post_init__(self) -> None:
        if not self.times_s:
            raise ConfigError(f"{self.name} is empty")
        for before, after in itertools.pairwise((0.0, *self.times_s)):
            if not before <= after < float("inf"):
                raise ConfigError(
                    f"{self.name}: times must not be negative and must not go back; {after:g} s follows "
                    f"{before:g} s"
                )

    def times(self, requests: int) -> Iterator[float]:
        """Return the first ``requests`` times.

        Raises:
            ConfigError: If there are fewer; the message says when the trace ends.
        """
        if requests > len(self.times_s):
            raise ConfigError(
                f"{self.name} ended at {self.times_s[-1]:g} s with request {len(self.times_s)}, "
                f"{requests} were asked for"
            )
        return iter(self.times_s[:requests])

    @staticmethod
    def load(path: str | Path) -> Recorded:
        """Read a file with one time per line, in seconds or with a unit; ``#`` begins a comment.

        Raises:
            ConfigError: If it cannot be read, or a line is not a time; the message names the line.
        """
        path = Path(path)
        lines = read_text(path, "the trace of arrivals").splitlines()
        texts = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
        times = tuple(parse_seconds(text, what=f"{path}:{number}") for number, text in texts if text)
        return Recorded(times, name=f"the trace of arrivals {path}")


Arrivals = ClosedLoop | Every | Poisson | Recorded


def parse_arrivals(text: str, *, seed: int = 0) -> Arrivals:
    """Parse arrivals such as ``poisson:20/s``.

    Args:
        text: ``closed:N``, ``every:DURATION``, ``poisson:N/s`` (or ``/min``, ``/h``), ``trace:FILE``.
        seed: Seed of random gaps.

    Raises:
        ConfigError: If ``text`` has none of these forms.

    Examples:
        >>> parse_arrivals("poisson:30/min")
        Poisson(rate_per_s=0.5, seed=0)
        >>> parse_arrivals("every:50 ms")
        Every(interval_s=0.05)
    """
    kind, _, value = (part.strip() for part in text.partition(":"))
    match kind:
        case "closed":
            if not (value or "1").isdecimal():
                raise ConfigError(f"arrivals {text!r}: expected closed:N with a number of requests")
            return ClosedLoop(int(value or "1"))
        case "every":
            return Every(parse_seconds(value, what=f"arrivals {text!r}"))
        case "poisson":
            count, _, unit = value.partition("/")
            period_s = parse_seconds(f"1 {unit.strip() or 's'}", what=f"arrivals {text!r}")
            try:
                return Poisson(float(count) / period_s, seed)
            except ConfigError:
                raise
            except ValueError as error:
                raise ConfigError(f"arrivals {text!r}: expected a rate such as poisson:20/s") from error
        case "trace":
            return Recorded.load(value)
    raise ConfigError(f"arrivals {text!r}: unknown kind {kind!r}; write for example {_EXAMPLES}")
