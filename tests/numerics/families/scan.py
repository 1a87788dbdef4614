"""Running sums, orders and the largest few, along any dim; of two outputs either one counts."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, Family, build

_RUNNING = ("aten.cumsum.default", "aten.cumprod.default", "aten.logcumsumexp.default")
_EXTREMES = ("aten.cummax.default", "aten.cummin.default")
_SORTED = ("aten.sort.default", "aten.sort.stable", "aten.argsort.default", "aten.argsort.stable")


def _running(d: Draw) -> Case:
    x = d.tensor(*d.shape(0, 4))
    target = d.pick(*_RUNNING, *_EXTREMES)
    dim = d.integer(0, max(0, x.ndim - 1)) - d.pick(0, max(1, x.ndim))
    if target in _EXTREMES:
        return build(target, output=d.integer(0, 1), self=d.integers(*x.shape) if d.flag() else x, dim=dim)
    if "logcumsumexp" in target:
        return build(target, self=x, dim=dim)
    if d.flag(0.2):
        return build(
            target, self=d.bools(*x.shape) if d.flag() else d.integers(*x.shape, low=1, high=2), dim=dim
        )
    return build(target, self=x, dim=dim, dtype=d.pick(None, None, torch.float64))


def _sorted(d: Draw) -> Case:
    x = d.tensor(*d.shape(0, 4))
    dim = d.integer(0, max(0, x.ndim - 1)) - d.pick(0, max(1, x.ndim))
    target = d.pick(*_SORTED, "aten.topk.default")
    if target == "aten.topk.default":
        most = x.shape[dim] if x.ndim else 1
        return build(
            target,
            output=d.integer(0, 1),
            self=x,
            k=d.integer(1, most),
            dim=dim,
            largest=d.flag(),
            sorted=True,
        )
    arguments = {"self": x, "dim": dim, "descending": d.flag()}
    if target.endswith("stable"):  # equal elements stay in order
        arguments.update(self=d.integers(*x.shape), stable=True)
    output = d.integer(0, 1) if ".sort." in target else 0
    return build(target, output=output, **arguments)


FAMILIES = {
    "running": Family(draw=_running, targets=(*_RUNNING, *_EXTREMES), num_cases=300, min_exact=0.3),
    "sorted": Family(draw=_sorted, targets=(*_SORTED, "aten.topk.default"), num_cases=300, min_exact=0.3),
}
