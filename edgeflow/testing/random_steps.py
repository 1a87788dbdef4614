"""Parts of random models: a DAG of steps, and steps for which torch has no module.

Shape suffixes: N batch, C channels, H and W rows and columns, L tokens, D features of a token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dag(nn.Module):
    """Steps over a growing list of values; the first values are the inputs.

    Attributes:
        steps: Modules.
        sources: For each step, the positions of the values that it reads.
        answers: Positions of the values to return.
        names: Names of the answers, if a dict is returned; else empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        self.sources: list[tuple[int, ...]] = []
        self.answers: list[int] = []
        self.names: list[str] = []

    def forward(self, *inputs: Tensor) -> Any:
        values = list(inputs)
        for step, sources in zip(self.steps, self.sources, strict=True):
            values.append(step(*(values[index] for index in sources)))
        answers = [values[index] for index in self.answers]
        if self.names:
            return dict(zip(self.names, answers, strict=True))
        return answers[0] if len(answers) == 1 else tuple(answers)


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Multiply(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


class Concat(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=self.dim)


class Crop(nn.Module):
    """The first rows and columns of an image."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW[:, :, : self.rows, : self.columns]


class Shift(nn.Module):
    """A vector, projected, added to every position of an image."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, channels)

    def forward(self, x_NCHW: Tensor, vector: Tensor) -> Tensor:
        shift_NC: Tensor = self.project(vector)
        return x_NCHW + shift_NC[:, :, None, None]


class Mean(nn.Module):
    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self.dims)


class Select(nn.Module):
    def __init__(self, dim: int, index: int) -> None:
        super().__init__()
        self.dim, self.index = dim, index

    def forward(self, x: Tensor) -> Tensor:
        return x.select(self.dim, self.index)


class Tokens(nn.Module):
    """Positions of an image as tokens, ``x_NCHW`` to ``y_NLC``, after a class token or not."""

    def __init__(self, dim: int, num_positions: int, *, has_class_token: bool) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, dim)) if has_class_token else None
        self.position = nn.Parameter(0.3 * torch.randn(1, num_positions + has_class_token, dim))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NLC = x_NCHW.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            y_NLC = torch.cat([self.class_token.expand(len(x_NCHW), -1, -1), y_NLC], dim=1)
        return y_NLC + self.position


class Attention(nn.Module):
    """Self-attention; several heads of queries may share one head of keys and values."""

    def __init__(
        self, dim: int, num_heads: int, num_kv_heads: int, head_dim: int, *, is_causal: bool, is_fused: bool
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.is_causal, self.is_fused = is_causal, is_fused
        self.query = nn.Linear(dim, num_heads * head_dim)
        self.key = nn.Linear(dim, num_kv_heads * head_dim)
        self.value = nn.Linear(dim, num_kv_heads * head_dim)
        self.out = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x_NLD: Tensor) -> Tensor:
        batch, length, _ = x_NLD.shape
        q = self.query(x_NLD).view(batch, length, self.num_heads, self.head_dim).transpose(1, 2)
        k, v = (
            project(x_NLD).view(batch, length, self.num_kv_heads, self.head_dim).transpose(1, 2)
            for project in (self.key, self.value)
        )
        mixed = self._attend(q, k, v).transpose(1, 2).reshape(batch, length, -1)
        y_NLD: Tensor = self.out(mixed)
        return y_NLD

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        is_grouped = self.num_kv_heads != self.num_heads
        if self.is_fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.is_causal, enable_gqa=is_grouped)
            return mixed
        if is_grouped:
            k, v = (part.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1) for part in (k, v))
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        if self.is_causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, float("-inf"))
        y: Tensor = scores.softmax(dim=-1) @ v
        return y
