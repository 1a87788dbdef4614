"""Several requests under way: stages on different devices work at once."""

from __future__ import annotations

import time
from typing import Any

import pytest

import edgeflow as ef

torch = pytest.importorskip("torch")

from tests.clusters import slow  # noqa: E402

#: What a stage takes: a sleep, so that the test says the same on a busy machine and on one core.
STAGE_S = 0.05
COUNT = 8


@pytest.fixture(scope="module")
def plan(graph: ef.ModelGraph) -> ef.Plan:
    plan = ef.plan(graph, slow([1.0, 1.0]), strategy="pipeline", objective="throughput")
    assert len(plan.stages) == 2 and sorted(rank for rank in plan.programs if rank >= 0) == [0, 1]
    return plan


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_pipelined_devices_work_at_once(plan: ef.Plan, workers: Any, transport: str) -> None:
    addresses = workers.start(2)
    for hooks in workers.hooks:
        hooks.before_compute = lambda: time.sleep(STAGE_S)
    images = [torch.full((1, 3, 32, 32), float(number)) for number in range(COUNT)]
    with ef.deploy(plan, workers=addresses, timeout_s=20.0, transport=transport) as session:
        start_s = time.monotonic()
        one_by_one = [session.run(image) for image in images]
        alone_s = time.monotonic() - start_s
        start_s = time.monotonic()
        streamed = list(session.stream(images))
        stream_s = time.monotonic() - start_s
        events = [event for event in session.trace() if event.kind == "compute" and event.request > COUNT]

    assert all(torch.equal(a, b) for a, b in zip(one_by_one, streamed, strict=True))
    # Two stages after each other take 2 n; overlapped they take n + 1.
    assert alone_s > 2 * COUNT * STAGE_S
    assert stream_s < 0.75 * alone_s
    first = {event.request: event for event in events if event.rank == 0}
    second = {event.request: event for event in events if event.rank == 1}
    overlaps = [
        min(first[request + 1].stop_s, second[request].stop_s)
        - max(first[request + 1].start_s, second[request].start_s)
        for request in sorted(second)[:-1]
    ]
    assert sum(overlap > STAGE_S / 2 for overlap in overlaps) >= COUNT // 2
