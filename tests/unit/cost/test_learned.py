"""The learned model: finds what the terms miss, is evaluated without scikit-learn, survives JSON."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from edgeflow.cluster.profile import DeviceProfile, LearnedModel, Tree
from edgeflow.cost.kernels import Sample, fit_families, learned_factor, learned_features, profile_s
from edgeflow.cost.learned import learn
from edgeflow.cost.work import Work
from edgeflow.errors import ConfigError

pytest.importorskip("sklearn")


def samples(count: int = 160) -> list[Sample]:
    """Kernels whose duration jumps with the stride, which no term knows."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        flops = int(10 ** random.uniform(5, 9))
        stride = int(random.choice([1, 4]))
        work = Work(family="conv", flops=flops, stride=stride, columns=16, output_bytes=flops // 100)
        made.append(Sample(work, (1e-5 + flops * 1e-11) * (2.0 if stride == 4 else 1.0)))
    return made


def profile(of: list[Sample]) -> DeviceProfile:
    return DeviceProfile(
        name="x",
        flops_per_second=1e9,
        memory_bandwidth_bytes_per_s=1e9,
        memory_bytes=1,
        families=fit_families(of),
    )


@pytest.fixture(scope="module")
def model() -> LearnedModel:
    return learn(profile(samples()), samples())


def test_it_finds_what_the_terms_miss(model: LearnedModel) -> None:
    assert model.num_samples == 160
    assert model.fitted_error > 0.2
    assert model.cross_validated_error < 0.05


def test_it_corrects_in_the_right_direction(model: LearnedModel) -> None:
    slow, plain = (
        Work(family="conv", flops=10**7, stride=stride, columns=16, output_bytes=10**5) for stride in (4, 1)
    )

    assert learned_factor(model, slow) / learned_factor(model, plain) == pytest.approx(2.0, rel=0.1)


def test_it_survives_json(model: LearnedModel) -> None:
    again = msgspec.json.decode(msgspec.json.encode(model), type=LearnedModel)

    assert again == model
    work = samples(1)[0].work
    assert learned_factor(again, work) == learned_factor(model, work)


def test_a_factor_is_bounded_and_positive() -> None:
    """Trees correct what was measured; they do not invent."""
    for value in (1e9, -1e9):
        leaf = Tree(feature=(-1,), threshold=(0.0,), left=(0,), right=(0,), value=(value,))
        wild = LearnedModel(
            base=0.0, trees=(leaf,), num_samples=1, cross_validated_error=0.0, fitted_error=0.0
        )
        assert 0.2 < learned_factor(wild, Work(family="conv")) < 5


def test_a_tree_by_hand() -> None:
    tree = Tree(
        feature=(1, -1, -1), threshold=(2.0, 0.0, 0.0), left=(1, 0, 0), right=(2, 0, 0), value=(0.0, 7.0, 9.0)
    )

    assert tree.predict([0.0, 2.0]) == 7.0
    assert tree.predict([0.0, 2.1]) == 9.0


@pytest.mark.parametrize(
    ("left", "said"),
    [((0, 0, 0), "node 0 of a tree with 3 has a child that does not follow it"), ((1, 0), "as many entries")],
)
def test_a_tree_of_a_file_that_has_no_end_is_refused(left: tuple[int, ...], said: str) -> None:
    arrays = [[1, -1, -1], [2.0, 0.0, 0.0], left, [2, 0, 0], [0.0, 7.0, 9.0]]

    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.json.decode(msgspec.json.encode(arrays), type=Tree)


def test_a_profile_predicts_with_what_was_learned(model: LearnedModel) -> None:
    plain = profile(samples())
    learned = msgspec.structs.replace(plain, learned=model)

    # A family that was measured, and one that was not.
    for work in (samples(1)[0].work, Work(family="linear", flops=10**6, output_bytes=10**6)):
        assert profile_s(learned, work) == profile_s(plain, work) * learned_factor(model, work)


def test_features_are_finite_for_the_smallest_kernel() -> None:
    assert all(math.isfinite(value) for value in learned_features(Work(family="view")))


def test_too_few_samples() -> None:
    with pytest.raises(ConfigError, match="7 samples are too few to learn from; at least 50 are needed"):
        learn(profile(samples(7)), samples(7))


def test_costs_are_computed_without_scikit_learn() -> None:
    code = "import sys; import edgeflow.cost, edgeflow.cost.profile_file; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
