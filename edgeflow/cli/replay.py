"""``edgeflow replay``: an incident's events and decisions, and whether this version decides the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeflow.cli.screen import say
from edgeflow.errors import ConfigError

if TYPE_CHECKING:
    from edgeflow.machine import Machine


def replay(
    file: Annotated[Path, typer.Argument(help="A file of EDGEFLOW_INCIDENTS, or of Session.save_incidents.")],
    story: Annotated[
        str | None, typer.Option(metavar="KEY", help="Show only calls about a request, an epoch or a device.")
    ] = None,
) -> None:
    """Replay what a state machine was told, and compare its decisions with the recorded ones."""
    from edgeflow.incident import ReplayError, load_incident, machine_in

    kinds = _machines()
    name = machine_in(file)
    if name not in kinds:
        raise ConfigError(f"{file} is an incident of {name[:200]!r}; known: {', '.join(sorted(kinds))}")
    incident = load_incident(file, kinds[name])
    for index, call in enumerate(incident.calls):
        if story is None or story in repr((call.args, call.kwargs)):
            arguments = [*map(repr, call.args), *(f"{key}={value!r}" for key, value in call.kwargs.items())]
            say(f"{index:6}  {call.method}({', '.join(arguments)})")
    try:
        incident.replay()
    except ReplayError as error:
        say(f"differs: {error}")
        raise typer.Exit(1) from error
    say(f"{len(incident.calls)} calls of {name}: every decision is the same")


def _machines() -> dict[str, type[Machine]]:
    """Return the state machines by name."""
    from edgeflow.coordinator.gather import Gatherer
    from edgeflow.coordinator.ledger import Ledger
    from edgeflow.coordinator.members import Members
    from edgeflow.coordinator.requests import ClientState
    from edgeflow.coordinator.state import DeploymentState
    from edgeflow.rank.state import RankState
    from edgeflow.worker.registry.state import RegistryState
    from edgeflow.worker.state import WorkerState

    kinds: tuple[type[Machine], ...] = (
        ClientState,
        DeploymentState,
        Gatherer,
        Ledger,
        Members,
        RankState,
        RegistryState,
        WorkerState,
    )
    return {f"{kind.__module__}.{kind.__qualname__}": kind for kind in kinds}
