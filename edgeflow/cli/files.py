"""Files that commands write: checked before the work begins, and said when they are there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeflow.cli.screen import note
from edgeflow.errors import ConfigError


def check_writable(path: Path | None) -> None:
    """Raise `ConfigError` if ``path`` cannot become a file, before anybody waits for its contents."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say where a file went; translate what the operating system says against it."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    note(f"written to {path}")


def make_folder(path: Path) -> None:
    """Make a folder for results, and those above it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path}: {error.strerror or error}") from error
