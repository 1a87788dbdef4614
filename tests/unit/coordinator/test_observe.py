"""From records to observations: what durations are compared with."""

from __future__ import annotations

import pytest

from edgeflow.cluster import Cluster
from edgeflow.coordinator.observe import Observer
from edgeflow.cost import CostModel, MeasuredRuns, Measurement, Span
from edgeflow.plan.program import Compute
from edgeflow.planner import plan
from edgeflow.planner.task import whole_kernels
from tests.unit.plan.tiny import mlp


def test_a_compute_is_compared_with_what_its_operators_take_together() -> None:
    """A worker that does as it was measured is to look neither faster nor slower than it is."""
    cluster = Cluster.local([1.0])
    measured = {
        kernel.operator: Measurement(2e-3, kernel.flops, kernel.num_bytes) for kernel in whole_kernels(mlp())
    }
    cost = CostModel(
        cluster=cluster,
        measured=measured,
        measured_runs=MeasuredRuns(
            operators=tuple(measured), alone_s=(2e-3,) * 4, spans=(Span(0, 2, 2e-3), Span(2, 4, 3e-3))
        ),
        measured_start_s=1e-3,
        measured_flops_per_second=cluster.devices[0].flops_per_second,
    )
    made = plan(mlp(), cluster, strategy="single", cost=cost)
    program = made.programs[0]
    (position,) = (i for i, item in enumerate(program.instructions) if isinstance(item, Compute))

    (found,) = Observer(made, cost).read({0: {7: [(position, 0.0, 12e-3)]}})

    assert found.seconds == 12e-3
    assert found.expected_s == pytest.approx(6e-3)
    assert found.expected_s == pytest.approx(cost.instruction_s(0, program.instructions[position], program))
    # 1 + 1.5 ms of linears and as much of activations, and what it takes to start in proportion.
    assert found.families == pytest.approx({"linear": 3e-3, "pointwise": 3e-3})
