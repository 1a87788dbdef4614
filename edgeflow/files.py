"""Read and write files; an error names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from edgeflow.errors import CodecError, ConfigError


class Saved(Protocol):
    """What a JSON file of ours holds: its format says what it is, and of which version."""

    @property
    def format(self) -> str: ...


SavedT = TypeVar("SavedT", bound=Saved)


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


def read_json(path: Path, kind: type[SavedT], *, what: str, format: str) -> SavedT:
    """Read a JSON file of ours.

    Args:
        kind: The struct that it holds.
        what: Of ours it is, for messages: ``plan``.
        format: That it has to say it is.

    Raises:
        ConfigError: If it cannot be read.
        CodecError: If it is something else, or of another version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror or error}") from error
    try:
        found = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"{path} is not an edgeflow {what}: {error}") from error
    if found.format != format:
        raise CodecError(f"{path} is not an edgeflow {what} of a known version: {found.format!r}")
    return found


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
