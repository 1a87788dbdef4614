"""Each term against a loop over its definition, and against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgeflow.openworld import losses

E = math.exp


def _softmax(row: list[float]) -> list[float]:
    total = sum(E(value) for value in row)
    return [E(value) / total for value in row]


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a.detach() @ b.detach()) / (float(a.detach().norm()) * float(b.detach().norm()))


def _close(actual: Tensor, expected: float) -> None:
    assert float(actual.detach()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_prior_counts_only_what_is_selected() -> None:
    q = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]])

    prior = losses.class_prior(q, torch.tensor([True, True, False]))

    assert prior.tolist() == pytest.approx([0.7, 0.3])


def test_prior_of_nothing_is_uniform() -> None:
    prior = losses.class_prior(torch.rand(3, 4), torch.zeros(3, dtype=torch.bool))

    assert prior.tolist() == pytest.approx([0.25] * 4)


def test_margin_by_hand() -> None:
    """KL(u || p) for p = (3/4, 1/4) is 1/2 ln(2/3) + 1/2 ln 2 = 0.1438."""
    margin = losses.adaptive_margin(torch.tensor([0.75, 0.25]), strength=10)

    divergence = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert divergence == pytest.approx(0.143841, abs=1e-6)
    assert margin.tolist() == pytest.approx([10 * divergence, 10 * divergence / 3], rel=1e-5)


def test_margin_vanishes_for_a_uniform_prior_and_is_finite_for_a_class_that_is_never_predicted() -> None:
    assert losses.adaptive_margin(torch.full((5,), 0.2)).abs().max() < 1e-5
    assert losses.adaptive_margin(torch.tensor([1.0, 0.0])).isfinite().all()


def test_margin_loss_is_the_loop_over_its_definition() -> None:
    z, y, d, w = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 2]), torch.rand(4), torch.rand(6)

    expected = 0.0
    for i in range(6):
        own = E(float(z[i, y[i]] + d[y[i]]))
        others = sum(E(float(z[i, k])) for k in range(4) if k != y[i])
        expected += float(w[i]) * -math.log(own / (own + others)) / 6
    _close(losses.margin_cross_entropy(z, y, d, weight_B=w), expected)


def test_margin_makes_the_loss_of_a_dominant_class_smaller() -> None:
    z, y = torch.zeros(1, 2), torch.tensor([0])

    _close(losses.margin_cross_entropy(z, y, torch.zeros(2)), math.log(2))
    _close(losses.margin_cross_entropy(z, y, torch.tensor([1.0, 0.0])), math.log((E(1) + 1) / E(1)))


def test_thresholds_belong_to_the_predicted_class() -> None:
    q = torch.tensor([[0.96, 0.04], [0.90, 0.10], [0.45, 0.55], [0.05, 0.95], [0.6, 0.4]])

    chosen = losses.confident(q, num_known=1, known_threshold=0.95, novel_threshold=0.5)

    assert chosen.tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_cluster_contrast_is_the_loop_over_its_definition(temperature: float) -> None:
    z, c = torch.randn(7, 3), torch.tensor([0, 0, 1, 2, 1, 0, 3])

    terms = []
    for i in range(7):
        positive = [j for j in range(7) if j != i and c[j] == c[i]]
        if not positive:
            continue
        every = sum(E(_cosine(z[i], z[j]) / temperature) for j in range(7) if j != i)
        mean = sum(E(_cosine(z[i], z[j]) / temperature) for j in positive) / len(positive)
        terms.append(-math.log(mean / every))
    _close(losses.cluster_contrast(z, c, temperature=temperature), sum(terms) / len(terms))


def test_cluster_contrast_by_hand() -> None:
    """Two equal outputs of one class and an orthogonal one of another: -ln(e / (e + 1)) at temperature 1."""
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 5.0]])

    _close(losses.cluster_contrast(z, torch.tensor([0, 0, 1]), temperature=1.0), math.log((E(1) + 1) / E(1)))


def test_cluster_contrast_of_nothing_is_zero_and_has_a_gradient() -> None:
    z = torch.randn(0, 3, requires_grad=True)

    loss = losses.cluster_contrast(z, torch.zeros(0, dtype=torch.int64))
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == 0


def test_view_contrast_is_the_loop_over_its_definition() -> None:
    a, b, w = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([1.0, 0.0, 0.5, 1.0])
    z, weights = torch.cat([a, b]), torch.cat([w, w])

    expected = 0.0
    for i in range(8):
        other = (i + 4) % 8
        every = sum(E(_cosine(z[i], z[j]) / 0.4) for j in range(8) if j != i)
        expected += float(weights[i]) * -math.log(E(_cosine(z[i], z[other]) / 0.4) / every) / 8
    _close(losses.view_contrast(a, b, temperature=0.4, weight_B=w), expected)
    _close(losses.view_contrast(a, b, weight_B=torch.zeros(4)), 0.0)


def test_label_contrast_is_the_loop_over_its_definition() -> None:
    z, c = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 2])

    terms = []
    for i in range(6):
        positive = [j for j in range(6) if j != i and c[j] == c[i]]
        if not positive:
            continue
        every = sum(E(_cosine(z[i], z[j]) / 0.5) for j in range(6) if j != i)
        terms.append(-sum(math.log(E(_cosine(z[i], z[j]) / 0.5) / every) for j in positive) / len(positive))
    _close(losses.label_contrast(z, c, temperature=0.5), sum(terms) / len(terms))


def test_entropy_by_hand() -> None:
    """The mean of the two predictions is uniform over two classes, however sure each of them is."""
    _close(losses.negative_marginal_entropy(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), -math.log(2))
    _close(losses.negative_marginal_entropy(torch.tensor([[1.0, 0.0], [1.0, 0.0]])), 0.0)


def test_pair_agreement_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])

    _close(losses.pair_agreement(p, q), (math.log(2) + math.log(4)) / 2)


def test_sharpen_by_hand() -> None:
    assert losses.sharpen(torch.tensor([[0.8, 0.2]])).tolist()[0] == pytest.approx([16 / 17, 1 / 17])


def test_soft_cross_entropy_is_the_loop_over_its_definition() -> None:
    z, t = torch.randn(3, 4), torch.rand(3, 4)

    expected = 0.0
    for i in range(3):
        p = _softmax(z[i].tolist())
        expected -= sum(float(t[i, k]) * math.log(p[k]) for k in range(4)) / 3
    _close(losses.soft_cross_entropy(z, t), expected)


def test_distillation_is_the_loop_over_its_definition_and_teaches_without_a_gradient() -> None:
    a, b = torch.rand(3, 4, requires_grad=True), torch.rand(3, 4)

    expected = 0.0
    for student, teacher in ((a, b), (b, a)):
        for i in range(3):
            p = _softmax([value / 0.1 for value in student[i].tolist()])
            t = _softmax([value / 0.05 for value in teacher[i].tolist()])
            expected -= sum(t[k] * math.log(p[k]) for k in range(4)) / 3 / 2
    loss = losses.self_distillation(a, b, teacher_temperature=0.05)
    _close(loss, expected)

    # Only as a student does `a` receive a gradient.
    (gradient,) = torch.autograd.grad(loss, a)
    alone = losses.soft_cross_entropy(a / 0.1, (b / 0.05).softmax(dim=1)) / 2
    assert torch.allclose(gradient, torch.autograd.grad(alone, a)[0], atol=1e-6)
