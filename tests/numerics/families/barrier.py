"""Operators that no rule knows: run whole, on whole inputs, whatever region is asked for."""

from __future__ import annotations

from tests.numerics.cases import Case, Draw, Family, build

TARGETS = (
    "aten.instance_norm.default", "aten.logsumexp.default", "aten.diagonal.default",
    "aten.index_put.default", "aten.cdist.default",
)  # fmt: skip


def _barrier(d: Draw) -> Case:
    target = d.pick(*TARGETS)
    channels = d.integer(1, 4)
    x = d.tensor(d.integer(1, 2), channels, d.integer(2, 6), d.integer(2, 6))
    dim = d.integer(-4, 3)
    match target.split(".")[1]:
        case "logsumexp":
            return build(target, self=x, dim=[dim])
        case "instance_norm":
            return build(
                target, input=x, weight=None, bias=None, running_mean=None, running_var=None,
                use_input_stats=True, momentum=0.1, eps=1e-5, cudnn_enabled=False,
            )  # fmt: skip
        case "diagonal":
            return build(target, self=x, offset=d.integer(-1, 1), dim1=2, dim2=3)
        case "cdist":
            return build(target, x1=x, x2=x, p=d.pick(1.0, 2.0))
    places = d.integers(3, low=0, high=channels - 1)
    return build(target, self=x, indices=[None, places], values=d.tensor(1), accumulate=False)


FAMILIES = {"barrier": Family(draw=_barrier, targets=TARGETS, num_cases=200, min_exact=0.0)}
