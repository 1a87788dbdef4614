"""Whole sessions without a socket, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import edgeflow as ef
from edgeflow.balancer import Planner, Rebalancer, Thresholds
from edgeflow.coordinator.members import Watch
from edgeflow.coordinator.session import Care, Session
from edgeflow.deploying import planner_like
from edgeflow.kernels import Executor, make_executor
from edgeflow.plan import Plan
from edgeflow.plan.program import Compute
from edgeflow.testing.memory_cluster import MemoryCluster, TimedExecutor
from edgeflow.testing.virtual import VirtualThreads
from tests.clusters import slow

#: The CoEdge strategy makes every device take part.
SPEEDS = (1.0, 0.6, 0.4)


def rows(graph: ef.ModelGraph, speeds: Sequence[float] = SPEEDS) -> Plan:
    """A plan in which every device takes part."""
    plan = ef.plan(graph, slow(speeds), strategy="coedge")
    assert len(plan.programs) == len(speeds) + 1
    return plan


class World:
    """A session on workers in memory.

    Args:
        seconds: Device -> how long each of its kernels takes; nothing by default.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        timeout_s: float = 60.0,
        planner: Planner | None = None,
        watch: Watch | None = None,
        is_balancing: bool = False,
        can_replace: bool = False,
        seconds: dict[str, float] | None = None,
        status_file: Path | None = None,
        **options: Any,
    ) -> None:
        self.threads = VirtualThreads()
        self.seconds = seconds or {}
        self.cluster = MemoryCluster(
            [device.name for device in plan.cluster.devices],
            folder,
            threads=self.threads,
            executor=self._executor,
            can_replace=can_replace,
        )
        care = None
        if planner is not None or is_balancing:
            care = Care(
                balancer=Rebalancer(Thresholds(), planner=planner or planner_like(plan)),
                watch=watch or Watch(),
                is_balancing=is_balancing,
                status_file=status_file,
            )
        self.session = Session(
            plan, self.cluster, network=self.cluster.network(), timeout_s=timeout_s, care=care, **options
        )

    def _executor(self, device: str) -> Executor:
        def seconds(compute: Compute) -> float:
            return self.seconds.get(device, 0.0)

        return TimedExecutor(make_executor("torch"), self.threads, seconds)

    def session_is_ready(self) -> bool:
        return self.session.is_ready

    def used(self) -> set[str]:
        """Devices of the plan that takes requests."""
        plan = self.session.plan
        return {plan.cluster.devices[rank].name for rank in plan.devices}

    def wait_until(self, condition: Callable[[], bool], *, within_s: float) -> float:
        """Let time pass until something is so; return how long that took."""
        started_s = self.threads.now()
        while not condition():
            assert self.threads.now() < started_s + within_s, f"not so within {within_s} virtual seconds"
            self.threads.sleep(0.05)
        return self.threads.now() - started_s

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.session.close()
        assert self.cluster.held_epochs == 0
