"""How long capture, planning and lowering take, and what each strategy is predicted to reach."""

from __future__ import annotations

import time
from collections.abc import Iterator

from result import Result

from edgeflow.cluster import Cluster
from edgeflow.graph.capture import capture
from edgeflow.plan.lower import lower
from edgeflow.planner import plan, strategies
from edgeflow.testing import zoo

MODELS = ("openworld-base", "resnet50")
SPEEDS = (1.0, 0.6, 0.4)
BANDWIDTH, LATENCY = "1 Gbit/s", "0.5 ms"


def run(seed: int) -> Iterator[Result]:
    """Nothing here is random but the weights, which do not matter to a plan."""
    cluster = Cluster.local(SPEEDS, bandwidth=BANDWIDTH, latency=LATENCY)
    settings = {"speeds": SPEEDS, "bandwidth": BANDWIDTH, "latency": LATENCY}
    for name in MODELS:
        example = zoo.build(name)
        start = time.perf_counter()
        graph = capture(example.module, example.args, example.kwargs, name=name)
        capture_s = time.perf_counter() - start
        for strategy in strategies():
            start = time.perf_counter()
            made = plan(graph, cluster, strategy=strategy)
            plan_s = time.perf_counter() - start
            start = time.perf_counter()
            lower(graph, cluster, made.stages)
            yield Result(
                benchmark="planning",
                case=f"{name}, {strategy}",
                values={
                    "capture_s": capture_s,
                    "plan_s": plan_s,
                    "lower_s": time.perf_counter() - start,
                    "predicted_latency_s": made.predicted_latency_s,
                },
                settings=settings,
                seed=seed,
            )
