"""What `edgeflow top` shows of a session, from a status alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edgeflow.cli.app import app
from edgeflow.cli.top import render
from edgeflow.errors import CodecError, ConfigError
from edgeflow.telemetry.status import DeviceStatus, EpochStatus, Status, read_status, write_status

STATUS = Status(
    time_s=90.0,
    strategy="rows",
    objective="latency",
    predicted_s=0.02,
    num_answered=1234,
    num_replayed=3,
    num_under_way=2,
    num_waiting=5,
    latencies_s=(0.01, 0.02, 0.08),
    devices=(
        DeviceStatus(
            name="nuc",
            address="nuc:7070",
            is_up=True,
            is_used=True,
            ratio=3.02,
            source="kernels",
            load=0.5,
            num_active_requests=1,
        ),
        DeviceStatus(name="pi4", address="pi4:7070", is_up=True, is_used=False, source="probe"),
        DeviceStatus(name="old", address="old:7070", is_up=False, is_used=False),
    ),
    epochs=(
        EpochStatus(number=11, state="draining", devices=("nuc", "pi4"), under_way=1),
        EpochStatus(number=12, state="open", devices=("nuc",), under_way=1),
    ),
    decisions=((60.0, "stay: a gain of 2% is less than 10%"), (80.0, "switch: a gain of 31%")),
)


def text(status: Status) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(render(status))
    return capture.get()


def test_everything_is_shown() -> None:
    shown = text(STATUS)
    lines = shown.splitlines()
    assert "up 90 s" in lines[0] and "answered 1234" in lines[0] and "waiting 5" in lines[0]
    assert "▁" in shown or "█" in shown
    assert "median 20" in shown and "longest 80" in shown
    (nuc,) = (line for line in lines if "nuc:7070" in line)
    assert "in use" in nuc and "3.02x" in nuc and "kernels" in nuc and "50%" in nuc
    assert "idle" in next(line for line in lines if "pi4:7070" in line)
    assert "lost" in next(line for line in lines if "old:7070" in line)
    assert "draining" in shown and "nuc, pi4" in shown
    # The latest decision comes first.
    assert shown.index("a gain of 31%") < shown.index("less than 10%")


def test_a_session_that_has_done_nothing() -> None:
    empty = Status(
        time_s=0.0,
        strategy="single",
        objective="latency",
        predicted_s=0.02,
        num_answered=0,
        num_replayed=0,
        num_under_way=0,
        num_waiting=0,
    )
    assert "no request yet" in text(empty) and "no decision yet" in text(empty)


def test_a_status_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for _ in range(2):
        write_status(path, STATUS)
    assert read_status(path) == STATUS
    assert [item.name for item in tmp_path.iterdir()] == ["status.json"]


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_status(path, STATUS)
    result = CliRunner().invoke(app, ["top", str(path), "--once"])
    assert result.exit_code == 0 and "nuc:7070" in result.output


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does a session write it"):
        read_status(tmp_path / "nothing")
    (tmp_path / "other").write_text("{}")
    with pytest.raises(CodecError, match="holds no status"):
        read_status(tmp_path / "other")
