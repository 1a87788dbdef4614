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
            help="Hosts to make certificates for, each with the names and IP addresses that others use "
            "for it: `pi4=192.168.1.20,pi4.local`.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write to.")
    ] = Path("certs"),
    days: Annotated[int, typer.Option(min=1, help="Validity of the hosts' certificates, in days.")] = 397,
    ca_days: Annotated[
        int, typer.Option(min=1, help="Validity of a new authority's certificate, in days.")
    ] = 3650,
) -> None:
    """Make certificates for hosts; also an authority and a join token if the folder has none.

    No file is overwritten. Each host needs ca.pem, its NAME.pem and NAME.key, and token; ca.key stays here.
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
    note(f"keep {folder / CA_KEY_FILE} secret: anyone who has it can join the cluster")
    name = parsed[0][0]
    note(
        f"copy ca.pem, {name}.pem, {name}.key and token to a folder on {name}, then run there: edgeflow "
        f"worker --bind 0.0.0.0:7070 --identity FOLDER/{name} --token-file FOLDER/token"
    )
