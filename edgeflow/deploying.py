"""`edgeflow.deploy`: the coordinator, with the planner behind it."""

from __future__ import annotations

import functools
from typing import Any

from edgeflow.coordinator import Session
from edgeflow.coordinator import deploy as deploy_kept
from edgeflow.plan.plan import Plan
from edgeflow.planner.again import planner_like


@functools.wraps(deploy_kept)
def deploy(plan: Plan, *args: Any, **options: Any) -> Session:
    return deploy_kept(plan, *args, **{"replan": planner_like(plan), **options})
