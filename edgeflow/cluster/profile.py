"""What was measured on one device, condensed: how long kernels, copies and frames take there.

`edgeflow profile` writes it to a file, a cluster file refers to that, and the cluster, which every plan
carries, holds it. Formulas are in `edgeflow.cost.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

#: What profile files say they are.
PROFILE_FORMAT: Final = "edgeflow-profile-1"


class FamilyCost(msgspec.Struct, frozen=True, kw_only=True):
    """Duration of one family's kernels: a sum of terms that only grow with what a kernel does.

    The product of M x K by K x N that runs at full efficiency only where M, N and K are large takes
    ``c (M + m)(N + n)(K + k)``; multiplied out, that is a term for the arithmetic and one for each operand.
    So a slice that reads whole weights for few rows is slow here, as it is on the device.

    Attributes:
        family: One of `edgeflow.cost.work.FAMILIES`.
        terms: Name of a feature (`edgeflow.cost.kernels.features`) -> seconds per unit of it; not negative.
        num_samples: Kernels that it was fitted to.
        median_error: Median over these of the relative error, absolute.
    """

    family: str
    terms: tuple[tuple[str, float], ...]
    num_samples: int = 0
    median_error: float = 0.0


class MessageCost(msgspec.Struct, frozen=True, kw_only=True):
    """Processor time that frames cost.

    Attributes:
        send_s, receive_s: Per frame.
        send_s_per_byte, receive_s_per_byte: On top of that, per byte: framing and copies.
        pack_s_per_byte: On top of that, per byte of a region that is not contiguous in its buffer.
    """

    send_s: float
    receive_s: float
    send_s_per_byte: float = 0.0
    receive_s_per_byte: float = 0.0
    pack_s_per_byte: float = 0.0


class MeasuredPower(msgspec.Struct, frozen=True, kw_only=True):
    """Power of the whole device by a meter of its own: measured, not modelled.

    Attributes:
        idle_w: Before measuring began.
        busy_w: While operators ran.
        meter: What counted, for example ``rapl``.
    """

    idle_w: float
    busy_w: float
    meter: str


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Under what a profile was taken.

    Attributes:
        processor: Its name.
        num_cores: Of the machine.
        num_threads: That one operator used.
        torch: Version.
        date: ISO 8601, UTC.
        load: The machine's load average over a minute when measuring began.
    """

    processor: str = ""
    num_cores: int = 0
    num_threads: int = 1
    torch: str = ""
    date: str = ""
    load: float = 0.0


class Tree(msgspec.Struct, frozen=True, array_like=True):
    """A binary tree in arrays, one entry a node, the root first; a leaf has feature -1."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.feature)
        if not count or any(len(field) != count for field in msgspec.structs.astuple(self)):
            raise ValueError("a tree needs as many entries in each of its arrays, and one at least")
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
        base: Added to that sum.
        cross_validated_error: Median absolute relative error on samples that were held out.
        fitted_error: The same of the profile's terms alone, on the same samples.
    """

    base: float
    trees: tuple[Tree, ...]
    num_samples: int
    cross_validated_error: float
    fitted_error: float

    def predict(self, vector: Sequence[float]) -> float:
        """The logarithm, for the features of a kernel (`edgeflow.cost.kernels.learned_features`)."""
        return self.base + sum(tree.predict(vector) for tree in self.trees)


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on one device.

    Attributes:
        name: Of the machine.
        flops_per_second: The best rate that was seen on large convolutions and matrix products.
        memory_bandwidth_bytes_per_s: Of large copies, read and written together.
        memory_bytes: Free when it was measured.
        families: By family.
        copy_s, copy_s_per_byte: Of putting one buffer together, per call and per byte moved.
        message: Of frames; None where it was not measured.
        power: Where the machine has a meter.
        learned: Corrects what the families predict; None where nothing was learned.
        conditions: Under what.
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

    def family(self, name: str) -> FamilyCost | None:
        """The cost of one family; None where nothing of it was measured."""
        return next((item for item in self.families if item.family == name), None)
