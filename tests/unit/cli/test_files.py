"""Files of commands: refused before the work, reported after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.cli.files import check_writable, make_folder, writing
from edgeflow.errors import ConfigError


def test_a_folder_or_a_missing_folder_cannot_be_written(tmp_path: Path) -> None:
    check_writable(None)
    check_writable(tmp_path / "new.json")
    with pytest.raises(ConfigError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere"):
        check_writable(tmp_path / "nowhere" / "new.json")


def test_a_written_file_is_reported_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.txt"
    with writing(path):
        path.write_text("x")

    said = capsys.readouterr()
    assert said.err == f"written to {path}\n"
    assert said.out == ""


def test_a_failed_write_is_not_reported_but_translated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*: No such file"), writing(tmp_path / "no" / "a"):
        (tmp_path / "no" / "a").write_text("x")
    assert capsys.readouterr().err == ""


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        make_folder(tmp_path / "file" / "b")
