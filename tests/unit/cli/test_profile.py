"""``edgeflow profile``: what it prints and saves; measuring itself is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from edgeflow.cli.app import app
from edgeflow.cluster.presets import PRESETS
from edgeflow.cluster.profile import Conditions, DeviceProfile, MeasuredPower, MessageCost
from edgeflow.cost.kernels import Sample, fit_families
from edgeflow.cost.profile_file import PeerLink, ProfileFile
from edgeflow.cost.work import Work
from edgeflow.measure import device
from edgeflow.net.security import Access

SAMPLES = tuple(Sample(Work(family="conv", flops=n * 10**6), n * 1e-3) for n in range(1, 61))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a measurement was asked for; it answers at once."""
    calls: list[dict[str, Any]] = []

    def profile_device(**options: Any) -> ProfileFile:
        calls.append(options)
        options["on_case"](1, 1)
        profile = DeviceProfile(
            name="box",
            flops_per_second=1e9,
            memory_bandwidth_bytes_per_s=2**30,
            memory_bytes=2**31,
            families=fit_families(SAMPLES),
            rates=(("bfloat16", 2e9),),
            message=MessageCost(send_s=1e-4, receive_s=2e-4),
            power=MeasuredPower(idle_w=3.0, busy_w=7.5, meter="rapl"),
            conditions=Conditions(processor="Some CPU", num_cores=4, num_threads=2, torch="2.13.0"),
        )
        peers = tuple(
            PeerLink(address=address, name="pi", latency_s=2e-3, bandwidth_bytes_per_s=1.25e7, method="ping")
            for address in options["peers"]
        )
        return ProfileFile(profile=profile, samples=SAMPLES, peers=peers)

    monkeypatch.setattr(device, "profile_device", profile_device)
    return calls


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["profile", *arguments])


def saved(path: Path) -> ProfileFile:
    return msgspec.json.decode(path.read_bytes(), type=ProfileFile)


def test_it_says_what_was_measured_under_what_conditions(asked: list[dict[str, Any]]) -> None:
    result = invoke("--threads", "2", "--peers", "pi:7070, pi2:7070")

    assert result.exit_code == 0, result.output
    assert (asked[0]["threads"], asked[0]["peers"]) == (2, ["pi:7070", "pi2:7070"])
    assert (asked[0]["transport"], asked[0]["access"]) == ("auto", Access())
    for said in (
        "box: Some CPU, 2 of 4 cores, torch 2.13.0, load 0 when measuring began",
        "1.0 GFLOP/s on large products, 1.00 GiB/s of memory, 2.00 GiB free",
        "2.0 GFLOP/s on large products in bfloat16, 2.00 times the rate of float32",
        "float32 ",
        "a frame costs 100 µs to send and 200 µs to receive",
        "power, measured by rapl: 3.0 W before, 7.5 W while measuring",
        "to pi (pi2:7070): 2.0 ms, 100 Mbit/s (ping)",
        "conv",
    ):
        assert said in result.output


def test_what_is_shown_to_peers_and_the_way_to_them(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-this-cluster")
    result = invoke("--peers", "a:1", "--transport", "grpc", "--token-file", str(tmp_path / "token"))

    assert result.exit_code == 0, result.output
    assert (asked[0]["transport"], asked[0]["access"].token) == ("grpc", "a-token-of-this-cluster")
    assert invoke("--peers", "a:1", "--identity", str(tmp_path / "nobody")).exit_code == 3


def test_it_is_saved_with_its_samples(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    result = invoke("--output", str(tmp_path / "box.json"), "--json")

    assert result.exit_code == 0, result.output
    assert saved(tmp_path / "box.json").samples == SAMPLES
    shown = json.loads(result.stdout)
    assert shown["profile"]["name"] == "box"
    assert shown["num_samples"] == 60
    assert shown["profile"]["rates"] == [["bfloat16", 2e9]]
    assert shown["profile"]["families"][0]["dtype"] == "float32"


def test_learning_says_its_error_on_samples_held_out(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    result = invoke("--learn", "--output", str(tmp_path / "box.json"))

    assert result.exit_code == 0, result.output
    assert "learned from 60 samples: median error on samples held out" in result.output
    assert saved(tmp_path / "box.json").profile.learned is not None


def test_presets_are_listed_with_their_sources(asked: list[dict[str, Any]]) -> None:
    result = invoke("--presets")

    assert result.exit_code == 0
    assert asked == []
    for preset in PRESETS.values():
        assert preset.name in result.output
    assert "estimated" in result.output
    assert json.loads(invoke("--presets", "--json").stdout)[0]["name"] == "pi3b"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--peers", "a:1,,b:2"),
        ("--peers", "a:1", "--transport", "udp"),
        ("--transport", "grpc"),
        ("--threads", "0"),
        ("--seconds", "0"),
    ],
)
def test_usage(asked: list[dict[str, Any]], arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments).exit_code == 2
    assert asked == []


def test_a_folder_that_is_not_there(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    assert invoke("--output", str(tmp_path / "no" / "box.json")).exit_code == 3
