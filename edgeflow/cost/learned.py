"""A learned latency model: boosted trees on the residuals of a profile's terms.

The trees predict ``log(measured / fitted)`` of a kernel from its features, so that outside of the measured
range the fitted terms still decide. Training needs scikit-learn (the extra ``train``); the result is plain
data within the profile, evaluated by `edgeflow.cost.kernels`, so that planners and workers do not.

References:
    Ke et al., "LightGBM", NeurIPS 2017 (the algorithm, by way of scikit-learn's HistGradientBoosting);
    FlexPie, 2025 (gradient-boosted trees as the cost model of a distributed plan).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from edgeflow.cluster.profile import DeviceProfile, LearnedModel, Tree
from edgeflow.cost.kernels import Sample, fit_families, learned_factor, learned_features, profile_s
from edgeflow.errors import ConfigError

#: Fewer samples are too few to train on.
_MIN_SAMPLES: Final = 50
_NUM_FOLDS: Final = 5


class _Split(NamedTuple):
    train: list[Sample]
    test: list[Sample]


def learn(profile: DeviceProfile, samples: Sequence[Sample], *, seed: int = 0) -> LearnedModel:
    """Train on a profile's samples.

    Args:
        profile: A profile without a learned model.

    Raises:
        ConfigError: If scikit-learn is not installed, or there are too few samples.
    """
    if len(samples) < _MIN_SAMPLES:
        raise ConfigError(
            f"{len(samples)} samples are too few to learn from; at least {_MIN_SAMPLES} are needed"
        )
    errors: list[float] = []
    fitted_errors: list[float] = []
    for train, test in _folds(samples, seed):
        fitted = msgspec.structs.replace(profile, families=fit_families(train))
        trees = _train(fitted, train, seed)
        for sample in test:
            plain = profile_s(fitted, sample.work)
            fitted_errors.append(abs(plain / sample.seconds - 1))
            errors.append(abs(plain * learned_factor(trees, sample.work) / sample.seconds - 1))
    return msgspec.structs.replace(
        _train(profile, samples, seed),
        cross_validated_error=statistics.median(errors),
        fitted_error=statistics.median(fitted_errors),
    )


def _folds(samples: Sequence[Sample], seed: int) -> list[_Split]:
    order = np.random.default_rng(seed).permutation(len(samples))
    return [
        _Split(
            train=[samples[i] for position, i in enumerate(order) if position % _NUM_FOLDS != fold],
            test=[samples[i] for position, i in enumerate(order) if position % _NUM_FOLDS == fold],
        )
        for fold in range(_NUM_FOLDS)
    ]


def _train(profile: DeviceProfile, samples: Sequence[Sample], seed: int) -> LearnedModel:
    inputs = np.array([learned_features(item.work) for item in samples])
    target = np.array([math.log(item.seconds / profile_s(profile, item.work)) for item in samples])
    regressor = _fit(inputs, target, seed)
    model = LearnedModel(
        base=float(np.ravel(regressor._baseline_prediction)[0]),
        trees=tuple(_tree(stage[0].nodes) for stage in regressor._predictors),
        num_samples=len(samples),
        cross_validated_error=math.nan,
        fitted_error=math.nan,
    )
    _check_same(model, regressor, inputs)
    return model


def _fit(inputs: Any, target: Any, seed: int) -> Any:
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ConfigError("learning needs scikit-learn: pip install 'edgeflow-inference[train]'") from error
    regressor = HistGradientBoostingRegressor(
        max_iter=120, learning_rate=0.08, max_leaf_nodes=12, min_samples_leaf=8, random_state=seed
    )
    # For so few samples several threads are slower, much slower on a busy machine.
    with threadpool_limits(limits=1):
        return regressor.fit(inputs, target)


def _tree(nodes: Any) -> Tree:
    """Copy a tree out of scikit-learn's own array of nodes."""
    is_leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        feature=tuple(int(index) for index in np.where(is_leaf, -1, nodes["feature_idx"])),
        threshold=tuple(float(value) for value in np.where(is_leaf, 0.0, nodes["num_threshold"])),
        left=tuple(int(node) for node in nodes["left"]),
        right=tuple(int(node) for node in nodes["right"]),
        value=tuple(float(value) for value in nodes["value"]),
    )


def _check_same(model: LearnedModel, regressor: Any, inputs: Any) -> None:
    """Compare the copy with the original: the nodes are not part of scikit-learn's public face."""
    ours = [model.predict(list(row)) for row in inputs]
    if not np.allclose(ours, regressor.predict(inputs), atol=1e-9):
        raise ConfigError("this version of scikit-learn stores its trees in another way; use the tested one")
