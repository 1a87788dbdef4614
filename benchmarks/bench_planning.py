"""How long capture, planning and lowering take, and what each strategy is predicted to reach."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator

from result import Result

from edgeflow.cluster import Cluster
from edgeflow.graph.capture import capture
from edgeflow.plan.lower import lower
from edgeflow.planner import plan, strategies
from edgeflow.testing import zoo

MODELS = ("openworld-base", "resnet50", "hf-vit-base")
COUNTS = (3, 8, 64)
#: Largest number of devices -> repetitions of planning; the median counts.
FEW, REPEATS = 8, 5
BANDWIDTH, LATENCY = "1 Gbit/s", "0.5 ms"


def run(seed: int) -> Iterator[Result]:
    """Nothing here is random but the weights, which do not matter to a plan."""
    for name in MODELS:
        example = zoo.build(name)
        start = time.perf_counter()
        graph = capture(example.module, example.args, example.kwargs, name=name)
        capture_s = time.perf_counter() - start
        for count, strategy in itertools.product(COUNTS, strategies()):
            if strategy == "brute_force":  # refuses all of these
                continue
            speeds = tuple(0.6 ** (rank % 4) for rank in range(count))
            cluster = Cluster.local(speeds, bandwidth=BANDWIDTH, latency=LATENCY)
            plan_s = []
            for _ in range(REPEATS if count <= FEW else 1):
                fresh = dataclasses.replace(graph)  # nothing that was found out about the graph is used again
                start = time.perf_counter()
                made = plan(fresh, cluster, strategy=strategy)
                plan_s.append(time.perf_counter() - start)
            start = time.perf_counter()
            lower(fresh, cluster, made.stages)
            yield Result(
                benchmark="planning",
                case=f"{name}, {count} devices, {strategy}",
                values={
                    "capture_s": capture_s,
                    "plan_s": statistics.median(plan_s),
                    "plan_least_s": min(plan_s),
                    "plan_most_s": max(plan_s),
                    "lower_s": time.perf_counter() - start,
                    "predicted_latency_s": made.predicted_latency_s,
                },
                settings={"speeds": speeds[:4], "bandwidth": BANDWIDTH, "latency": LATENCY},
                seed=seed,
            )
