"""Seconds of many transfers at once, for arrays of them: what searches over blocks and strips ask."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, vstack

from edgeflow.cost.model import CostModel
from edgeflow.plan.program import CLIENT
from edgeflow.planner.estimates.arrays import Floats

#: Seconds, and seconds per byte, where there is no link: more than any plan takes.
_UNREACHABLE_S = 1e9


class Wires:
    """Seconds of a set of transfers that start together, each resource taking its turns.

    Ranks index the last two dims of ``num_bytes``, ``[..., from, to]``; the client is the last one.
    """

    def __init__(self, cost: CostModel) -> None:
        cluster = cost.cluster
        ranks = [*cluster.ranks, CLIENT]
        self.count = len(ranks)
        self.latency_s = np.zeros((self.count, self.count))
        self.frame_s = np.array([cost.message_s(rank) for rank in ranks])
        self.byte_s = np.zeros((self.count, self.count))
        occupied: dict[str, Floats] = {}
        for a, source in enumerate(ranks):
            for b, peer in enumerate(ranks):
                if a == b:
                    continue
                if not cluster.is_connected(source, peer):
                    self.latency_s[a, b] = self.byte_s[a, b] = _UNREACHABLE_S
                    continue
                path = cluster.path(source, peer)
                self.latency_s[a, b] = path.link.latency_s
                self.byte_s[a, b] = 1 / path.link.bandwidth_bytes_per_s + _byte_s(cost, source, peer)
                hops = [(hop.resource, hop.bytes_per_s) for hop in path.hops]
                for resource, rate in hops or [(f"memory:{peer}", path.link.bandwidth_bytes_per_s)]:
                    grid = occupied.setdefault(resource, np.zeros((self.count, self.count)))
                    grid[a, b] += 1 / rate + _byte_s(cost, source, peer)
        # Sparse, because a transfer passes few of the resources.
        grids = [csr_array(grid.ravel()[None]) for grid in occupied.values()]
        self._occupied = vstack(grids, format="csr") if grids else None

    def seconds(self, num_bytes: Floats) -> Floats:
        """Return the busiest resource's, the busiest rank's and the longest latency's seconds, added up."""
        if self._occupied is None:
            return np.zeros(num_bytes.shape[:-2])
        flat = num_bytes.reshape(-1, self.count**2)
        busy = (self._occupied @ flat.T).max(axis=0).reshape(num_bytes.shape[:-2])
        is_sent = num_bytes > 0
        frames = (is_sent.sum(axis=-2) + is_sent.sum(axis=-1)) * self.frame_s
        latency = np.where(is_sent, self.latency_s, 0.0).max(axis=(-2, -1))
        total: Floats = busy + frames.max(axis=-1) + latency
        return total


def _byte_s(cost: CostModel, source: int, peer: int) -> float:
    """Return the processor seconds per byte of frames, of both ranks together."""
    size = 1 << 20
    return sum((cost.message_s(rank, size) - cost.message_s(rank)) / size for rank in (source, peer))
