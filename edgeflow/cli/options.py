"""Options shared by several commands, and their conversion to values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeflow.cluster import Cluster

if TYPE_CHECKING:
    from edgeflow.net.security import Access

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        help="A saved graph, an ONNX file, `package.module:factory` (it returns a module, its arguments and, "
        "optionally, its keyword arguments), or the name of a reference model.",
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=1x3x224x224",
        help="With an ONNX file: shape of an input whose shape is open in the file. Can be repeated.",
        show_default=False,
    ),
]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster", metavar="FILE", help="Cluster file (YAML).", show_default=False)
]
Speeds = Annotated[
    str | None,
    typer.Option(
        metavar="S,S,...", help="Instead of a file: one device per relative speed.", show_default=False
    ),
]
Bandwidth = Annotated[
    str | None,
    typer.Option(help="With --speeds: bandwidth of every link. (default: 1 Gbit/s)", show_default=False),
]
Latency = Annotated[
    str | None,
    typer.Option(help="With --speeds: latency of every link. (default: 0.2 ms)", show_default=False),
]
Memory = Annotated[
    str | None,
    typer.Option(help="With --speeds: memory of every device. (default: 4 GiB)", show_default=False),
]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="A saved plan; it contains its cluster.", show_default=False),
]
Strategy = Annotated[str, typer.Option(help="Planning strategy; an unknown name lists the known ones.")]
Objective = Annotated[
    str, typer.Option(help="latency, throughput (many requests at once) or energy (joules per request).")
]
Activations = Annotated[
    str,
    typer.Option(
        metavar="float16|int8",
        help="Encode activations in fewer bits on slow links; answers then differ from one device's.",
        show_default=False,
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Answer up to N requests in one run; the model must hold them in dim 0."
    ),
]
Deadline = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Latency limit, such as `80 ms`.", show_default=False),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,...",
        help="Addresses of running workers, in the order of the cluster's devices.",
        show_default=False,
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Start workers here, as processes, until the command ends.")
]
Transport = Annotated[
    str,
    typer.Option(
        metavar="auto|tcp|grpc",
        help="Transport of activations between workers; auto is tcp if all of them offer it.",
    ),
]
Identity = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER/NAME",
        envvar="EDGEFLOW_IDENTITY",
        help="Certificates of this host, made by `edgeflow certs`; they encrypt and authenticate both ends.",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="EDGEFLOW_TOKEN_FILE",
        help="File with the join token; or set EDGEFLOW_TOKEN to the token itself.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Seed of random inputs, if the model has no example inputs.")]


def choose_cluster(
    file: Path | None,
    *,
    speeds: str | None = None,
    bandwidth: str | None = None,
    latency: str | None = None,
    memory: str | None = None,
    plan: Path | None = None,
) -> Cluster | None:
    """Return the cluster that the options describe; None if a saved plan contains it.

    Raises:
        typer.BadParameter: If the options contradict each other, or none is given.
        ConfigError: If the file or a quantity is wrong.
    """
    if plan is not None:
        if any(option is not None for option in (file, speeds, bandwidth, latency, memory)):
            raise typer.BadParameter(
                "a saved plan contains its cluster: --plan excludes --cluster and --speeds"
            )
        return None
    if (file is None) == (speeds is None):
        raise typer.BadParameter("give either --cluster FILE or --speeds, for example --speeds 1,0.5,0.25")
    quantities = {"bandwidth": bandwidth, "latency": latency, "memory": memory}
    given = {name: text for name, text in quantities.items() if text is not None}
    if file is not None:
        if given:
            flags = ", ".join(f"--{name}" for name in given)
            raise typer.BadParameter(f"{flags}: only with --speeds; a cluster file states them itself")
        return Cluster.load(file)
    return Cluster.local(parse_speeds(speeds or ""), **given)


def choose_access(identity: Path | None, token_file: Path | None) -> Access:
    """Return the credentials for workers, from the options and EDGEFLOW_TOKEN.

    Raises:
        ConfigError: If a file cannot be used.
    """
    from edgeflow.net.security import Access

    return Access.of(identity, token_file)


def choose_transport(name: str, *, on_workers: bool = True, how: str = "--workers or --local") -> str:
    """Return the transport of activations, checked.

    Args:
        on_workers: Whether workers are used; without them only ``auto`` is valid.
        how: Options that provide workers, for the message.

    Raises:
        typer.BadParameter: If there is no such transport, or no workers to use it.
    """
    from edgeflow.net.transport.routes import CHOICES

    if name not in CHOICES:
        raise typer.BadParameter(f"--transport: no transport {name!r}; known: {', '.join(CHOICES)}")
    if name != "auto" and not on_workers:
        raise typer.BadParameter(f"--transport {name} needs workers: give {how}")
    return name


def parse_speeds(text: str) -> list[float]:
    """Parse speeds such as ``"1,0.5"``.

    Examples:
        >>> parse_speeds("1, 0.5")
        [1.0, 0.5]
    """
    try:
        return [float(speed) for speed in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"--speeds: expected numbers with commas between them, got {text!r}"
        ) from error


def parse_input_shapes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Parse shapes such as ``["image=1x3x8x8"]``; return name -> shape.

    Examples:
        >>> parse_input_shapes(["image=1x3x8x8", "ids=1x16"])
        {'image': (1, 3, 8, 8), 'ids': (1, 16)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, _, sizes = text.rpartition("=")  # a name may contain "="
        try:
            shape = tuple(int(size) for size in sizes.split("x"))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise typer.BadParameter(
                f"--input-shape: expected NAME=SIZExSIZE..., such as image=1x3x224x224, got {text!r}"
            )
        if name in shapes:
            raise typer.BadParameter(f"--input-shape: {name!r} is given twice")
        shapes[name] = shape
    return shapes


def parse_workers(text: str | None, *, local: bool, what: str = "--workers") -> list[str] | None:
    """Return the addresses; None if the option is not given.

    Args:
        local: Whether workers are to be started instead.
        what: The option, for messages.

    Raises:
        typer.BadParameter: If both addresses and ``local`` are given, or an address is empty.
    """
    if text is None:
        return None
    if local:
        raise typer.BadParameter("give either --workers or --local")
    addresses = [address.strip() for address in text.split(",")]
    if not all(addresses):
        raise typer.BadParameter(f"{what}: an address is empty in {text!r}")
    return addresses
