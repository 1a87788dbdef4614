"""Plans on clusters where some pairs have no link."""

from __future__ import annotations

import pytest

from edgeflow.cluster import Cluster, Device, Link
from edgeflow.cost import predict
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan import verify_plan
from tests.unit.plan.tiny import between_devices, convs, plan, stage, whole

_WIRE = Link(bandwidth_bytes_per_s=1e6, latency_s=1e-3)


def cluster(*missing: str) -> Cluster:
    """Devices a, b and c; ``missing`` names pairs without a link, in one direction."""
    return Cluster(
        devices=tuple(Device(name=name, flops_per_second=1e6, memory_bytes=1 << 30) for name in "abc"),
        network=_WIRE,
        links=tuple((pair[0], pair[1], None) for pair in missing),
    )


def test_of_several_owners_one_that_is_connected_sends() -> None:
    """Device 2 needs what 0 and 1 both own."""
    graph = convs(3, 3)
    stages = (
        stage("first", ["conv2d"], whole(graph, "conv2d", 0, 1)),
        stage("second", ["conv2d_1"], whole(graph, "conv2d_1", 2)),
    )

    for missing, source in (("ac", 1), ("bc", 0)):
        made = plan(graph, *stages, cluster=cluster(missing))
        verify_plan(made)
        assert [item.source for item in between_devices(made.programs)] == [source]
        assert predict(made).latency_s > 0


def test_a_plan_that_needs_a_missing_link_is_infeasible_and_names_the_pair() -> None:
    graph = convs(3, 3)
    made = plan(
        graph,
        stage("first", ["conv2d"], whole(graph, "conv2d", 1)),
        stage("second", ["conv2d_1"], whole(graph, "conv2d_1", 2)),
        cluster=cluster("bc"),
    )

    with pytest.raises(InfeasiblePlanError, match="no link from device 'b' to 'c'") as caught:
        verify_plan(made)
    assert caught.value.constraint == "link"
