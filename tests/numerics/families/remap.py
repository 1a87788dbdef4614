"""Fixed maps of positions: flip, roll, repeat, reflected and replicated padding, nearest resampling."""

from __future__ import annotations

from tests.numerics.cases import Case, Draw, DrawCase, Family, Rejected, build


def _flip(d: Draw) -> Case:
    shape = d.shape(1, 4)
    dims = [dim - d.pick(0, len(shape)) for dim in d.some(range(len(shape)))]
    return build("aten.flip.default", self=d.tensor(*shape), dims=dims)


def _roll(d: Draw) -> Case:
    shape = d.shape(1, 4)
    dims = d.some(range(len(shape)))
    shifts = [d.integer(-9, 9) for _ in dims]
    return build("aten.roll.default", self=d.tensor(*shape), shifts=shifts, dims=dims)


def _repeat(d: Draw) -> Case:
    shape = d.shape(0, 3, most=4)
    repeats = [d.integer(1, 3) for _ in range(len(shape) + d.integer(0, 2))]
    return build("aten.repeat.default", self=d.tensor(*shape), repeats=repeats)


def _pad(mode: str, spatial: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        shape = [d.integer(1, 2), d.integer(1, 2), *(d.integer(2, 6) for _ in range(spatial))]
        padding = [d.integer(-1 if d.flag(0.2) else 0, 5) for _ in range(2 * spatial)]
        return build(f"aten.{mode}_pad{spatial}d.default", self=d.tensor(*shape), padding=padding)

    return draw


def _any_pad(d: Draw) -> Case:
    """``F.pad``: the last dims of an image of one to three spatial dims, by each mode."""
    spatial = d.integer(1, 3)
    shape = [d.integer(1, 2), d.integer(1, 2), *(d.integer(2, 6) for _ in range(spatial))]
    mode = d.pick("reflect", "replicate", "circular")
    pad = [d.integer(-1 if d.flag(0.2) else 0, 5) for _ in range(2 * spatial)]
    for dim, size in enumerate(reversed(shape[2:])):
        sides = pad[2 * dim : 2 * dim + 2]
        if mode == "circular" and max(sides) > size + sum(min(side, 0) for side in sides):
            raise Rejected  # torch leaves memory as it finds it there
    return build("aten.pad.default", self=d.tensor(*shape), pad=pad, mode=mode)


def _channel_shuffle(d: Draw) -> Case:
    groups = d.integer(1, 4)
    x = d.tensor(d.integer(1, 2), groups * d.integer(1, 4), *d.shape(1, 3, most=4))
    return build("aten.channel_shuffle.default", self=x, groups=groups)


def _nearest(name: str, spatial: int) -> DrawCase:
    def draw(d: Draw) -> Case:
        shape = [d.integer(1, 2), d.integer(1, 2), *(d.integer(1, 7) for _ in range(spatial))]
        by_factor = d.flag()
        factor = d.pick(2.0, 3.0, 1.5, 0.5, 1.3)
        return build(
            f"aten.{name}{spatial}d.vec",
            input=d.tensor(*shape),
            output_size=None if by_factor else [d.integer(1, 12) for _ in range(spatial)],
            scale_factors=[factor] * spatial if by_factor else None,
        )

    return draw


FAMILIES = {
    "flip": Family(draw=_flip, targets=("aten.flip.default",), is_arithmetic=False),
    "roll": Family(draw=_roll, targets=("aten.roll.default",), is_arithmetic=False, min_exact=0.8),
    "repeat": Family(draw=_repeat, targets=("aten.repeat.default",), is_arithmetic=False),
    "any_pad": Family(draw=_any_pad, targets=("aten.pad.default",), is_arithmetic=False),
    "channel_shuffle": Family(
        draw=_channel_shuffle,
        targets=("aten.channel_shuffle.default",),
        num_cases=100,
        is_arithmetic=False,
    ),
    **{
        f"{mode}_pad{n}d": Family(
            draw=_pad(mode, n), targets=(f"aten.{mode}_pad{n}d.default",), num_cases=120, is_arithmetic=False
        )
        for mode in ("reflection", "replication")
        for n in (1, 2, 3)
    },
    **{
        f"{name}{n}d": Family(
            draw=_nearest(name, n), targets=(f"aten.{name}{n}d.vec",), num_cases=120, is_arithmetic=False
        )
        for name in ("upsample_nearest", "_upsample_nearest_exact")
        for n in (1, 2, 3)
    },
}
