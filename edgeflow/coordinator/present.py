"""The plan for who is there: the devices that may be used now, and what is planned on them."""

from __future__ import annotations

from typing import Final

from edgeflow.balancer import Rebalancer
from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.part import part_of
from edgeflow.coordinator.watchers import Watchers
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.plan import Plan
from edgeflow.threads import Threads

#: Plans that are remembered for the same devices and the same beliefs.
_MAX_PLANS: Final = 32


class Present:
    """The part of a session's cluster that is of use now."""

    def __init__(self, watchers: Watchers, balancer: Rebalancer, threads: Threads) -> None:
        self._watchers = watchers
        self._threads = threads
        self._balancer = balancer
        self._plans: dict[str, Plan] = {}

    def forget_plans(self) -> None:
        """They were of another graph."""
        self._plans.clear()

    def cluster(self) -> Cluster:
        """Return who may be used, without the links that are lost.

        Raises:
            InfeasiblePlanError: If that is nobody.
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

    def plan(self) -> Plan:
        """Return a plan for them, by what is believed of them now.

        Raises:
            ConfigError: If the planner cannot plan for such a cluster.
            InfeasiblePlanError: If nothing fits.
        """
        cluster = self.cluster()
        key = repr((cluster, self._balancer.in_short(cluster)))
        known = self._plans.get(key)
        if known is not None:
            return known
        try:
            plan = self._balancer.replan(cluster)
        except (InfeasiblePlanError, ConfigError):
            with self._watchers.lock:
                whole, apart = self._watchers.cluster, self._watchers.members.apart(self._threads.now())
            if not apart:
                raise
            # No plan of this kind does without the link: one of the two devices stands back.
            names = {device.name for device in cluster.devices}
            plan = self._balancer.replan(part_of(whole, names - {_later(whole, pair) for pair in apart}))
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[key] = plan
        return plan


def _later(cluster: Cluster, pair: tuple[str, str]) -> str:
    """The one of two devices that can be done without: not the source, else the slower."""
    source = cluster.devices[cluster.source_rank].name
    if source in pair:
        return pair[0] if pair[1] == source else pair[1]
    return min(pair, key=lambda name: (cluster.devices[cluster.rank_of(name)].flops_per_second, name))
