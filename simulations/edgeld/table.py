"""EdgeLD's Table I from plans and predictions: fused blocks between pools, in equal strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
import yaml
from torch import nn

import edgeflow as ef
from edgeflow.cluster.cluster import Device, Link
from edgeflow.cost import CostModel, predict
from edgeflow.graph.ir import ModelGraph, Operator
from edgeflow.plan import Decision, Piece, Plan, Weighed, verify_plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.layout import Draft, close, names_of, single_draft
from edgeflow.sharding.region import split_interval
from edgeflow.units import parse_bandwidth

LEADER = 0
#: So fast that it takes practically no time.
_FREE = 1e15
_OWN_LINKS = {"upload_bytes_per_s": _FREE, "download_bytes_per_s": _FREE}
#: Columns: EdgeLD cuts the width of feature maps.
_COLUMNS = 3


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the table."""

    network: str
    link: str
    followers: int
    published_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        return self.predicted_s / self.published_s - 1


def load_config() -> Mapping[str, Any]:
    config: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "config.yaml").read_text())
    return config


def table(config: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of the table, in the order of the configuration."""
    cells = []
    for network, blocks in config["networks"].items():
        graph = vgg(blocks, config)
        published = config["published_s"][network]
        rate = calibrated_rate(graph, config["calibrated_on"], published[config["calibrated_on"]][0])
        for link, seconds in published.items():
            for followers, published_s in enumerate(seconds, start=1):
                cells.append(
                    Cell(
                        network=network,
                        link=link,
                        followers=followers,
                        published_s=published_s,
                        predicted_s=predicted_s(graph, followers, link, rate),
                    )
                )
    return cells


def vgg(blocks: Sequence[tuple[int, int]], config: Mapping[str, Any]) -> ModelGraph:
    """Return a VGG; only the shapes of its weights matter here, so they are left as memory is found."""

    def layer(kind: type[nn.Module], *args: int, **options: int) -> nn.Module:
        return nn.utils.skip_init(kind, *args, **options)  # type: ignore[no-any-return]

    modules: list[nn.Module] = []
    channels = 3
    for width, depth in blocks:
        for _ in range(depth):
            modules += [layer(nn.Conv2d, channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        modules.append(nn.MaxPool2d(2))
    size, hidden = config["image_size"], config["hidden"]
    features = channels * (size >> len(blocks)) ** 2
    modules += [nn.Flatten(), layer(nn.Linear, features, hidden), nn.ReLU()]
    modules += [layer(nn.Linear, hidden, hidden), nn.ReLU(), layer(nn.Linear, hidden, config["num_classes"])]
    return ef.capture(nn.Sequential(*modules).eval(), (torch.zeros(1, 3, size, size),))


def star(followers: int, link: str, flops_per_second: float, *, is_shared: bool = False) -> ef.Cluster:
    """Return a leader and followers of one rate, each on a link of its own.

    The leader's interface takes no turns, unless it ``is_shared``: then it is as fast as one link. Its pools
    and linear layers take no time, as in EdgeLD's model, which counts convolutions.
    """

    def device(name: str, rate: float, **options: float) -> Device:
        return Device(
            name=name,
            flops_per_second=rate,
            memory_bytes=1 << 40,
            memory_bandwidth_bytes_per_s=_FREE,
            overhead_s=0.0,
            **options,
        )

    return ef.Cluster(
        name=f"EdgeLD, {followers} followers on {link}",
        devices=(
            device("leader", _FREE, **({} if is_shared else _OWN_LINKS)),
            *(device(f"follower{index}", flops_per_second) for index in range(followers)),
        ),
        network=Link(bandwidth_bytes_per_s=parse_bandwidth(link), latency_s=0.0),
    )


def plan_of(graph: ModelGraph, cluster: ef.Cluster) -> Plan:
    """Return EdgeLD's plan: followers share the convolutions between two pools, the leader does the rest."""
    analysis = analysis_of(graph)
    followers = list(cluster.ranks[1:])
    drafts = []
    for block in blocks_between_pools(graph):
        if not any(".conv" in op.target for op in block):
            drafts.append(single_draft(analysis, block, LEADER))
            continue
        pieces: dict[int, dict[str, Piece]] = {rank: {} for rank in followers}
        for op in block:
            full = analysis.full(op.output)
            strips = split_interval(full[_COLUMNS].length, [1.0] * len(followers))
            for rank, strip in zip(followers, strips, strict=True):
                pieces[rank][op.output] = Piece(full.replace(_COLUMNS, strip))
        drafts.append(Draft("rows", names_of(block), pieces))
    plan = Plan(
        Decision(graph=graph, cluster=cluster, stages=close(analysis, drafts)), Weighed(strategy="edgeld")
    )
    verify_plan(plan)
    return plan


def blocks_between_pools(graph: ModelGraph) -> list[list[Operator]]:
    """Divide the operators into convolutions that are fused, and what stands between them."""
    blocks: list[list[Operator]] = []
    before = None
    for op in graph.operators:
        is_convolution = ".conv" in op.target or ("relu" in op.target and before is True)
        if is_convolution != before:
            blocks.append([])
        blocks[-1].append(op)
        before = is_convolution
    return blocks


def predicted_s(
    graph: ModelGraph, followers: int, link: str, flops_per_second: float, *, is_shared: bool = False
) -> float:
    """Return the predicted latency; frames take no processor time, as in EdgeLD's model."""
    plan = plan_of(graph, star(followers, link, flops_per_second, is_shared=is_shared))
    cost = CostModel(cluster=plan.cluster, message_overhead_s=0.0)
    return predict(plan, cost, with_events=False).latency_s


def calibrated_rate(graph: ModelGraph, link: str, seconds: float) -> float:
    """Return the rate at which one follower takes so long.

    Latency is what the network takes, plus work divided by the rate; two predictions give both.
    """
    at_one, at_two = (predicted_s(graph, 1, link, rate) for rate in (1e9, 2e9))
    work = 2 * (at_one - at_two)
    return 1e9 * work / (seconds - (at_one - work))
