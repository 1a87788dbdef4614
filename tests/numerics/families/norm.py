"""Norms and softmax: statistics over dims that are taken whole."""

from __future__ import annotations

from typing import Any

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _trailing(target: str, *, has_bias: bool) -> DrawCase:
    def draw(d: Draw) -> Case:
        shape = d.shape(1, 4)
        normalized = shape[d.integer(0, len(shape) - 1) :]
        more: dict[str, Any] = {"eps": d.pick(1e-5, 0.1)}
        if has_bias:
            more["bias"] = d.tensor(*normalized) if d.flag() else None
        return build(
            target,
            input=d.tensor(*shape),
            normalized_shape=list(normalized),
            weight=d.tensor(*normalized) if d.flag() else None,
            **more,
        )

    return draw


def _group_norm(d: Draw) -> Case:
    groups = d.integer(1, 4)
    channels = groups * d.integer(1, 4)
    return build(
        "aten.group_norm.default",
        input=d.tensor(d.integer(1, 3), channels, *d.shape(0, 3)),
        num_groups=groups,
        weight=d.tensor(channels) if d.flag() else None,
        bias=d.tensor(channels) if d.flag() else None,
    )


_SOFTMAX = ("aten.softmax.int", "aten.log_softmax.int", "aten._softmax.default", "aten._log_softmax.default")


def _softmax(d: Draw) -> Case:
    target = d.pick(*_SOFTMAX)
    x = d.tensor(*d.shape(0, 4))
    dim = d.integer(-max(1, x.ndim), max(1, x.ndim) - 1)
    if target.endswith(".int"):
        return build(target, self=x, dim=dim, dtype=d.pick(None, None, d.dtype))
    return build(target, self=x, dim=dim, half_to_float=False)


FAMILIES = {
    "layer_norm": Family(
        draw=_trailing("aten.layer_norm.default", has_bias=True),
        targets=("aten.layer_norm.default",),
        min_exact=0.2,
    ),
    "rms_norm": Family(
        draw=_trailing("aten.rms_norm.default", has_bias=False),
        targets=("aten.rms_norm.default",),
        num_cases=150,
        min_exact=0.2,
    ),
    "group_norm": Family(draw=_group_norm, targets=("aten.group_norm.default",), min_exact=0.1),
    "softmax": Family(draw=_softmax, targets=_SOFTMAX, min_exact=0.3),
}
