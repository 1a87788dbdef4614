"""The rows of edgeflow: a session in one process, and its workers."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import edgeflow as ef
from edgeflow.bench.machine import pin, pinned
from edgeflow.bench.results import RankTime
from edgeflow.bench.rows import NETWORKS
from edgeflow.bench.subject import Job
from edgeflow.bench.where_time_goes import rank_times
from edgeflow.coordinator import deploy
from edgeflow.errors import ConfigError
from edgeflow.kernels import AUTO
from edgeflow.telemetry.trace import only_request, requests
from edgeflow.testing import zoo
from edgeflow.testing.netns import NetnsCluster


class Edgeflow:
    """A plan on workers, each pinned to a core.

    Slower devices are emulated: on the loopback interface by the workers' ``--speed``, in network namespaces
        by the
    quota of a control group.
    """

    def __init__(self, job: Job, rank: int) -> None:
        rate = NETWORKS[job.row.network].rate
        if rate and job.executor != AUTO:
            raise ConfigError(f"workers in namespaces run {AUTO!r}, not {job.executor!r}")
        plan = ef.Plan.load(job.plan, ef.load_graph(job.graph))
        example = zoo.build(job.model)
        self._args, self._kwargs = example.args, dict[str, Any](example.kwargs)
        self._held = contextlib.ExitStack()
        with self._held as held:
            if rate:
                with pinned(sorted(set(job.cores))):
                    hosts = held.enter_context(
                        NetnsCluster(list(job.row.speeds), folder=job.folder, rate=rate)
                    )
                hosts.enter(plan.cluster.source_rank)  # where requests arrive, as the planner is told
                self._session = held.enter_context(deploy(plan, hosts.addresses))
                pids = hosts.pids
            else:
                self._session = held.enter_context(deploy(plan, local=True, executor=job.executor))
                pids = self._session.worker_pids
            for worker, pid in pids.items():
                pin(pid, [job.cores[worker]])
            self._held = held.pop_all()

    def request(self) -> Any:
        return self._session.run(*self._args, **self._kwargs)

    def stream(self, count: int) -> None:
        item: Any = self._kwargs or self._args
        for _ in self._session.stream(itertools.repeat(item, count)):
            pass

    def explain(self) -> tuple[RankTime, ...]:
        """Run one more request, and return the breakdown of its time."""
        self.request()
        events = self._session.trace()
        return rank_times(only_request(events, requests(events)[-1]))

    def close(self) -> None:
        self._held.close()
