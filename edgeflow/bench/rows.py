"""The rows of a benchmark: systems, devices, strategies and networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from edgeflow.cluster.network import Link
from edgeflow.errors import ConfigError
from edgeflow.units import parse_bandwidth

Kind = Literal["torch", "onnxruntime", "edgeflow", "megatron", "dtensor", "pipelining", "ray"]

#: Speed-ups are over the faster of these two, so they are always measured.
BASELINES: Final = ("torch", "onnxruntime")

#: Model of the zoo -> the fixed strategy that suits it best on equal devices.
MODELS: Final = {
    "resnet50": "coedge",
    "hf-mobilenet-v2": "coedge",
    "openworld-base": "coedge",
    "hf-vit-base": "megatron",
    "hf-bert-base": "megatron",
}


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The network between devices.

    Attributes:
        rate: Rate of each host's link in the notation of ``tc``; empty for the loopback interface.
        bandwidth: The same rate in the notation of cluster files.
    """

    rate: str = ""
    bandwidth: str = ""

    def link(self, loopback: Link) -> Link:
        """Return the link for the planner: the measured loopback interface, with the rate replaced.

        Between namespaces on one host a frame wakes the same threads.
        """
        if not self.rate:
            return loopback
        return Link(bandwidth_bytes_per_s=parse_bandwidth(self.bandwidth), latency_s=loopback.latency_s)


NETWORKS: Final = {
    "loopback": Network(),
    "1gbit": Network(rate="1gbit", bandwidth="1 Gbit/s"),
    "100mbit": Network(rate="100mbit", bandwidth="100 Mbit/s"),
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way to answer requests.

    Attributes:
        name: Name for ``--rows``.
        processes: Number of processes started for it, besides workers of edgeflow.
        threads: Threads of each process.
        speeds: Relative speeds of the devices; the fastest is 1.
        strategy, objective: Those of the plan.
        network: One of `NETWORKS`.
    """

    name: str
    kind: Kind
    processes: int = 1
    threads: int = 1
    speeds: tuple[float, ...] = (1.0,)
    strategy: str = ""
    objective: str = ""
    network: str = "loopback"


def rows_for(fixed: str, num_workers: int = 2) -> tuple[Row, ...]:
    """Return all rows of a model whose best fixed strategy is ``fixed``."""
    equal = (1.0,) * num_workers
    rows = [Row(name=kind, kind=kind) for kind in ("torch", "onnxruntime")]
    rows += [
        Row(name=f"{row.name}-{num_workers}-threads", kind=row.kind, threads=num_workers) for row in rows
    ]
    for network in NETWORKS:
        end = "" if network == "loopback" else f"@{network}"
        rows.append(_ours(f"equal-2{end}", equal, network))
        if not end:
            rows.append(_ours(f"equal-2-{fixed}", equal, network, strategy=fixed))
            rows.append(_ours("equal-2-throughput", equal, network, objective="throughput"))
        rows.append(_ours(f"equal-3{end}", (1.0, 1.0, 1.0), network))
        rows.append(_ours(f"1:0.5{end}", (1.0, 0.5), network))
        rows.append(_ours(f"1:0.5:0.25{end}", (1.0, 0.5, 0.25), network))
    for kind in ("megatron", "dtensor", "pipelining"):
        rows.append(Row(name=f"gloo-{kind}", kind=kind, processes=num_workers, speeds=equal))
    rows.append(Row(name="ray", kind="ray", speeds=equal))
    return tuple(rows)


def choose(rows: Sequence[Row], names: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows with these names and the baselines; all, if there are no names.

    Raises:
        ConfigError: If there is no row of a name.
    """
    known = {row.name for row in rows}
    for name in names:
        if name not in known:
            raise ConfigError(f"no row {name!r}; known: {', '.join(row.name for row in rows)}")
    return tuple(row for row in rows if not names or row.name in names or row.name in BASELINES)


def _ours(
    name: str,
    speeds: tuple[float, ...],
    network: str,
    *,
    strategy: str = "auto",
    objective: str = "latency",
) -> Row:
    return Row(
        name=name, kind="edgeflow", speeds=speeds, strategy=strategy, objective=objective, network=network
    )
