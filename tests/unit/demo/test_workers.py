"""The demo's cluster."""

from __future__ import annotations

import pytest

from edgeflow.demo.workers import demo_cluster
from edgeflow.errors import ConfigError


def test_each_share_of_a_core_is_a_device() -> None:
    cluster = demo_cluster([1.0, 0.5])

    rates = [device.flops_per_second for device in cluster.devices]
    assert rates[1] == 0.5 * rates[0]
    link = cluster.link(0, 1)
    assert (link.bandwidth_bytes_per_s, link.latency_s) == (0.5e9, 0.8e-3)  # 4 Gbit/s


@pytest.mark.parametrize("speed", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_is_above_0_and_at_most_1(speed: float) -> None:
    with pytest.raises(ConfigError, match="a share of a core, 0 to 1"):
        demo_cluster([1.0, speed])
