"""The terms of the training losses, one function each.

Shape suffixes: B pictures of a batch, V outputs that are contrasted (V = 2B: two views of each), K classes
(known first), D features. "Output" means logits or features; the contrastive terms normalise them.

References:
    LPS: Ye, Gan, Wei, Zhang, "Bridging the Gap: Learning Pace Synchronization for Open-World Semi-Supervised
    Learning", IJCAI 2024, arXiv 2309.11930.
    ORCA: Cao, Brbic, Leskovec, "Open-World Semi-Supervised Learning", ICLR 2022, arXiv 2102.03526.
    SimGCD: Wen, Zhao, Qi, "Parametric Classification for Generalized Category Discovery", ICCV 2023,
    arXiv 2211.11727.
    SimCLR: Chen, Kornblith, Norouzi, Hinton, ICML 2020, arXiv 2002.05709.
    FixMatch: Sohn et al., NeurIPS 2020, arXiv 2001.07685.
    MixMatch: Berthelot et al., NeurIPS 2019, arXiv 1905.02249.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

#: Smallest probability in a logarithm.
_TINY: Final = 1e-8


def class_prior(probabilities_BK: Tensor, selected_B: Tensor) -> Tensor:
    """Return ``p_k = sum_i q_ik / sum_i sum_j q_ij`` over the selected pictures, ``(K,)``; LPS.

    Soft counts of the model's predictions, labelled pictures included. If nothing is selected, the estimate
    is uniform, which gives no margin.
    """
    counts_K = probabilities_BK[selected_B].sum(dim=0)
    total = counts_K.sum()
    if total <= 0:
        return torch.full_like(counts_K, 1 / len(counts_K))
    return counts_K / total


def adaptive_margin(prior_K: Tensor, *, strength: float = 10.0) -> Tensor:
    """Return ``Delta_k = C * KL(u || p) * p_k / max_j p_j`` with ``u`` uniform, ``(K,)``; LPS.

    Added to the target's logit, it lowers the loss of classes that dominate the predictions, so that they are
    learnt more slowly. It vanishes as ``p`` becomes uniform.

    Args:
        strength: C.
    """
    p = prior_K.clamp_min(_TINY)
    uniform = 1 / len(p)
    divergence = (uniform * (uniform / p).log()).sum()
    return strength * divergence * p / p.max()


def margin_cross_entropy(
    logits_BK: Tensor, targets_B: Tensor, margin_K: Tensor, *, weight_B: Tensor | None = None
) -> Tensor:
    """Return the mean over B of ``-w_i log(e^(z_y + D_y) / (e^(z_y + D_y) + sum_(k != y) e^(z_k)))``.

    LPS's margin loss; with equal margins elsewhere 0 it is cross-entropy. The mean counts pictures of weight
    0 too, so few confident pictures make a small loss.
    """
    added = F.one_hot(targets_B, logits_BK.shape[1]) * margin_K
    losses_B = F.cross_entropy(logits_BK + added, targets_B, reduction="none")
    return (losses_B if weight_B is None else losses_B * weight_B).mean()


def confident(
    probabilities_BK: Tensor, *, num_known: int, known_threshold: float, novel_threshold: float
) -> Tensor:
    """Return which pictures' largest probability reaches the threshold of its class, bool ``(B,)``; LPS."""
    best_B, class_B = probabilities_BK.max(dim=1)
    thresholds_B = torch.where(class_B < num_known, known_threshold, novel_threshold)
    return best_B >= thresholds_B


def _log_ratios(outputs_VK: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return scaled cosines ``(V, V)`` with -inf on the diagonal, and the log of each row's sum of e^."""
    normal_VK = F.normalize(outputs_VK, dim=1)
    similarity_VV = normal_VK @ normal_VK.T / temperature
    own = torch.eye(len(similarity_VV), dtype=torch.bool)
    similarity_VV = similarity_VV.masked_fill(own, float("-inf"))
    return similarity_VV, similarity_VV.logsumexp(dim=1)


def cluster_contrast(outputs_VK: Tensor, classes_V: Tensor, *, temperature: float = 0.4) -> Tensor:
    """Return LPS's contrast of pseudo-labels, the positives averaged inside of the logarithm.

    ``mean_i -log((1 / |P(i)|) * sum_(j in P(i)) e^(s_ij / t) / sum_(j != i) e^(s_ij / t))``, with cosines
    ``s`` and ``P(i)`` the other outputs of the same (pseudo-)class. Outputs with empty ``P(i)`` are left out;
    if all are, the result is 0.
    """
    same_VV = classes_V[:, None] == classes_V[None, :]
    same_VV = same_VV & ~torch.eye(len(classes_V), dtype=torch.bool)
    count_V = same_VV.sum(dim=1)
    has_positive_V = count_V > 0
    if not has_positive_V.any():
        return outputs_VK.sum() * 0
    similarity_VV, all_V = _log_ratios(outputs_VK, temperature)
    positive_V = similarity_VV.masked_fill(~same_VV, float("-inf"))[has_positive_V].logsumexp(dim=1)
    losses = all_V[has_positive_V] + count_V[has_positive_V].log() - positive_V
    return losses.mean()


def view_contrast(
    first_BK: Tensor, second_BK: Tensor, *, temperature: float = 0.4, weight_B: Tensor | None = None
) -> Tensor:
    """Return the contrast of two views: the only positive of an output is the picture's other view.

    ``mean_i -w_i log(e^(s_ii' / t) / sum_(j != i) e^(s_ij / t))`` over all 2B outputs, with cosines ``s``.
    With weights 1 it is SimCLR's loss; LPS gives weight 1 to pictures of low confidence only.
    """
    num = len(first_BK)
    similarity_VV, all_V = _log_ratios(torch.cat([first_BK, second_BK]), temperature)
    positive_B = similarity_VV.diagonal(num)
    losses_V = all_V - torch.cat([positive_B, positive_B])
    if weight_B is not None:
        losses_V = losses_V * torch.cat([weight_B, weight_B])
    return losses_V.mean()


def label_contrast(outputs_VD: Tensor, classes_V: Tensor, *, temperature: float = 0.07) -> Tensor:
    """Return the supervised contrast with the mean outside of the logarithm, as in SimGCD.

    ``mean_i -(1 / |P(i)|) sum_(j in P(i)) log(e^(s_ij / t) / sum_(k != i) e^(s_ik / t))``; outputs without a
    positive are left out.

    References:
        Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, the loss "out".
    """
    same_VV = classes_V[:, None] == classes_V[None, :]
    same_VV = same_VV & ~torch.eye(len(classes_V), dtype=torch.bool)
    count_V = same_VV.sum(dim=1)
    if not count_V.any():
        return outputs_VD.sum() * 0
    similarity_VV, all_V = _log_ratios(outputs_VD, temperature)
    log_VV = (similarity_VV - all_V[:, None]).masked_fill(~same_VV, 0.0)
    losses_V = -log_VV.sum(dim=1) / count_V.clamp_min(1)
    return losses_V[count_V > 0].mean()


def negative_marginal_entropy(probabilities_BK: Tensor) -> Tensor:
    """Return ``sum_k m_k log m_k`` of the batch's mean prediction ``m``: least where all classes are used."""
    mean_K = probabilities_BK.mean(dim=0)
    return (mean_K * mean_K.clamp_min(_TINY).log()).sum()


def pair_agreement(probabilities_BK: Tensor, partners_BK: Tensor) -> Tensor:
    """Return ORCA's pairwise loss, ``mean_i -log <p_i, p'_i>``: a pair should fall into one class."""
    inner_B = (probabilities_BK * partners_BK).sum(dim=1)
    return -inner_B.clamp_min(_TINY).log().mean()


def sharpen(probabilities_BK: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Return ``p_k^(1/T) / sum_j p_j^(1/T)``; MixMatch."""
    raised_BK = probabilities_BK ** (1 / temperature)
    return raised_BK / raised_BK.sum(dim=1, keepdim=True)


def soft_cross_entropy(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Return the mean over B of ``-sum_k t_k log softmax(z)_k``."""
    return -(targets_BK * logits_BK.log_softmax(dim=1)).sum(dim=1).mean()


def self_distillation(
    first_BK: Tensor,
    second_BK: Tensor,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    """Return SimGCD's swapped prediction: each view is taught by the sharper prediction of the other.

    Args:
        first_BK: Cosines with the prototypes, in [-1, 1], of the first view.
    """
    losses = []
    for student_BK, teacher_BK in ((first_BK, second_BK), (second_BK, first_BK)):
        taught_BK = (teacher_BK.detach() / teacher_temperature).softmax(dim=1)
        losses.append(soft_cross_entropy(student_BK / student_temperature, taught_BK))
    return torch.stack(losses).mean()
