"""The loop of epochs, which resumes exactly after a kill.

All randomness comes from generators seeded anew for each epoch, and a checkpoint is written after every
epoch: a killed run repeats at most one epoch, and ends with bit-identical weights (on the same machine, with
    the same
number of threads).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from edgeflow.openworld import checkpoint
from edgeflow.openworld.learner import Learner
from edgeflow.openworld.methods import Batch, State, Terms
from edgeflow.openworld.metrics import Scores


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """Results of one epoch.

    Attributes:
        number: From 1.
        loss: Mean of the sum of the terms.
        terms: Mean of each term.
        scores: Scores on the unlabelled pictures; None in pre-training and for methods that cluster at the
            end.
    """

    number: int
    loss: float
    terms: dict[str, float]
    scores: Scores | None = None


#: Called after each epoch: phase, epochs done, epochs in all, the epoch.
OnEpoch = Callable[[str, int, int, Epoch], None]


def chance(seed: int, phase: str, epoch: int) -> torch.Generator:
    """Return the generator of one epoch of one phase."""
    digest = hashlib.sha256(f"{seed}/{phase}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Arguments of the loop, for pre-training and for a method."""

    phase: str
    path: Path
    learner: Learner
    optimizer: torch.optim.Optimizer
    learning_rate: float
    warmup: float
    epochs: int
    steps: int
    seed: int
    state: State
    terms: Callable[[Batch], Terms]
    batches: Callable[[torch.Generator], Iterator[Batch]]
    judge: Callable[[], Scores | None] | None
    on_epoch: OnEpoch | None


def run_epochs(fit: Fit) -> list[Epoch]:
    """Run the epochs missing from the checkpoint; return all of them."""
    history = _resume(fit)
    for epoch in range(len(history), fit.epochs):
        means = _one_epoch(fit, epoch)
        scores = fit.judge() if fit.judge is not None else None
        history.append(Epoch(number=epoch + 1, loss=sum(means.values()), terms=means, scores=scores))
        _save(fit, history)
        if fit.on_epoch is not None:
            fit.on_epoch(fit.phase, epoch + 1, fit.epochs, history[-1])
    return history


def _one_epoch(fit: Fit, epoch: int) -> dict[str, float]:
    fit.learner.train()
    sums: dict[str, Tensor] = {}
    done = 0
    for batch in fit.batches(chance(fit.seed, fit.phase, epoch)):
        fit.state.progress = epoch / fit.epochs
        _set_learning_rate(fit, (epoch * fit.steps + done) / (fit.epochs * fit.steps))
        terms = fit.terms(batch)
        fit.optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        fit.optimizer.step()
        done += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, torch.zeros(())) + value.detach()
    return {name: float(value) / done for name, value in sums.items()}


def _set_learning_rate(fit: Fit, progress: float) -> None:
    """Set the learning rate: a linear rise for the share ``warmup`` of the training, then a cosine to 0."""
    if progress < fit.warmup:
        factor = max(progress, 1 / fit.steps / fit.epochs) / fit.warmup
    else:
        factor = (1 + math.cos(math.pi * (progress - fit.warmup) / (1 - fit.warmup))) / 2
    for group in fit.optimizer.param_groups:
        group["lr"] = fit.learning_rate * factor


def _save(fit: Fit, history: list[Epoch]) -> None:
    tensors = {
        **checkpoint.pack("learner", fit.learner.state_dict()),
        **checkpoint.pack("optimizer", checkpoint.optimizer_state(fit.optimizer)),
        **checkpoint.pack("memory", fit.state.memory),
    }
    checkpoint.write_atomically(fit.path, tensors, {"history": msgspec.to_builtins(history)})


def _resume(fit: Fit) -> list[Epoch]:
    if not fit.path.exists():
        return []
    tensors, about = checkpoint.read(fit.path)
    checkpoint.load_weights(fit.learner, checkpoint.unpack("learner", tensors), where=fit.path)
    checkpoint.restore_optimizer(fit.optimizer, checkpoint.unpack("optimizer", tensors))
    fit.state.memory.update(checkpoint.unpack("memory", tensors))
    history: Any = msgspec.convert(about["history"], list[Epoch])
    return list(history)
