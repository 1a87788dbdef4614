"""Find new classes while serving: keep embeddings that look novel, cluster them, and add prototypes.

`Discovery` only decides: embeddings go in, grown heads come out. The caller passes it the workers' answers
    and
rolls out the heads that it returns. The feature extractor never changes, so the logit of an old class is the
same number in every version; only pictures that looked novel can get another answer (`decide`).

The novelty score is ``1 - max_k softmax(scale * cos(f, w_k))`` over all prototypes; its threshold is
calibrated on held-out pictures of trained classes. The largest spread of a cluster derives from the distance
between prototypes, not from the spread of trained classes: training contracts these, and an unseen class is
    wider. No
knowledge of new classes is used.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.errors import ConfigError
from edgeflow.openworld.metrics import IntArray
from edgeflow.openworld.model import OpenWorldClassifier

logger = logging.getLogger(__name__)


class Served(nn.Module):
    """The module that workers run: normalised pictures to logits ``(N, K)`` and embeddings ``(N, D)``.

    Prototypes found while serving are multiplied separately, so that the logits of trained prototypes come
    from the same operators on the same shapes in every version, and are the same numbers.
    """

    found: Tensor | None

    def __init__(self, model: OpenWorldClassifier, head: Head | None = None) -> None:
        super().__init__()
        self.model = model
        found = None if head is None else head.prototypes_KD[model.config.num_classes :]
        self.register_buffer("found", None if found is None or not len(found) else F.normalize(found, dim=1))

    def forward(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        features_ND = self.model.features(x_NCHW)
        logits_NK = self.model.head(features_ND)
        if self.found is not None:
            length_N = torch.linalg.vector_norm(features_ND, dim=-1, keepdim=True).clamp_min(1e-12)
            found_NM = self.model.head.scale * F.linear(features_ND / length_N, self.found)
            logits_NK = torch.cat([logits_NK, found_NM], dim=-1)
        return logits_NK, features_ND


def novelty(features_ND: Tensor, prototypes_KD: Tensor, *, scale: float = 10.0) -> Tensor:
    """Return ``1 - max_k softmax(scale * cos(f, w_k))``, ``(N,)``, in [0, 1).

    Examples:
        >>> novelty(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.eye(2)).round(decimals=3).tolist()
        [0.0, 0.5]
    """
    logits_NK = scale * F.normalize(features_ND, dim=1) @ F.normalize(prototypes_KD, dim=1).T
    return 1 - logits_NK.softmax(dim=1).max(dim=1).values


def calibrate(features_ND: Tensor, prototypes_KD: Tensor, *, rejected: float = 0.05) -> float:
    """Return the largest novelty score of a picture that counts as known.

    Args:
        features_ND: Features of held-out pictures of trained classes; labels are not needed.
        rejected: Share of these pictures that may look novel.

    Raises:
        ConfigError: If this share is less than one picture.
    """
    if not 0 < rejected < 1 or rejected * len(features_ND) < 1:
        raise ConfigError(f"a share of {rejected} of {len(features_ND)} held-out pictures is not one picture")
    return float(novelty(features_ND, prototypes_KD).quantile(1 - rejected))


def _mean_distance(features_ND: Tensor) -> float:
    """Return the mean of ``1 - cos`` over all pairs of different features."""
    normal = F.normalize(features_ND, dim=1)
    num = len(normal)
    total = float(normal.sum(dim=0).square().sum()) - num
    return 1 - total / (num * (num - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """When to cluster, and which clusters become classes.

    Attributes:
        capacity: Most embeddings kept; the oldest are dropped.
        look_at: Fewest embeddings to cluster.
        look_every: New embeddings between two attempts.
        min_members: Fewest members of a cluster that becomes a class.
        max_spread: Largest mean cosine distance within it, as a share of the distance between the two nearest
            trained prototypes. Clusters are also merged up to this distance.
        min_distance: Least cosine distance of its centre from every prototype, as the same kind of share.
    """

    capacity: int = 500
    look_at: int = 40
    look_every: int = 10
    min_members: int = 30
    max_spread: float = 0.5
    min_distance: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.min_members <= self.look_at <= self.capacity or self.look_every < 1:
            raise ConfigError(
                f"1 <= min_members ({self.min_members}) <= look_at ({self.look_at}) <= capacity "
                f"({self.capacity}) must hold, and look_every ({self.look_every}) be at least 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The prototypes of one version, and the names of their classes.

    Attributes:
        version: 1, incremented with each growth.
        prototypes_KD: One row per class, of any length.
        names: Names of the classes; those found while serving are numbered until they are named.
    """

    version: int
    prototypes_KD: Tensor
    names: tuple[str, ...]

    def grown(self, centres_MD: Tensor) -> Head:
        """Return the next version: new classes follow the old ones, which are unchanged bit for bit."""
        first = len(self.names)
        new = tuple(f"new class {first + number}" for number in range(len(centres_MD)))
        return Head(
            version=self.version + 1,
            prototypes_KD=torch.cat([self.prototypes_KD, centres_MD]),
            names=(*self.names, *new),
        )

    def named(self, position: int, name: str) -> Head:
        """Return the same version with a class renamed.

        Raises:
            ConfigError: If there is no such class, or another class has the name.
        """
        if not 0 <= position < len(self.names):
            raise ConfigError(f"there is no class {position}; there are {len(self.names)}")
        if name in (*self.names[:position], *self.names[position + 1 :]):
            raise ConfigError(f"another class is called {name!r}")
        return replace(self, names=(*self.names[:position], name, *self.names[position + 1 :]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cluster that became a class.

    Attributes:
        position: Position of its prototype in the head.
        members: Tickets of its pictures, as passed to `Discovery.observe`.
        spread: Mean cosine distance within it.
    """

    position: int
    members: tuple[int, ...]
    spread: float


class Discovery:
    """Watches answers; grows the head when rejected pictures form a cluster. Not thread-safe.

    Attributes:
        head: The latest version.
        found: All classes found so far.
    """

    def __init__(self, head: Head, threshold: float, settings: DiscoverySettings | None = None) -> None:
        self.head = head
        self.found: tuple[Found, ...] = ()
        self._threshold = threshold
        # Trained prototypes only: found ones are closer to others, and would shrink the unit with each
        # growth.
        self._unit = _nearest_distance(head.prototypes_KD)
        self._settings = settings or DiscoverySettings()
        self._buffer: deque[tuple[int, Tensor]] = deque(maxlen=self._settings.capacity)
        self._since_look = 0

    @property
    def num_buffered(self) -> int:
        return len(self._buffer)

    def observe(self, ticket: int, feature_D: Tensor) -> Head | None:
        """Add one answer's embedding; return a new head for the caller to roll out, if there is one.

        Args:
            ticket: The caller's number of the picture.
        """
        score = float(novelty(feature_D[None], self.head.prototypes_KD))
        if score <= self._threshold:
            return None
        self._buffer.append((ticket, F.normalize(feature_D, dim=0)))
        self._since_look += 1
        if len(self._buffer) < self._settings.look_at or self._since_look < self._settings.look_every:
            return None
        self._since_look = 0
        return self._look()

    def _look(self) -> Head | None:
        """Cluster the buffer; grow the head by the clusters that pass, and drop their members."""
        features_ND = torch.stack([feature for _, feature in self._buffer])
        max_spread = self._settings.max_spread * self._unit
        min_distance = self._settings.min_distance * self._unit
        clusters = cluster_by_distance(features_ND, max_spread)
        accepted: list[tuple[Tensor, IntArray, float]] = []
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            if len(members) < self._settings.min_members:
                continue
            centre_D = features_ND[members].mean(dim=0)
            others_KD = torch.cat([self.head.prototypes_KD, *(c[None] for c, _, _ in accepted)])
            distance = 1 - float((F.normalize(others_KD, dim=1) @ F.normalize(centre_D, dim=0)).max())
            spread = _mean_distance(features_ND[members])
            passes = distance >= min_distance and spread <= max_spread
            logger.info(
                "cluster.checked",
                extra={"members": len(members), "distance": distance, "spread": spread, "passes": passes},
            )
            if passes:
                accepted.append((F.normalize(centre_D, dim=0), members, spread))
        if not accepted:
            return None
        self._accept(accepted)
        return self.head

    def _accept(self, accepted: list[tuple[Tensor, IntArray, float]]) -> None:
        first = len(self.head.names)
        self.head = self.head.grown(torch.stack([centre for centre, _, _ in accepted]))
        self.found += tuple(
            Found(position=first + number, members=tuple(self._buffer[i][0] for i in members), spread=spread)
            for number, (_, members, spread) in enumerate(accepted)
        )
        taken = {int(i) for _, members, _ in accepted for i in members}
        kept = [entry for index, entry in enumerate(self._buffer) if index not in taken]
        self._buffer.clear()
        self._buffer.extend(kept)


def decide(logits_NK: Tensor, *, num_trained: int, threshold: float) -> IntArray:
    """Return classes ``(N,)``; found prototypes count only for pictures that look novel to trained ones.

    Any other picture keeps exactly the answer that it had before any growth, because the logits of the first
    ``num_trained`` prototypes are the same numbers in every version.
    """
    trained_NK = logits_NK[:, :num_trained]
    is_sure_N = 1 - trained_NK.softmax(dim=1).max(dim=1).values <= threshold
    found: IntArray = torch.where(is_sure_N, trained_NK.argmax(dim=1), logits_NK.argmax(dim=1)).numpy()
    return found


def cluster_by_distance(features_ND: Tensor, distance: float) -> IntArray:
    """Return clusters ``(N,)``: average linkage of cosine distances, merged up to ``distance``. O(N^2)."""
    if len(features_ND) < 2:
        return np.zeros(len(features_ND), dtype=np.int64)
    tree = linkage(features_ND.double().numpy(), method="average", metric="cosine")
    clusters: IntArray = fcluster(tree, t=distance, criterion="distance").astype(np.int64)
    return clusters


def _nearest_distance(prototypes_KD: Tensor) -> float:
    """Return the smallest cosine distance between two prototypes."""
    normal = F.normalize(prototypes_KD, dim=1)
    cosines = normal @ normal.T
    cosines.fill_diagonal_(-1)
    return float(1 - cosines.max())


def prototypes(model: OpenWorldClassifier) -> Tensor:
    """Return a copy of all prototypes, known ones first, ``(K, D)``."""
    return torch.cat([model.head.known, model.head.novel]).detach().clone()
