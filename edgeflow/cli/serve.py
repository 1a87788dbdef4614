"""``edgeflow serve``: serve a model by the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeflow.cli import options
from edgeflow.cli.deployed import deployed
from edgeflow.cli.models import load_subject
from edgeflow.cli.plans import make_plan
from edgeflow.cli.screen import note, say, waiting
from edgeflow.cli.workers import await_workers
from edgeflow.cluster.device import Device
from edgeflow.errors import ConfigError
from edgeflow.units import parse_seconds
from edgeflow.versions import installed_version

if TYPE_CHECKING:
    from edgeflow.worker.registry.joined import JoinedWorkers


def serve(
    model: options.Model,
    input_shape: options.InputShape = None,
    cluster: options.ClusterFile = None,
    speeds: options.Speeds = None,
    bandwidth: options.Bandwidth = None,
    latency: options.Latency = None,
    memory: options.Memory = None,
    plan: options.PlanFile = None,
    strategy: options.Strategy = "auto",
    workers: options.Workers = None,
    local: options.Local = False,
    transport: options.Transport = "auto",
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Run a registry at this address, and wait for workers that `--join` it.",
            show_default=False,
        ),
    ] = None,
    mdns: Annotated[
        bool, typer.Option("--mdns", help="Find workers that announce themselves on the local network.")
    ] = False,
    wait: Annotated[str, typer.Option(metavar="TIME", help="How long to wait for workers.")] = "60 s",
    name: Annotated[
        str | None, typer.Option(help="Name of the model for clients. (default: the model's own)")
    ] = None,
    host: Annotated[str, typer.Option(help="Address at which to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of HTTP; 0 chooses a free one.")] = 8000,
    grpc_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of gRPC; 0 chooses a free one.")
    ] = 8001,
    queue: Annotated[
        int, typer.Option(min=1, help="Limit of requests in flight; further ones are refused (HTTP 429).")
    ] = 64,
    batch: options.Batch = 1,
    batch_wait: Annotated[
        str, typer.Option(metavar="TIME", help="With --batch: how long a request waits for others.")
    ] = "2 ms",
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Time limit of a request.")] = "60 s",
    identity: options.Identity = None,
    token_file: options.TokenFile = None,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls", help="Use TLS for clients too; they must show a certificate of the same authority."
        ),
    ] = False,
    balance: Annotated[
        bool, typer.Option("--balance", help="Re-plan when the speed of devices changes.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Admit clients from other hosts without encryption.")
    ] = False,
    seed: options.Seed = 0,
) -> None:
    """Serve a model over HTTP and gRPC until interrupted or terminated.

    Both servers speak the Open Inference Protocol v2 (KServe, Triton); /metrics is for Prometheus.
    """
    from edgeflow.coordinator.answers import default_in_flight
    from edgeflow.coordinator.batcher import Batcher
    from edgeflow.net.address import check_bind
    from edgeflow.net.security import Access

    shapes = options.parse_input_shapes(input_shape)
    addresses = options.parse_workers(workers, local=local)
    if sum((addresses is not None, local, registry is not None, mdns)) != 1:
        raise typer.BadParameter("give one of --workers, --local, --registry and --mdns")
    options.choose_transport(transport)
    access = options.choose_access(identity, token_file)
    if tls and access.credentials is None:
        raise typer.BadParameter("--tls needs --identity")
    # Without --tls the certificates protect only the connections with workers, not those with clients.
    check_bind(f"{host}:{port}", insecure=insecure, access=access if tls else Access())
    timeout_s = parse_seconds(timeout, what="--timeout")
    wait_s = parse_seconds(wait, what="--wait")
    batch_wait_s = parse_seconds(batch_wait, what="--batch-wait")
    try:
        from edgeflow.serving.metrics import Metrics
        from edgeflow.serving.server import serve_model
        from edgeflow.serving.service import ModelService
    except ImportError as error:
        raise ConfigError(f"{error}; pip install 'edgeflow-inference[serve]'") from error

    chosen = options.choose_cluster(
        cluster, speeds=speeds, bandwidth=bandwidth, latency=latency, memory=memory, plan=plan
    )
    subject = load_subject(model, seed=seed, input_shapes=shapes)
    # Sessions must return plain containers of tensors, not an instance of the module's output class.
    single = replace(subject.graph, unflatten=None)
    together = replace(subject.batch(batch), single=single) if batch > 1 else None
    subject = replace(subject, graph=single if together is None else together.graph)
    with waiting("planning"):
        made = make_plan(subject, chosen, strategy=strategy, file=plan)
    with ExitStack() as stack:
        found: JoinedWorkers | None = None
        if registry is not None or mdns:
            devices = [device.name for device in made.cluster.devices]
            needed = [devices[rank] for rank in made.devices]
            found = stack.enter_context(
                await_workers(needed, registry=registry, access=access, wait_s=wait_s, insecure=insecure)
            )
            # The list needs an address for every device; those that the plan does not use are not contacted.
            addresses = [found.addresses.get(device, f"{device}:1") for device in devices]
        session = stack.enter_context(
            deployed(
                made, workers=addresses, local=local, transport=transport, access=access, balance=balance
            )
        )
        if found is not None:
            found.follow(partial(_join, session, {device.name: device for device in made.cluster.devices}))
        metrics = Metrics()
        backend = session
        if together is not None:
            backend = stack.enter_context(
                Batcher(
                    session,
                    together,
                    max_wait_s=batch_wait_s,
                    max_in_flight=default_in_flight(made),
                    on_begin=metrics.batch.observe,
                )
            )
        service = ModelService(
            name or subject.name,
            single,
            backend,
            timeout_s=timeout_s,
            limit=queue,
            is_ready=lambda: getattr(session, "is_ready", True),
            metrics=metrics,
        )

        def announce(http: str, grpc: str) -> None:
            say(f"serving {service.name} at {http} and grpc {grpc}")
            note("press Ctrl-C to stop")

        serve_model(
            service,
            host=host,
            port=port,
            grpc_port=grpc_port,
            limit=queue,
            server_version=installed_version() or "unknown",
            credentials=access.credentials if tls else None,
            on_listening=announce,
        )


def _join(session: Any, devices: Mapping[str, Device], name: str, address: str) -> None:
    """Let a worker that has joined or returned take part, if the cluster file describes its device."""
    if name in devices:
        session.join(address, devices[name])
    else:
        note(f"{name} is not used: it is not in the cluster file, which has {', '.join(sorted(devices))}")
