"""Which worker, or which link, is to blame for an epoch that was lost or could not be opened."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from edgeflow.coordinator.epoch import Epoch
from edgeflow.coordinator.members import CLIENT_END, SetAside
from edgeflow.coordinator.watchers import Watchers
from edgeflow.errors import (
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerOutOfMemoryError,
    WorkerOverloadedError,
)
from edgeflow.plan import Plan
from edgeflow.threads import Threads

logger = logging.getLogger(__name__)

#: Time for which a worker is left alone that ran out of memory, or had none for a new plan.
_UNFIT_S: Final = 20.0


class Blame:
    """Finds culprits, and has the members of a session remember them.

    Attributes:
        reasons: Why another plan is needed, in words; cleared by the caller.
    """

    def __init__(self, watchers: Watchers, threads: Threads) -> None:
        self.reasons: list[str] = []
        self._watchers = watchers
        self._threads = threads
        #: Appended by other threads.
        self._news: deque[tuple[Epoch, int, EdgeflowError]] = deque()

    def tell(self, epoch: Epoch, rank: int, error: EdgeflowError) -> None:
        """Take note of a lost epoch; may be called from any thread."""
        self._news.append((epoch, rank, error))

    def judge(self) -> None:
        """Find the culprits of the epochs that were lost since the last call."""
        while self._news:
            epoch, rank, error = self._news.popleft()
            mine = epoch.device(rank)
            if isinstance(error, WorkerOutOfMemoryError):
                self._unfit(mine)
                self.reasons.append(f"{mine} ran out of memory")
            elif isinstance(error, PeerLostError) and error.rank >= 0:
                a, b = epoch.device(error.rank), epoch.device(error.peer)
                self._part(a, b, str(error), is_certain=error.is_silent)
            elif isinstance(error, StalePlanError):
                self.reasons.append(f"{mine} has forgotten the plan")
            else:
                self._part(mine, CLIENT_END, str(error))

    def of_roll_out(self, plan: Plan, error: EdgeflowError, blamed: str | None) -> None:
        """Find the culprit of a roll-out that failed.

        Args:
            blamed: Name of the device whose call failed first, if one did.
        """
        if isinstance(error, PeerLostError) and error.rank >= 0:
            devices = plan.cluster.devices
            a, b = devices[error.rank].name, devices[error.peer].name
            self._part(a, b, str(error), is_certain=True)  # the connection was tried anew just now
            return
        gone = self._watchers.suspect(plan.cluster.devices[rank].name for rank in plan.devices)
        if gone or blamed is None:
            return
        if isinstance(error, WorkerOverloadedError):
            self._unfit(blamed)
            self.reasons.append(f"{blamed} has no memory left")
        elif not isinstance(error, StalePlanError):
            self._part(blamed, CLIENT_END, str(error), is_certain=True)

    def _unfit(self, device: str) -> None:
        with self._watchers.lock:
            self._watchers.members.unfit(device, self._threads.now(), _UNFIT_S)

    def _part(self, a: str, b: str, reason: str, *, is_certain: bool = False) -> None:
        """Two ends have lost each other: find out whether one is gone, the link is, or one sends nonsense."""
        if self._watchers.suspect(name for name in (a, b) if name != CLIENT_END):
            return
        with self._watchers.lock:
            verdict = self._watchers.members.strike(a, b, self._threads.now(), is_certain=is_certain)
        logger.warning("link.lost", extra={"a": a, "b": b, "verdict": str(verdict), "reason": reason})
        if isinstance(verdict, SetAside):
            self.reasons.append(f"{verdict.device} answers, and others lose it again and again")
        elif b == CLIENT_END:
            self.reasons.append(f"the connection with {a} broke")
        else:
            self.reasons.append(f"{a} and {b} lost each other")
