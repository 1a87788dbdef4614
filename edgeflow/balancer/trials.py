"""Whether a plan that was switched to is as good as it was to be: what was measured has the last word.

Requests take longer where they wait for each other, and how many do is nothing that a plan can help: after a
slow-down the next plan has a queue to work off. So a plan is worse only if requests took longer by it and
each, without its waiting for others, too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from edgeflow.balancer.history import Answered
from edgeflow.plan.plan import Plan

#: Requests that one plan is compared with another by: the latest of the one before, of the new one the first
#: after those that found it cold.
_COMPARED: Final = 15
_COLD: Final = 3

#: A plan that takes so many times what the one before took is worse.
_WORSE: Final = 1.05

#: A plan that was worse is not tried again for so long, twice that the next time, and so on; unless a device
#: has changed by such a factor since.
_REFUSED_S: Final = 60.0
_MAX_REFUSED_S: Final = 3600.0
_CHANGED: Final = 1.25


class Worse(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was tried and took longer than the one before it.

    Attributes:
        before_s, after_s: Median seconds of a request with each of them.
        slowness: What was believed of devices when it was chosen.
    """

    before_s: float
    after_s: float
    slowness: Mapping[str, float]
    until_s: float
    refused_s: float


class _Trial(msgspec.Struct, frozen=True, kw_only=True):
    before: Plan
    took: Answered
    label: str
    slowness: Mapping[str, float]


class Trials:
    """Compares requests before and after each switch, and remembers what was worse."""

    def __init__(self) -> None:
        self._trial: _Trial | None = None
        self._worse: dict[str, Worse] = {}

    def begin(
        self, before: Plan, label: str, *, requests: Sequence[Answered], slowness: Mapping[str, float]
    ) -> None:
        """The plan called ``label`` takes the place of ``before``, which has answered ``requests``."""
        self._trial = None
        if len(requests) >= _COMPARED and before.objective == "latency":
            self._trial = _Trial(before=before, took=_usual(requests), label=label, slowness=dict(slowness))

    def end(self) -> None:
        """Whatever was tried is not any more."""
        self._trial = None

    def judge(self, requests: Sequence[Answered], now_s: float) -> tuple[Plan, Worse] | None:
        """Return the plan to go back to, and why, once it is clear that the present one is worse."""
        trial = self._trial
        if trial is None or len(requests) < _COLD + _COMPARED:
            return None
        self._trial = None
        before, after = trial.took, _usual(requests)
        if after.seconds <= _WORSE * before.seconds or after.own_s <= _WORSE * before.own_s:
            self._worse.pop(trial.label, None)
            return None
        known = self._worse.get(trial.label)
        refused_s = min(_MAX_REFUSED_S, 2 * known.refused_s) if known else _REFUSED_S
        worse = Worse(
            before_s=before.seconds,
            after_s=after.seconds,
            slowness=trial.slowness,
            until_s=now_s + refused_s,
            refused_s=refused_s,
        )
        self._worse[trial.label] = worse
        return trial.before, worse

    def num_refused(self, now_s: float) -> int:
        """How many plans are not to be tried again yet."""
        return sum(now_s < worse.until_s for worse in self._worse.values())

    def refused(self, label: str, slowness: Mapping[str, float], now_s: float) -> Worse | None:
        """Return why a plan is not to be tried again yet, if it is not."""
        worse = self._worse.get(label)
        if worse is None or now_s >= worse.until_s or _differs(slowness, worse.slowness):
            return None
        return worse


def _usual(requests: Sequence[Answered]) -> Answered:
    """Medians of the latest."""
    latest = list(requests)[-_COMPARED:]
    return Answered(
        seconds=statistics.median(item.seconds for item in latest),
        own_s=statistics.median(item.own_s for item in latest),
    )


def _differs(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether some device has changed against the others: a factor that all share is none of theirs."""
    names = sorted(a.keys() & b.keys())
    changes = [math.log(a[name] / b[name]) for name in names]
    if a.keys() != b.keys() or not changes:
        return a.keys() != b.keys()
    return max(changes) - min(changes) > math.log(_CHANGED)
