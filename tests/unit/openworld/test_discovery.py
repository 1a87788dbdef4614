"""Discovery by embeddings made for it: what is found, what is not, and what stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.errors import ConfigError
from edgeflow.openworld import build
from edgeflow.openworld import discovery as d

_AXES = torch.eye(8)


def _cloud(axis: int, num: int, *, seed: int, noise: float = 0.1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(_AXES[axis] + noise * torch.randn(num, 8, generator=generator), dim=1)


def _watcher(**settings: float) -> d.Discovery:
    """Three known classes along the first axes."""
    features = torch.cat([_cloud(axis, 100, seed=axis) for axis in range(3)])
    head = d.Head(version=1, prototypes_KD=_AXES[:3].clone(), names=("a", "b", "c"))
    return d.Discovery(
        head,
        d.calibrate(features, head.prototypes_KD),
        d.DiscoverySettings(**settings),  # type: ignore[arg-type]
    )


def _serve(watcher: d.Discovery, features_ND: Tensor) -> list[d.Head]:
    heads = (watcher.observe(ticket, feature) for ticket, feature in enumerate(features_ND))
    return [head for head in heads if head is not None]


def test_threshold_rejects_the_share_that_was_asked_for() -> None:
    features = torch.cat([_cloud(axis, 200, seed=axis) for axis in range(3)])

    threshold = d.calibrate(features, _AXES[:3], rejected=0.1)

    share = (d.novelty(features, _AXES[:3]) > threshold).float().mean()
    assert float(share) == pytest.approx(0.1, abs=0.005)


def test_spread_is_the_mean_over_all_pairs() -> None:
    features = _cloud(0, 6, seed=1)

    pairs = [1 - float(features[i] @ features[j]) for i in range(6) for j in range(6) if i != j]

    assert d._mean_distance(features) == pytest.approx(np.mean(pairs), rel=1e-4)


def test_a_new_class_becomes_a_prototype_and_old_ones_stay_bit_for_bit() -> None:
    watcher = _watcher()

    heads = _serve(watcher, torch.cat([_cloud(0, 100, seed=7), _cloud(5, 80, seed=8)]))

    assert [head.version for head in heads] == [2]
    assert heads[0].names == ("a", "b", "c", "new class 3")
    assert torch.equal(heads[0].prototypes_KD[:3], _AXES[:3])
    assert float(F.normalize(heads[0].prototypes_KD[3], dim=0)[5]) > 0.95
    (found,) = watcher.found
    assert sum(ticket >= 100 for ticket in found.members) >= 0.95 * len(found.members)


def test_what_is_known_makes_no_class() -> None:
    watcher = _watcher()

    assert not _serve(watcher, torch.cat([_cloud(axis, 300, seed=40 + axis) for axis in range(3)]))
    assert watcher.found == ()


def test_what_has_no_cluster_makes_no_class() -> None:
    """Noise in all directions is rejected, but its pieces are small and wide."""
    watcher = _watcher()
    noise = F.normalize(torch.randn(400, 8, generator=torch.Generator().manual_seed(3)), dim=1)

    assert not _serve(watcher, noise)


def test_two_new_classes_at_once() -> None:
    watcher = _watcher(look_at=150)
    both = torch.cat([_cloud(5, 80, seed=1), _cloud(6, 80, seed=2)])

    heads = _serve(watcher, both[torch.randperm(160, generator=torch.Generator().manual_seed(0))])

    assert len(heads[-1].names) == 5
    assert {found.position for found in watcher.found} == {3, 4}


def test_pictures_of_a_class_that_was_found_are_known_from_then_on() -> None:
    watcher = _watcher()
    _serve(watcher, _cloud(5, 100, seed=8))
    buffered = watcher.num_buffered

    assert not _serve(watcher, _cloud(5, 200, seed=9))
    assert watcher.num_buffered - buffered < 100


def test_buffer_is_bounded() -> None:
    watcher = _watcher(capacity=70)
    noise = F.normalize(torch.randn(400, 8, generator=torch.Generator().manual_seed(3)), dim=1)

    _serve(watcher, noise)

    assert watcher.num_buffered == 70


def test_names_come_later_and_are_told_apart() -> None:
    head = d.Head(version=1, prototypes_KD=_AXES[:2], names=("a", "b")).grown(_AXES[4:5])

    named = head.named(2, "boot")

    assert named.names == ("a", "b", "boot")
    assert named.version == head.version == 2
    with pytest.raises(ConfigError, match="another class is called 'a'"):
        named.named(2, "a")
    with pytest.raises(ConfigError, match="there is no class 3; there are 3"):
        named.named(3, "x")


def test_a_model_with_a_grown_head_gives_old_logits_bit_for_bit() -> None:
    model = build("micro", num_known=2, num_novel=2, seed=1).eval()
    head = d.Head(version=1, prototypes_KD=d.prototypes(model), names=tuple("abcd"))
    x = torch.rand(5, 1, 8, 8)

    with torch.inference_mode():
        before, features = d.Served(model)(x)
        after, same = d.Served(model, head.grown(torch.randn(1, model.config.embed_dim)))(x)
        unchanged, _ = d.Served(model, head)(x)

    assert torch.equal(after[:, :4], before)
    assert torch.equal(same, features)
    assert torch.equal(unchanged, before)
    assert after.shape == (5, 5)
    assert float(after.abs().max()) <= model.head.scale + 1e-4


def test_sure_pictures_keep_their_answers_whatever_is_found() -> None:
    """The found class has the largest logit everywhere; only the picture that looked unknown goes to it."""
    logits = torch.tensor([[10.0, 0.0, 11.0], [4.0, 4.0, 11.0], [0.0, 9.0, 11.0]])

    assert d.decide(logits, num_trained=2, threshold=0.1).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "settings", [{"min_members": 100}, {"look_at": 600}, {"look_every": 0}, {"min_members": 0}]
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must hold"):
        d.DiscoverySettings(**settings)


def test_calibration_needs_pictures() -> None:
    with pytest.raises(ConfigError, match=r"a share of 0\.05 of 10 held-out pictures is not one picture"):
        d.calibrate(torch.randn(10, 4), torch.randn(2, 4))
