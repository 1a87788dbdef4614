"""Serve a stream of pictures, grow the model's head when a new class is found, and judge the answers.

The session and the planner are arguments: this module knows no cluster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from edgeflow.openworld import discovery as d
from edgeflow.openworld.learner import Learner
from edgeflow.openworld.metrics import IntArray
from edgeflow.openworld.stream import Stream, accuracies, open_world_stream
from edgeflow.openworld.weights import shipped
from edgeflow.plan import Plan

#: Requests in flight at once, also while a new head is rolled out.
_IN_FLIGHT: Final = 4
#: Share of held-out pictures of trained classes that may look novel; a larger one finds a new class sooner.
_REJECTED: Final = 0.1


class Session(Protocol):
    """The part of `edgeflow.Session` that a trial uses."""

    def submit(self, *args: Any) -> Future[Any]:
        """Start a request; its answer is logits and embeddings, as `Served` returns them."""

    def roll_out(self, plan: Plan, *, reason: str) -> object:
        """Let another plan answer the following requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trained model, and a stream with a class that it never saw.

    Attributes:
        class_names: Classes of the training.
        threshold: Largest novelty of a picture that counts as known.
        watcher: Finds new classes; it grows its head while the stream is served.
        pictures_NCHW: The stream's pictures, normalised.
    """

    learner: Learner
    class_names: tuple[str, ...]
    stream: Stream
    threshold: float
    watcher: d.Discovery
    pictures_NCHW: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Events while a stream was served.

    Attributes:
        found_after: Pictures of the new class served until the first new head; 0 without one.
        rejected: Positions in the stream of the pictures that looked novel.
    """

    num_answered: int
    num_rolled_out: int
    found_after: int
    rejected: tuple[int, ...]


class OpenWorldReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a trial; shares in [0, 1].

    Attributes:
        trained_classes: Classes of the training; those without labels have numbers as names.
        new_class: The data set's name of the class that the model never saw; only this report uses it.
        num_requests: Pictures served.
        num_answered: Answers received; fewer than ``num_requests`` if any was dropped.
        num_rolled_out: New heads.
        found_after: Pictures of the new class served until its prototype was made.
        in_one_cluster: Share of the rejected pictures of the new class, up to then, in the cluster that
            became its prototype.
        purity: Share of the new class in that cluster.
        old_before: Accuracy on the trained classes over the whole stream, with the first head.
        old_after: The same with the last head.
        new_before: Accuracy on the new class, with the first head.
        new_after: The same with the last head: the share of its pictures assigned to the class made of them.
        changed: Share of pictures of trained classes whose answer changed.
        same_logits: Whether both heads give bit-identical logits for every trained class.
        names: Class names of the last head, after the new class was named.
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


def prepare_trial(*, seed: int = 0) -> Trial:
    """Load the shipped model, calibrate its threshold, and draw a stream."""
    loaded = shipped()
    learner, about = loaded.learner, loaded.about
    stream = open_world_stream(about.settings, about.order, seed=seed)
    features, _ = learner.evaluate(stream.calibration_NCHW)
    head = d.Head(version=1, prototypes_KD=d.prototypes(learner.model), names=about.class_names)
    threshold = d.calibrate(features, head.prototypes_KD, rejected=_REJECTED)
    return Trial(
        learner=learner,
        class_names=about.class_names,
        stream=stream,
        threshold=threshold,
        watcher=d.Discovery(head, threshold),
        pictures_NCHW=learner.normalised(stream.images_NCHW.float() / 255).contiguous(),
    )


def serve_stream(
    trial: Trial,
    session: Session,
    plan_for: Callable[[nn.Module], Plan],
    *,
    move: Callable[[float, float], None] = lambda done, total: None,
) -> Seen:
    """Send the stream's pictures to a session; roll out a plan for each head that the watcher grows.

    Args:
        session: Runs `Served` with the trial's first head.
        plan_for: Plans `Served` with a grown head.
        move: Told how many answers have come, of how many.
    """
    num_pictures = len(trial.pictures_NCHW)
    num_answered = num_rolled_out = found_after = 0
    rejected: list[int] = []
    pending: deque[tuple[int, Future[Any]]] = deque()
    tickets = iter(range(num_pictures))
    while True:
        while len(pending) < _IN_FLIGHT and (ticket := next(tickets, None)) is not None:
            pending.append((ticket, session.submit(trial.pictures_NCHW[ticket][None])))
        if not pending:
            break
        ticket, future = pending.popleft()
        _, feature = (torch.as_tensor(np.asarray(part)) for part in future.result())
        num_answered += 1
        move(num_answered, num_pictures)
        before = trial.watcher.num_buffered
        grown = trial.watcher.observe(ticket, feature[0])
        if grown is not None or trial.watcher.num_buffered > before:
            rejected.append(ticket)
        if grown is None:
            continue
        found_after = found_after or int((trial.stream.targets_N[: ticket + 1] == trial.stream.new).sum())
        # Requests stay in flight while this is planned and rolled out.
        plan = plan_for(d.Served(trial.learner.model, grown))
        session.roll_out(plan, reason=f"head {grown.version}: {len(grown.names)} classes")
        num_rolled_out += 1
    return Seen(
        num_answered=num_answered,
        num_rolled_out=num_rolled_out,
        found_after=found_after,
        rejected=tuple(rejected),
    )


def judge_trial(trial: Trial, seen: Seen, *, plan: str) -> OpenWorldReport:
    """Compare the answers of the first and the last head over the whole stream.

    Args:
        plan: What the first plan chose, for the report.
    """
    stream, watcher, model = trial.stream, trial.watcher, trial.learner.model
    with torch.inference_mode():
        old_logits, _ = d.Served(model)(trial.pictures_NCHW)
        new_logits, _ = d.Served(model, watcher.head)(trial.pictures_NCHW)
    targets = stream.targets_N.numpy()
    before_all, after_all = (
        d.decide(each, num_trained=stream.new, threshold=trial.threshold) for each in (old_logits, new_logits)
    )
    position, share, purity = best_cluster(watcher.found, seen.rejected, targets, stream.new)
    old_before, new_before = accuracies(targets, before_all, new=stream.new, position=position)
    old_after, new_after = accuracies(targets, after_all, new=stream.new, position=position)
    last = watcher.head if position is None else watcher.head.named(position, stream.new_name)
    return OpenWorldReport(
        trained_classes=trial.class_names,
        new_class=stream.new_name,
        num_requests=len(trial.pictures_NCHW),
        num_answered=seen.num_answered,
        num_rolled_out=seen.num_rolled_out,
        plan=plan,
        found_after=seen.found_after,
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


def best_cluster(
    found: Sequence[d.Found], rejected: Sequence[int], targets: IntArray, new: int
) -> tuple[int | None, float, float]:
    """Return the cluster with the largest share of the new class: position, that share, and its purity.

    The share is of the rejected pictures of the new class up to the cluster's last member. None, 0 and 0 if
    no cluster has a picture of the new class.
    """
    best: tuple[int | None, float, float] = (None, 0.0, 0.0)
    for cluster in found:
        members = np.array(cluster.members)
        candidates = [ticket for ticket in rejected if ticket <= members.max() and targets[ticket] == new]
        hits = int((targets[members] == new).sum())
        share = hits / len(candidates) if candidates else 0.0
        if share > best[1]:
            best = (cluster.position, share, hits / len(members))
    return best
