"""A device profile: fitted costs of kernels, copies and frames on one device.

`edgeflow profile` writes it to a file, a cluster file names that file, and the cluster, which every plan
carries, holds the profile. Formulas are in `edgeflow.cost.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

#: Format name in profile files.
PROFILE_FORMAT: Final = "edgeflow-profile-1"


class FamilyCost(msgspec.Struct, frozen=True, kw_only=True):
    """Duration of one family's kernels in one dtype: a sum of terms that grow with the kernel's work.

    The product of M x K by K x N that runs at full efficiency only where M, N and K are large takes
    ``c (M + m)(N + n)(K + k)``; multiplied out, that is a term for the arithmetic and one for each operand.
    So a slice that reads whole weights for few rows is predicted to be slow, as it is on the device.

    Attributes:
        family: One of `edgeflow.cost.work.FAMILIES`.
        dtype: In which the kernels compute (`edgeflow.cost.work.Work.dtype`).
        terms: Name of a feature (`edgeflow.cost.kernels.features`) -> seconds per unit of it; not negative.
        num_samples: Number of kernels in the fit.
        median_error: Median absolute relative error over these.
    """

    family: str
    terms: tuple[tuple[str, float], ...]
    num_samples: int = 0
    median_error: float = 0.0
    dtype: str = "float32"


class MessageCost(msgspec.Struct, frozen=True, kw_only=True):
    """Processor time of sending and receiving frames.

    Attributes:
        send_s, receive_s: Seconds per frame.
        send_s_per_byte, receive_s_per_byte: Additional seconds per byte: framing and copies.
        pack_s_per_byte: Additional seconds per byte of a region that is not contiguous in its buffer.
    """

    send_s: float
    receive_s: float
    send_s_per_byte: float = 0.0
    receive_s_per_byte: float = 0.0
    pack_s_per_byte: float = 0.0


class MeasuredPower(msgspec.Struct, frozen=True, kw_only=True):
    """Power of the whole device, measured by its own meter.

    Attributes:
        idle_w: Watts before the measurement.
        busy_w: Watts while operators ran.
        meter: The meter, for example ``rapl``.
    """

    idle_w: float
    busy_w: float
    meter: str


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions under which a profile was measured.

    Attributes:
        processor: Name of the processor or board.
        num_cores: Cores of the machine.
        num_threads: Threads per operator.
        torch: Version of torch.
        date: ISO 8601, UTC.
        load: Load average over one minute when the measurement began.
    """

    processor: str = ""
    num_cores: int = 0
    num_threads: int = 1
    torch: str = ""
    date: str = ""
    load: float = 0.0


class Tree(msgspec.Struct, frozen=True, array_like=True):
    """A binary tree in arrays, one entry per node, the root first; a leaf has feature -1."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.feature)
        if not count or any(len(field) != count for field in msgspec.structs.astuple(self)):
            raise ValueError("a tree needs as many entries in each of its arrays, and at least one")
        for node, feature in enumerate(self.feature):
            if feature >= 0 and not (node < self.left[node] < count and node < self.right[node] < count):
                raise ValueError(f"node {node} of a tree with {count} has a child that does not follow it")

    def predict(self, vector: Sequence[float]) -> float:
        node = 0
        while self.feature[node] >= 0:
            is_left = vector[self.feature[node]] <= self.threshold[node]
            node = self.left[node] if is_left else self.right[node]
        return self.value[node]


class LearnedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Trees whose sum is the logarithm of a factor on a profile's prediction.

    Attributes:
        base: Added to the sum of the trees.
        cross_validated_error: Median absolute relative error on held-out samples.
        fitted_error: The same error without the trees, on the same samples.
    """

    base: float
    trees: tuple[Tree, ...]
    num_samples: int
    cross_validated_error: float
    fitted_error: float

    def predict(self, vector: Sequence[float]) -> float:
        """Return the logarithm for a kernel's features (`edgeflow.cost.kernels.learned_features`)."""
        return self.base + sum(tree.predict(vector) for tree in self.trees)


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Measured costs of one device.

    Attributes:
        name: Name of the machine.
        flops_per_second: Median fp32 rate of large convolutions and matrix products.
        rates: ``(dtype, the same rate in it)`` of other dtypes. Dtypes that were not measured are absent, for
            example those that the back end cannot run.
        memory_bandwidth_bytes_per_s: Rate of large copies, bytes read plus bytes written.
        memory_bytes: Free memory when it was measured.
        families: One cost per measured family and dtype.
        copy_s, copy_s_per_byte: Seconds to assemble a buffer: per call, and per byte moved.
        message: Cost of frames; None: not measured.
        power: Measured power; None: the machine has no meter.
        learned: Learned correction of the families' predictions; None: not trained.
        conditions: Conditions of the measurement.
    """

    name: str
    flops_per_second: float
    memory_bandwidth_bytes_per_s: float
    memory_bytes: int
    families: tuple[FamilyCost, ...]
    copy_s: float = 0.0
    copy_s_per_byte: float = 0.0
    message: MessageCost | None = None
    power: MeasuredPower | None = None
    learned: LearnedModel | None = None
    conditions: Conditions = Conditions()
    rates: tuple[tuple[str, float], ...] = ()

    def family(self, name: str, dtype: str = "float32") -> FamilyCost | None:
        """Return the cost of a family in a dtype, else its fp32 cost; None where neither was measured."""
        fallback = None
        for item in self.families:
            if item.family == name:
                if item.dtype == dtype:
                    return item
                if item.dtype == "float32":
                    fallback = item
        return fallback

    def rate(self, dtype: str) -> float:
        """Return the operations per second in a dtype; the fp32 rate where its own was not measured."""
        return next((rate for name, rate in self.rates if name == dtype), self.flops_per_second)
