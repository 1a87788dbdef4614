"""Operators that no rule knows: run whole, on whole inputs, whatever region is asked for."""

from __future__ import annotations

from tests.numerics.cases import Case, Draw, Family, build

TARGETS = (
    "aten.cumsum.default", "aten.cumprod.default", "aten.instance_norm.default",
    "aten.einsum.default", "aten.logsumexp.default", "aten.index.Tensor",
)  # fmt: skip


def _barrier(d: Draw) -> Case:
    target = d.pick(*TARGETS)
    channels = d.integer(1, 4)
    x = d.tensor(d.integer(1, 2), channels, d.integer(2, 6), d.integer(2, 6))
    dim = d.integer(-4, 3)
    match target.split(".")[1]:
        case "cumsum" | "cumprod":
            return build(target, self=x, dim=dim)
        case "logsumexp":
            return build(target, self=x, dim=[dim])
        case "instance_norm":
            return build(
                target, input=x, weight=None, bias=None, running_mean=None, running_var=None,
                use_input_stats=True, momentum=0.1, eps=1e-5, cudnn_enabled=False,
            )  # fmt: skip
        case "einsum":
            return build(target, equation="bchw,bdhw->bcd", tensors=[x, x])
    return build(target, self=x, indices=[None, d.integers(3, low=0, high=channels - 1)])


FAMILIES = {"barrier": Family(draw=_barrier, targets=TARGETS, num_cases=200, min_exact=0.0)}
