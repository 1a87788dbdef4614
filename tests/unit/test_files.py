"""Files of ours: what is none, or of another version, is refused by name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeflow.errors import CodecError, ConfigError
from edgeflow.files import read_json, read_text


class Letter(msgspec.Struct, frozen=True):
    format: str
    text: str


def read(path: Path) -> Letter:
    return read_json(path, {"letter-1": Letter}, what="letter")


def test_what_is_of_this_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"format": "letter-1", "text": "hello", "more": [1]}')

    assert read(tmp_path / "a.json") == Letter("letter-1", "hello")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b"[" * 5000, b'{"more": ' + b"[" * 100_000, b'{"format": "letter-1", "text": 3}'],
    ids=["empty", "no-keys", "no-text", "deep", "deep-inside", "wrong-type"],
)
def test_what_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(CodecError, match=r"bad\.json is not an edgeflow letter: "):
        read(tmp_path / "bad.json")


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_bytes(b'{"format": "letter-9", "text": "hello"}')
    with pytest.raises(CodecError, match=r"new\.json is not .* letter of a known version: 'letter-9'"):
        read(tmp_path / "new.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read letter .*no\.json: No such file"):
        read(tmp_path / "no.json")
    with pytest.raises(ConfigError, match=r"cannot read note .*no\.txt: No such file"):
        read_text(tmp_path / "no.txt", "note")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read note .*a\.txt: 'utf-8' codec"):
        read_text(tmp_path / "a.txt", "note")
