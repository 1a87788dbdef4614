"""Sessions on a cluster of network namespaces: what happens when workers slow down, die, hang or are cut off.

    python scripts/netns.py demo          latency before, during and after a slow-down, a kill and a restart
    python scripts/netns.py slow          one of three workers 3 times slower, against the best plan for that
    python scripts/netns.py soak          requests while workers fail at random; every answer is compared
    python scripts/netns.py silence       two workers lose all that they send each other; one loses all others
    python scripts/netns.py narrow        requests for which two workers have a slow link with a deep queue

Needs root. What it prints are measurements on this machine, with whatever else runs on it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

import edgeflow as ef
from edgeflow.balancer import Thresholds
from edgeflow.cost import CostModel
from edgeflow.testing import models
from edgeflow.testing.netns import NetnsCluster

#: Shares of one processor: unequal, and together less than two, so that the host does not limit them.
SHARES = [0.6, 0.4, 0.3]
SIZE = 640
THRESHOLDS = Thresholds(gain=0.08, cool_down_s=4.0)


class Job:
    """A model, inputs with the answers that are right, and a plan for the cluster."""

    def __init__(self, size: int = SIZE, *, is_spread: bool = False) -> None:
        self.module = models.tiny_resnet()
        generator = torch.Generator().manual_seed(0)
        self.inputs = [torch.randn(1, 3, size, size, generator=generator) for _ in range(8)]
        with torch.no_grad():
            self.expected = [self.module(item) for item in self.inputs]
        self.graph = ef.capture(self.module, (self.inputs[0],))
        if is_spread:
            # Devices that are said to be so slow that all of them take part, whatever they are.
            self.cluster = _crawling()
            self.cost = CostModel(cluster=self.cluster)
            self.plan = ef.plan(self.graph, self.cluster, cost=self.cost, strategy="coedge")
            return
        self.cluster = ef.Cluster.local(SHARES, bandwidth="1 Gbit/s", latency="0.3 ms")
        calibrated = ef.calibrate(self.graph, self.cluster, (self.inputs[0],), slices_s=4.0)
        # The processor that was measured is whole; the fastest device has a share of it.
        self.cost = _with_rate(calibrated, max(SHARES))
        self.plan = ef.plan(self.graph, self.cluster, cost=self.cost, strategy="auto")

    def deploy(self, addresses: list[str], plan: ef.Plan | None = None, **options: Any) -> ef.Session:
        return ef.deploy(plan or self.plan, workers=addresses, timeout_s=60.0, cost=self.cost, **options)

    def is_right(self, number: int, answer: Any) -> bool:
        expected = self.expected[number % len(self.inputs)]
        return bool((answer - expected).abs().max() <= 1e-4 * expected.abs().max())


def _crawling() -> ef.Cluster:
    made = ef.Cluster.local(SHARES, bandwidth="1 Gbit/s", latency="0.3 ms")
    return msgspec.structs.replace(
        made,
        devices=tuple(
            msgspec.structs.replace(device, flops_per_second=share * 1e8, overhead_s=0.0)
            for device, share in zip(made.devices, SHARES, strict=True)
        ),
    )


def _with_rate(cost: CostModel, share: float) -> CostModel:
    return msgspec.structs.replace(cost, measured_flops_per_second=cost.measured_flops_per_second / share)


class Client:
    """Sends one request after the other, and records each latency and whether the answer was right."""

    def __init__(self, session: ef.Session, job: Job) -> None:
        self.session, self.job = session, job
        self.latencies: list[tuple[float, float]] = []
        self.wrong, self.failed = 0, 0

    def ask(self) -> float:
        number = len(self.latencies)
        started_s = time.monotonic()
        try:
            answer = self.session.run(self.job.inputs[number % len(self.job.inputs)])
        except ef.EdgeflowError as error:
            self.failed += 1
            print(f"  request {number} failed: {error}", flush=True)
        else:
            self.wrong += not self.job.is_right(number, answer)
        seconds = time.monotonic() - started_s
        self.latencies.append((time.monotonic(), seconds))
        return seconds

    def phase(self, name: str, seconds: float) -> float:
        """Ask for a while; print the first and the last of it, and return the median of the last part."""
        first = len(self.latencies)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.ask()
        mine = [value for _, value in self.latencies[first:]]
        head, tail = mine[: max(1, len(mine) // 4)], mine[-max(1, len(mine) // 3) :]
        used = ", ".join(sorted(_used(self.session)))
        print(
            f"{name:<34} {len(mine):5} requests  first {statistics.median(head) * 1e3:7.1f} ms  "
            f"last {statistics.median(tail) * 1e3:7.1f} ms  longest {max(mine) * 1e3:7.0f} ms  on {used}",
            flush=True,
        )
        return statistics.median(tail)


def _used(session: ef.Session) -> set[str]:
    return {session.plan.cluster.devices[rank].name for rank in session.plan.devices}


def demo(job: Job, hosts: NetnsCluster, options: argparse.Namespace) -> int:
    with job.deploy(hosts.addresses, balance=THRESHOLDS) as session:
        client = Client(session, job)
        client.phase("three workers", options.seconds)
        hosts.slow(1, 3.0)
        client.phase("device1 gets a third of its time", 1.5)
        client.phase("... the plan has followed", 1.5 * options.seconds)
        hosts.slow(1, 1.0)
        client.phase("device1 is as before", 2 * options.seconds)
        hosts.kill(2)
        client.phase("device2 is killed", options.seconds)
        hosts.start(2)
        client.phase("device2 is back", options.seconds)
        print(f"\n{len(client.latencies)} requests, {client.failed} failed, {client.wrong} wrong; switches:")
        for decision in session.decisions:
            if decision.verdict == "switch":
                print(f"  {decision.explain()}")
        return 1 if client.failed or client.wrong else 0


def slow(job: Job, hosts: NetnsCluster, options: argparse.Namespace) -> int:
    """Latency after one worker is slowed, against the best plan made for the speeds that it has then."""
    factor = 3.0
    with job.deploy(hosts.addresses, balance=THRESHOLDS) as session:
        client = Client(session, job)
        usual_s = client.phase("usual", options.seconds)
        ratios = {item.name: item.ratio for item in session.status().devices}
        hosts.slow(1, factor)
        slowed = len(client.latencies)
        client.phase("slowed", 2 * options.seconds)
        settled_s = client.phase("settled", options.seconds)
        after = [value for _, value in client.latencies[slowed:]]
        hosts.slow(1, 1.0)
        client.phase("recovering", 2 * options.seconds)
        back_s = client.phase("recovered", options.seconds)
        decisions = [d for d in session.decisions if d.verdict == "switch"]
        failed, wrong = client.failed, client.wrong
    hosts.slow(1, factor)
    best_s, best = _best(job, hosts, {**ratios, "device1": factor * ratios["device1"]}, options)
    with job.deploy(hosts.addresses) as session:
        old_s = Client(session, job).phase("the old plan at these speeds", options.seconds)
    limit_s = 1.15 * best_s
    window = 9
    settled_after = next(
        (i for i in range(len(after) - window) if statistics.median(after[i : i + window]) <= limit_s), None
    )
    print(
        json.dumps(
            {
                "usual_s": usual_s,
                "old_plan_when_slowed_s": old_s,
                "settled_s": settled_s,
                "best_s": best_s,
                "best": best,
                "settled_over_best": settled_s / best_s,
                "settled_after_requests": settled_after,
                "recovered_s": back_s,
                "recovered_over_usual": back_s / usual_s,
                "failed": failed,
                "wrong": wrong,
                "load_of_the_machine": os.getloadavg(),
                "switches": [d.explain() for d in decisions],
            },
            indent=2,
        )
    )
    return 1 if failed or wrong else 0


def _best(
    job: Job, hosts: NetnsCluster, ratios: dict[str, float], options: argparse.Namespace
) -> tuple[float, str]:
    """Return the least measured latency of plans for these speeds, over several strategies."""
    told = msgspec.structs.replace(job.cost, corrections={name: {"*": r} for name, r in ratios.items()})
    found = []
    for strategy in ("auto", "coedge", "single"):
        plan = ef.plan(job.graph, job.cluster, cost=told, strategy=strategy)
        with job.deploy(hosts.addresses, plan) as session:
            name = f"best for these speeds: {strategy}"
            found.append((Client(session, job).phase(name, options.seconds / 2), plan.chosen or strategy))
    return min(found)


def _faults(hosts: NetnsCluster, index: int) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """A fault of a worker, and its repair."""
    other = (index + 1) % len(SHARES)
    return {
        "killed": (lambda: hosts.kill(index), lambda: hosts.start(index)),
        "stopped": (lambda: hosts.stop(index), lambda: hosts.go_on(index)),
        "cut off": (lambda: hosts.cut(index), lambda: hosts.mend(index)),
        "parted": (lambda: hosts.part(index, other), lambda: hosts.rejoin(index, other)),
        "not heard": (
            lambda: hosts.part(index, other, is_mutual=False),
            lambda: hosts.rejoin(index, other),
        ),
        "10x slower": (lambda: hosts.slow(index, 10.0), lambda: hosts.slow(index, 1.0)),
    }


def soak(job: Job, hosts: NetnsCluster, options: argparse.Namespace) -> int:
    """Requests while one worker at a time fails and comes back."""
    rng = random.Random(options.seed)
    ended = threading.Event()
    faults: list[str] = []

    def fail() -> None:
        while not ended.wait(rng.uniform(1.0, 3.0)):
            acts = _faults(hosts, rng.randrange(len(SHARES)))
            name = rng.choice(sorted(acts))
            faults.append(name)
            begin, end = acts[name]
            begin()
            ended.wait(rng.uniform(1.0, 5.0))
            end()

    thread = threading.Thread(target=fail)
    # Not balanced: what is measured would soon bring all of it onto one device, and faults of the others
    # would not matter.
    with job.deploy(hosts.addresses) as session:
        client = Client(session, job)
        thread.start()
        try:
            started_s = time.monotonic()
            for number in range(options.requests):
                client.ask()
                ended.wait(options.interval)
                if number % 500 == 499:
                    print(f"  {number + 1} requests, {len(faults)} faults", flush=True)
            seconds = time.monotonic() - started_s
        finally:
            ended.set()
            thread.join()
        took = [value for _, value in client.latencies]
        print(
            json.dumps(
                {
                    "requests": len(took),
                    "seconds": round(seconds, 1),
                    "lost": client.failed,
                    "wrong": client.wrong,
                    "median_s": statistics.median(took),
                    "longest_outage_s": max(took),
                    "over_1_s": sum(value > 1 for value in took),
                    "faults": {name: faults.count(name) for name in sorted(set(faults))},
                    "seed": options.seed,
                },
                indent=2,
            )
        )
        return 1 if client.failed or client.wrong else 0


def silence(job: Job, hosts: NetnsCluster, options: argparse.Namespace) -> int:
    """A link drops packets silently, while every worker still answers the coordinator."""
    said: dict[str, Any] = {"failed": 0, "wrong": 0}
    for name, links in (("one link", [(0, 1)]), ("all links of one", [(0, 2), (1, 2)])):
        with job.deploy(hosts.addresses, transport=options.transport) as session:
            client = Client(session, job)
            client.phase("usual", 1.0)
            begun = len(client.latencies)
            for a, b in links:
                hosts.part(a, b)
            client.phase(f"{name} cut", 4.0)
            said[name] = {
                "longest_outage_s": max(value for _, value in client.latencies[begun:]),
                "is_split": len(_used(session)) == 2,
            }
            for a, b in links:
                hosts.rejoin(a, b)
            limit_s = time.monotonic() + 30.0
            while len(_used(session)) < 3 and time.monotonic() < limit_s:
                client.ask()
            said[name]["is_used_again"] = len(_used(session)) == 3
            said["failed"] += client.failed
            said["wrong"] += client.wrong
    print(json.dumps(said, indent=2))
    return 1 if said["failed"] or said["wrong"] else 0


def narrow(_: Job, hosts: NetnsCluster, options: argparse.Namespace) -> int:
    """Long transfers at 1 Mbit/s with a queue of 2 s: slow, but no fault."""
    job = Job(SIZE, is_spread=True)
    with job.deploy(hosts.addresses, transport=options.transport) as session:
        client = Client(session, job)
        client.ask()
        hosts.narrow(0, 1, "1mbit", "256kb")
        started_s = time.monotonic()
        answers = list(session.stream(job.inputs, max_in_flight=len(job.inputs)))
        said = {
            "seconds": time.monotonic() - started_s,
            "wrong": sum(not job.is_right(number, answer) for number, answer in enumerate(answers)),
            "replayed": session.status().num_replayed,
            "used": len(_used(session)),
        }
        print(json.dumps(said, indent=2))
        return 1 if said["wrong"] else 0


class _Explained(logging.Handler):
    """Prints the balancer's decisions."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"  {getattr(record, 'why', record.getMessage())}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["demo", "slow", "soak", "silence", "narrow"])
    parser.add_argument("--seconds", type=float, default=12.0, help="seconds of one phase")
    parser.add_argument("--requests", type=int, default=10_000, help="number of requests of the soak")
    parser.add_argument("--interval", type=float, default=0.03, help="between two requests of the soak")
    parser.add_argument("--transport", default="auto", help="transport of silence and narrow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", action="store_true", help="show warnings of the session")
    options = parser.parse_args()
    if options.log:
        logging.getLogger("edgeflow.balancer").addHandler(_Explained())

        logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(message)s", stream=sys.stderr)
        logging.getLogger("edgeflow.balancer").setLevel(logging.INFO)
        logging.getLogger("edgeflow.coordinator").setLevel(logging.INFO)
    torch.set_num_threads(1)
    job = Job() if options.what in ("demo", "slow") else Job(32, is_spread=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        NetnsCluster(SHARES, folder=Path(folder), rate="1gbit") as hosts,
    ):
        hosts.enter()
        rc = 1
        try:
            acts = {"demo": demo, "slow": slow, "soak": soak, "silence": silence, "narrow": narrow}
            rc = acts[options.what](job, hosts, options)
        finally:
            for index in range(len(SHARES)):
                if rc or options.log:
                    print(f"worker {index} wrote:\n{hosts.log(index)[-4000:]}", file=sys.stderr)
        return rc


if __name__ == "__main__":
    raise SystemExit(main())
