"""Files that commands write: checked before the work begins, and reported when they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeflow import files
from edgeflow.cli.screen import note
from edgeflow.errors import ConfigError
from edgeflow.files import make_folder

__all__ = ["check_writable", "make_folder", "writing"]


def check_writable(path: Path | None) -> None:
    """Raise `ConfigError` if ``path`` cannot become a file, before the work whose result it is to hold."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate the operating system's errors while ``path`` is written; then report it on stderr."""
    with files.writing(path):
        yield
    note(f"written to {path}")
