"""What a plan says a worker needs at most, against what the worker's process took."""

from __future__ import annotations

from typing import Any

import pytest

import edgeflow as ef

torch = pytest.importorskip("torch")

from tests.clusters import slow  # noqa: E402

MIB = 1 << 20


def wide_layers() -> Any:
    """Activations of 32 MiB each; no weights, and operators that take no memory of their own."""
    return torch.nn.Sequential(
        torch.nn.AvgPool2d(3, 1, 1), torch.nn.Tanh(), torch.nn.AvgPool2d(3, 1, 1)
    ).eval()


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["auto", "torch"])
@pytest.mark.parametrize("strategy", ["single", "coedge"])
def test_the_peak_of_a_worker_is_what_the_plan_says(strategy: str, executor: str) -> None:
    """Where the C library is glibc; see `edgeflow.worker.malloc`."""
    x = torch.zeros(1, 8, 1024, 1024)
    plan = ef.plan(ef.capture(wide_layers(), (x,)), slow([1.0, 0.5]), strategy=strategy)
    with ef.deploy(plan, local=True, executor=executor, emulate_speeds=False) as session:
        before = session.peak_memory_bytes()
        for _ in range(4):
            session.run(x)
        after = session.peak_memory_bytes()
    for rank in before:
        grown, predicted = after[rank] - before[rank], plan.programs[rank].peak_bytes
        text = f"rank {rank}: {grown / MIB:.1f} MiB, predicted {predicted / MIB:.1f}"
        print(text)
        # Below: what was touched while the worker came up is used again. Above: libraries' own buffers, and
        # an answer that is still on its way out when the next request begins.
        largest = max(buffer.num_bytes for buffer in plan.programs[rank].buffers)
        assert 0.8 * predicted <= grown <= predicted + largest + 24 * MIB, text
