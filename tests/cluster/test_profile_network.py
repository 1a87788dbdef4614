"""Measuring frames over the loopback interface, and the network to a worker."""

from __future__ import annotations

import pytest
import torch

import edgeflow as ef
from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow.cost.model import MESSAGE_OVERHEAD_S
from edgeflow.errors import WorkerUnreachableError
from edgeflow.runtime.profile.frames import measure_copies, measure_frames
from edgeflow.runtime.profile.peers import measure_peer, padding
from tests.cluster.conftest import Workers
from tests.unit.plan.tiny import mlp


def test_frames_cost_something_and_larger_ones_more() -> None:
    cost = measure_frames()

    assert min(cost.send_s, cost.receive_s, cost.pack_s_per_byte) > 0
    assert cost.send_s_per_byte >= 0


def test_calibration_takes_the_frames_of_this_machine() -> None:
    cost = ef.calibrate(mlp(), ef.Cluster.local([1.0]), (torch.ones(2, 4),), repeats=1, slices_s=0)

    assert cost.message_overhead_s != MESSAGE_OVERHEAD_S
    assert cost.message_s(0) == cost.message_overhead_s > 0


def test_copies_cost_something() -> None:
    cost = measure_copies()

    assert min(cost.call_s, cost.s_per_byte, cost.stream_s_per_byte) > 0


def test_the_network_to_a_worker(workers: Workers) -> None:
    (address,) = workers.start(1)

    link = measure_peer(address)

    assert link.address == address
    assert link.name
    assert 0 < link.latency_s < 5
    assert link.bandwidth_bytes_per_s > 0


def test_nobody_there() -> None:
    with pytest.raises(WorkerUnreachableError, match=r"127\.0\.0\.1:9 cannot be measured"):
        measure_peer("127.0.0.1:9", timeout_s=0.3)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 70_000])
def test_padding_is_a_request_that_says_nothing(size: int) -> None:
    request = pb.DescribeRequest.FromString(padding(size))

    assert not request.ListFields()
    assert len(request.SerializeToString()) >= size
