"""The model that comes with the package: its figures are what it says, and it is small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgeflow.errors import ConfigError
from edgeflow.openworld import discovery, weights
from edgeflow.openworld.predict import argmax
from edgeflow.openworld.settings import settings_for
from edgeflow.openworld.stream import accuracies, open_world_stream
from edgeflow.openworld.train import judge, prepare


def test_it_is_small_and_says_what_made_it() -> None:
    assert weights.SHIPPED.stat().st_size < 2_000_000
    about = weights.shipped().about
    assert about.command == "edgeflow train --data digits --leave-out 9"
    assert about.settings == settings_for("digits", leave_out=(9,))


def test_its_figures_are_reproduced() -> None:
    """On other processors a picture on the edge may fall to the other side: one of 1,000 is let pass."""
    loaded = weights.shipped()
    material = prepare(loaded.about.settings)
    split = material.split

    transductive = judge(
        loaded.learner, argmax, split.images_NCHW[split.unlabelled], split.targets_N[split.unlabelled]
    )
    inductive = judge(loaded.learner, argmax, material.test_images_NCHW, material.test_targets_N)

    for measured, said in (
        (transductive, loaded.about.transductive),
        (inductive, loaded.about.inductive),
    ):
        for name in ("seen", "novel", "all", "single_all", "nmi_novel", "auroc"):
            assert getattr(measured, name) == pytest.approx(getattr(said, name), abs=4e-3), name
        assert measured.num_recovered == said.num_recovered == 4
    assert transductive.all > 0.95
    assert inductive.all > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_a_class_that_it_never_saw_is_found_in_a_stream(seed: int) -> None:
    loaded = weights.shipped()
    learner, about = loaded.learner, loaded.about
    stream = open_world_stream(about.settings, about.order, seed=seed)
    calibration, _ = learner.evaluate(stream.calibration_NCHW)
    features, _ = learner.evaluate(stream.images_NCHW)
    head = discovery.Head(
        version=1, prototypes_KD=discovery.prototypes(learner.model), names=about.class_names
    )
    threshold = discovery.calibrate(calibration, head.prototypes_KD, rejected=0.1)
    watcher = discovery.Discovery(head, threshold)
    for ticket, feature in enumerate(features):
        watcher.observe(ticket, feature)

    (found,) = watcher.found
    targets = stream.targets_N.numpy()
    assert np.mean(targets[list(found.members)] == stream.new) > 0.9
    x_NCHW = learner.normalised(stream.images_NCHW.float() / 255)
    with torch.inference_mode():
        before, _ = discovery.Served(learner.model)(x_NCHW)
        after, _ = discovery.Served(learner.model, watcher.head)(x_NCHW)
    assert torch.equal(after[:, : stream.new], before)
    answers = [
        discovery.decide(each, num_trained=stream.new, threshold=threshold) for each in (before, after)
    ]
    old_before, new_before = accuracies(targets, answers[0], new=stream.new, position=found.position)
    old_after, new_after = accuracies(targets, answers[1], new=stream.new, position=found.position)
    assert new_before == 0
    assert new_after > 0.8
    assert old_after > old_before - 0.05


def test_the_class_of_the_stream_was_left_out_of_its_training() -> None:
    split = prepare(weights.shipped().about.settings).split

    assert split.order == tuple(range(9))
    assert split.num_classes == 9


def test_another_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")

    with pytest.raises(ConfigError, match="was not written by edgeflow"):
        weights.load_model(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot read"):
        weights.load_model(tmp_path / "y.safetensors")
