"""`pipeline`: contiguous stages within the devices' memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.capture import capture
from edgeflow.planner import plan


@pytest.mark.parametrize(("share", "spare_kib"), [(0.7, 500), (0.8, 500), (0.9, 200), (1.0, 200)])
def test_pipelines_leave_room_for_buffers(share: float, spare_kib: int) -> None:
    """The best division of the weights does not fit with its buffers; one that does is found."""
    torch.manual_seed(0)
    layers = [layer for _ in range(9) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
    graph = capture(nn.Sequential(*layers).eval(), (torch.zeros(1, 64, 32, 32),))
    weights = sum(graph.specs[name].num_bytes for name in graph.weights)
    cluster = Cluster.local((1.0, 0.5, 0.25), memory=int(share * weights) + spare_kib * 1024)
    roomy = Cluster.local((1.0, 0.5, 0.25))

    made = plan(graph, cluster, strategy="pipeline", objective="throughput")
    free = plan(graph, roomy, strategy="pipeline", objective="throughput")

    assert len(made.devices) > 1
    assert made.predicted_period_s > free.predicted_period_s  # what is best does not fit
