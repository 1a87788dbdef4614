"""Read and write files; an error names the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from edgeflow.errors import CodecError, ConfigError


class _Header(msgspec.Struct):
    """What every JSON file of ours says of itself: its kind and version in one word."""

    format: str


SavedT = TypeVar("SavedT")


def read_text(path: Path, what: str) -> str:
    """Return what a text file in UTF-8 holds; ``what`` it is goes into the message.

    Raises:
        ConfigError: If it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}"
        ) from error


def read_json(path: Path, kinds: Mapping[str, type[SavedT]], *, what: str) -> SavedT:
    """Read a JSON file of ours.

    Args:
        kinds: Format, as the file's ``format`` names it -> the struct that such a file holds.
        what: The kind of file, for messages: ``plan``.

    Raises:
        ConfigError: If it cannot be read.
        CodecError: If it is something else, or of another version.
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
    """Translate the operating system's errors while ``path`` is written.

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
