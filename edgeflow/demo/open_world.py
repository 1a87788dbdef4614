"""The open-world demo: serve a stream on workers, and find the class that the model never saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

import edgeflow as ef
from edgeflow.demo.workers import demo_cluster, local_workers
from edgeflow.openworld.discovery import Served
from edgeflow.openworld.growth import OpenWorldReport, judge_trial, prepare_trial, serve_stream
from edgeflow.plan import Plan
from edgeflow.planner import plan as make_plan
from edgeflow.telemetry.progress import Progress, Silent


def run_open_world(
    speeds: Sequence[float], *, strategy: str, seed: int = 0, progress: Progress | None = None
) -> OpenWorldReport:
    """Serve a stream with the shipped model on local workers; grow its head meanwhile.

    Args:
        speeds: Share of a core of each worker.
        seed: Seed of the stream.
        progress: Told of each step.
    """
    progress = progress or Silent()
    with progress.waiting("the shipped model: loading, calibrating"):
        trial = prepare_trial(seed=seed)
        cluster = demo_cluster(speeds)

    def plan_for(model: nn.Module) -> Plan:
        graph = ef.capture(model.eval(), (trial.pictures_NCHW[:1],), name="openworld-served")
        return make_plan(graph, cluster, strategy=strategy)

    with local_workers(speeds, progress) as workers, torch.inference_mode():
        first = plan_for(Served(trial.learner.model))
        with ef.deploy(first, workers=workers) as session, progress.bar("serving") as move:
            seen = serve_stream(trial, session, plan_for, move=move)
    return judge_trial(trial, seen, plan=first.chosen)
