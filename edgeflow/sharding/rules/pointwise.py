"""Elementwise operators, with broadcasting."""

from __future__ import annotations

from edgeflow.graph.ir import Operator, TensorRef
from edgeflow.sharding.cut import Cut, Slice
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules.base import Rule, Specs, broadcast, localised, refuse_contraction


def _rule(cost: float) -> Rule:
    def cut(op: Operator, specs: Specs, region: Region, contraction: Interval | None) -> Cut:
        refuse_contraction(op, contraction)
        tensors = {
            name: Slice(value.name, broadcast(region, specs[value.name]))
            for name, value in op.arguments
            if isinstance(value, TensorRef)
        }
        return Cut(
            steps=(localised(op, specs, **tensors),), region=region, flops=int(cost * region.num_elements)
        )

    return Rule(cut=cut)


#: Operators that cost about one FLOP per element; `_COSTLY` ones are counted as ten.
_CHEAP = """
abs neg relu relu6 hardtanh hardswish hardsigmoid leaky_relu threshold clamp clamp_min clamp_max floor ceil
round sign trunc logical_not logical_and logical_or logical_xor bitwise_not bitwise_and bitwise_or bitwise_xor
__and__ __or__ add sub rsub mul div square reciprocal remainder floor_divide minimum maximum where masked_fill
__xor__ bitwise_left_shift bitwise_right_shift positive sgn frac copysign fmod fmax fmin heaviside nan_to_num
eq ne lt le gt ge isnan isinf isfinite isposinf isneginf signbit lerp addcmul addcdiv _to_copy clone fill
zeros_like ones_like full_like deg2rad rad2deg
""".split()
_COSTLY = """
exp expm1 log log1p log2 sqrt rsqrt pow sin cos tan tanh sigmoid silu gelu elu celu selu mish softplus
erf erfc erfinv asin acos atan atan2 sinh cosh asinh acosh atanh exp2 log10 logaddexp logaddexp2 xlogy logit
sinc hypot log_sigmoid hardshrink softshrink
""".split()
_OVERLOADS = ("default", "Tensor", "Scalar", "self", "Scalar_mode", "Tensor_mode", "Tensor_Scalar",
              "Tensor_Tensor", "ScalarSelf", "ScalarOther", "Scalar_Tensor", "Scalar_Self", "Scalar_Other",
              "decimals")  # fmt: skip

RULES = {
    f"aten.{name}.{overload}": _rule(cost)
    for names, cost in ((_CHEAP, 1.0), (_COSTLY, 10.0))
    for name in names
    for overload in _OVERLOADS
}
