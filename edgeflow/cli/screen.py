"""Output of commands: results on stdout, progress and errors on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

T = TypeVar("T")


def say(text: str = "") -> None:
    """Print a line of the result."""
    typer.echo(text)


def say_table(table: Table) -> None:
    """Print a table of the result; with 160 columns if stdout is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def say_json(value: Any) -> None:
    """Print a result as JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def complain(text: str) -> None:
    """Print an error to stderr."""
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(text, err=True)


def note(text: str) -> None:
    """Print a remark that is not part of the result to stderr."""
    typer.echo(text, err=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner while work of unknown length runs; nothing if stderr is not a terminal."""
    with _progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        progress.add_task(what, total=None)
        yield


def counted(items: Iterable[T], *, what: str, total: int) -> Iterator[T]:
    """Yield ``items`` and show a progress bar; no bar if stderr is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _progress(*columns) as progress:
        yield from progress.track(items, total=total, description=what)


@contextmanager
def bar(what: str) -> Iterator[Callable[[float, float], None]]:
    """Show a progress bar; yield the function ``move(done, total)`` that moves it."""
    with _progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _progress(*columns: Any) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
