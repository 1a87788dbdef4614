"""Cluster files that say more than speeds: presets, profiles, media, uplinks, pairs without a link."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeflow.cluster import Cluster, DeviceProfile, Segment
from edgeflow.cluster.profile import PROFILE_FORMAT, FamilyCost
from edgeflow.errors import ConfigError

NETWORKS = """
network: none
devices:
  hub: {speed: 60 GFLOP/s, memory: 8 GiB, nic: 1 Gbit/s}
  phone: {preset: pi4, memory: 1 GiB, speed: 5 GFLOP/s, upload: 20 Mbit/s, download: 50 Mbit/s}
  vm: {speed: 20 GFLOP/s, memory: 2 GiB, energy_per_flop: 50 pJ, energy_per_byte_sent: 20 nJ}
links:
  - {between: [hub, phone], bandwidth: 500 Mbit/s, latency: 1 ms}
  - {between: [hub, vm], bandwidth: 10 Gbit/s, latency: 1 ms}
media:
  wifi: {members: [phone], bandwidth: 40 Mbit/s, latency: 3 ms, relayed: true}
uplinks:
  host: {members: [vm], bandwidth: 2 Gbit/s}
"""


def load(folder: Path, text: str) -> Cluster:
    path = folder / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return Cluster.load(path)


def test_networks_of_every_kind_arrive(tmp_path: Path) -> None:
    cluster = load(tmp_path, NETWORKS)

    assert cluster.network is None
    wifi = Segment(
        name="wifi",
        kind="medium",
        members=("phone",),
        bandwidth_bytes_per_s=5e6,
        latency_s=3e-3,
        is_relayed=True,
    )
    host = Segment(name="host", kind="uplink", members=("vm",), bandwidth_bytes_per_s=250e6)
    assert cluster.segments == (wifi, host)
    hub, phone, vm = cluster.devices
    assert (hub.upload_bytes_per_s, hub.download_bytes_per_s) == (125e6, 125e6)
    assert (phone.upload_bytes_per_s, phone.download_bytes_per_s) == (2.5e6, 6.25e6)
    assert (vm.joules_per_flop, vm.joules_per_byte_sent) == pytest.approx((50e-12, 20e-9))
    assert not cluster.is_connected(1, 2)


def test_what_a_file_says_goes_before_the_preset(tmp_path: Path) -> None:
    phone = load(tmp_path, NETWORKS).devices[1]

    assert (phone.flops_per_second, phone.memory_bytes) == (5e9, 2**30)
    assert phone.memory_bandwidth_bytes_per_s == 5.5e9  # the preset's
    assert phone.power_idle_w == 2.7


def test_a_pair_may_be_disconnected(tmp_path: Path) -> None:
    cluster = load(
        tmp_path,
        "network: {bandwidth: 1 Gbit/s, latency: 0}\n"
        "devices: {a: {preset: pi4}, b: {preset: pi4}, c: {preset: pi4}}\n"
        "disconnected: [[c, b]]",
    )

    assert not cluster.is_connected(1, 2)
    assert not cluster.is_connected(2, 1)
    assert cluster.is_connected(0, 2)


def profiled(folder: Path, keys: str = "", *, version: str = PROFILE_FORMAT) -> Cluster:
    profile = DeviceProfile(
        name="box",
        flops_per_second=7e9,
        memory_bandwidth_bytes_per_s=3e9,
        memory_bytes=2**31,
        families=(FamilyCost(family="conv", terms=(("flop", 1e-10),)),),
    )
    # The samples, and whatever else a profile file holds, are not read.
    content = {"format": version, "profile": profile, "samples": [{"any": "thing"}]}
    (folder / "box.json").write_bytes(msgspec.json.encode(content))
    return load(
        folder,
        f"network: {{bandwidth: 1 Gbit/s, latency: 0}}\ndevices: {{box: {{profile: box.json{keys}}}}}",
    )


def test_a_profile_lies_beside_the_cluster_file(tmp_path: Path) -> None:
    (box,) = profiled(tmp_path).devices

    assert box.profile is not None
    assert box.profile.family("conv") == FamilyCost(family="conv", terms=(("flop", 1e-10),))
    assert box.profile.family("linear") is None
    assert (box.flops_per_second, box.memory_bytes, box.memory_bandwidth_bytes_per_s) == (7e9, 2**31, 3e9)


def test_a_profile_goes_before_a_preset_and_the_file_before_both(tmp_path: Path) -> None:
    (box,) = profiled(tmp_path, ", preset: pi4, memory: 1 GiB").devices

    assert (box.flops_per_second, box.memory_bytes) == (7e9, 2**30)
    assert box.power_idle_w == 2.7  # only the preset knows


def test_a_cluster_with_a_profile_survives_json(tmp_path: Path) -> None:
    """Plans carry it along."""
    cluster = profiled(tmp_path)

    assert msgspec.json.decode(msgspec.json.encode(cluster), type=Cluster) == cluster


def test_a_profile_and_a_speed_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"devices\.box: its speed is measured in box\.json"):
        profiled(tmp_path, ", speed: 3 GFLOP/s")


def test_a_profile_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"box\.json .*of a known version: 'edgeflow-profile-0'"):
        profiled(tmp_path, version="edgeflow-profile-0")


def test_a_file_that_is_no_profile(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"devices\.a\.profile: .*bad\.json is not an edgeflow profile"):
        load(tmp_path, "network: none\ndevices: {a: {profile: bad.json}}")


BASE = """
network: {bandwidth: 1 Gbit/s, latency: 0.2 ms}
devices:
  nuc: {speed: 60 GFLOP/s, memory: 8 GiB}
  pi: {speed: 10 GFLOP/s, memory: 2 GiB}
links:
  - {between: [nuc, pi], bandwidth: 100 Mbit/s, latency: 2 ms}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("speed: 60 GFLOP/s", "preset: pi7", "devices.nuc.preset: no preset 'pi7'; known: pi3b, pi4, pi5, "),
        ("speed: 60 GFLOP/s", "preset: [pi4]", "devices.nuc.preset: expected text, got ['pi4']"),
        ("speed: 60 GFLOP/s", "profile: no.json", "devices.nuc.profile: cannot read"),
        ("8 GiB", "8 GiB, nic: 1 Gbit/s, upload: 1 Mbit/s", "devices.nuc: give either nic or upload"),
        (
            "8 GiB",
            "8 GiB, nic: 0 bit/s",
            "device 'nuc': upload_bytes_per_s must be positive and finite, got 0",
        ),
        ("8 GiB", "8 GiB, energy_per_flop: -1 J", "joules_per_flop must be finite and not negative, got -1"),
        ("8 GiB", "8 GiB, energy_per_flop: 1 nW", "devices.nuc.energy_per_flop: unknown unit 'nW'"),
        ("links:", "media: {w: {members: [nuc]}}\nlinks:", "media.w: missing key 'bandwidth'"),
        (
            "links:",
            "media: {w: {members: [], bandwidth: 1 B/s}}\nlinks:",
            "media.w.members: expected device names, got []",
        ),
        (
            "links:",
            "media: {w: {members: [nuc, mac], bandwidth: 1 B/s}}\nlinks:",
            "no device 'mac'; devices: nuc, pi",
        ),
        (
            "links:",
            "media: {w: {members: [nuc, nuc], bandwidth: 1 B/s}}\nlinks:",
            "medium 'w' names a member twice: nuc, nuc",
        ),
        (
            "links:",
            "media: {w: {members: [nuc], bandwidth: 1 B/s, relayed: 1}}\nlinks:",
            "media.w.relayed: expected true or false, got 1",
        ),
        (
            "links:",
            "uplinks: {h: {members: [nuc], bandwidth: 1 B/s, relayed: true}}\nlinks:",
            "uplinks.h: unknown key 'relayed'; known keys: bandwidth, latency, members",
        ),
        (
            "links:",
            "uplinks: {h: {members: [nuc], bandwidth: -3 B/s}}\nlinks:",
            "uplink 'h': bandwidth_bytes_per_s must be positive and finite, got -3",
        ),
        (
            "links:",
            "uplinks: {h: {members: [nuc], bandwidth: 1 B/s}, i: {members: [nuc], bandwidth: 1 B/s}}\nlinks:",
            "device 'nuc' is a member of 2 uplinks: 'h' and 'i'",
        ),
        (
            "links:",
            "disconnected: [[nuc]]\nlinks:",
            "disconnected[0]: expected two device names, got ['nuc']",
        ),
        ("links:", "disconnected: [[nuc, pi]]\nlinks:", "link nuc->pi is given 2 times"),
        ("latency: 2 ms}", "latency: 2 ms, one_way: maybe}", "links[0].one_way: expected true or false"),
        ("[nuc, pi]", "[nuc, nuc]", "link nuc->nuc: a device needs no link to itself"),
        ("  pi: {speed", "  nuc: {speed", "key 'nuc' is given 2 times in what begins on line 4"),
        (
            "{bandwidth: 1 Gbit/s, latency: 0.2 ms}\ndevices:",
            "none\ndevices:\n  mac: {speed: 1 GFLOP/s, memory: 1 GiB}",
            "2 of 3 devices cannot be reached from the source 'mac' over any links: nuc, pi",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_file_key_and_value(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in BASE
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, BASE.replace(old, new, 1))

    assert said in str(caught.value)
    assert "cluster.yaml" in str(caught.value)
