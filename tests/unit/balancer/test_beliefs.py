"""Estimates of devices and links from the history, with hand-computed ratios."""

from __future__ import annotations

import pytest

from edgeflow.balancer.beliefs import Beliefs
from edgeflow.balancer.history import LatencyHistory
from edgeflow.balancer.observation import Observation
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel

CLUSTER = Cluster.local([1.0, 1.0], bandwidth="1 Gbit/s", latency="1 ms")


def kernels(device: str, ratio: float, *, start_s: float, num: int = 20) -> list[Observation]:
    """One kernel of 0.1 s by the cost model every 0.3 s, so that each is a block of its own."""
    return [
        Observation(
            kind="compute",
            device=device,
            stop_s=start_s + 0.3 * number,
            seconds=0.1 * ratio,
            expected_s=0.1,
        )
        for number in range(num)
    ]


def probe(device: str, seconds: float, stop_s: float) -> Observation:
    return Observation(kind="probe", device=device, stop_s=stop_s, seconds=seconds, expected_s=0.0)


def frames(seconds: float, *, num_bytes: int = 100_000, num: int = 12) -> list[Observation]:
    return [
        Observation(
            kind="transfer",
            device="device0",
            peer="device1",
            stop_s=float(number),
            seconds=seconds,
            expected_s=0.0018,
            num_bytes=num_bytes,
        )
        for number in range(num)
    ]


def beliefs(history: LatencyHistory, *, is_exact: bool = False) -> Beliefs:
    return Beliefs(history, forget_s=30.0, is_exact=is_exact)


def test_kernels_give_measured_time_over_predicted_time() -> None:
    history = LatencyHistory()
    history.add(kernels("device0", 2.5, start_s=0.0))

    belief = beliefs(history).of("device0", 6.0)

    assert belief.source == "kernels"
    assert belief.ratio == pytest.approx(2.5)


def test_without_recent_observations_a_device_is_at_its_usual_ratio() -> None:
    history = LatencyHistory()
    made = beliefs(history)
    history.add(kernels("device0", 2.0, start_s=0.0))
    made.update(["device0", "device1"])

    late = made.of("device0", 6.0 + 30.1)
    unseen = made.of("device1", 6.0)

    assert (late.source, late.ratio) == ("usual", pytest.approx(2.0))
    # A device that was never used is taken to be as the median of the others.
    assert (unseen.source, unseen.ratio) == ("usual", pytest.approx(2.0))


def test_exact_costs_have_a_usual_ratio_of_one() -> None:
    history = LatencyHistory()
    made = beliefs(history, is_exact=True)
    history.add(kernels("device0", 2.0, start_s=0.0))
    made.update(["device0"])

    assert made.usual("device0") == 1.0
    assert made.of("device1", 6.0).error == 0.0


def test_a_probe_scales_the_usual_ratio_by_its_change_from_the_baseline() -> None:
    history = LatencyHistory()
    made = beliefs(history, is_exact=True)
    history.add([probe("device1", 0.01, 0.0)])
    made.update(["device1"])
    history.add([probe("device1", 0.03, time_s) for time_s in (3.0, 6.0, 9.0)])
    made.update(["device1"])

    belief = made.of("device1", 9.0)

    assert belief.source == "probe"
    assert belief.ratio == pytest.approx(3.0)


def test_probes_that_are_nearly_equal_are_no_change() -> None:
    history = LatencyHistory()
    made = beliefs(history, is_exact=True)
    for time_s, seconds in ((0.0, 0.0100), (3.0, 0.0105), (6.0, 0.0105), (9.0, 0.0105)):
        history.add([probe("device1", seconds, time_s)])
        made.update(["device1"])

    assert made.of("device1", 9.0).ratio == 1.0


def test_costs_are_multiplied_by_the_ratio_and_the_doubt() -> None:
    history = LatencyHistory()
    history.add(kernels("device0", 2.0, start_s=0.0))
    made = beliefs(history, is_exact=True)
    error = made.of("device0", 6.0).error

    corrected = made.cost(CostModel(cluster=CLUSTER), CLUSTER, 6.0)
    doubted = made.cost(CostModel(cluster=CLUSTER), CLUSTER, 6.0, doubt=3.0)

    assert corrected.corrections == {"device0": {"*": pytest.approx(2.0)}}
    assert doubted.corrections["device0"]["*"] == pytest.approx(2.0 * 2.718281828 ** (3 * error))


@pytest.mark.parametrize(("seconds", "is_corrected"), [(0.0018, False), (0.0024, False), (0.01, True)])
def test_only_links_that_are_much_slower_than_the_cluster_says_are_corrected(
    seconds: float, is_corrected: bool
) -> None:
    """100 kB take 1.8 ms by the cluster: 1 ms of latency and 0.8 ms of bandwidth."""
    history = LatencyHistory()
    history.add(frames(seconds))

    network = beliefs(history).network(CLUSTER, 12.0)

    link = network.link(0, 1)
    if is_corrected:
        assert link.latency_s + 100_000 / link.bandwidth_bytes_per_s == pytest.approx(seconds)
    else:
        assert network is CLUSTER
