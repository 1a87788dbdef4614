"""The compared methods: the loss terms of each for one batch. One loop (`train.py`) runs them all.

References of the formulas are in `losses.py`. Where a method differs from its published code:

* LPS draws one weak view instead of two: the labelled term and the marginal entropy take the view that the
  pseudo-labels come from. That saves a third of the work; the two draws have the same distribution.
* ORCA's uncertainty is a running mean over batches (0.9), not the last epoch's.
* FixMatch, MixMatch and supervised training are closed-world methods: they train the columns of known classes
  only. `predict.py` extends them to an open world.
* SimGCD runs on this model, from SimCLR, with the cosines of its head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.openworld import losses
from edgeflow.openworld.learner import Learner

#: Name -> term; the loss is their sum.
Terms = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures of one step, labelled ones first.

    Attributes:
        views: One per entry of `Method.views`, each ``(B, C, H, W)`` with values in [0, 1].
        labels: Classes of the first ``len(labels)`` pictures.
        generator: For randomness within the method.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    generator: torch.Generator


@dataclass(slots=True, kw_only=True)
class State:
    """Progress of the training, and a method's memory between steps, which checkpoints include."""

    num_known: int
    num_classes: int
    progress: float = 0.0
    memory: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How to train, and how to predict afterwards.

    Attributes:
        views: Kinds of views of every picture: ``weak``, ``strong`` or ``contrast``.
        terms: The loss terms of a batch; None if the method trains nothing.
        predicts: ``argmax`` over all prototypes; ``reject``: known classes for confident pictures, clusters
            of the others; ``clusters``: k-means of all.
        uses_unlabelled: Whether unlabelled pictures are in the batches.
    """

    views: tuple[str, ...]
    terms: Callable[[Learner, Batch, State], Terms] | None
    predicts: Literal["argmax", "reject", "clusters"]
    uses_unlabelled: bool = True


def _outputs(learner: Learner, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Return features and logits of each view, all views passed at once."""
    features = learner.features(torch.cat(batch.views))
    logits = learner.head(features)
    num = len(batch.views)
    return list(features.chunk(num)), list(logits.chunk(num))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lps:
    """LPS: margins that keep classes in step, contrast of pseudo-labels and of views, marginal entropy.

    Attributes:
        margin: C of `losses.adaptive_margin`; 0 switches the margin off.
        known_threshold: Least confidence of a pseudo-label of a known class.
        novel_thresholds: The same for novel classes, at the beginning and at the end; linear between them.
        temperature: Temperature of both contrasts.
        cluster_weight: Weight of the contrast of pseudo-labels.
        view_weight: Weight of the contrast of views.
        entropy_weight: Weight of the marginal entropy.
        prior_momentum: Share of the old estimate in each new class prior; 0, as published, uses the batch's
            own.
    """

    margin: float = 10.0
    known_threshold: float = 0.95
    novel_thresholds: tuple[float, float] = (0.4, 0.8)
    temperature: float = 0.4
    cluster_weight: float = 1.0
    view_weight: float = 1.0
    entropy_weight: float = 1.0
    prior_momentum: float = 0.0

    def __call__(self, learner: Learner, batch: Batch, state: State) -> Terms:
        _, (weak_BK, strong_BK) = _outputs(learner, batch)
        num_labelled = len(batch.labels)
        q_BK = weak_BK.detach().softmax(dim=1)
        low, high = self.novel_thresholds
        selected_B = losses.confident(
            q_BK,
            num_known=state.num_known,
            known_threshold=self.known_threshold,
            novel_threshold=low + (high - low) * state.progress,
        )
        selected_B[:num_labelled] = True
        targets_B = q_BK.argmax(dim=1)
        targets_B[:num_labelled] = batch.labels
        margin_K = losses.adaptive_margin(self._prior(q_BK, selected_B, state), strength=self.margin)
        weight_U = selected_B[num_labelled:].float()
        terms = {
            "labelled": losses.margin_cross_entropy(weak_BK[:num_labelled], batch.labels, margin_K),
            "unlabelled": losses.margin_cross_entropy(
                strong_BK[num_labelled:], targets_B[num_labelled:], margin_K, weight_B=weight_U
            ),
        }
        if self.cluster_weight:
            outputs = torch.cat([weak_BK[selected_B], strong_BK[selected_B]])
            terms["cluster contrast"] = self.cluster_weight * losses.cluster_contrast(
                outputs, targets_B[selected_B].repeat(2), temperature=self.temperature
            )
        if self.view_weight:
            terms["view contrast"] = self.view_weight * losses.view_contrast(
                weak_BK, strong_BK, temperature=self.temperature, weight_B=(~selected_B).float()
            )
        if self.entropy_weight:
            terms["entropy"] = self.entropy_weight * losses.negative_marginal_entropy(weak_BK.softmax(dim=1))
        return terms

    def _prior(self, q_BK: Tensor, selected_B: Tensor, state: State) -> Tensor:
        prior_K = losses.class_prior(q_BK, selected_B)
        if self.prior_momentum and "prior" in state.memory:
            prior_K = self.prior_momentum * state.memory["prior"] + (1 - self.prior_momentum) * prior_K
        state.memory["prior"] = prior_K
        return prior_K


def orca(learner: Learner, batch: Batch, state: State) -> Terms:
    """ORCA: a margin by uncertainty on labels, agreement of pairs, marginal entropy."""
    (features_BD, _), (first_BK, second_BK) = _outputs(learner, batch)
    num_labelled = len(batch.labels)
    p_BK, partner_BK = first_BK.softmax(dim=1), second_BK.softmax(dim=1)
    uncertainty = 1 - p_BK.detach()[num_labelled:].max(dim=1).values.mean()
    uncertainty = 0.9 * state.memory.get("uncertainty", uncertainty) + 0.1 * uncertainty
    state.memory["uncertainty"] = uncertainty
    margin_K = (learner.model.head.scale * uncertainty.clamp_max(0.5)).expand(first_BK.shape[1])
    pairs_B = _pairs(features_BD.detach(), batch)
    return {
        "labelled": losses.margin_cross_entropy(first_BK[:num_labelled], batch.labels, margin_K),
        "pairs": losses.pair_agreement(p_BK, partner_BK[pairs_B]),
        "entropy": losses.negative_marginal_entropy(p_BK),
    }


def _pairs(features_BD: Tensor, batch: Batch) -> Tensor:
    """Return a partner of each picture: one of the same label by chance, or the nearest other feature."""
    normal_BD = F.normalize(features_BD, dim=1)
    similarity_BB = normal_BD @ normal_BD.T
    similarity_BB.fill_diagonal_(-2)
    partners = similarity_BB.argmax(dim=1)
    same = (batch.labels[:, None] == batch.labels[None, :]).float()
    if len(same):
        partners[: len(same)] = torch.multinomial(same, 1, generator=batch.generator).flatten()
    return partners


def supervised(learner: Learner, batch: Batch, state: State) -> Terms:
    """Cross-entropy of labels, among known classes."""
    _, (logits_BK,) = _outputs(learner, batch)
    return {"labelled": F.cross_entropy(logits_BK[:, : state.num_known], batch.labels)}


def fixmatch(learner: Learner, batch: Batch, state: State, *, threshold: float = 0.95) -> Terms:
    """FixMatch: labels, and confident weak views as targets of strong ones; known classes only."""
    _, outputs = _outputs(learner, batch)
    weak_BK, strong_BK = (logits[:, : state.num_known] for logits in outputs)
    num_labelled = len(batch.labels)
    confidence_U, class_U = weak_BK.detach()[num_labelled:].softmax(dim=1).max(dim=1)
    taught_U = F.cross_entropy(strong_BK[num_labelled:], class_U, reduction="none")
    return {
        "labelled": F.cross_entropy(weak_BK[:num_labelled], batch.labels),
        "unlabelled": (taught_U * (confidence_U >= threshold)).mean(),
    }


def mixmatch(
    learner: Learner, batch: Batch, state: State, *, alpha: float = 0.75, weight: float = 75.0
) -> Terms:
    """MixMatch: sharpened mean predictions of two views, everything mixed with everything; known classes."""
    num_labelled = len(batch.labels)
    num_known = state.num_known
    with torch.no_grad():
        guesses = [
            learner.head(learner.features(view[num_labelled:]))[:, :num_known].softmax(dim=1)
            for view in batch.views
        ]
    guess_UK = losses.sharpen(torch.stack(guesses).mean(dim=0))
    label_LK = F.one_hot(batch.labels, num_known).float()
    first, second = batch.views
    x = torch.cat([first[:num_labelled], first[num_labelled:], second[num_labelled:]])
    t = torch.cat([label_LK, guess_UK, guess_UK])
    order = torch.randperm(len(x), generator=batch.generator)
    share = _beta(alpha, batch.generator)
    share = max(share, 1 - share)
    mixed, targets = share * x + (1 - share) * x[order], share * t + (1 - share) * t[order]
    logits = learner.head(learner.features(mixed))[:, :num_known]
    squared = (logits[num_labelled:].softmax(dim=1) - targets[num_labelled:]) ** 2
    return {
        "labelled": losses.soft_cross_entropy(logits[:num_labelled], targets[:num_labelled]),
        "unlabelled": weight * state.progress * squared.mean(),
    }


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Return a draw of Beta(alpha, alpha), by Johnk's method (torch's own takes no generator)."""
    while True:
        x, y = (torch.rand(2, generator=generator, dtype=torch.float64) ** (1 / alpha)).tolist()
        if 0 < x + y <= 1:
            return float(x / (x + y))


def simgcd(
    learner: Learner,
    batch: Batch,
    state: State,
    *,
    supervised_share: float = 0.35,
    entropy_weight: float = 1.0,
) -> Terms:
    """SimGCD: distillation between two views and marginal entropy, labels, and contrasts of projections."""
    (first_BD, second_BD), logits = _outputs(learner, batch)
    first_BK, second_BK = (each / learner.model.head.scale for each in logits)
    num_labelled = len(batch.labels)
    teacher = 0.07 + (0.04 - 0.07) * min(1.0, state.progress / 0.15)
    means = torch.cat([first_BK / 0.1, second_BK / 0.1]).softmax(dim=1)
    first_BP, second_BP = learner.projector(first_BD), learner.projector(second_BD)
    labels = batch.labels.repeat(2)
    labelled = torch.cat([first_BK[:num_labelled], second_BK[:num_labelled]]) / 0.1
    projected = torch.cat([first_BP[:num_labelled], second_BP[:num_labelled]])
    rest = 1 - supervised_share
    return {
        "labelled": supervised_share * F.cross_entropy(labelled, labels),
        "label contrast": supervised_share * losses.label_contrast(projected, labels),
        "distillation": rest * losses.self_distillation(first_BK, second_BK, teacher_temperature=teacher),
        "entropy": rest * entropy_weight * losses.negative_marginal_entropy(means),
        "view contrast": rest * losses.view_contrast(first_BP, second_BP, temperature=1.0),
    }


_TWO_WEAK: Final = ("weak", "weak")
_WEAK_STRONG: Final = ("weak", "strong")


def _lps(**changes: float) -> Method:
    return Method(views=_WEAK_STRONG, terms=Lps(**changes), predicts="argmax")  # type: ignore[arg-type]


#: Name for `edgeflow train --method` -> method; names with a suffix are LPS without one of its parts.
METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        "lps": _lps(),
        "orca": Method(views=_TWO_WEAK, terms=orca, predicts="argmax"),
        "simgcd": Method(views=("contrast", "contrast"), terms=simgcd, predicts="argmax"),
        "fixmatch": Method(views=_WEAK_STRONG, terms=fixmatch, predicts="reject"),
        "mixmatch": Method(views=_TWO_WEAK, terms=mixmatch, predicts="reject"),
        "supervised": Method(views=("weak",), terms=supervised, predicts="reject", uses_unlabelled=False),
        "simclr-kmeans": Method(views=(), terms=None, predicts="clusters"),
        "lps-no-margin": _lps(margin=0.0),
        "lps-no-cluster-contrast": _lps(cluster_weight=0.0),
        "lps-no-view-contrast": _lps(view_weight=0.0),
        "lps-no-entropy": _lps(entropy_weight=0.0),
    }
)
