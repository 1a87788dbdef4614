"""Read and write files; an error names the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from edgeflow.errors import CodecError, ConfigError


class _Header(msgspec.Struct):
    """The field of every edgeflow JSON file: its kind and version in one word."""

    format: str


SavedT = TypeVar("SavedT")


def read_text(path: Path, what: str) -> str:
    """Return the content of a UTF-8 text file; ``what`` names the kind of file in errors.

    Raises:
        ConfigError: If it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}"
        ) from error


def read_json(path: Path, kinds: Mapping[str, type[SavedT]], *, what: str) -> SavedT:
    """Read an edgeflow JSON file.

    Args:
        kinds: Value of the file's ``format`` field -> the struct to decode.
        what: The kind of file, for messages: ``plan``.

    Raises:
        ConfigError: If it cannot be read.
        CodecError: If it is malformed, or of an unknown kind or version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror or error}") from error
    try:
        format = msgspec.json.decode(content, type=_Header).format
        if format not in kinds:
            raise CodecError(f"{path} is not an edgeflow {what} of a known version: {format!r}")
        return msgspec.json.decode(content, type=kinds[format])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"{path} is not an edgeflow {what}: {error}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate the operating system's errors while the caller writes ``path``.

    Raises:
        ConfigError: If it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder and its parents, unless they exist.

    Raises:
        ConfigError: If the operating system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path}: {error.strerror or error}") from error
