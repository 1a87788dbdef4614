"""The trained model on workers: the same answers as one device, and a class found while it serves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgeflow as ef
from edgeflow.cluster import Cluster
from edgeflow.demo.open_world import run_open_world
from edgeflow.openworld.train import prepare
from edgeflow.openworld.weights import shipped


@pytest.mark.slow
def test_three_unequal_workers_predict_what_one_device_does_on_the_whole_test_set() -> None:
    """Devices are slow and links fast, so that `auto` splits the model; batches hold the whole test set."""
    loaded = shipped()
    material = prepare(loaded.about.settings)
    x_NCHW = loaded.learner.normalised(material.test_images_NCHW.float() / 255).contiguous()
    model = loaded.learner.model
    with torch.inference_mode():
        expected = model(x_NCHW).numpy()
    cluster = Cluster.local([1.0, 0.6, 0.4], bandwidth="10 Gbit/s", latency="0.01 ms")
    plan = ef.plan(ef.capture(model, (x_NCHW,)), cluster, strategy="auto")
    assert len(plan.devices) == 3

    with ef.deploy(plan, local=True) as session:
        answer = np.asarray(session.run(x_NCHW))

    assert np.array_equal(answer.argmax(axis=1), expected.argmax(axis=1))
    assert np.abs(answer - expected).max() < 1e-4
    accuracy = (answer.argmax(axis=1) < 5) == (material.test_targets_N.numpy() < 5)
    assert accuracy.mean() > 0.97


def test_the_demo_finds_the_class_and_drops_no_request() -> None:
    report = run_open_world((1.0, 0.6, 0.4), strategy="auto")

    assert report.passed
    assert report.num_answered == report.num_requests == 338
    assert report.num_rolled_out >= 1
    assert report.same_logits
    assert report.new_before == 0
    assert report.new_after > 0.8
    assert report.changed < 0.05
    assert "9" in report.names
