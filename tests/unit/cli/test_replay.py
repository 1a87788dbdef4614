"""``edgeflow replay``: the story of an incident, and whether it is decided again."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from edgeflow.cli.app import app
from edgeflow.incident import save_incident
from edgeflow.rank import events as r
from edgeflow.rank.schedule import FrameKey
from edgeflow.rank.state import RankState


def saved(folder: Path) -> Path:
    state, frame = RankState(), FrameKey(0, 7)
    state.handle(r.EpochOpened(epoch=1, receives=frozenset({frame})))
    state.handle(r.FrameArrived(1, 41, frame, 8))
    state.handle(r.RequestFinished(1, 41))
    path = folder / "rank.json"
    save_incident(state, path)
    return path


def test_the_decisions_are_made_again(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(saved(tmp_path))])
    assert result.exit_code == 0, result.output
    assert "RequestFinished(epoch=1, request_id=41)" in result.stdout
    assert "3 calls of edgeflow.rank.state.RankState: every decision is the same" in result.stdout


def test_a_story_is_about_one_request(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(saved(tmp_path)), "--story", "request_id=41"])
    assert "EpochOpened" not in result.stdout and "FrameArrived" in result.stdout


def test_another_decision_is_shown(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_text(path.read_text().replace("FinishRequest", "DropRequest"))
    result = CliRunner().invoke(app, ["replay", str(path)])
    assert result.exit_code == 1
    assert "differs: call 2 of 3, handle" in result.stdout


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(saved(tmp_path).read_text().replace("edgeflow.rank.state.RankState", "os.system"))
    result = CliRunner().invoke(app, ["replay", str(path)])
    assert result.exit_code == 3 and "os.system" in result.stderr
