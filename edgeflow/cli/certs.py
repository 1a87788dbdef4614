"""``edgeflow certs``: the certificates of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflow.cli.screen import note, say


def certs(
    hosts: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[=ADDRESS,...]...",
            help="Hosts to make a certificate for, each with the names and IP addresses by which others "
            "reach it: `pi4=192.168.1.20,pi4.local`.",
            show_default=False,
        ),
    ],
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to.")] = Path(
        "certs"
    ),
    days: Annotated[int, typer.Option(min=1, help="How long the hosts' certificates are valid.")] = 397,
    ca_days: Annotated[
        int, typer.Option(min=1, help="How long the authority's certificate is valid, when it is made.")
    ] = 3650,
) -> None:
    """Make certificates for hosts, and the authority and join token when the folder has none yet.

    Nothing is overwritten. Each host gets ca.pem, its NAME.pem and NAME.key, and token; ca.key stays here.
    """
    from edgeflow.net.certificates import (
        CA_KEY_FILE,
        has_authority,
        make_authority,
        make_host,
        parse_host,
    )

    parsed = [parse_host(host) for host in hosts]
    if has_authority(folder):
        note(f"signing with the authority in {folder}")
    else:
        for path in make_authority(folder, days=ca_days):
            say(f"{path}")
    for name, addresses in parsed:
        for path in make_host(folder, name, addresses, days=days):
            say(f"{path}")
    note(f"keep {folder / CA_KEY_FILE} here: whoever has it can join the cluster")
    name = parsed[0][0]
    note(
        f"copy ca.pem, {name}.pem, {name}.key and token to a folder on {name}, then there: edgeflow worker "
        f"--bind 0.0.0.0:7070 --identity FOLDER/{name} --token-file FOLDER/token"
    )
