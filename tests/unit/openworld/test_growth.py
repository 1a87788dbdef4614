"""The cluster that counts as the new class, and the loop that serves a stream."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgeflow.openworld.discovery import Found
from edgeflow.openworld.growth import OpenWorldReport, Trial, best_cluster, serve_stream


def found(position: int, *members: int) -> Found:
    return Found(position=position, members=members, spread=0.1)


def test_the_best_cluster_has_the_largest_share_of_the_new_class() -> None:
    targets = np.array([9, 0, 9, 9, 1, 9])
    rejected = [0, 1, 2, 3, 5]  # four of the new class, and one that is not

    # Up to picture 2 two of the new class were rejected, up to picture 3 three of them.
    best = best_cluster([found(10, 1, 2), found(11, 0, 1, 3)], rejected, targets, 9)

    assert best == (11, 2 / 3, 2 / 3)


def test_without_the_new_class_there_is_no_best_cluster() -> None:
    targets = np.array([0, 1, 9])

    assert best_cluster([found(10, 0, 1)], [0, 1, 2], targets, 9) == (None, 0.0, 0.0)
    assert best_cluster([], [2], targets, 9) == (None, 0.0, 0.0)


class Session:
    """Answers each picture at once; keeps how many were in flight, and what was rolled out."""

    def __init__(self) -> None:
        self.in_flight = self.most = 0
        self.rolled_out: list[tuple[Any, str]] = []

    def submit(self, x_NCHW: Any) -> Future[Any]:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        future: Future[Any] = Future()
        future.set_result((np.zeros((1, 2)), np.full((1, 3), float(x_NCHW.flatten()[0]))))
        return future

    def roll_out(self, plan: Any, *, reason: str) -> None:
        self.rolled_out.append((plan, reason))


class Watcher:
    """Rejects every second picture, and grows a head at the sixth one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.num_buffered = 0
        self.tickets: list[int] = []

    def observe(self, ticket: int, feature_D: torch.Tensor) -> Any:
        self._session.in_flight -= 1
        assert float(feature_D[0]) == ticket  # answers come in the order of the pictures
        self.tickets.append(ticket)
        self.num_buffered += ticket % 2
        if ticket == 5:
            self.num_buffered = 0
            return SimpleNamespace(version=2, names=("a", "b", "c"), prototypes_KD=torch.eye(3))
        return None


def test_a_stream_is_served_in_order_and_a_grown_head_rolled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeflow.openworld import growth

    monkeypatch.setattr(growth.d, "Served", lambda model, head: (model, head.version))
    session = Session()
    watcher = Watcher(session)
    trial = Trial(
        learner=SimpleNamespace(model="model"),  # type: ignore[arg-type]
        class_names=("a", "b"),
        stream=SimpleNamespace(targets_N=torch.tensor([0, 2, 1, 2, 0, 2, 2, 1]), new=2),  # type: ignore[arg-type]
        threshold=0.5,
        watcher=watcher,  # type: ignore[arg-type]
        pictures_NCHW=torch.arange(8.0).view(8, 1, 1, 1),
    )
    moves: list[tuple[float, float]] = []

    seen = serve_stream(
        trial, session, lambda model: ("plan of", model), move=lambda done, of: moves.append((done, of))
    )  # type: ignore[arg-type, return-value]

    assert watcher.tickets == list(range(8))
    assert session.most == 4
    assert seen.num_answered == 8 and moves[-1] == (8, 8)
    assert seen.rejected == (1, 3, 5, 7)
    assert seen.num_rolled_out == 1
    assert session.rolled_out == [(("plan of", ("model", 2)), "head 2: 3 classes")]
    assert seen.found_after == 3  # pictures 1, 3 and 5 are of the new class


@pytest.mark.parametrize(
    ("changes", "passed"),
    [({}, True), ({"num_answered": 9}, False), ({"num_rolled_out": 0}, False), ({"new_after": 0.8}, False),
     ({"same_logits": False}, False)],
)  # fmt: skip
def test_a_trial_passes_if_nothing_is_dropped_and_the_class_is_found(
    changes: dict[str, Any], passed: bool
) -> None:
    good: dict[str, Any] = {
        "trained_classes": ("a",), "new_class": "b", "num_requests": 10, "num_answered": 10,
        "num_rolled_out": 1, "plan": "", "found_after": 5, "in_one_cluster": 1.0, "purity": 1.0,
        "old_before": 1.0, "old_after": 1.0, "new_before": 0.0, "new_after": 0.9, "changed": 0.0,
        "same_logits": True, "names": ("a", "b"),
    }  # fmt: skip

    assert OpenWorldReport(**{**good, **changes}).passed == passed
