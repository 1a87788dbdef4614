"""Which operators a worker runs for a stranger: pure ATen functions of their arguments, by name.

A program comes over the network, and a step names the function to call, so only names on this list are
called. Left out are operators that write to their arguments (in place, ``out=``), draw random numbers, read
memory or files that the program was not given (``empty``, ``from_file``, ``as_strided``), or belong to one
vendor's library. The list is of names; of each name every overload is allowed but those that write to an
argument. Adding a name is adding a word; a test compares every one of them with torch's own schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.sharding.cut import Step

_TARGET: Final = re.compile(r"aten\.([A-Za-z_][A-Za-z0-9_]*)\.([A-Za-z0-9][A-Za-z0-9_]*)")

ALLOWED_NAMES: Final = frozenset(
    """
    abs acos acosh add addcdiv addcmul addmm addmv angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh
    argmax argmin argsort asin asinh atan atan2 atanh all amax amin aminmax any arange
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d affine_grid_generator alias
    avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bilinear bitwise_and bitwise_left_shift bitwise_not
    bitwise_or bitwise_right_shift bitwise_xor bmm broadcast_to bucketize cat cdist ceil celu channel_shuffle
    chunk clamp clamp_max clamp_min clip clone col2im concat concatenate constant_pad_nd contiguous conv1d
    conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution copysign cos
    cosh cosine_similarity count_nonzero cross cummax cummin cumprod cumsum deg2rad detach diag diag_embed
    diagonal diff digamma dist div divide dot einsum elu embedding eq erf erfc erfinv exp exp2 expand
    expand_as expm1 eye fill flatten flip floor floor_divide fmax fmin fmod frac full full_like gather ge
    gelu glu greater greater_equal grid_sampler grid_sampler_2d grid_sampler_3d group_norm gt hardshrink
    hardsigmoid hardswish hardtanh heaviside hypot i0 im2col index index_add index_copy index_fill index_put
    index_select inner instance_norm isclose isfinite isinf isnan isneginf isposinf layer_norm le leaky_relu
    lerp less less_equal lgamma lift lift_fresh linalg_vector_norm linear linspace log log10 log1p log2
    log_sigmoid log_softmax _log_softmax logaddexp logaddexp2 logcumsumexp logical_and logical_not logical_or
    logical_xor logit logsumexp lt masked_fill masked_scatter masked_select matmul max max_pool1d max_pool2d
    max_pool3d max_pool2d_with_indices max_pool3d_with_indices maximum mean median meshgrid min minimum mish
    mm movedim mT mul multiply mv nan_to_num narrow native_group_norm native_layer_norm
    _native_batch_norm_legit_no_training ne neg negative new_full new_ones new_zeros nonzero norm not_equal
    numpy_T one_hot ones ones_like outer pad pairwise_distance permute pixel_shuffle pixel_unshuffle polar
    positive pow prelu _prelu_kernel prod rad2deg ravel reciprocal reflection_pad1d reflection_pad2d
    reflection_pad3d relu relu6 remainder repeat repeat_interleave replication_pad1d replication_pad2d
    replication_pad3d reshape reshape_as rms_norm roll rot90 round rsqrt rsub scalar_tensor
    scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted select select_scatter selu
    sgn sigmoid sign signbit silu sin sinc sinh slice slice_scatter softmax _softmax _safe_softmax softplus
    softshrink sort split split_with_sizes sqrt square squeeze stack std std_mean sub subtract sum swapaxes
    swapdims t take take_along_dim tan tanh tensor_split tensordot threshold tile to _to_copy topk transpose
    tril triu true_divide trunc type_as unbind unflatten unfold _unsafe_index _unsafe_view unsafe_chunk
    unsafe_split unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d upsample_trilinear3d _upsample_bilinear2d_aa
    _upsample_bicubic2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    vander var var_mean vdot view view_as where xlogy zeros zeros_like
    __and__ __or__ __xor__ __lshift__ __rshift__
    """.split()
)

#: Overloads that write to an argument are called ``out`` or something with it, or after what they write;
#: `sort` has some for Python lists.
_WRITES: Final = re.compile(
    r"(\.|_)out($|_)|\.Out|\.(names_)?dim_(max|min|values)$|\.(dimname_)?values(_stable)?$"
    r"|\.grad_input$|^aten\.sort\.(int|float|bool|str|any|Tensor)$"
)

#: Operators that are pure only with this value of an argument.
PURE_ONLY_WITH: Final = {
    "batch_norm": ("training", False),
    "instance_norm": ("use_input_stats", True),
    "scaled_dot_product_attention": ("dropout_p", 0.0),
}


def is_allowed(target: str) -> bool:
    """Whether ``target`` names an overload that a worker may call.

    Examples:
        >>> is_allowed("aten.conv2d.default")
        True
        >>> [is_allowed(name) for name in ("aten.add_.Tensor", "aten.add.out", "aten.rand.default")]
        [False, False, False]
    """
    match = _TARGET.fullmatch(target)
    return match is not None and match[1] in ALLOWED_NAMES and _WRITES.search(target) is None


def check_steps(steps: Iterable[Step], *, where: str) -> None:
    """Raise `UnsupportedOperatorError` for the first step that may not be run.

    Args:
        where: Which kernel the steps belong to, for the message.
    """
    for step in steps:
        if not is_allowed(step.target):
            raise UnsupportedOperatorError(
                f"{where}: operator {step.target!r} is not on the worker's allow-list", operator=step.target
            )
        condition = PURE_ONLY_WITH.get(step.target.split(".")[1])
        if condition is None:
            continue
        name, expected = condition
        given = dict(step.arguments).get(name, expected)
        if given != expected:
            raise UnsupportedOperatorError(
                f"{where}: {step.target} is run only with {name}={expected}, not {given!r}",
                operator=step.target,
            )
