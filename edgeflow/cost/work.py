"""What a kernel is made of, as far as its duration depends on it: family, arithmetic, operands, window.

Derived from the kernel's own local calls, so a slice of an operator is described by the same function as the
whole of it: rows have fewer outputs and the same weights, output channels fewer of both, a partial sum a
shorter inner dim.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edgeflow.plan.program import Kernel
from edgeflow.sharding.cut import Slice, iter_slices
from edgeflow.sharding.region import Region

_FAMILIES: Final = {
    "conv": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    "linear": "linear addmm mm",
    "matmul": "matmul bmm baddbmm",
    "attention": "scaled_dot_product_attention",
    "norm": "layer_norm group_norm rms_norm softmax _softmax log_softmax _log_softmax",
    "max_pool": "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices",
    "avg_pool": "avg_pool1d avg_pool2d avg_pool3d",
    "reduce": "sum mean amax amin var std prod argmax argmin any all cumsum linalg_vector_norm "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d",
    # Pointwise functions that take many instructions, those on the error function apart.
    "gelu": "gelu erf erfc mish softplus atan2 pow",
    "activation": "exp expm1 tanh sigmoid silu elu selu celu log log1p log2 sin cos tan atan log_sigmoid",
    "copy": "cat stack clone constant_pad_nd pad index_select index gather repeat roll flip embedding "
    "pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d",
}
_FAMILY_OF: Final = {name: family for family, names in _FAMILIES.items() for name in names.split()}

#: The families that kernels are told apart by, in the order of features.
FAMILIES: Final = (
    "activation",
    "attention",
    "avg_pool",
    "conv",
    "conv_1x1",
    "conv_grouped",
    "copy",
    "gelu",
    "linear",
    "matmul",
    "max_pool",
    "norm",
    "pointwise",
    "reduce",
    "view",
)

#: Arguments that hold the second operand of a product, which every slice along rows reads whole.
_SECOND_OPERANDS: Final = ("weight", "mat2", "other", "batch2")


class Work(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One kernel in numbers.

    Attributes:
        family: One of `FAMILIES`.
        num_steps: Local calls.
        flops: Floating-point operations.
        weight_bytes: Of the second operand of a product: the filter of a convolution, the matrix of a
            linear layer, keys and values of attention.
        input_bytes: Of everything else that is read.
        output_bytes: Written.
        inner: Length of the dim that is summed over: input channels of a group times the window, input
            features; 1 where nothing is.
        window: Elements of a convolution's window; 1 elsewhere.
        stride: Product of its strides; 1 elsewhere.
        groups: Of a convolution; 1 elsewhere.
        columns: Length of the last dim of the output, along which kernels are vectorised.
    """

    family: str
    num_steps: int = 1
    flops: int = 0
    weight_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    inner: int = 1
    window: int = 1
    stride: int = 1
    groups: int = 1
    columns: int = 1

    @property
    def num_bytes(self) -> int:
        return self.weight_bytes + self.input_bytes + self.output_bytes


def work_of(kernel: Kernel) -> Work:
    """Describe a kernel."""
    step = kernel.steps[-1]
    arguments = dict(step.arguments)
    name = step.target.removeprefix("aten.").partition(".")[0]
    family = _FAMILY_OF.get(name, "pointwise")
    if kernel.num_bytes == 0 and kernel.flops == 0:
        family = "view"
    written = sum(region.num_elements for tensor, region in kernel.outputs if tensor)
    weights = _weight_elements(family, arguments)
    read = sum(item.region.num_elements for item in iter_slices(kernel.steps)) - weights
    # Bytes follow from elements: kernels carry no dtypes, and nearly all of their tensors share one.
    itemsize = kernel.num_bytes / max(1, written + read + weights)
    made = kernel.outputs[0][1] if kernel.outputs else Region(())
    window, groups = _window(family, arguments)
    return Work(
        family=_conv_family(window, groups) if family == "conv" else family,
        num_steps=len(kernel.steps),
        flops=kernel.flops,
        weight_bytes=round(weights * itemsize),
        input_bytes=round(read * itemsize),
        output_bytes=round(written * itemsize),
        inner=max(1, kernel.flops // max(1, 2 * written)) if family in ("conv", "linear", "matmul") else 1,
        window=window,
        stride=_product(arguments.get("stride")) if family == "conv" else 1,
        groups=groups,
        columns=made[len(made) - 1].length if len(made) else 1,
    )


def _conv_family(window: int, groups: int) -> str:
    if groups > 1:
        return "conv_grouped"
    return "conv" if window > 1 else "conv_1x1"


def _weight_elements(family: str, arguments: dict[str, Any]) -> int:
    if family == "attention":
        return sum(_elements(arguments.get(key)) for key in ("key", "value"))
    if family not in ("conv", "linear", "matmul"):
        return 0
    return next((_elements(arguments[key]) for key in _SECOND_OPERANDS if key in arguments), 0)


def _elements(value: Any) -> int:
    return value.region.num_elements if isinstance(value, Slice) else 0


def _window(family: str, arguments: dict[str, Any]) -> tuple[int, int]:
    """(elements of the window, groups) of a convolution."""
    weight = arguments.get("weight")
    if family != "conv" or not isinstance(weight, Slice):
        return 1, 1
    groups = arguments.get("groups")
    sizes = [interval.length for interval in weight.region.intervals[2:]]
    return _product(tuple(sizes)), groups if isinstance(groups, int) else 1


def _product(value: Any) -> int:
    result = 1
    for item in value if isinstance(value, tuple) else (value,):
        result *= item if isinstance(item, int) else 1
    return result
