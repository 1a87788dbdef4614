"""``edgeflow profile``: measure this device, for cluster files and plans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from edgeflow.cli import options
from edgeflow.cli.screen import bar, note, say, say_json, say_table, waiting
from edgeflow.cluster.presets import PRESETS
from edgeflow.units import format_bandwidth, format_bytes, format_flops, format_seconds

if TYPE_CHECKING:
    from edgeflow.cost.profile_file import ProfileFile
    from edgeflow.net.security import Access


def profile(
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to save it, for cluster files.", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that compute, as of the worker later.")] = 1,
    executor: Annotated[
        str, typer.Option(help="Back end to measure, as of the worker later: auto, onnxruntime, torch ...")
    ] = "auto",
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,...",
            help="Running workers to which the network is measured.",
            show_default=False,
        ),
    ] = None,
    transport: options.Transport = "auto",
    identity: options.Identity = None,
    token_file: options.TokenFile = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="For fp32 operators; a slow device skips some. Other dtypes take a quarter of it each.",
        ),
    ] = 20.0,
    learn: Annotated[
        bool, typer.Option("--learn", help="Also train boosted trees on the samples; needs scikit-learn.")
    ] = False,
    presets: Annotated[
        bool, typer.Option("--presets", help="Measure nothing; list the boards that cluster files may name.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Measure this device: operators whole and in slices, copies, frames, memory, the network to peers."""
    if presets:
        _list_presets(json)
        return
    addresses = options.parse_workers(peers, local=False, what="--peers") or []
    options.choose_transport(transport, on_workers=bool(addresses), how="--peers")
    access = options.choose_access(identity, token_file)
    found = _measure(threads, executor, seconds, addresses, transport, access)
    if learn:
        from edgeflow.cost.learned import learn as train

        with waiting("learning"):
            learned = train(found.profile, found.samples)
        found = msgspec.structs.replace(
            found, profile=msgspec.structs.replace(found.profile, learned=learned)
        )
    if output is not None:
        from edgeflow.cost.profile_file import save_profile

        save_profile(found, output)
        note(f"saved to {output}")
    if json:
        say_json(_summary(found))
    else:
        _print(found)


def _measure(
    threads: int, executor: str, seconds: float, peers: Sequence[str], transport: str, access: Access
) -> ProfileFile:
    from edgeflow.measure.device import profile_device

    with bar("measuring operators") as move:
        return profile_device(
            threads=threads,
            executor=executor,
            budget_s=seconds,
            peers=peers,
            transport=transport,
            access=access,
            on_case=move,
        )


def _summary(found: ProfileFile) -> dict[str, object]:
    """Return the profile without the samples and the trees."""
    learned = found.profile.learned
    summary: dict[str, object] = {
        "profile": msgspec.structs.replace(found.profile, learned=None),
        "num_samples": len(found.samples),
        "peers": found.peers,
    }
    if learned is not None:
        summary["learned"] = {
            "cross_validated_error": learned.cross_validated_error,
            "fitted_error": learned.fitted_error,
            "num_samples": learned.num_samples,
        }
    return summary


def _print(found: ProfileFile) -> None:
    made = found.profile
    where = made.conditions
    say(
        f"{made.name}: {where.processor}, {where.num_threads} of {where.num_cores} cores, "
        f"torch {where.torch}, load {where.load:g} when measuring began"
    )
    say(
        f"{format_flops(made.flops_per_second)}/s on large products, "
        f"{format_bytes(made.memory_bandwidth_bytes_per_s)}/s of memory, "
        f"{format_bytes(made.memory_bytes)} free"
    )
    if made.message is not None:
        say(
            f"a frame costs {format_seconds(made.message.send_s)} to send and "
            f"{format_seconds(made.message.receive_s)} to receive, and "
            f"{format_seconds((1 << 20) * made.message.send_s_per_byte)} a MiB on each side"
        )
    if made.power is not None:
        say(
            f"power, measured by {made.power.meter}: {made.power.idle_w:.1f} W before, "
            f"{made.power.busy_w:.1f} W while measuring"
        )
    for peer in found.peers:
        say(
            f"to {peer.name} ({peer.address}): {format_seconds(peer.latency_s)}, "
            f"{format_bandwidth(peer.bandwidth_bytes_per_s)} ({peer.method})"
        )
    for dtype, rate in made.rates:
        ratio = rate / made.flops_per_second
        say(f"{format_flops(rate)}/s on large products in {dtype}, {ratio:.2f} times the rate of float32")
    table = Table("family", "dtype", "samples", "median error", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for family in made.families:
        table.add_row(
            family.family, family.dtype, str(family.num_samples), f"{100 * family.median_error:.1f} %"
        )
    say_table(table)
    learned = made.learned
    if learned is not None:
        say(
            f"learned from {learned.num_samples} samples: median error on samples held out "
            f"{100 * learned.cross_validated_error:.1f} %, "
            f"without the trees {100 * learned.fitted_error:.1f} %"
        )


def _list_presets(json: bool) -> None:
    if json:
        say_json(list(PRESETS.values()))
        return
    table = Table("preset", "figure", "value", "source", box=None, pad_edge=False)
    for preset in PRESETS.values():
        table.add_row(preset.name, preset.title, "", "")
        for key, value in preset.keys().items():
            table.add_row("", key, value, preset.sources[key])
    say_table(table)
