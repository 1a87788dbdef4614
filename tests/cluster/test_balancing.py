"""The balancer on real workers in this process: a worker that slows down gets less to do, or nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeflow as ef
from edgeflow.balancer import Thresholds
from edgeflow.coordinator import members
from edgeflow.errors import ConfigError, WorkerUnreachableError
from edgeflow.telemetry.status import read_status

torch = pytest.importorskip("torch")

from edgeflow.testing import models  # noqa: E402
from tests.clusters import slow  # noqa: E402


def test_a_worker_that_slows_down_is_relieved_while_requests_go_on(workers: Any, tmp_path: Path) -> None:
    module = models.tiny_resnet()
    image = torch.ones(1, 3, 32, 32)
    expected = module(image)
    graph = ef.capture(module, (image,))
    plan = ef.plan(graph, slow([1.0, 1.0]), strategy="coedge")
    addresses = workers.start(2)
    file = tmp_path / "status.json"
    with ef.deploy(
        plan,
        workers=addresses,
        timeout_s=60.0,
        balance=Thresholds(cool_down_s=1.0),
        status_file=file,
    ) as session:
        stop = threading.Event()
        problems: list[str] = []

        def ask() -> None:
            while not stop.is_set():
                answer = session.run(image)
                if not torch.allclose(answer, expected, atol=1e-4):
                    problems.append("a wrong answer")

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            time.sleep(5.0)
            workers.servers[1].worker.speed = 0.05  # of a worker's kernels, from the next request on
            deadline_s = time.monotonic() + 40.0
            while not any(item.verdict == "switch" for item in session.decisions[:]):
                assert time.monotonic() < deadline_s, [item.explain() for item in session.decisions]
                time.sleep(0.1)
            decision = next(item for item in session.decisions if item.verdict == "switch")
            time.sleep(1.0)
        finally:
            stop.set()
            thread.join()
        assert problems == []
        assert decision.after_s < decision.before_s
        status = read_status(file)
        assert status.num_answered > 0 and len(status.devices) == 2 and status.decisions


def test_to_balance_one_must_know_how_to_replan(workers: Any) -> None:
    graph = ef.capture(models.mlp(), (torch.zeros(1, 64),))
    plan = ef.plan(graph, ef.Cluster.local([1.0]), strategy="single")
    with pytest.raises(ConfigError, match="needs a planner"):
        ef.deploy(plan, workers=workers.start(1), balance=True, replan=None)


@pytest.mark.parametrize("transport", ["grpc", "tcp"])
def test_a_frame_that_is_broken_on_its_way_is_sent_again(
    workers: Any, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """A bit of one payload flips behind the sender: the receiver refuses it, and the request begins again."""
    from edgeflow.net import stream
    from edgeflow.net.transport import grpc_

    module = models.tiny_resnet()
    image = torch.ones(1, 3, 32, 32)
    plan = ef.plan(ef.capture(module, (image,)), slow([1.0, 0.8]), strategy="coedge")
    whole = grpc_.encode
    broken: list[int] = []

    def encode(frame: Any, **options: Any) -> Any:
        for message in whole(frame, **options):
            if frame.source == 0 and frame.array.nbytes > 100 and not broken:
                broken.append(frame.tag)
                message = message[:-1] + bytes([message[-1] ^ 1])
            yield message

    finish = stream._finished

    def finished(header: Any, array: Any) -> Any:
        if header.source == 0 and array.nbytes > 100 and not broken:
            broken.append(header.tag)
            array.reshape(-1).view(np.uint8)[-1] ^= 1
        return finish(header, array)

    with ef.deploy(plan, workers=workers.start(2), timeout_s=30.0, transport=transport) as session:
        monkeypatch.setattr(grpc_, "encode", encode)
        monkeypatch.setattr(stream, "_finished", finished)
        answer = session.run(image)
        assert broken
        assert torch.allclose(answer, module(image), atol=1e-4)


def test_a_worker_without_memory_for_a_request_is_done_without(workers: Any) -> None:
    module = models.tiny_resnet()
    image = torch.ones(1, 3, 32, 32)
    plan = ef.plan(ef.capture(module, (image,)), slow([1.0, 0.8, 0.6]), strategy="coedge")
    with ef.deploy(plan, workers=workers.start(3), timeout_s=30.0) as session:

        def fail() -> None:
            raise MemoryError

        workers.hooks[1].before_compute = fail
        assert torch.allclose(session.run(image), module(image), atol=1e-4)
        assert "device1" not in {session.plan.cluster.devices[rank].name for rank in session.plan.devices}


def test_a_worker_that_answers_and_takes_no_frames_is_set_aside_and_tried_again(
    workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection with it breaks at the first frame; it is well as far as pings can tell."""
    monkeypatch.setattr(members, "_APART_S", 1.0)
    module = models.tiny_resnet()
    image = torch.ones(1, 3, 32, 32)
    plan = ef.plan(ef.capture(module, (image,)), slow([1.0, 0.8, 0.6]), strategy="coedge")
    addresses = workers.start(3)
    worker = workers.servers[1].worker
    admit = worker._rank.admit
    broken: list[int] = []

    def refuse(epoch: int, rank: int, header: Any) -> None:
        broken.append(epoch)
        raise WorkerUnreachableError("the cable is loose")

    def used() -> set[str]:
        return {session.plan.cluster.devices[rank].name for rank in session.plan.devices}

    with ef.deploy(plan, workers=addresses, timeout_s=60.0) as session:
        monkeypatch.setattr(worker._rank, "admit", refuse)
        assert torch.allclose(session.run(image), module(image), atol=1e-4)
        assert used() == {"device0", "device2"}
        assert 2 <= len(set(broken)) <= 3
        monkeypatch.setattr(worker._rank, "admit", admit)
        deadline_s = time.monotonic() + 20.0
        while "device1" not in used():
            assert time.monotonic() < deadline_s, "it is not tried again"
            time.sleep(0.05)
        assert torch.allclose(session.run(image), module(image), atol=1e-4)
