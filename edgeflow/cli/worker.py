"""``edgeflow worker``: run one worker until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflow.cli import options
from edgeflow.units import parse_bytes


def worker(
    bind: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0 takes a free one.")
    ] = "127.0.0.1:7070",
    threads: Annotated[int, typer.Option(min=1, help="Number of compute threads.")] = 1,
    executor: Annotated[
        str,
        typer.Option(help="Back end: auto (the best one installed), onnxruntime, torch or openvino."),
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="Compute device: cpu; with torch also cuda, cuda:1 ...")
    ] = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Compute in float16 or bfloat16, with torch; answers are then rounded accordingly.",
            show_default=False,
        ),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Emulate a slower device, with this share of the speed."),
    ] = 1.0,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory limit of weights and buffers, such as 2 GiB. (default: half of the host's memory)"
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder to keep weights in between runs.", show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of this device in cluster files. (default: the host's name)"),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Registry to join, of `edgeflow serve --registry`.", show_default=False
        ),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --join: address that others use for this worker. (default: the one it listens on)",
            show_default=False,
        ),
    ] = None,
    mdns: Annotated[bool, typer.Option("--mdns", help="Announce this worker on the local network.")] = False,
    identity: options.Identity = None,
    token_file: options.TokenFile = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept other hosts without encryption and authentication.")
    ] = False,
    transport: Annotated[
        str,
        typer.Option(
            metavar="auto|tcp|grpc",
            help="Transport of activations: auto and tcp open a port for it, grpc does not.",
        ),
    ] = "auto",
    data_port: Annotated[int, typer.Option(help="Port for activations; 0 takes a free one.")] = 0,
) -> None:
    """Run one worker until it is interrupted or terminated; it prints its address on stdout."""
    from edgeflow.worker.server import serve

    options.choose_transport(transport)
    serve(
        bind,
        threads=threads,
        speed=speed,
        executor=executor,
        device=device,
        dtype=dtype,
        cache_dir=cache_dir,
        memory_limit_bytes=None if memory is None else parse_bytes(memory, what="--memory"),
        insecure=insecure,
        transport=transport,
        data_port=data_port,
        access=options.choose_access(identity, token_file),
        name=name,
        join=join,
        advertise=advertise,
        mdns=mdns,
    )
