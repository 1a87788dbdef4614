"""The difference between two answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from edgeflow.graph.ir import Array
from edgeflow.graph.structure import to_array

#: Largest difference, relative to the output's largest value, that another order of float32 sums explains.
TOLERANCE: Final = 1e-4

#: Tolerance by the encoding of activations on the wire (`edgeflow.plan.encoding`).
TOLERANCES: Final = {"": TOLERANCE, "float16": 1e-2, "int8": 0.1}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The largest difference between two answers.

    Attributes:
        absolute: Largest absolute difference of any element.
        relative: Each tensor's largest difference / the largest absolute value of its reference; the largest
            over all tensors.
        largest_value: Largest absolute value of the reference.
        num_tensors: Number of compared tensors.
        tolerance: Limit of ``relative``.
    """

    absolute: float
    relative: float
    largest_value: float
    num_tensors: int
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        verdict = "PASS" if self.passed else "FAIL"
        return (
            f"{verdict}: largest difference {self.absolute:.3g}, {self.relative:.3g} of the output's largest "
            f"value {self.largest_value:.4g} (tolerance {self.tolerance:g})"
        )


def compare(answer: Any, reference: Any, *, tolerance: float = TOLERANCE) -> Difference:
    """Return the difference between ``answer`` and ``reference``, nested tensors or arrays.

    The difference is infinite if the number of tensors or a shape differs, or a NaN or infinity in one has no
    equal in the other.
    """
    ours, theirs = list(leaves(answer)), list(leaves(reference))
    pairs = list(zip(ours, theirs, strict=False))
    largest = [_largest(array) for array in theirs]
    gaps = [_gap(a, b) if len(ours) == len(theirs) else np.inf for a, b in pairs] or [
        np.inf if len(ours) != len(theirs) else 0.0
    ]
    scaled = [gap / (scale or 1.0) for gap, scale in zip(gaps, largest or [1.0], strict=False)]
    return Difference(
        absolute=float(max(gaps)),
        relative=float(max(scaled)),
        largest_value=float(max(largest, default=0.0)),
        num_tensors=len(theirs),
        tolerance=tolerance,
    )


def leaves(value: Any) -> Iterator[Array]:
    """Yield the tensors of nested tuples, lists, mappings and dataclasses, in order."""
    if value is None or isinstance(value, str):
        return
    if isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name))
    else:
        yield to_array(value)


def _gap(ours: Array, theirs: Array) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if ours.size == 0:
        return 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))  # infinities of one sign are equal, and so are two NaNs
    with np.errstate(invalid="ignore"):
        gap = float(np.max(np.where(same, 0.0, np.abs(a - b))))
    return gap if np.isfinite(gap) else float("inf")


def _largest(array: Array) -> float:
    finite = array.astype(np.float64)
    finite = np.abs(finite[np.isfinite(finite)])
    return float(finite.max()) if finite.size else 0.0
