"""Wires: transfers that start together take turns."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cluster.network import Segment
from edgeflow.cost import CostModel
from edgeflow.planner.estimates.wires import Wires


def network(*, link: float = 1e6, latency_s: float = 0.01, **options: object) -> Wires:
    devices = tuple(Device(name=n, flops_per_second=1e9, memory_bytes=1 << 30) for n in "abc")
    cluster = Cluster(
        devices=devices,
        network=Link(bandwidth_bytes_per_s=link, latency_s=latency_s),
        **options,  # type: ignore[arg-type]
    )
    return Wires(CostModel(cluster=cluster, message_overhead_s=0.001))


def transfers(**num_bytes: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """``ab=5``: 5 bytes from a to b; x is the client, on the host of a."""
    frames = np.zeros((4, 4))
    for pair, value in num_bytes.items():
        frames["abcx".index(pair[0]), "abcx".index(pair[1])] = value
    return frames


@pytest.mark.parametrize(
    ("num_bytes", "seconds"),
    [
        ({}, 0.0),
        ({"ab": 1000.0}, 0.001 + 0.01 + 0.001),
        ({"ab": 1000.0, "ac": 1000.0}, 0.002 + 0.01 + 0.002),  # both leave a
        ({"ab": 1000.0, "cb": 1000.0}, 0.002 + 0.01 + 0.002),  # both enter b
        ({"ab": 1000.0, "bc": 1000.0}, 0.001 + 0.01 + 0.002),  # b takes in and sends at once
        ({"xb": 1000.0}, 0.001 + 0.01 + 0.001),
    ],
)
def test_transfers_take_turns_at_interfaces(num_bytes: dict[str, float], seconds: float) -> None:
    assert float(network().seconds(transfers(**num_bytes))) == pytest.approx(seconds)


def test_transfers_take_turns_on_a_shared_medium() -> None:
    air = Segment(name="air", kind="medium", members=("a", "b", "c"), bandwidth_bytes_per_s=1e6)
    shared = network(segments=(air,))

    both = float(shared.seconds(transfers(ab=1000.0, bc=1000.0)))

    assert both == pytest.approx(0.002 + 0.01 + 0.002)
