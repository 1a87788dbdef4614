"""A small program by hand, with every kind of instruction in it."""

from __future__ import annotations

import pytest

from edgeflow.plan.program import (
    CLIENT,
    Assemble,
    Buffer,
    Compute,
    Free,
    Kernel,
    Part,
    Program,
    Receive,
    Send,
    WeightSlice,
)
from edgeflow.sharding.cut import Literal, Result, Slice, Step
from edgeflow.sharding.region import Region

X, W, HALF = Region.full((2, 4)), Region.full((3, 4)), Region.full((2, 3))


@pytest.fixture
def program() -> Program:
    """Rank 0 of 2: y = relu(x W^T + 1), summed with the other rank's, back to the client."""
    kernel = Kernel(
        operator="fc",
        steps=(
            Step(
                "aten.linear.default", (("input", Slice("x", X)), ("weight", Slice("w", W)), ("bias", None))
            ),
            Step("aten.add.Tensor", (("self", Result(0)), ("other", Literal((1,), (1.0,))), ("alpha", 1))),
            Step("aten.relu.default", (("self", Result(1)),)),
        ),
        outputs=(("y", HALF),),
        flops=48,
        num_bytes=104,
    )
    transfer = {"dtype": "float32", "stage": "s"}
    return Program(
        rank=0,
        instructions=(
            Receive(buffer=0, tensor="x", region=X, peer=CLIENT, tag=0, **transfer),
            Compute(stage="s", kernels=(kernel,), inputs=(("x", 0),), outputs=(("y", 1),)),
            Free((0,)),
            Send(buffer=1, tensor="y", region=HALF, peer=1, tag=1, **transfer),
            Receive(buffer=2, tensor="y", region=HALF, peer=1, tag=2, **transfer),
            Assemble(
                buffer=3,
                tensor="y",
                region=HALF,
                dtype="float32",
                parts=(Part(1, HALF), Part(2, HALF)),
                is_sum=True,
                stage="s",
            ),
            Free((1, 2)),
            Send(buffer=3, tensor="y", region=HALF, peer=CLIENT, tag=3, **transfer),
            Free((3,)),
        ),
        buffers=(
            Buffer("x", X, "float32"),
            Buffer("y", HALF, "float32"),
            Buffer("y", HALF, "float32"),
            Buffer("y", HALF, "float32"),
        ),
        weights=(WeightSlice("w", W, "float32"),),
        peak_bytes=80,
    )
