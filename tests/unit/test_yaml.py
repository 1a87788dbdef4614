"""YAML that people write: read as the standard says, but for keys that stand twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.errors import ConfigError
from edgeflow.yaml_ import read_yaml


def read(folder: Path, content: bytes) -> object:
    (folder / "a.yaml").write_bytes(content)
    return read_yaml(folder / "a.yaml", "cluster file")


def test_a_merged_mapping_gives_way(tmp_path: Path) -> None:
    text = b"base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}"

    assert read(tmp_path, text) == {"base": {"a": 1, "b": 2}, "other": {"a": 1, "b": 3}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: {b: 1, c: 2,\n b: 3}", r"a\.yaml: key 'b' is given 2 times in what begins on line 1"),
        (b"a: [", r"a\.yaml is not YAML"),
        (b"a: !!python/object/apply:os.getcwd []", r"a\.yaml is not YAML"),
        (b"\xff\xfe\x00\xd8", r"cannot read cluster file .*a\.yaml: 'utf-8' codec"),
    ],
    ids=["twice", "cut-off", "object", "no-text"],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read cluster file"):
        read_yaml(tmp_path / "nowhere.yaml", "cluster file")
