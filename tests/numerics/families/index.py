"""Looking up and putting at places that come with the request: negative ones, repeated ones, of any shape."""

from __future__ import annotations

import torch

from tests.numerics.cases import Case, Draw, DrawCase, Family, build


def _any_tensor(d: Draw, *shape: int) -> torch.Tensor:
    return d.pick(d.tensor, d.tensor, d.integers, d.bools)(*shape)  # type: ignore[no-any-return]


def _embedding(d: Draw) -> Case:
    num_rows = d.integer(1, 9)
    indices = d.integers(*d.shape(0, 3), low=0, high=num_rows - 1).to(d.pick(torch.int64, torch.int32))
    return build(
        "aten.embedding.default",
        weight=d.tensor(num_rows, d.integer(1, 7)),
        indices=indices,
        padding_idx=d.pick(-1, 0),
    )


def _index_select(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(0, 4))
    dim = d.integer(0, max(0, x.ndim - 1))
    high = x.shape[dim] - 1 if x.ndim else 0
    index = d.integers(*d.shape(0, 1), low=0, high=high).to(d.pick(torch.int64, torch.int32))
    return build("aten.index_select.default", self=x, dim=dim - d.pick(0, x.ndim), index=index)


def _smaller(d: Draw, shape: tuple[int, ...], dim: int) -> list[int]:
    """A shape that is nowhere longer, but along ``dim``."""
    return [d.integer(1, 6) if at == dim else d.integer(1, size) for at, size in enumerate(shape)]


def _gather(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(0, 4))
    if not x.ndim:
        return build("aten.gather.default", self=x, dim=0, index=torch.tensor(0))
    dim = d.integer(0, x.ndim - 1)
    index = d.integers(*_smaller(d, x.shape, dim), low=-x.shape[dim], high=x.shape[dim] - 1)
    return build("aten.gather.default", self=x, dim=dim - d.pick(0, x.ndim), index=index)


def _take_along_dim(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(1, 4))
    if d.flag(0.1):
        indices = d.integers(d.integer(1, 6), low=0, high=x.numel() - 1)
        return build("aten.take_along_dim.default", self=x, indices=indices)
    dim = d.integer(0, x.ndim - 1)
    high = x.shape[dim] - 1
    mine, other = list(x.shape), list(x.shape)
    for at in range(x.ndim):
        if at == dim:
            other[at] = d.integer(1, 6)
        elif d.flag(0.2):
            mine[at] = 1
        elif d.flag(0.2):
            other[at] = 1
    return build(
        "aten.take_along_dim.default",
        self=_any_tensor(d, *mine),
        indices=d.integers(*other, low=-high - 1, high=high),
        dim=dim - d.pick(0, x.ndim),
    )


def _take(d: Draw) -> Case:
    x = _any_tensor(d, *d.shape(0, 3))
    return build(
        "aten.take.default", self=x, index=d.integers(*d.shape(0, 3), low=-x.numel(), high=x.numel() - 1)
    )


def _index(d: Draw) -> Case:
    """Up to three indices that broadcast, side by side or apart, before, between and after whole dims."""
    x = _any_tensor(d, *d.shape(1, 4, most=5))
    places = d.shape(0, 2, most=4)
    chosen = set(d.some(range(x.ndim))[:3])
    indices = [
        d.integers(*d.broadcastable(places), low=-size, high=size - 1).to(d.pick(torch.int64, torch.int32))
        if dim in chosen
        else None
        for dim, size in enumerate(x.shape)
    ]
    while indices and indices[-1] is None and d.flag():
        indices.pop()
    return build(d.pick("aten.index.Tensor", "aten._unsafe_index.Tensor"), self=x, indices=indices)


def _mask_index(d: Draw) -> Case:
    """A mask chooses as many elements as it happens to hold: nothing can be said of where they come from."""
    x = _any_tensor(d, d.integer(1, 5), d.integer(1, 5))
    return build("aten.index.Tensor", self=x, indices=[d.bools(x.shape[0], chance=0.8)])


def _scatter(d: Draw) -> Case:
    """Places are distinct, so that it does not depend on an order who writes last."""
    shape = d.shape(1, 3)
    dim = d.integer(0, len(shape) - 1)
    x = d.tensor(*shape)
    size = [d.integer(1, length) if at == dim or d.flag(0.3) else length for at, length in enumerate(shape)]
    index = torch.argsort(d.tensor(*shape), dim=dim)[tuple(slice(length) for length in size)].contiguous()
    source = d.tensor(*size) if d.flag(0.8) else d.tensor(*shape)
    at = dim - d.pick(0, len(shape))
    target = d.pick(*_SCATTERS)
    arguments = {"self": x, "dim": at, "index": index}
    if "value" in target:
        arguments["value"] = d.real()
    else:
        arguments["src"] = source
    if target.endswith(("scatter.reduce", "value_reduce")):
        arguments["reduce"] = d.pick("add", "multiply")
    if target == "aten.scatter_reduce.two":
        arguments.update(reduce=d.pick("sum", "prod", "mean", "amax", "amin"), include_self=d.flag())
    return build(target, **arguments)


_SCATTERS = (
    "aten.scatter.src", "aten.scatter.value", "aten.scatter.reduce", "aten.scatter.value_reduce",
    "aten.scatter_add.default", "aten.scatter_reduce.two",
)  # fmt: skip


def _index_add(d: Draw) -> Case:
    shape = list(d.shape(1, 3))
    dim = d.integer(0, len(shape) - 1)
    target = d.pick("aten.index_add.default", "aten.index_copy.default", "aten.index_fill.int_Scalar")
    count = d.integer(1, shape[dim])
    index = torch.tensor(d.shuffled(range(shape[dim]))[:count])
    common = {"self": d.tensor(*shape), "dim": dim - d.pick(0, len(shape)), "index": index}
    source = d.tensor(*shape[:dim], count, *shape[dim + 1 :])
    match target:
        case "aten.index_add.default":
            return build(target, source=source, alpha=d.pick(1, d.real()), **common)
        case "aten.index_copy.default":
            return build(target, source=source, **common)
    return build(target, value=d.real(), **common)


def _one_hot(d: Draw) -> Case:
    classes = d.integer(1, 6)
    given = d.pick(classes, classes, -1)  # -1: as many as there are
    return build(
        "aten.one_hot.default", self=d.integers(*d.shape(0, 3), low=0, high=classes - 1), num_classes=given
    )


def _buckets(d: Draw) -> Case:
    boundaries = d.tensor(d.integer(1, 6)).sort().values
    return build(
        "aten.bucketize.Tensor", self=d.tensor(*d.shape(0, 3)), boundaries=boundaries, right=d.flag()
    )


def _moves(draw: DrawCase, *targets: str, num_cases: int = 150, min_exact: float = 1.0) -> Family:
    return Family(draw=draw, targets=targets, num_cases=num_cases, is_arithmetic=False, min_exact=min_exact)


FAMILIES = {
    "embedding": _moves(_embedding, "aten.embedding.default", num_cases=100),
    "index_select": _moves(_index_select, "aten.index_select.default", min_exact=0.9),
    "gather": _moves(_gather, "aten.gather.default", min_exact=0.8),
    "take_along_dim": _moves(_take_along_dim, "aten.take_along_dim.default", min_exact=0.8),
    "take": _moves(_take, "aten.take.default"),
    "index": _moves(_index, "aten.index.Tensor", "aten._unsafe_index.Tensor", num_cases=400),
    "index_mask": Family(
        draw=_mask_index, targets=("aten.index.Tensor",), num_cases=30, is_arithmetic=False, min_exact=0.0
    ),
    "one_hot": _moves(_one_hot, "aten.one_hot.default", min_exact=0.3),
    "scatter": Family(draw=_scatter, targets=_SCATTERS, num_cases=300, min_exact=0.2),
    "index_add": Family(
        draw=_index_add,
        targets=("aten.index_add.default", "aten.index_copy.default", "aten.index_fill.int_Scalar"),
        min_exact=0.2,
    ),
    "buckets": Family(draw=_buckets, targets=("aten.bucketize.Tensor",), num_cases=100),
}
