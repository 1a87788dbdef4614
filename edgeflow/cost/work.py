"""The properties of a kernel that its duration depends on: family, dtype, arithmetic, operands, window.

Derived from the kernel's own local calls, so a slice of an operator is described by the same function as the
whole of it: rows have fewer outputs and the same weights, output channels fewer of both, a partial sum a
shorter inner dim.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edgeflow.dtypes import DTYPE_BITS, FLOATS, bytes_of
from edgeflow.plan.program import Kernel
from edgeflow.sharding.cut import Slice, Step, iter_slices
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
    # Pointwise functions of many instructions; those built on the error function are a family of their own.
    "gelu": "gelu erf erfc mish softplus atan2 pow",
    "activation": "exp expm1 tanh sigmoid silu elu selu celu log log1p log2 sin cos tan atan log_sigmoid",
    "copy": "cat stack clone constant_pad_nd pad index_select index gather repeat roll flip embedding "
    "pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d",
}
_FAMILY_OF: Final = {name: family for family, names in _FAMILIES.items() for name in names.split()}

#: Every family; its position is the family's value as a feature (`edgeflow.cost.kernels.learned_features`).
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

#: Families whose work is multiply-adds of two operands.
PRODUCTS: Final = frozenset({"attention", "conv", "conv_1x1", "conv_grouped", "linear", "matmul"})

#: Arguments that hold the first operand, in the order in which to look: of `addmm`, ``input`` is the bias.
_FIRST_OPERANDS: Final = ("mat1", "batch1", "query", "input", "self")

#: Arguments that hold the second operand of a product; a slice along rows reads it whole.
_SECOND_OPERANDS: Final = ("weight", "mat2", "other", "batch2")


class Work(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One kernel in numbers.

    Attributes:
        family: One of `FAMILIES`.
        dtype: In which it computes: of a product, the dtype of its activations, whatever that of its weights
            (float32 activations with int8 weights are multiplied in float32); elsewhere the widest float that
            it reads or writes, or if there is none, the dtype of its result.
        num_steps: Local calls.
        flops: Floating-point operations.
        weight_bytes: Bytes of the second operand of a product: the filter of a convolution, the matrix of a
            linear layer, keys and values of attention.
        input_bytes: Bytes of everything else that is read.
        output_bytes: Bytes written.
        inner: Length of the summed dim: input channels per group times the window, or input features; 1
            where nothing is summed.
        window: Elements of a convolution's window; 1 elsewhere.
        stride: Product of its strides; 1 elsewhere.
        groups: Groups of a convolution; 1 elsewhere.
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
    dtype: str = "float32"

    @property
    def num_bytes(self) -> int:
        return self.weight_bytes + self.input_bytes + self.output_bytes


def work_of(kernel: Kernel) -> Work:
    """Describe a kernel."""
    step = kernel.steps[-1]
    arguments = dict(step.arguments)
    family = _family_of(step)
    if kernel.num_bytes == 0 and kernel.flops == 0:
        family = "view"
    written = sum(region.num_elements for tensor, region in kernel.outputs if tensor)
    weights = _second_operands(family, arguments)
    weight_bytes, input_bytes, output_bytes = _operand_bytes(kernel, weights)
    made = kernel.outputs[0][1] if kernel.outputs else Region(())
    window, groups = _window(family, arguments)
    return Work(
        family=_conv_family(window, groups) if family == "conv" else family,
        dtype=compute_dtype(kernel),
        num_steps=len(kernel.steps),
        flops=kernel.flops,
        weight_bytes=weight_bytes,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
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


def compute_dtype(kernel: Kernel) -> str:
    """Return the dtype in which a kernel computes; see `Work.dtype`."""
    if not kernel.dtypes:
        return "float32"
    dtypes = dtypes_of(kernel)
    if _family_of(kernel.steps[-1]) in PRODUCTS:
        arguments = dict(kernel.steps[-1].arguments)
        first = next((arguments[key] for key in _FIRST_OPERANDS if key in arguments), None)
        # The last step of a convolution may read what an earlier one has padded.
        return dtypes[first.tensor] if isinstance(first, Slice) else next(iter(dtypes.values()))
    floats = [dtype for dtype in dtypes.values() if dtype in FLOATS]
    # Without floats the result decides: indices, which are wide, only say where to read.
    return max(floats, key=lambda dtype: (DTYPE_BITS[dtype], dtype)) if floats else list(dtypes.values())[-1]


def dtypes_of(kernel: Kernel) -> dict[str, str]:
    """Return tensor -> dtype of every tensor that a kernel reads or writes; see `Kernel.dtypes`."""
    dtypes = dict(kernel.dtypes)
    names = [item.tensor for item in iter_slices(kernel.steps)] + [name for name, _ in kernel.outputs if name]
    return {name: dtypes.get(name, "float32") for name in names}


def _family_of(step: Step) -> str:
    return _FAMILY_OF.get(step.target.removeprefix("aten.").partition(".")[0], "pointwise")


def _operand_bytes(kernel: Kernel, weights: list[Slice]) -> tuple[int, int, int]:
    """Return the bytes of the second operand, of what else is read, and of what is written.

    Where a kernel names no dtypes its elements share its bytes equally: they are float32 but for indices and
    masks, and a lookup does not read the whole of its table.
    """
    outputs = [(tensor, region) for tensor, region in kernel.outputs if tensor]
    if kernel.dtypes:
        dtypes = dict(kernel.dtypes)

        def size(tensor: str, region: Region) -> int:
            return bytes_of(region.num_elements, dtypes.get(tensor, "float32"))

        held = sum(size(item.tensor, item.region) for item in weights)
        written = sum(size(tensor, region) for tensor, region in outputs)
        return held, max(0, kernel.num_bytes - held - written), written
    num_weights = sum(item.region.num_elements for item in weights)
    num_written = sum(region.num_elements for _, region in outputs)
    num_read = sum(item.region.num_elements for item in iter_slices(kernel.steps)) - num_weights
    itemsize = kernel.num_bytes / max(1, num_written + num_read + num_weights)
    return round(num_weights * itemsize), round(num_read * itemsize), round(num_written * itemsize)


def _second_operands(family: str, arguments: dict[str, Any]) -> list[Slice]:
    if family == "attention":
        values = [arguments.get(key) for key in ("key", "value")]
    elif family in ("conv", "linear", "matmul"):
        values = [next((arguments[key] for key in _SECOND_OPERANDS if key in arguments), None)]
    else:
        values = []
    return [value for value in values if isinstance(value, Slice)]


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
