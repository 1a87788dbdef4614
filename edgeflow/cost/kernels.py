"""Seconds of a kernel from a device's profile, and fitting such a profile to measurements.

A family's duration is a sum of non-negative terms (`edgeflow.cluster.profile.FamilyCost`), so it never falls
when a kernel does more, and is as good for slices as for whole operators: on convolutions, products and
attention of ResNet-50 and ViT, cut every way, about 10 % off in the median (`benchmarks/bench_cost.py`).
It ignores caches, other processes, and that back ends choose another algorithm at some sizes.

Each family is fitted once per dtype. A dtype that was not measured uses the float32 fit: its bytes are real,
its arithmetic is assumed to run at the float32 rate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from edgeflow.cluster.profile import DeviceProfile, FamilyCost, LearnedModel
from edgeflow.cost.work import FAMILIES, PRODUCTS, Work
from edgeflow.dtypes import DTYPE_BITS, FLOATS

#: Output columns are computed in blocks of about this many; a partial block costs as much as a full one.
_BLOCK: Final = 16

#: Bound on the logarithm of the trees' factor: they correct a prediction, they do not replace it.
_MAX_LOG_FACTOR: Final = 1.5


class Sample(msgspec.Struct, frozen=True):
    """One kernel, measured."""

    work: Work
    seconds: float


def features(work: Work) -> dict[str, float]:
    """Return the terms of a duration by name; each grows with the kernel.

    ``block_flop`` counts arithmetic as if the last dim were padded to whole blocks.
    """
    found = {
        "call": float(work.num_steps),
        "flop": float(work.flops),
        "weight_byte": float(work.weight_bytes),
        "input_byte": float(work.input_bytes),
        "output_byte": float(work.output_bytes),
    }
    if work.family in PRODUCTS:
        found["block_flop"] = work.flops * (-(-work.columns // _BLOCK) * _BLOCK / work.columns)
    return found


def family_s(cost: FamilyCost, work: Work) -> float:
    """Return the seconds of a kernel by its family's terms."""
    given = features(work)
    return sum(seconds * given[name] for name, seconds in cost.terms)


def profile_s(profile: DeviceProfile, work: Work) -> float:
    """Return the seconds of a kernel on a profiled device.

    A family that was measured in no usable dtype (`DeviceProfile.family`) is predicted by a roofline.
    """
    cost = profile.family(work.family, work.dtype)
    if cost is not None:
        seconds = family_s(cost, work)
    else:
        seconds = work.num_steps * profile.copy_s + max(
            work.flops / profile.rate(work.dtype), work.num_bytes / profile.memory_bandwidth_bytes_per_s
        )
    return seconds if profile.learned is None else seconds * learned_factor(profile.learned, work)


def learned_factor(model: LearnedModel, work: Work) -> float:
    """Return the factor of the trees on the prediction of a profile's terms."""
    total = model.predict(learned_features(work))
    return math.exp(max(-_MAX_LOG_FACTOR, min(_MAX_LOG_FACTOR, total)))


def learned_features(work: Work) -> list[float]:
    """Return the inputs of the trees; sizes in logarithms. Old trees index them: append new ones."""
    return [
        float(FAMILIES.index(work.family)),
        math.log1p(work.flops),
        math.log1p(work.weight_bytes),
        math.log1p(work.input_bytes),
        math.log1p(work.output_bytes),
        math.log1p(work.inner),
        float(work.window),
        float(work.stride),
        math.log1p(work.groups),
        math.log1p(work.columns),
        float(work.num_steps),
        float(DTYPE_BITS[work.dtype]),
        float(work.dtype in FLOATS),
    ]


def fit_families(samples: Iterable[Sample]) -> tuple[FamilyCost, ...]:
    """Fit each family in each dtype that occurs, in the order of names."""
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.work.family, sample.work.dtype), []).append(sample)
    return tuple(fit_family(name, groups[name, dtype]) for name, dtype in sorted(groups))


def fit_family(name: str, samples: Sequence[Sample]) -> FamilyCost:
    """Fit one family in the samples' dtype: least squares of the *relative* error, terms not negative.

    Raises:
        ValueError: If there are no samples.
    """
    if not samples:
        raise ValueError(f"family {name!r}: nothing was measured")
    names = tuple(features(samples[0].work))
    matrix = np.array([[features(item.work)[key] / item.seconds for key in names] for item in samples])
    # Scale the columns first: calls and FLOPs differ by many orders of magnitude.
    scale = np.maximum(np.linalg.norm(matrix, axis=0), np.finfo(float).tiny)
    terms = non_negative_least_squares(matrix / scale, np.ones(len(samples))) / scale
    cost = FamilyCost(
        family=name,
        dtype=samples[0].work.dtype,
        terms=tuple((key, float(value)) for key, value in zip(names, terms, strict=True) if value > 0),
        num_samples=len(samples),
    )
    return msgspec.structs.replace(cost, median_error=median_error(cost, samples))


def median_error(cost: FamilyCost, samples: Sequence[Sample]) -> float:
    """Return the median of ``|predicted / measured - 1|``."""
    return statistics.median(abs(family_s(cost, item.work) / item.seconds - 1) for item in samples)


def non_negative_least_squares(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    target: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the ``x >= 0`` that minimises ``|matrix @ x - target|``, for a matrix of few columns.

    References:
        Lawson, Hanson, "Solving Least Squares Problems", 1974, chapter 23.
    """
    count = matrix.shape[1]
    x = np.zeros(count)
    free = np.zeros(count, dtype=bool)
    for _ in range(3 * count + 10):
        gradient = matrix.T @ (target - matrix @ x)
        gradient[free] = -np.inf
        if free.all() or gradient.max() <= 1e-10:
            break
        free[int(gradient.argmax())] = True
        while free.any():
            trial = np.zeros(count)
            trial[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
            if trial[free].min() > 0:
                x = trial
                break
            # Move towards the trial solution until the first term reaches zero, and fix that term at zero.
            leaving = free & (trial <= 0)
            step = float(np.min(x[leaving] / (x[leaving] - trial[leaving] + 1e-300)))
            x = x + step * (trial - x)
            free &= x > 1e-14
            x[~free] = 0.0
    return x
