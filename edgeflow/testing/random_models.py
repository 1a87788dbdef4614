"""Random small models and clusters, by seed: models need not be meaningful, their answers must be equal.

A model is a DAG that is grown step by step: every step reads existing values and adds one.
Images go through convolutions and pools of any kind, residuals, concatenations and gates; then they become
tokens of a Transformer, or are pooled; heads make one answer, several, or named ones. Some models begin with
tokens, some take several inputs.

Shape suffixes: N batch, C channels, H and W rows and columns, L tokens, D features of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgeflow.cluster.cluster import REFERENCE_FLOPS_PER_SECOND, Cluster, Device, Link
from edgeflow.testing import random_steps as steps
from edgeflow.testing.models import randomise

_ACTIVATIONS: Final[tuple[Callable[[], nn.Module], ...]] = (
    nn.ReLU,
    partial(nn.ReLU, inplace=True),
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Identity,
)


def random_model(seed: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return a module in ``eval()`` mode and what to call it with: ``module(*args)``.

    The same seed gives the same module, weights and inputs. A module has some ten thousand weights, runs in
    about a millisecond and returns a tensor, a tuple of tensors or a dict of them.

    Examples:
        >>> module, args = random_model(0)
        >>> all(value.isfinite().all() for value in outputs_of(module(*args)))
        True
    """
    rng = Random(seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        grower = _Grower(rng)
        grower.grow()
        randomise(grower.module)
        return grower.module.eval(), tuple(grower.inputs)


def outputs_of(answer: Any) -> tuple[Tensor, ...]:
    """Return the tensors of a random model's result, in order."""
    if isinstance(answer, Tensor):
        return (answer,)
    return tuple(answer.values()) if isinstance(answer, dict) else tuple(answer)


def random_cluster(seed: int) -> Cluster:
    """Return one to six unequal devices; their links, and where requests arrive, are random too.

    Speeds are 0.05 to 1 of one desktop core, networks 1 Mbit/s to 10 Gbit/s with 0 to 10 ms of latency.
    """
    rng = Random(seed)
    names = [f"device{rank}" for rank in range(rng.randint(1, 6))]
    # Equal devices are as interesting as unequal ones: their frames arrive at the same moment.
    speeds = [1.0] * len(names) if rng.random() < 0.2 else [rng.uniform(0.05, 1.0) for _ in names]
    devices = tuple(
        Device(
            name=name,
            flops_per_second=speed * REFERENCE_FLOPS_PER_SECOND,
            memory_bytes=4 << 30,
            memory_bandwidth_bytes_per_s=rng.choice([1e9, 4e9, 1e10]),
            overhead_s=rng.choice([0.0, 1e-5, 1e-4]),
        )
        for name, speed in zip(names, speeds, strict=True)
    )
    pairs = [(a, b) for a in names for b in names if a != b]
    links = tuple((a, b, _random_link(rng)) for a, b in pairs if rng.random() < 0.2)
    return Cluster(
        name=f"random-{seed}",
        devices=devices,
        network=_random_link(rng),
        links=links,
        source=rng.choice(["", *names]),
    )


def _random_link(rng: Random) -> Link:
    bits_per_s = 10 ** rng.uniform(6, 10)
    latency_s = rng.choice([0.0, rng.uniform(0.0, 1e-3), rng.uniform(0.0, 1e-2)])
    return Link(bandwidth_bytes_per_s=bits_per_s / 8, latency_s=latency_s)


class _Grower:
    """Draws steps; runs each on example values, so that the next ones know the shapes."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._values: list[Tensor] = []
        self.module = steps.Dag()
        self.inputs: list[Tensor] = []

    def grow(self) -> None:
        rng = self._rng
        batch = rng.choice([1, 1, 1, 2, 3])
        if rng.random() < 0.8:
            features = self._grow_image(batch)
        else:
            features = self._input(batch, rng.randint(3, 12), rng.choice([8, 12, 16]))
        if self._shape(features)[2:] and len(self._shape(features)) == 4 and rng.random() < 0.6:
            features = self._tokens(features)
        if len(self._shape(features)) == 3:
            features = self._grow_transformer(features)
        vector = self._pool(features)
        self._answer([self._head(vector) for _ in range(rng.choice([1, 1, 1, 2]))])

    # The list of values

    def _input(self, *shape: int) -> int:
        """Add an input; all inputs come before the first step."""
        assert not self.module.sources
        self.inputs.append(torch.randn(shape))
        self._values.append(self.inputs[-1])
        return len(self._values) - 1

    def _add(self, step: nn.Module, *sources: int) -> int:
        self.module.steps.append(step)
        self.module.sources.append(sources)
        # Steps may work in place: they get copies, so that the remembered values stay as they are.
        self._values.append(step(*(self._values[index].clone() for index in sources)))
        return len(self._values) - 1

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(self._values[index].shape)

    # Images

    def _grow_image(self, batch: int) -> int:
        rng = self._rng
        shape = batch, rng.choice([1, 3, 4]), rng.randint(7, 21), rng.randint(7, 21)
        sides = [self._input(*shape) for _ in range(rng.choice([1, 1, 1, 2]))]
        vector = self._input(batch, rng.randint(2, 6)) if rng.random() < 0.15 else None
        branches = [self._conv(image, rng.choice([8, 12])) for image in sides]
        x = self._add(steps.Concat(1), *self._cropped(branches)) if len(branches) > 1 else branches[0]
        if vector is not None:
            x = self._add(steps.Shift(self._shape(vector)[1], self._shape(x)[1]), x, vector)
        for _ in range(rng.randint(1, 5)):
            if min(self._shape(x)[2:]) < 3:
                break
            x = rng.choice(self._image_steps())(x)
        return x

    def _image_steps(self) -> Sequence[Callable[[int], int]]:
        return (
            self._conv,
            self._conv,
            self._depthwise,
            self._pooled,
            self._residual,
            self._residual,
            self._branches,
            self._gate,
            self._normalised,
        )

    def _conv(self, x: int, out_channels: int | None = None) -> int:
        """Add any convolution that leaves something of the image, with BatchNorm or not."""
        rng = self._rng
        channels = self._shape(x)[1]
        groups = rng.choice([1, 1, 1, *(g for g in (2, 4) if channels % g == 0)])
        out_channels = out_channels or groups * rng.choice([2, 4, 6])
        out_channels += -out_channels % groups
        windows = [self._window(size) for size in self._shape(x)[2:]]
        kernel, stride, padding, dilation = zip(*windows, strict=True)
        has_norm = rng.random() < 0.4
        conv = nn.Conv2d(channels, out_channels, kernel, stride, padding, dilation, groups, bias=not has_norm)
        parts = [conv, nn.BatchNorm2d(out_channels)] if has_norm else [conv]
        return self._add(nn.Sequential(*parts, rng.choice(_ACTIVATIONS)()).eval(), x)

    def _window(self, size: int) -> tuple[int, int, int, int]:
        """Return a random kernel, stride, padding and dilation that fit into ``size`` elements."""
        rng = self._rng
        while True:
            kernel, stride, dilation = rng.randint(1, 5), rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2])
            padding = rng.choice([0, kernel // 2, rng.randint(0, kernel)])
            if size + 2 * padding >= dilation * (kernel - 1) + 1 + stride:
                return kernel, stride, padding, dilation

    def _depthwise(self, x: int) -> int:
        channels = self._shape(x)[1]
        kernel = self._rng.choice([3, 5])
        x = self._add(nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels), x)
        return self._add(nn.Conv2d(channels, self._rng.choice([4, 8]), 1), x)

    def _pooled(self, x: int) -> int:
        rng = self._rng
        kernel = rng.choice([2, 3])
        stride, padding, ceil_mode = rng.choice([1, 2]), rng.choice([0, 1]), rng.random() < 0.3
        if rng.random() < 0.5:
            return self._add(nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode), x)
        counts_padding = rng.random() < 0.5
        return self._add(nn.AvgPool2d(kernel, stride, padding, ceil_mode, counts_padding), x)

    def _residual(self, x: int) -> int:
        channels = self._shape(x)[1]
        kernel = self._rng.choice([1, 3, 5])
        branch = self._add(nn.Conv2d(channels, channels, kernel, padding=kernel // 2), x)
        if self._rng.random() < 0.5:
            branch = self._add(self._rng.choice(_ACTIVATIONS)(), branch)
            branch = self._add(nn.Conv2d(channels, channels, 3, padding=1), branch)
        return self._add(steps.Add(), x, branch)

    def _branches(self, x: int) -> int:
        """Two or three branches with halos of their own, side by side in the channels."""
        made = []
        for kernel in self._rng.sample([1, 3, 5], self._rng.choice([2, 3])):
            conv = nn.Conv2d(self._shape(x)[1], self._rng.choice([2, 4]), kernel, padding=kernel // 2)
            made.append(self._add(conv, x))
        return self._add(steps.Concat(1), *made)

    def _gate(self, x: int) -> int:
        """Squeeze and excitation: channels are scaled by a function of the whole image."""
        channels = self._shape(x)[1]
        gate = self._add(nn.AdaptiveAvgPool2d(1), x)
        for step in (nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1), nn.Sigmoid()):
            gate = self._add(step, gate)
        return self._add(steps.Multiply(), x, gate)

    def _normalised(self, x: int) -> int:
        channels = self._shape(x)[1]
        return self._add(nn.GroupNorm(2 if channels % 2 == 0 else 1, channels), x)

    def _cropped(self, images: Sequence[int]) -> list[int]:
        """Crop images to their common size."""
        rows, columns = (min(self._shape(x)[dim] for x in images) for dim in (2, 3))
        return [
            x if self._shape(x)[2:] == (rows, columns) else self._add(steps.Crop(rows, columns), x)
            for x in images
        ]

    # Tokens

    def _tokens(self, x: int) -> int:
        """Every position a token, with a class token before them or not, and positions added."""
        rng = self._rng
        _, channels, rows, columns = self._shape(x)
        while rows * columns > 48:
            x = self._add(nn.AvgPool2d(2, ceil_mode=True), x)
            _, _, rows, columns = self._shape(x)
        dim = rng.choice([8, 12, 16])
        x = self._add(nn.Conv2d(channels, dim, 1), x)
        return self._add(steps.Tokens(dim, rows * columns, has_class_token=rng.random() < 0.4), x)

    def _grow_transformer(self, x: int) -> int:
        rng = self._rng
        dim = self._shape(x)[2]
        for _ in range(rng.randint(1, 2)):
            pre_norm = rng.random() < 0.7
            head_dim = rng.choice([size for size in (2, 4) if dim % size == 0])
            num_heads = rng.choice([h for h in range(1, 7) if h * head_dim <= 16])
            num_kv_heads = rng.choice([h for h in range(1, num_heads + 1) if num_heads % h == 0])
            attention = steps.Attention(
                dim,
                num_heads,
                num_kv_heads,
                head_dim,
                is_causal=rng.random() < 0.3,
                is_fused=rng.random() < 0.7,
            )
            hidden = rng.choice([dim, 2 * dim, 3 * dim + 1])
            mlp = nn.Sequential(nn.Linear(dim, hidden), rng.choice(_ACTIVATIONS)(), nn.Linear(hidden, dim))
            for branch in (attention, mlp):
                norm = nn.LayerNorm(dim)
                if pre_norm:
                    x = self._add(steps.Add(), x, self._add(branch, self._add(norm, x)))
                else:
                    x = self._add(norm, self._add(steps.Add(), x, self._add(branch, x)))
        return x

    # Answers

    def _pool(self, x: int) -> int:
        """Make one vector of an image or of tokens."""
        rng = self._rng
        ndim = len(self._shape(x))
        if ndim == 3:
            return self._add(
                rng.choice([steps.Mean((1,)), steps.Select(1, 0), steps.Select(1, -1), nn.Flatten()]), x
            )
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return self._add(rng.choice([steps.Mean((2, 3)), pooled, nn.Flatten()]), x)

    def _head(self, vector: int) -> int:
        rng = self._rng
        size = self._shape(vector)[1]
        if rng.random() < 0.3:
            hidden = rng.choice([7, 16])
            return self._add(nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, 5)), vector)
        head = nn.Linear(size, rng.randint(2, 9))
        if rng.random() < 0.2:
            return self._add(nn.Sequential(head, nn.Softmax(dim=-1)), vector)
        return self._add(head, vector)

    def _answer(self, heads: list[int]) -> None:
        """Return the heads; sometimes also a value from the middle, or the same value twice."""
        rng = self._rng
        if rng.random() < 0.2:
            heads.append(rng.randrange(len(self.inputs), len(self._values)))
        if rng.random() < 0.05:
            heads.append(heads[0])
        self.module.answers = heads
        if rng.random() < 0.3:
            self.module.names = [f"head{index}" for index in range(len(heads))]
