"""Shared by the parts of the zoo: examples, their inputs, random models of ``transformers``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.errors import ConfigError

#: Makes attention peaked: at the usual 0.02 untrained scores are nearly equal, and an error in them would not
#: show.
PEAKED: Final[dict[str, Any]] = {"initializer_range": 0.05}


class Example(NamedTuple):
    """A module in ``eval()`` mode and what to call it with: ``module(*args, **kwargs)``."""

    module: nn.Module
    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]


def random_image(image_size: int, *, in_channels: int = 3, batch: int = 1, seed: int = 0) -> Tensor:
    """Return soft blobs with some noise on them, ``x_NCHW``, of about unit variance.

    Plain noise looks the same everywhere: after global pooling two pictures of it give nearly one answer, and
    a result computed from the wrong rows is hardly wrong. This does not.
    """
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.randn(batch, in_channels, 4, 4, generator=generator)
    soft = F.interpolate(blobs, size=(image_size, image_size), mode="bicubic")
    return soft + 0.3 * torch.randn(soft.shape, generator=generator)


def random_text(*, vocab_size: int, length: int) -> dict[str, Tensor]:
    """Return token ids and a mask that hides the last eighth of them as padding, both ``(1, length)``."""
    ids = torch.randint(1, vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(length) < length - length // 8).long()[None]
    return {"input_ids": ids * mask, "attention_mask": mask}


def from_transformers(
    config_class: str, model_class: str, config: Mapping[str, Any], randomise: Callable[[nn.Module], None]
) -> Any:
    """Return a model of ``transformers`` with random weights, ready for inference.

    Raises:
        ConfigError: If the package is not installed.
    """
    transformers = _import_transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(transformers, model_class)(getattr(transformers, config_class)(**config))
        randomise(module)
    return module.eval()


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "models named hf-* need the transformers package: pip install transformers"
        ) from error
    return transformers
