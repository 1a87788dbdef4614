"""`auto`: the union of all strategies, searched, and never worse than any of them under the cost model.

1. Every other strategy's plan is a candidate; the best that splits is also tried on fewer devices.
2. Dynamic programming over stretches (`edgeflow.planner.search.dynamic`): for each stretch one device, rows,
   columns or a grid with halos exchanged or recomputed, or heads and hidden columns with sums added directly,
   scattered or at a hub, on subsets of the devices. Searched with everything allowed and with kinds kept
   apart, and for energy with several prices of a second.
3. Local search on the exact prediction, from the best few: shares follow what devices were busy for, one run
   of stretches takes the layout beside it, a device is left out.
4. For latency: in the best few, rows that other devices wait for are computed first
   (`edgeflow.planner.search.borders`).
5. For throughput: ways that run beside each other, a split on some devices and replicas on the rest.
6. On tiny inputs, everything (`edgeflow.planner.search.exhaustive`).

Step 2 takes stages as barriers and step 3 stops at a local optimum, so the result carries a lower bound, from
which its gap can be read.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.plan.plan import Plan
from edgeflow.planner.search.bound import lower_bound_s
from edgeflow.planner.search.explore import explore
from edgeflow.planner.task import Strategy, Task, best_of


def auto(task: Task, rivals: Sequence[Strategy]) -> Plan:
    """Return the best plan found, with the others as candidates.

    Args:
        rivals: Strategies whose plans are always candidates.

    Raises:
        InfeasiblePlanError: If nothing fits; names the binding device and the bytes.
    """
    plans, failures = explore(task, rivals)
    best = best_of(plans, objective=task.objective, strategy="auto", failures=failures)
    return best.reweighed(lower_bound_s=lower_bound_s(task))
