"""Options: contradictions are usage errors, wrong quantities are configuration errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from edgeflow.cli.options import choose_cluster, choose_transport, parse_speeds, parse_workers
from edgeflow.errors import ConfigError

FILE = Path(__file__).parents[3] / "deploy" / "clusters" / "home.yaml"


def test_a_file() -> None:
    cluster = choose_cluster(FILE)

    assert cluster is not None
    assert cluster.name == "home"


def test_speeds_with_quantities() -> None:
    cluster = choose_cluster(None, speeds="1,0.5", bandwidth="100 Mbit/s", latency="1 ms", memory="2 GiB")

    assert cluster is not None
    assert cluster.relative_speeds == (1.0, 0.5)
    assert cluster.network.latency_s == 1e-3
    assert cluster.devices[0].memory_bytes == 2 * 2**30


def test_a_plan_brings_its_cluster() -> None:
    assert choose_cluster(None, plan=Path("plan.json")) is None


@pytest.mark.parametrize(
    ("file", "options"),
    [
        (None, {}),
        (FILE, {"speeds": "1"}),
        (FILE, {"bandwidth": "1 Gbit/s"}),
        (FILE, {"plan": Path("plan.json")}),
        (None, {"plan": Path("plan.json"), "memory": "1 GiB"}),
        (None, {"speeds": "fast"}),
        (None, {"speeds": ""}),
        (None, {"speeds": "1,,2"}),
    ],
)
def test_contradictions_are_usage_errors(file: Path | None, options: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter):
        choose_cluster(file, **options)


@pytest.mark.parametrize(
    "options", [{"speeds": "1,-1"}, {"speeds": "nan"}, {"speeds": "1", "latency": "1 parsec"}]
)
def test_wrong_quantities_are_configuration_errors(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        choose_cluster(None, **options)


def test_speeds_may_have_spaces() -> None:
    assert parse_speeds(" 1, .25") == [1.0, 0.25]


def test_workers() -> None:
    assert parse_workers(None, local=True) is None
    assert parse_workers("a:1, b:2", local=False) == ["a:1", "b:2"]


@pytest.mark.parametrize(("text", "local"), [("a:1,,b:2", False), ("", False), ("a:1", True)])
def test_wrong_workers_are_usage_errors(text: str, local: bool) -> None:
    with pytest.raises(typer.BadParameter):
        parse_workers(text, local=local)


def test_transports() -> None:
    assert [choose_transport(name) for name in ("auto", "tcp", "grpc")] == ["auto", "tcp", "grpc"]
    assert choose_transport("auto", on_workers=False) == "auto"


@pytest.mark.parametrize("name", ["", "udp", "TCP", "tcp,grpc"])
def test_an_unknown_transport_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"known: auto, tcp, grpc"):
        choose_transport(name)
