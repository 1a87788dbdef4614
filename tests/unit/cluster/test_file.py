"""Cluster files: read key by key, and wrong ones refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.cluster import Cluster
from edgeflow.errors import ConfigError

HOME = """
name: home
source: nuc
network: {bandwidth: 1 Gbit/s, latency: 0.2 ms}
devices:
  nuc: {speed: 60 GFLOP/s, memory: 8 GiB, power_idle: 6 W, power_compute: 12 W}
  pi4: {speed: 10 GFLOP/s, memory: 2 GiB, memory_bandwidth: 3 GB/s, overhead: 40 us}
links:
  - {between: [nuc, pi4], bandwidth: 100 Mbit/s, latency: 2 ms}
"""

DEPLOYED = sorted((Path(__file__).parents[3] / "deploy" / "clusters").glob("*.yaml"))


def load(tmp_path: Path, text: str) -> Cluster:
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return Cluster.load(path)


def test_every_key_arrives(tmp_path: Path) -> None:
    cluster = load(tmp_path, HOME)

    nuc, pi4 = cluster.devices
    assert (cluster.name, cluster.source_rank) == ("home", 0)
    assert (nuc.flops_per_second, nuc.memory_bytes, nuc.power_idle_w, nuc.power_compute_w) == (
        60e9,
        8 * 2**30,
        6.0,
        12.0,
    )
    assert (pi4.memory_bandwidth_bytes_per_s, pi4.overhead_s) == pytest.approx((3e9, 40e-6))
    assert cluster.link(0, 1) == cluster.link(1, 0)
    assert cluster.link(0, 1).bandwidth_bytes_per_s == 12.5e6


def test_memory_bandwidth_follows_the_speed_where_it_is_not_said(tmp_path: Path) -> None:
    cluster = load(
        tmp_path,
        "network: {bandwidth: 1 Gbit/s, latency: 0}\n"
        "devices: {a: {speed: 40 GFLOP/s, memory: 1 GiB}, b: {speed: 10 GFLOP/s, memory: 1 GiB}}",
    )

    a, b = cluster.devices
    assert a.memory_bandwidth_bytes_per_s == 4 * b.memory_bandwidth_bytes_per_s


def test_the_name_of_the_file_is_the_name_of_the_cluster(tmp_path: Path) -> None:
    assert load(tmp_path, HOME.replace("name: home", "")).name == "cluster"


def test_one_way_links_go_one_way(tmp_path: Path) -> None:
    cluster = load(tmp_path, HOME.replace("latency: 2 ms}", "latency: 2 ms, one_way: true}"))

    assert cluster.link(0, 1) != cluster.link(1, 0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("8 GiB", "8 gigs", "devices.nuc.memory: unknown unit 'gigs'"),
        ("60 GFLOP/s", "fast", "devices.nuc.speed: cannot read 'fast'"),
        ("1 Gbit/s", "1 Gbit", "network.bandwidth: unknown unit 'Gbit'"),
        ("power_idle:", "idle_power:", "devices.nuc: unknown key 'idle_power'; known keys: download, "),
        ("speed: 60 GFLOP/s, ", "", "devices.nuc: missing key 'speed'"),
        (", latency: 0.2 ms", "", "network: missing key 'latency'"),
        ("source: nuc", "source: mac", "no device 'mac'; devices: nuc, pi4"),
        ("source: nuc", "sources: nuc", "unknown key 'sources'"),
        ("[nuc, pi4]", "[nuc, mac]", "no device 'mac'"),
        ("[nuc, pi4]", "[nuc]", "links[0].between: expected two device names"),
        ("[nuc, pi4]", "[nuc, pi4, pi4]", "links[0].between: expected two device names"),
        ("name: home", "name: [home]", "name: expected text, got ['home']"),
        ("8 GiB", "0 GiB", "device 'nuc': memory_bytes must be positive and finite, got 0"),
        ("8 GiB", ".inf", "not a finite quantity"),
        ("name: home", "name: {", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_file_key_and_value(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in HOME
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, HOME.replace(old, new, 1))

    assert said in str(caught.value)
    assert "cluster.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "devices: 3\nnetwork: {}", "devices: {}\nnetwork: 7"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.yaml"):
        load(tmp_path, text)


def test_links_must_be_a_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="links: expected a list, got dict"):
        load(tmp_path, HOME.split("links:")[0] + "links: {a: 1}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read cluster file"):
        Cluster.load(tmp_path / "nowhere.yaml")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ConfigError, match=r"cluster\.yaml"):
        Cluster.load(path)


def test_no_object_is_made_from_a_tag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        load(tmp_path, "devices: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.stem)
def test_every_cluster_file_of_the_project_can_be_read(path: Path) -> None:
    assert Cluster.load(path).devices


def test_there_are_cluster_files() -> None:
    assert DEPLOYED


def test_rates_of_other_dtypes_by_long_and_short_names(tmp_path: Path) -> None:
    text = HOME.replace("memory: 8 GiB,", "memory: 8 GiB, rates: {int8: 240 GOP/s, bf16: 120 GFLOP/s},")

    nuc, pi4 = load(tmp_path, text).devices

    assert nuc.rates == (("bfloat16", 120e9), ("int8", 240e9))
    assert (nuc.rate("int8"), nuc.rate("float16"), nuc.rate("float32")) == (240e9, 60e9, 60e9)
    assert pi4.rate("int8") == pi4.flops_per_second


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ("{int9: 1 GOP/s}", "no dtype 'int9'"),
        ("{int8: 0 GOP/s}", r"rates\['int8'\] must be positive"),
        ("{float32: 1 GFLOP/s}", "float32"),
        ("{bf16: 1 GFLOP/s, bfloat16: 1 GFLOP/s}", "bfloat16 is given twice"),
        ("{int8: 1 GB/s}", "unknown unit"),
        ("fast", "expected keys and values"),
    ],
)
def test_rates_that_cannot_be(tmp_path: Path, rates: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, HOME.replace("memory: 8 GiB,", f"memory: 8 GiB, rates: {rates},"))
