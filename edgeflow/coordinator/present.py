"""The devices that may be used now, and plans for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from edgeflow.balancer import Rebalancer
from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.part import part_of
from edgeflow.coordinator.watchers import Watchers
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.plan import Plan
from edgeflow.threads import Threads

#: Plans that are remembered, by devices and estimates.
_MAX_PLANS: Final = 32


class Present:
    """The part of a session's cluster that can be used now."""

    def __init__(self, watchers: Watchers, balancer: Rebalancer, threads: Threads) -> None:
        self._watchers = watchers
        self._threads = threads
        self._balancer = balancer
        self._plans: dict[str, Plan] = {}

    def forget_plans(self) -> None:
        """Forget the plans that are remembered: another graph runs now."""
        self._plans = {}  # not cleared: a planner that is at work still writes to the one before

    def cluster(self) -> Cluster:
        """Return the devices that may be used, without the links that are lost.

        Raises:
            InfeasiblePlanError: If there are none.
        """
        now_s = self._threads.now()
        with self._watchers.lock:
            members, whole = self._watchers.members, self._watchers.cluster
            names, apart = members.usable(now_s), members.apart(now_s)
        if not names:
            raise InfeasiblePlanError("no worker is left", constraint="devices")
        if not apart:
            return part_of(whole, names)
        try:
            return part_of(whole, names, cut=apart)
        except ConfigError:
            return part_of(whole, set(names) - {_later(whole, pair) for pair in apart})

    def request(self) -> Callable[[], Plan]:
        """Return a function that makes a plan for them under the present estimates, on any thread.

        The function raises what the planner raises.

        Raises:
            InfeasiblePlanError: If no device may be used.
        """
        cluster = self.cluster()
        key = repr((cluster, self._balancer.in_short(cluster)))
        plans = self._plans
        known = plans.get(key)
        if known is not None:
            return lambda: known
        with self._watchers.lock:
            whole, apart = self._watchers.cluster, self._watchers.members.apart(self._threads.now())
        makes = [self._balancer.request(cluster)]
        if apart:
            # If no plan of this kind does without the links, one device of each pair stands back.
            names = {device.name for device in cluster.devices} - {_later(whole, pair) for pair in apart}
            if names:
                makes.append(self._balancer.request(part_of(whole, names)))

        def make() -> Plan:
            plan = _first(makes)
            if len(plans) >= _MAX_PLANS:
                plans.clear()
            plans[key] = plan
            return plan

        return make


def _first(makes: Sequence[Callable[[], Plan]]) -> Plan:
    """Return the first plan that can be made."""
    *others, last = makes
    for make in others:
        try:
            return make()
        except (InfeasiblePlanError, ConfigError):
            continue
    return last()


def _later(cluster: Cluster, pair: tuple[str, str]) -> str:
    """Return the device of a pair that is easier to do without: not the source, else the slower one."""
    source = cluster.devices[cluster.source_rank].name
    if source in pair:
        return pair[0] if pair[1] == source else pair[1]
    return min(pair, key=lambda name: (cluster.devices[cluster.rank_of(name)].flops_per_second, name))
