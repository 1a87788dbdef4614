"""Profile files: what is saved comes back, and a cluster file can refer to it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeflow.cluster import Cluster
from edgeflow.cluster.profile import Conditions, DeviceProfile, FamilyCost, MessageCost
from edgeflow.cost.kernels import Sample
from edgeflow.cost.profile_file import PeerLink, ProfileFile, save_profile
from edgeflow.cost.work import Work
from edgeflow.errors import ConfigError

FOUND = ProfileFile(
    profile=DeviceProfile(
        name="box",
        flops_per_second=7e9,
        memory_bandwidth_bytes_per_s=3e9,
        memory_bytes=2**31,
        families=(FamilyCost(family="conv", terms=(("flop", 1e-10),), num_samples=1, median_error=0.1),),
        message=MessageCost(send_s=1e-4, receive_s=2e-4),
        conditions=Conditions(processor="A", num_cores=4, torch="2.13.0", date="2026-01-01", load=0.5),
    ),
    samples=(Sample(Work(family="conv", flops=10), 1e-6),),
    peers=(PeerLink(address="a:1", name="a", latency_s=1e-3, bandwidth_bytes_per_s=1e7, method="by hand"),),
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_profile(FOUND, tmp_path / "box.json")

    assert msgspec.json.decode((tmp_path / "box.json").read_bytes(), type=ProfileFile) == FOUND


def test_a_cluster_file_can_refer_to_it(tmp_path: Path) -> None:
    save_profile(FOUND, tmp_path / "box.json")
    (tmp_path / "home.yaml").write_text(
        "network: none\ndevices: {box: {profile: box.json}}", encoding="utf-8"
    )

    assert Cluster.load(tmp_path / "home.yaml").devices[0].profile == FOUND.profile


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write profile"):
        save_profile(FOUND, tmp_path / "no" / "box.json")


def test_a_profile_from_before_dtypes_is_one_of_fp32() -> None:
    old = (
        b'{"name":"box","flops_per_second":1e9,"memory_bandwidth_bytes_per_s":1e9,"memory_bytes":1,'
        b'"families":[{"family":"conv","terms":[["flop",1e-10]],"num_samples":1,"median_error":0.1}]}'
    )

    profile = msgspec.json.decode(old, type=DeviceProfile)

    assert profile.family("conv") == profile.family("conv", "bfloat16")
    assert profile.families[0].dtype == "float32"
    assert profile.rate("int8") == 1e9
