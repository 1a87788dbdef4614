"""What the client decides about requests on their epochs: events in, instructions out; no socket or clock.

It adds deadlines to a rank (`edgeflow.rank.state`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.errors import DeadlineExceededError
from edgeflow.machine import Machine, Word, recorded
from edgeflow.rank.events import DropRequest, RankEvent, RankInstruction, RequestLost
from edgeflow.rank.state import RankState


class Expected(Word, frozen=True):
    """A request is about to be submitted, and its answer is due at ``deadline_s``."""

    epoch: int
    request_id: int
    deadline_s: float
    now_s: float


class Tick(Word, frozen=True):
    """Time has passed."""

    now_s: float


@dataclass(frozen=True, slots=True)
class _Due:
    deadline_s: float
    since_s: float


class ClientState(Machine):
    """The requests of the client of one session."""

    def __init__(self) -> None:
        self._requests = RankState()
        self._due: dict[tuple[int, int], _Due] = {}

    @recorded
    def handle(self, event: RankEvent | Expected | Tick) -> list[RankInstruction]:
        """Take an event; return what to do.

        Raises:
            CodecError: If a worker has sent a frame that the program does not receive.
            EdgeflowError: On `Submitted`: why no request is taken.
        """
        match event:
            case Expected(epoch, request_id, deadline_s, now_s):
                self._due[epoch, request_id] = _Due(deadline_s, now_s)
                return []
            case Tick(now_s):
                instructions = self._expire(now_s)
            case _:
                instructions = self._requests.decide(event)
        for item in instructions:
            if isinstance(item, DropRequest):
                self._due.pop((item.epoch, item.request_id), None)
        return instructions

    @recorded
    def forget(self, epoch: int, request_id: int) -> None:
        """A request that was expected was not taken."""
        self._due.pop((epoch, request_id), None)

    def validate(self) -> None:
        self._requests.validate()

    def _expire(self, now_s: float) -> list[RankInstruction]:
        return [
            instruction
            for (epoch, request_id), due in sorted(self._due.items())
            if due.deadline_s <= now_s
            for instruction in self._requests.decide(
                RequestLost(epoch, request_id, self._late(epoch, request_id, now_s - due.since_s))
            )
        ]

    def _late(self, epoch: int, request_id: int, seconds: float) -> DeadlineExceededError:
        frames = sorted(self._requests.waits_for(epoch, request_id))
        named = " or ".join(f"frame {frame.tag} from rank {frame.peer}" for frame in frames)
        waiting = f"; it waits for {named}" if frames else ""
        return DeadlineExceededError(f"request {request_id} had no answer in {seconds:.1f} s{waiting}")
