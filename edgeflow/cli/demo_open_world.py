"""What ``edgeflow demo --open-world`` does: serve a stream, find the class in it that the model never saw."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final

import msgspec
import numpy as np

from edgeflow.cli.demo_job import demo_cluster, local_workers
from edgeflow.cli.screen import bar, waiting
from edgeflow.plan import Plan

#: Requests under way at once, also while a new head is rolled out.
_IN_FLIGHT: Final = 4
#: Share of held-out pictures of trained classes that may look novel; more would find a new class sooner.
_REJECTED: Final = 0.1


class OpenWorldReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen; shares in [0, 1].

    Attributes:
        trained_classes: What the model was trained with; those without labels have no name of their own.
        new_class: What the data set calls the class that the model never saw; nothing but the report uses it.
        num_requests: Pictures served.
        num_answered: Answers that came: all of them, if none was dropped.
        num_rolled_out: New heads.
        found_after: Pictures of the new class that had been served when its prototype was made.
        in_one_cluster: Share of the rejected pictures of the new class (up to then) in the cluster that
            became its prototype.
        purity: Share of that cluster that is the new class.
        old_before: Accuracy on the classes of the training, on the whole stream, with the first head.
        old_after: With the last head.
        new_before: The same on the new class.
        new_after: With the last head: the share of its pictures that are in the one class made of them.
        changed: Share of pictures of old classes whose answer changed.
        same_logits: Whether every old class's logit is the same number by both heads, bit for bit.
        names: Of the last head, after somebody gave the new class a name.
    """

    trained_classes: tuple[str, ...]
    new_class: str
    num_requests: int
    num_answered: int
    num_rolled_out: int
    plan: str
    found_after: int
    in_one_cluster: float
    purity: float
    old_before: float
    old_after: float
    new_before: float
    new_after: float
    changed: float
    same_logits: bool
    names: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return (
            self.num_answered == self.num_requests
            and self.num_rolled_out > 0
            and self.new_after > 0.8
            and self.same_logits
        )


def run_open_world(speeds: Sequence[float], *, strategy: str, seed: int = 0) -> OpenWorldReport:
    """Serve a stream by the shipped model on local workers; grow its head on the way."""
    import torch

    import edgeflow as ef
    from edgeflow.openworld import discovery as d
    from edgeflow.openworld.stream import accuracies, open_world_stream
    from edgeflow.openworld.weights import shipped

    with waiting("the shipped model: loading, calibrating"):
        loaded = shipped()
        learner, about = loaded.learner, loaded.about
        stream = open_world_stream(about.settings, about.order, seed=seed)
        features, _ = learner.evaluate(stream.calibration_NCHW)
        head = d.Head(version=1, prototypes_KD=d.prototypes(learner.model), names=about.class_names)
        threshold = d.calibrate(features, head.prototypes_KD, rejected=_REJECTED)
        watcher = d.Discovery(head, threshold)
        pictures_NCHW = learner.normalised(stream.images_NCHW.float() / 255).contiguous()
        cluster = demo_cluster(speeds)
    answered = num_rolled_out = 0
    rejected: list[int] = []
    found_after = 0
    with local_workers(speeds) as workers, torch.inference_mode():
        first = _plan(d.Served(learner.model), pictures_NCHW[:1], cluster, strategy)
        with ef.deploy(first, workers=workers) as session, bar("serving") as move:
            pending: deque[tuple[int, Future[Any]]] = deque()
            tickets = iter(range(len(pictures_NCHW)))
            while True:
                while len(pending) < _IN_FLIGHT and (ticket := next(tickets, None)) is not None:
                    pending.append((ticket, session.submit(pictures_NCHW[ticket][None])))
                if not pending:
                    break
                ticket, future = pending.popleft()
                _, feature = (torch.as_tensor(np.asarray(part)) for part in future.result())
                answered += 1
                move(answered, len(pictures_NCHW))
                before = watcher.num_buffered
                grown = watcher.observe(ticket, feature[0])
                if grown is not None or watcher.num_buffered > before:
                    rejected.append(ticket)
                if grown is None:
                    continue
                found_after = found_after or int((stream.targets_N[: ticket + 1] == stream.new).sum())
                # Requests are under way while this is planned and rolled out.
                plan = _plan(d.Served(learner.model, grown), pictures_NCHW[:1], cluster, strategy)
                session.roll_out(plan, reason=f"head {grown.version}: {len(grown.names)} classes")
                num_rolled_out += 1
    with torch.inference_mode():
        old_logits, _ = d.Served(learner.model)(pictures_NCHW)
        new_logits, _ = d.Served(learner.model, watcher.head)(pictures_NCHW)
    targets = stream.targets_N.numpy()
    before_all, after_all = (
        d.decide(each, num_trained=stream.new, threshold=threshold) for each in (old_logits, new_logits)
    )
    position, share, purity = _best_cluster(watcher.found, rejected, targets, stream.new)
    old_before, new_before = accuracies(targets, before_all, new=stream.new, position=position)
    old_after, new_after = accuracies(targets, after_all, new=stream.new, position=position)
    last = watcher.head if position is None else watcher.head.named(position, stream.new_name)
    return OpenWorldReport(
        trained_classes=about.class_names,
        new_class=stream.new_name,
        num_requests=len(pictures_NCHW),
        num_answered=answered,
        num_rolled_out=num_rolled_out,
        plan=first.chosen,
        found_after=found_after,
        in_one_cluster=share,
        purity=purity,
        old_before=old_before,
        old_after=old_after,
        new_before=new_before,
        new_after=new_after,
        changed=float((before_all != after_all)[targets < stream.new].mean()),
        same_logits=torch.equal(new_logits[:, : stream.new], old_logits),
        names=last.names,
    )


def _best_cluster(
    found: Sequence[Any], rejected: Sequence[int], targets: Any, new: int
) -> tuple[int | None, float, float]:
    """Return position, share of the new class, and purity of the cluster with most of the new class."""
    best: tuple[int | None, float, float] = (None, 0.0, 0.0)
    for cluster in found:
        members = np.array(cluster.members)
        candidates = [ticket for ticket in rejected if ticket <= members.max() and targets[ticket] == new]
        hits = int((targets[members] == new).sum())
        share = hits / len(candidates) if candidates else 0.0
        if share > best[1]:
            best = (cluster.position, share, hits / len(members))
    return best


def _plan(model: Any, example: Any, cluster: Any, strategy: str) -> Plan:
    import edgeflow as ef

    graph = ef.capture(model.eval(), (example,), name="openworld-served")
    return ef.plan(graph, cluster, strategy=strategy)


def describe(report: OpenWorldReport) -> str:
    """Return the report for people."""

    def change(before: float, after: float) -> str:
        return f"{100 * before:.1f} % before, {100 * after:.1f} % after"

    return "\n".join(
        [
            f"A model of {len(report.trained_classes)} classes, served by {report.plan}, met a "
            "class that it had never seen.",
            f"requests: {report.num_requests}, answered: {report.num_answered}; heads rolled out under way: "
            f"{report.num_rolled_out}",
            f"the new class ({report.new_class!r}) got a prototype after {report.found_after} pictures; of "
            f"those rejected, {100 * report.in_one_cluster:.1f} % lie in one cluster, which is "
            f"{100 * report.purity:.1f} % that class",
            f"accuracy on the new class: {change(report.new_before, report.new_after)}",
            f"accuracy on the old classes: {change(report.old_before, report.old_after)}",
            f"answers for old classes that changed: {100 * report.changed:.1f} %; their logits are "
            f"{'the same, bit for bit' if report.same_logits else 'NOT the same'}",
        ]
    )
