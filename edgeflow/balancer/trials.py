"""Judge a new plan by measured requests: return to the previous plan if the new one is worse.

Requests take longer while they wait for each other, and a new plan inherits the queue of a slow-down. So a
plan is worse only if requests took longer in total and also without the wait for the others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from edgeflow.balancer.history import Answered
from edgeflow.plan.plan import Plan

#: Compare this many requests: the latest of the previous plan, and of the new plan those after the first
#: `_COLD`.
_COMPARED: Final = 15
_COLD: Final = 3

#: A plan is worse if it takes more than this many times as long as the previous one.
_WORSE: Final = 1.05

#: A plan that was worse is refused for this long, doubled each further time; unless some device's slowness
#: has changed by the factor `_CHANGED` against the others.
_REFUSED_S: Final = 60.0
_MAX_REFUSED_S: Final = 3600.0
_CHANGED: Final = 1.25


class Worse(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was tried and took longer than the one before it.

    Attributes:
        before_s, after_s: Median seconds of a request, with the previous plan and with this one.
        slowness: Slowness of the devices when it was chosen.
        until_s: It is refused until then.
        refused_s: For how long it is refused.
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
    """Compares requests before and after each switch, and remembers the plans that were worse."""

    def __init__(self) -> None:
        self._trial: _Trial | None = None
        self._worse: dict[str, Worse] = {}

    def begin(
        self, before: Plan, label: str, *, requests: Sequence[Answered], slowness: Mapping[str, float]
    ) -> None:
        """Start a trial: the plan called ``label`` replaces ``before``, which has answered ``requests``."""
        self._trial = None
        if len(requests) >= _COMPARED and before.objective == "latency":
            self._trial = _Trial(before=before, took=_usual(requests), label=label, slowness=dict(slowness))

    def end(self) -> None:
        """End the trial without a verdict."""
        self._trial = None

    def judge(self, requests: Sequence[Answered], now_s: float) -> tuple[Plan, Worse] | None:
        """Return the previous plan and the figures, once the running plan has proved worse; else None."""
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
        """Return the number of plans refused at ``now_s``."""
        return sum(now_s < worse.until_s for worse in self._worse.values())

    def refused(self, label: str, slowness: Mapping[str, float], now_s: float) -> Worse | None:
        """Return why a plan is refused at ``now_s``; None if it is not."""
        worse = self._worse.get(label)
        if worse is None or now_s >= worse.until_s or _differs(slowness, worse.slowness):
            return None
        return worse


def _usual(requests: Sequence[Answered]) -> Answered:
    """Return the medians of the latest `_COMPARED` requests."""
    latest = list(requests)[-_COMPARED:]
    return Answered(
        seconds=statistics.median(item.seconds for item in latest),
        own_s=statistics.median(item.own_s for item in latest),
    )


def _differs(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Return whether some device has changed against the others; ignore a factor common to all devices."""
    names = sorted(a.keys() & b.keys())
    changes = [math.log(a[name] / b[name]) for name in names]
    if a.keys() != b.keys() or not changes:
        return a.keys() != b.keys()
    return max(changes) - min(changes) > math.log(_CHANGED)
