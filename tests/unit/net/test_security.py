"""Access of a process: where it comes from, and what it admits."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.errors import ConfigError
from edgeflow.net.security import MAX_TOKEN_CHARS, MIN_TOKEN_CHARS, Access, Credentials, check_token

TOKEN = "0123456789abcdef"


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\n")
    return str(path)


def test_a_token_comes_from_the_option_then_the_file_then_the_variable(token_file: str) -> None:
    environment = {"EDGEFLOW_TOKEN": "token-of-the-environment"}
    assert Access.of(environment=environment).token == "token-of-the-environment"
    assert Access.of(environment=environment | {"EDGEFLOW_TOKEN_FILE": token_file}).token == TOKEN
    other = {"EDGEFLOW_TOKEN_FILE": "/does/not/exist"}
    assert Access.of(token_file=token_file, environment=other).token == TOKEN
    with pytest.raises(ConfigError, match="cannot read /does/not/exist"):
        Access.of(environment=other)


def test_without_settings_nothing_is_shown_and_everybody_admitted() -> None:
    access = Access.of(environment={"EDGEFLOW_TOKEN": "", "EDGEFLOW_IDENTITY": ""})
    assert access == Access() and access.metadata == ()
    assert access.admits(None) and access.admits("anything")


def test_an_identity_names_folder_and_host(certificates: Path) -> None:
    access = Access.of(environment={"EDGEFLOW_IDENTITY": str(certificates / "here")})
    assert access.credentials == Credentials.load(certificates, "here")
    with pytest.raises(ConfigError, match=r"cannot read .*nobody\.pem"):
        Access.of(certificates / "nobody", environment={})


@pytest.mark.parametrize("shown", [None, "", b"", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä" * 16])
def test_only_the_token_itself_is_admitted(shown: str | bytes | None) -> None:
    access = Access(token=TOKEN)
    assert not access.admits(shown)
    assert access.admits(TOKEN) and access.admits(TOKEN.encode())
    assert access.metadata == (("edgeflow-token", TOKEN),)


@pytest.mark.parametrize("size", [MIN_TOKEN_CHARS, MAX_TOKEN_CHARS])
def test_the_limits_of_a_token_are_inclusive(size: int) -> None:
    assert check_token(b"x" * size, where="here") == "x" * size
    outside = size - 1 if size == MIN_TOKEN_CHARS else size + 1
    with pytest.raises(
        ConfigError, match=f"here: a join token must have 16 to 512 characters, got {outside}"
    ):
        check_token(b"x" * outside, where="here")


@pytest.mark.parametrize("text", [b"0123456789 abcdef", b"0123456789abcde\xff", b"0123456789abcd\x00f"])
def test_a_token_is_printable(text: bytes) -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        check_token(text, where="here")
