"""Training: it learns, it is the same after a kill, and what is frozen stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from edgeflow.errors import ConfigError
from edgeflow.openworld import checkpoint
from edgeflow.openworld.fit import Epoch
from edgeflow.openworld.learner import blocks_of, freeze
from edgeflow.openworld.methods import METHODS
from edgeflow.openworld.metrics import matched_accuracy
from edgeflow.openworld.settings import TrainSettings, settings_for
from edgeflow.openworld.train import fingerprint, fresh_learner, prepare, train

_FEW: dict[str, Any] = {
    "num_images": 60,
    "test_images": 40,
    "batch_size": 30,
    "pretrain_batch_size": 30,
    "pretrain_epochs": 2,
    "epochs": 2,
}


def _settings(**changes: Any) -> TrainSettings:
    return settings_for("digits", **{**_FEW, **changes})


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _weights(folder: Path, settings: TrainSettings) -> dict[str, Tensor]:
    trained = train(settings, folder)
    return {name: tensor.clone() for name, tensor in trained.learner.state_dict().items()}


class _Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("method", "phase", "epoch"),
    [
        ("lps", "simclr", 1),
        ("lps", "simclr", 2),
        ("lps", "method", 1),
        ("orca", "method", 1),
        ("mixmatch", "method", 1),
    ],
)
def test_after_a_kill_the_weights_are_the_same_to_the_last_bit(
    tmp_path: Path, method: str, phase: str, epoch: int
) -> None:
    settings = _settings(method=method)
    undisturbed = _weights(tmp_path / "whole", settings)

    def kill(name: str, done: int, _total: int, _epoch: Epoch) -> None:
        if name == (method if phase == "method" else phase) and done == epoch:
            raise _Killed

    with pytest.raises(_Killed):
        train(settings, tmp_path / "killed", on_epoch=kill)
    seen: list[tuple[str, int]] = []
    resumed = train(
        settings, tmp_path / "killed", on_epoch=lambda name, done, _total, _epoch: seen.append((name, done))
    )

    assert (("simclr" if phase == "simclr" else method), epoch) not in seen
    assert len(resumed.result.history) == 2
    for name, tensor in resumed.learner.state_dict().items():
        assert torch.equal(tensor, undisturbed[name]), name


def test_a_kill_within_an_epoch_loses_that_epoch_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings()
    undisturbed = _weights(tmp_path / "whole", settings)
    calls = 0
    real = torch.optim.SGD.step

    def step(self: torch.optim.SGD, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:  # the second step of the second epoch
            raise _Killed
        return real(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(_Killed):
        train(settings, tmp_path / "killed")
    monkeypatch.undo()

    resumed = _weights(tmp_path / "killed", settings)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in undisturbed.items())


def test_a_write_that_is_cut_short_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.write_atomically(path, {"x": torch.ones(3)}, {"epoch": 1})

    def torn(_tensors: Any, partial: Path, **_: Any) -> None:
        partial.write_bytes(b"half of a fi")
        raise _Killed

    monkeypatch.setattr(checkpoint, "save_file", torn)
    with pytest.raises(_Killed):
        checkpoint.write_atomically(path, {"x": torch.zeros(3)}, {"epoch": 2})

    tensors, about = checkpoint.read(path)
    assert about == {"epoch": 1}
    assert tensors["x"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_classes_to_both_tests(tmp_path: Path, method: str) -> None:
    result = train(_settings(method=method, epochs=1, pretrain_epochs=1), tmp_path).result

    for scores in (result.transductive, result.inductive):
        assert 0 <= scores.seen <= 1
        assert 0 <= scores.auroc <= 1
        assert 1 / 10 <= scores.all <= 1  # a matching has at least as many hits as one constant answer
    if METHODS[method].terms is not None:
        assert all(abs(value) < 1e3 for value in result.history[-1].terms.values())


@pytest.mark.parametrize("num_novel", [0, 2, 9])
@pytest.mark.parametrize("method", ["lps", "supervised", "simclr-kmeans"])
def test_fewer_and_more_prototypes_than_classes(tmp_path: Path, method: str, num_novel: int) -> None:
    trained = train(_settings(method=method, num_novel=num_novel, prototypes="clusters"), tmp_path)

    assert trained.learner.model.config.num_classes == 5 + num_novel
    _, logits = trained.learner.evaluate(trained.material.test_images_NCHW)
    assert logits.shape[1] == 5 + num_novel
    for scores in (trained.result.transductive, trained.result.inductive):
        assert 0 < scores.all <= 1
        # There are five novel classes; clusters of any number can recover them.
        assert scores.num_recovered <= 5
        if num_novel == 0:
            assert (scores.novel_as_seen, scores.seen_as_novel) == (1, 0)
    predicted = trained.predictor(*trained.learner.evaluate(trained.material.test_images_NCHW))
    assert set(predicted.tolist()) <= set(range(5 + num_novel))
    # Five known and five novel classes: each prototype matches one class at most.
    true = trained.material.test_targets_N.numpy()
    assert trained.result.inductive.novel == pytest.approx(
        matched_accuracy(true[true >= 5], predicted[true >= 5])
    )


def test_pretraining_is_shared_whatever_the_number_of_prototypes(tmp_path: Path) -> None:
    train(_settings(), tmp_path)
    seen: list[str] = []

    more = train(_settings(num_novel=7), tmp_path, on_epoch=lambda phase, *_: seen.append(phase))
    same = train(_settings(num_novel=7), tmp_path, on_epoch=lambda phase, *_: seen.append(phase))

    assert seen == ["lps", "lps"]
    for name, tensor in more.learner.state_dict().items():
        assert torch.equal(tensor, same.learner.state_dict()[name]), name


def test_settings_that_came_later_do_not_change_what_older_ones_are_called() -> None:
    settings = settings_for("fashion-mnist", label_ratio=0.5, method="lps")

    assert fingerprint(settings) == "8a5b63b1538b"  # as in docs/openworld-fashion-mnist.csv
    assert fingerprint(msgspec.structs.replace(settings, num_novel=5)) != "8a5b63b1538b"


def test_seeds_differ(tmp_path: Path) -> None:
    first, second = (_weights(tmp_path / str(seed), _settings(seed=seed)) for seed in (1, 2))

    assert not torch.equal(first["model.head.known"], second["model.head.known"])


@pytest.mark.parametrize(("num_blocks", "changed"), [(0, 0), (1, 1), (2, 2), (3, 3), (None, 4)])
def test_frozen_blocks_stay_as_they_are_with_their_statistics(
    tmp_path: Path, num_blocks: int | None, changed: int
) -> None:
    settings = _settings(trainable_blocks=num_blocks, pretrain_epochs=1)
    before = train(_settings(trainable_blocks=num_blocks, pretrain_epochs=1, epochs=0), tmp_path).learner
    after = train(settings, tmp_path).learner

    def states(learner: Any) -> list[list[Tensor]]:
        return [
            [tensor for module in block for tensor in module.state_dict().values()]
            for block in blocks_of(learner.model)
        ]

    moved = [
        any(not torch.equal(old, new) for old, new in zip(olds, news, strict=True))
        for olds, news in zip(states(before), states(after), strict=True)
    ]
    assert moved == [False] * (4 - changed) + [True] * changed
    assert torch.equal(before.model.position, after.model.position) == (changed <= 2)
    assert not torch.equal(before.model.head.known, after.model.head.known)


def test_blocks_cover_the_extractor() -> None:
    settings = _settings()
    learner = fresh_learner(settings, prepare(settings))

    inside = {id(p) for block in blocks_of(learner.model) for module in block for p in module.parameters()}

    outside = {name for name, p in learner.model.named_parameters() if id(p) not in inside}
    assert outside == {"position", "head.known", "head.novel"}
    with pytest.raises(ConfigError, match="trainable_blocks is 5, the model has 4 blocks"):
        freeze(learner, trainable_blocks=5)


def test_unlabelled_labels_are_never_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all classes of unlabelled pictures garbled, LPS ends with the same weights."""
    from edgeflow.openworld import train as module

    settings = _settings()
    undisturbed = _weights(tmp_path / "a", settings)
    material = prepare(settings)
    material.split.targets_N[material.split.unlabelled] = 0
    monkeypatch.setattr(module, "prepare", lambda _: material)

    garbled = _weights(tmp_path / "b", settings)

    assert all(torch.equal(garbled[name], tensor) for name, tensor in undisturbed.items())


@pytest.mark.slow
def test_lps_learns_the_digits_that_nobody_named(tmp_path: Path) -> None:
    result = train(settings_for("digits", pretrain_epochs=20, epochs=15), tmp_path).result

    assert result.transductive.seen > 0.9
    assert result.transductive.novel > 0.7
    assert result.inductive.all > 0.7
