"""Scenario files, and what does not fit a cluster."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.network import Link, Segment
from edgeflow.errors import ConfigError
from edgeflow.simulator import Change, Scenario, Trace, load_scenario
from edgeflow.simulator.scenario import cluster_of
from edgeflow.simulator.scenario_file import parse_scenario

MBIT = 125_000.0


def test_a_scenario_file(tmp_path: Path) -> None:
    (tmp_path / "wifi.csv").write_text("time_s,bandwidth\n0,50 Mbit/s\n1.5,1e6\n3,0\n")
    (tmp_path / "evening.yaml").write_text(
        """
events:
  - {at: 500 ms, lose: pi4}
  - {at: 9 s, join: pi4}
  - {at: 1 s, slow: nuc, to: 0.3}
  - {at: 2 s, recover: nuc}
traces:
  - {of: "medium:wifi", file: wifi.csv, repeat: true}
  - {of: "device:tv", points: [[0, 1], [2 s, 0.5]], duration: 10 s}
"""
    )

    made = load_scenario(tmp_path / "evening.yaml")

    assert made == Scenario(
        name="evening",
        changes=(
            Change(time_s=0.5, kind="lose", device="pi4"),
            Change(time_s=9.0, kind="join", device="pi4"),
            Change(time_s=1.0, kind="slow", device="nuc", factor=0.3),
            Change(time_s=2.0, kind="slow", device="nuc"),
        ),
        traces=(
            Trace(
                of="medium:wifi",
                times_s=(0.0, 1.5, 3.0),
                values=(50 * MBIT, 1e6, 0.0),
                duration_s=4.5,
                repeat=True,
            ),
            Trace(of="device:tv", times_s=(0.0, 2.0), values=(1.0, 0.5), duration_s=10.0),
        ),
    )
    assert [change.time_s for change in made.in_order] == [0.5, 1.0, 2.0, 9.0]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([], "scenario: expected keys and values, got list"),
        ({"event": []}, "unknown key 'event'; known keys: events, name, traces"),
        ({"events": 3}, "events: expected a list, got int"),
        ({"events": [{"lose": "a"}]}, r"events\[0\]: missing key 'at'"),
        ({"events": [{"at": 1}]}, r"expected one of lose, join, slow, recover, got none"),
        ({"events": [{"at": 1, "lose": "a", "join": "b"}]}, "got lose, join"),
        ({"events": [{"at": 1, "slow": "a"}]}, "`slow` needs `to`"),
        ({"events": [{"at": 1, "lose": "a", "to": 1}]}, "`slow` needs `to`, and no other event takes it"),
        ({"events": [{"at": "soon", "lose": "a"}]}, r"events\[0\]\.at: cannot read 'soon'"),
        ({"events": [{"at": 1, "slow": "a", "to": "half"}]}, "expected a number, got 'half'"),
        ({"traces": [{"of": "network"}]}, "give either `file` or `points`"),
        ({"traces": [{"of": "network", "points": [[0, 1]]}]}, "a trace of 1 values needs a duration"),
        ({"traces": [{"of": "network", "points": [[0]]}]}, r"expected a time and a value, got \[0\]"),
        ({"traces": [{"of": "network", "points": [[1, 1], [2, 1]]}]}, "must be for time 0, got 1 s"),
        ({"traces": [{"of": "network", "points": [[0, 1], [0, 1]]}]}, "0 s follows 0 s"),
        ({"traces": [{"of": "network", "points": [[0, 1], [2, 1]], "duration": 1}]}, "1 s follows 2 s"),
        ({"traces": [{"of": "network", "points": [[0, -1], [1, 1]]}]}, "not negative, got -1"),
        ({"traces": [{"of": "network", "file": "none.csv"}]}, "cannot read trace none.csv"),
        ({"traces": [{"of": "network", "points": [[0, 1], [1, 1]], "repeat": 3}]}, "expected true or false"),
    ],
)
def test_files_that_are_wrong(data: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_scenario(data)


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("events: [{at: 1}]")

    with pytest.raises(ConfigError, match=r"bad\.yaml: events\[0\]"):
        load_scenario(tmp_path / "bad.yaml")
    (tmp_path / "twice.yaml").write_text("name: a\nname: b")
    with pytest.raises(ConfigError, match=r"twice\.yaml: key 'name' is given 2 times"):
        load_scenario(tmp_path / "twice.yaml")
    with pytest.raises(ConfigError, match="cannot read scenario file"):
        load_scenario(tmp_path / "none.yaml")


def cluster() -> Cluster:
    made = Cluster.local([1.0, 1.0, 1.0])
    return msgspec.structs.replace(
        made,
        links=(("device0", "device1", Link(bandwidth_bytes_per_s=1e6, latency_s=0.0)),),
        segments=(
            Segment(name="wifi", kind="medium", members=("device1", "device2"), bandwidth_bytes_per_s=1e6),
        ),
    )


def change(kind: str, device: str = "device1", time_s: float = 1.0, factor: float = 1.0) -> Change:
    return Change(time_s=time_s, kind=kind, device=device, factor=factor)  # type: ignore[arg-type]


def trace(of: str) -> Trace:
    return Trace(of=of, times_s=(0.0,), values=(1.0,), duration_s=1.0)


@pytest.mark.parametrize(
    ("scenario", "problem"),
    [
        (Scenario(changes=(change("lose", "tv"),)), "no device 'tv'"),
        (Scenario(changes=(change("lose", "device0"),)), "requests arrive there"),
        (Scenario(changes=(change("lose"), change("lose", time_s=2.0))), "is absent at that time"),
        (
            Scenario(changes=(change("lose"), change("join", time_s=2), change("join", time_s=3))),
            "is already present at that time",
        ),
        (Scenario(changes=(change("slow", factor=0.0),)), "must be positive and finite, got 0"),
        (Scenario(changes=(change("slow", time_s=-1.0),)), "must be finite and not negative"),
        (Scenario(traces=(trace("medium:lan"),)), "cannot apply a trace to 'medium:lan': this cluster has"),
        (Scenario(traces=(trace("network"), trace("network"))), "given twice"),
        (
            Scenario(changes=(change("slow"),), traces=(trace("device:device1"),)),
            "also has `slow` events",
        ),
    ],
)
def test_what_does_not_fit_a_cluster(scenario: Scenario, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        scenario.check(cluster())


def test_a_device_that_joins_is_not_there_before() -> None:
    scenario = Scenario(changes=(change("lose", "device2"), change("join", "device1", time_s=3.0)))
    scenario.check(cluster())

    assert scenario.late == {"device1"}
    assert [device.name for device in scenario.initial(cluster()).devices] == ["device0", "device2"]


def test_a_part_of_a_cluster_keeps_its_links_and_media() -> None:
    part = cluster_of(cluster(), frozenset({"device0", "device2"}))

    assert [device.name for device in part.devices] == ["device0", "device2"]
    assert part.links == ()
    assert part.segments[0].members == ("device2",)
    assert part.path(0, 1) == cluster().path(0, 2)
    assert cluster_of(cluster(), frozenset({"device0"})).segments == ()
