"""Plots of a training. Matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.errors import ConfigError
from edgeflow.openworld.fit import Epoch
from edgeflow.openworld.metrics import IntArray, contingency, matching
from edgeflow.openworld.train import Trained

_COLOURS: Final = ("#3b75af", "#ef8636", "#519e3e", "#c53a32", "#8d69b8", "#84584e", "#d684bd", "#7f7f7f",
                   "#b6bd3a", "#39a7a7")  # fmt: skip
#: Most points on the map; more would hide each other.
_MAX_POINTS: Final = 2000


def plot_all(trained: Trained, folder: Path) -> list[Path]:
    """Write ``pace.png``, ``map.png`` and ``confusion.png``; return those written.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    split = trained.material.split
    features_ND, logits_NK = trained.learner.evaluate(split.images_NCHW[split.unlabelled])
    true = split.targets_N[split.unlabelled].numpy()
    predicted = trained.predictor(features_ND, logits_NK)
    paths = [folder / "map.png", folder / "confusion.png"]
    plot_map(features_ND, true, split.class_names, split.num_known, paths[0])
    plot_confusion(true, predicted, split.class_names, split.num_known, paths[1])
    if any(epoch.scores is not None for epoch in trained.result.history):
        paths.insert(0, folder / "pace.png")
        plot_pace(trained.result.history, paths[0])
    return paths


def plot_pace(history: Sequence[Epoch], path: Path) -> None:
    """Draw seen and novel accuracy per epoch, and the gap between them."""
    points = [(epoch.number, epoch.scores) for epoch in history if epoch.scores is not None]
    picture = _figure(6.4, 4)
    axes = picture.add_subplot()
    numbers = [number for number, _ in points]
    axes.plot(numbers, [100 * scores.seen for _, scores in points], color=_COLOURS[0], label="seen")
    axes.plot(numbers, [100 * scores.novel for _, scores in points], color=_COLOURS[1], label="novel")
    axes.plot(numbers, [100 * scores.gap for _, scores in points], color="#777777", ls="--", label="gap")
    axes.axhline(0, color="#cccccc", lw=0.8, zorder=0)
    axes.set(xlabel="epoch", ylabel="%, on unlabelled pictures", title="Pace of learning")
    axes.legend(frameon=False)
    picture.savefig(path)


def project(features_ND: Tensor) -> Tensor:
    """Return the first two principal components of normalised features, ``(N, 2)``."""
    normal = F.normalize(features_ND, dim=1)
    centred = normal - normal.mean(dim=0)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    plane: Tensor = centred @ components[:2].T
    return plane


def plot_map(features_ND: Tensor, true: IntArray, names: Sequence[str], num_known: int, path: Path) -> None:
    """Draw the embedding in two dims: by t-SNE if scikit-learn is installed, else principal components."""
    chosen = np.random.default_rng(0).permutation(len(true))[:_MAX_POINTS]
    points, how = _two_dims(features_ND[torch.from_numpy(chosen)])
    picture = _figure(7.2, 5.4)
    axes = picture.add_subplot()
    for label, name in enumerate(names):
        members = true[chosen] == label
        axes.scatter(
            *points[members].T,
            s=9,
            marker="o" if label < num_known else "^",
            color=_COLOURS[label % len(_COLOURS)],
            label=name if label < num_known else f"{name} (novel)",
            linewidths=0,
        )
    axes.set(xticks=[], yticks=[], title=f"Embedding of unlabelled pictures, {how}")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    picture.savefig(path)


def _two_dims(features_ND: Tensor) -> tuple[Any, str]:
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return project(features_ND).numpy(), "principal components"
    normal = F.normalize(features_ND, dim=1).numpy()
    perplexity = min(30.0, (len(normal) - 1) / 3)
    return TSNE(random_state=0, init="pca", perplexity=perplexity).fit_transform(normal), "t-SNE"


def plot_confusion(
    true: IntArray, predicted: IntArray, names: Sequence[str], num_known: int, path: Path
) -> None:
    """Draw the confusion matrix: classes as rows, clusters as columns in the order of a matching.

    There may be more or fewer clusters than classes.
    """
    num_clusters = int(predicted.max()) + 1
    counts = contingency(true, predicted).T[: len(names), :num_clusters]
    matched = matching(true, predicted)
    order = sorted(range(num_clusters), key=lambda cluster: (matched.get(cluster, len(names)), cluster))
    shares = counts[:, order] / counts.sum(axis=1, keepdims=True).clip(1)
    picture = _figure(6.4, 5.6)
    axes = picture.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for column in range(num_clusters):
            if shares[row, column] >= 0.005:
                colour = "white" if shares[row, column] > 0.5 else "black"
                text = f"{100 * shares[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    labels = [names[cluster] if cluster < num_known else f"cluster {cluster}" for cluster in order]
    axes.set_xticks(range(num_clusters), labels, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), [n if i < num_known else f"{n} (novel)" for i, n in enumerate(names)],
                    fontsize=8)  # fmt: skip
    axes.set(xlabel="predicted", title="% of each class")
    picture.savefig(path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install 'edgeflow-inference[demo]'") from error
    return Figure(figsize=(width, height), dpi=110, layout="constrained")
