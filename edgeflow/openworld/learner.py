"""The model in training: the classifier, a projector for contrastive terms, and frozen blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeflow.errors import ConfigError
from edgeflow.openworld.model import EncoderBlock, OpenWorldClassifier, ResidualBlock

#: Number of features after the projector, which is dropped after training.
PROJECTED_DIM = 64
_EVALUATION_BATCH = 500


class Learner(nn.Module):
    """A classifier, the statistics that normalise its pictures, and a projector for contrastive terms.

    Attributes:
        model: The classifier; it takes normalised pictures.
        projector: Features ``(B, D)`` to ``(B, 64)``, two layers.
        mean: Mean of the training pixels in [0, 1], ``(C,)``.
        std: Their standard deviation, ``(C,)``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: OpenWorldClassifier, *, mean: Tensor, std: Tensor, seed: int) -> None:
        super().__init__()
        self.model = model
        dim = model.config.embed_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, PROJECTED_DIM))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def normalised(self, x_NCHW: Tensor) -> Tensor:
        """Normalise pictures with values in [0, 1] for the classifier."""
        return (x_NCHW - self.mean[:, None, None]) / self.std[:, None, None]

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Return the features ``(N, D)`` of pictures with values in [0, 1]."""
        return self.model.features(self.normalised(x_NCHW).contiguous(memory_format=torch.channels_last))

    def head(self, f_ND: Tensor) -> Tensor:
        """Return logits ``(N, K)``."""
        logits_NK: Tensor = self.model.head(f_ND)
        return logits_NK

    def train(self, mode: bool = True) -> Learner:
        """Set training mode, except in frozen modules: their BatchNorm statistics must not change."""
        super().train(mode)
        for module in self.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.training = False
        return self

    @torch.inference_mode()
    def evaluate(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``(N, D)`` and logits ``(N, K)`` of uint8 pictures, in evaluation mode."""
        self.eval()
        features_ND = torch.cat(
            [self.features(chunk.float() / 255) for chunk in torch.split(images_NCHW, _EVALUATION_BATCH)]
        )
        return features_ND, self.head(features_ND)


def pixel_statistics(images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of uint8 pictures, as shares of 255."""
    values = images_NCHW.float() / 255
    return values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3)).clamp_min(1e-3)


def blocks_of(model: OpenWorldClassifier) -> list[list[nn.Module]]:
    """Return the blocks that can be frozen, from the stem to the last encoder block.

    The stem goes with the first residual block, the projection to tokens with the last one, the final norm
    with the last encoder block. The positional embedding is not a module: `freeze` treats it separately.
    """
    blocks: list[list[nn.Module]] = []
    for part in (model.cnn, model.encoder):
        waiting: list[nn.Module] = []
        own: list[list[nn.Module]] = []
        for module in part:
            if isinstance(module, ResidualBlock | EncoderBlock):
                own.append([*waiting, module])
                waiting = []
            elif own:
                own[-1].append(module)
            else:
                waiting.append(module)
        blocks += own
    return blocks


def freeze(learner: Learner, *, trainable_blocks: int | None) -> None:
    """Freeze all blocks but the last ``trainable_blocks`` (None: no block); head and projector still train.

    Raises:
        ConfigError: If the model has fewer blocks.
    """
    blocks = blocks_of(learner.model)
    num_trainable = len(blocks) if trainable_blocks is None else trainable_blocks
    if num_trainable > len(blocks):
        raise ConfigError(f"trainable_blocks is {num_trainable}, the model has {len(blocks)} blocks")
    for number, block in enumerate(blocks):
        for module in block:
            module.requires_grad_(number >= len(blocks) - num_trainable)
    num_encoder_blocks = learner.model.config.num_layers
    learner.model.position.requires_grad_(num_trainable > num_encoder_blocks)
    learner.train(learner.training)
