"""Record a simulation: a timeline, and for a balancer the kinds of durations that a session measures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from edgeflow.balancer.observation import Observation
from edgeflow.cost.timeline import trace_event
from edgeflow.plan.program import CLIENT, Compute, Receive
from edgeflow.simulator.conditions import Conditions
from edgeflow.simulator.jobs import Flight, Job
from edgeflow.simulator.profile import TraceEndedError
from edgeflow.telemetry import TraceEvent

#: Seconds of a probe on a device at its usual speed; arbitrary, because only ratios of probes are used.
_PROBE_S: Final = 0.01


class Onlooker:
    """Records what all machines do.

    Observations of kernels have no families, because a scenario slows all families of a device alike.

    Args:
        observations: Durations are appended here, if given.
        events: Timeline events are appended here, if given.
    """

    def __init__(
        self,
        conditions: Conditions,
        *,
        observations: list[Observation] | None = None,
        events: list[TraceEvent] | None = None,
    ) -> None:
        self._conditions = conditions
        self._observations = observations
        self._events = events

    def ran(self, job: Job, index: int, seen: Sequence[tuple[Any, float, float]], now_s: float) -> None:
        """Record that a rank has run a block; ``seen`` holds each step with its start and end."""
        rank = job.way.script.ranks[index]
        for step, start_s, stop_s in seen:
            if isinstance(step.instruction, Compute):
                self._observe(
                    kind="compute",
                    device=self._name(rank),
                    stop_s=stop_s,
                    seconds=stop_s - start_s,
                    expected_s=step.seconds,
                )
            if self._events is not None:
                waited = isinstance(step.instruction, Receive)
                begin_s = job.since_s[index] if waited else start_s
                event = trace_event(rank, step.instruction, begin_s, stop_s, request=job.number)
                if event is not None:
                    self._events.append(event)
        job.since_s[index] = seen[-1][2] if seen else now_s

    def arrived(self, flight: Flight, now_s: float) -> None:
        """Record that a frame has arrived."""
        ranks = flight.job.way.script.ranks
        self._observe(
            kind="transfer",
            device=self._name(ranks[flight.frame.source]),
            peer=self._name(ranks[flight.frame.destination]),
            stop_s=now_s,
            seconds=now_s - flight.sent_s,
            expected_s=flight.frame.idle_s,
            num_bytes=flight.num_bytes,
        )

    def answered(self, job: Job, now_s: float) -> None:
        """Record that the client has the complete answer of an attempt that began at ``job.began_s``."""
        self._observe(
            kind="request",
            device=self._name(CLIENT),
            stop_s=now_s,
            seconds=now_s - job.began_s,
            expected_s=0.0,
        )

    def probe(self, rank: int, now_s: float) -> None:
        """Record a probe of an idle device; a device at speed 0 gives none."""
        profile = self._conditions.speed(rank)
        speed = 0.0
        with suppress(TraceEndedError):  # an error only if a request needs the device
            speed = 1.0 if profile is None else profile.factor(now_s)
        if speed > 0:
            self._observe(
                kind="probe",
                device=self._name(rank),
                stop_s=now_s,
                seconds=_PROBE_S / speed,
                expected_s=0.0,
            )

    def _observe(self, **what: Any) -> None:
        if self._observations is not None:
            self._observations.append(Observation(**what))

    def _name(self, rank: int) -> str:
        cluster = self._conditions.cluster
        return cluster.devices[rank if rank >= 0 else cluster.source_rank].name
