"""EdgeLD's Table I, from our plans and our prediction."""

from __future__ import annotations

from functools import cache

import pytest

from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.program import CLIENT
from simulations.edgeld.table import (
    Cell,
    blocks_between_pools,
    calibrated_rate,
    load_config,
    plan_of,
    predicted_s,
    star,
    table,
    vgg,
)


@cache
def cells() -> tuple[Cell, ...]:
    return tuple(table(load_config()))


@cache
def network(name: str) -> ModelGraph:
    return vgg(load_config()["networks"][name], load_config())


def test_all_sixteen_cells_are_within_twelve_percent() -> None:
    assert len(cells()) == 16
    assert {(cell.network, cell.link, cell.followers): round(cell.error, 3) for cell in cells()} == {
        (cell.network, cell.link, cell.followers): pytest.approx(0.0, abs=0.12) for cell in cells()
    }


def test_only_the_two_cells_of_calibration_are_hit_by_construction() -> None:
    hit = {(cell.network, cell.link, cell.followers) for cell in cells() if abs(cell.error) < 1e-6}

    assert hit == {(name, "1000 Mbit/s", 1) for name in ("VGG-13", "VGG-16")}


def test_more_followers_and_faster_links_are_faster() -> None:
    seconds = {(cell.network, cell.link, cell.followers): cell.predicted_s for cell in cells()}

    for (name, link, followers), value in seconds.items():
        assert value < seconds.get((name, link, followers - 1), float("inf"))
        assert seconds[name, "1000 Mbit/s", followers] <= value


@pytest.mark.parametrize(("name", "gflops"), [("VGG-13", 1.08), ("VGG-16", 1.32)])
def test_rates_that_the_table_implies(name: str, gflops: float) -> None:
    rate = calibrated_rate(network(name), "1000 Mbit/s", load_config()["published_s"][name]["1000 Mbit/s"][0])

    assert rate / 1e9 == pytest.approx(gflops, rel=0.02)


def test_with_one_interface_for_all_followers_the_table_is_missed() -> None:
    """Where the bottleneck is has to be said: links of their own, or the leader's one interface."""
    config = load_config()
    errors = {}
    for name in config["networks"]:
        published = config["published_s"][name]
        rate = calibrated_rate(network(name), "1000 Mbit/s", published["1000 Mbit/s"][0])
        own, shared = (predicted_s(network(name), 4, "100 Mbit/s", rate, is_shared=x) for x in (False, True))
        assert shared > own + 1.0
        errors[name] = shared / published["100 Mbit/s"][3] - 1
    assert errors == {"VGG-13": pytest.approx(0.107, abs=0.002), "VGG-16": pytest.approx(0.174, abs=0.002)}


def test_followers_fuse_the_convolutions_between_pools_and_talk_to_the_leader_only() -> None:
    graph = network("VGG-16")
    plan = plan_of(graph, star(3, "100 Mbit/s", 1e9))

    assert [sum(".conv" in op.target for op in block) for block in blocks_between_pools(graph)] == [
        2, 0, 2, 0, 3, 0, 3, 0, 3, 0
    ]  # fmt: skip
    assert [stage.devices for stage in plan.stages] == [(1, 2, 3), (0,)] * 5
    for rank, program in plan.programs.items():
        peers = {item.peer for item in program.instructions if hasattr(item, "peer")}
        assert rank in (0, CLIENT) or peers <= {0, CLIENT}
