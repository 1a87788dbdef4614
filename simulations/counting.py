"""Count FLOPs in the programs of plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from edgeflow.plan import Plan
from edgeflow.plan.program import Compute


def flops_of(plan: Plan, operators: Collection[str] | None = None) -> Counter[int]:
    """Return rank -> FLOPs of its kernels, of all operators or of those named."""
    done: Counter[int] = Counter()
    for rank, program in plan.programs.items():
        for item in program.instructions:
            if isinstance(item, Compute):
                kernels = [k for k in item.kernels if operators is None or k.operator in operators]
                done[rank] += sum(kernel.flops for kernel in kernels)
    return done
