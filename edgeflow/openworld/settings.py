"""Settings of a training, and defaults for each data set on one CPU core."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.openworld.augment import Augmentation


class TrainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All inputs of a training; equal settings give equal weights on one machine.

    Attributes:
        data: Name of a data set.
        folder: Folder of its files, if not the usual one.
        num_images: Training pictures to use, drawn by ``subset_seed``; None for all.
        subset_seed: Draws them; separate from ``seed``, so that trainings of different seeds use the same
            ones.
        test_images: Held-out pictures to use; None for all.
        leave_out: Classes, in the data set's numbering, that must not occur in training.
        num_known: Classes with labels: the first ones.
        label_ratio: Share of their pictures that have labels.
        size: Name of the model's shape in `edgeflow.openworld.SIZES`.
        method: Name in `edgeflow.openworld.methods.METHODS`.
        seed: Seed of the labels drawn, the initial weights, the order of pictures and their views.
        batch_size: Pictures per step, labelled and unlabelled in the data's proportion.
        pretrain_batch_size: Pictures per step of SimCLR.
        pretrain_epochs: Epochs of SimCLR, on all training pictures without labels.
        pretrain_learning_rate: Peak learning rate of SimCLR, with AdamW.
        epochs: Epochs of the method.
        learning_rate: Initial learning rate of the method, with SGD (momentum 0.9); it follows a cosine to 0.
        weight_decay: Weight decay of SimCLR and of the method.
        trainable_blocks: Number of last blocks (residual and encoder blocks) that train; 0 for the head
            alone, None for all. The others are frozen, including BatchNorm statistics.
        prototypes: Initial prototypes: ``clusters`` (means of labelled features, and k-means for the novel
            classes) or ``random``.
        num_novel: Prototypes for classes without labels; None for the true number, which is unknown in
            practice (`estimate.py`).
        pretrain_seed: Seed of SimCLR, if not ``seed``: trainings with the same one share its features, and
            differ in labels, initial prototypes, order and views.
    """

    data: str
    folder: str | None = None
    num_images: int | None = None
    subset_seed: int = 0
    test_images: int | None = None
    leave_out: tuple[int, ...] = ()
    num_known: int = 5
    label_ratio: float = 0.5
    size: str = "mini"
    method: str = "lps"
    seed: int = 0
    batch_size: int = 256
    pretrain_batch_size: int = 256
    pretrain_epochs: int = 40
    pretrain_learning_rate: float = 1e-3
    epochs: int = 20
    learning_rate: float = 0.02
    weight_decay: float = 5e-4
    trainable_blocks: int | None = None
    prototypes: str = "random"
    num_novel: int | None = None
    pretrain_seed: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 2), ("pretrain_batch_size", 2), ("pretrain_epochs", 0), ("epochs", 0),
            ("num_known", 1), ("seed", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be at least {least}")
        for name in ("pretrain_learning_rate", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be greater than 0")
        if self.prototypes not in ("clusters", "random"):
            raise ConfigError(f"prototypes is {self.prototypes!r}, must be clusters or random")
        for name in ("trainable_blocks", "num_novel"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} is {value}, must be at least 0")


class Views(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of views of one data set."""

    weak: Augmentation
    strong: Augmentation
    contrast: Augmentation

    def named(self, name: str) -> Augmentation:
        how: Augmentation = getattr(self, name)
        return how


#: No flips: a mirrored digit is not a digit.
_DIGIT_VIEWS: Final = Views(
    weak=Augmentation(shift=0.06, zoom=(0.9, 1.1), rotate_deg=5),
    strong=Augmentation(shift=0.1, zoom=(0.8, 1.2), stretch=1.2, rotate_deg=15, shear=0.2, contrast=0.4,
                        noise=0.1),
    contrast=Augmentation(shift=0.1, zoom=(0.8, 1.25), stretch=1.25, rotate_deg=15, shear=0.2, contrast=0.4,
                          noise=0.1),
)  # fmt: skip
_FASHION_VIEWS: Final = Views(
    weak=Augmentation(shift=0.06, zoom=(0.95, 1.05), flip=True),
    strong=Augmentation(shift=0.1, zoom=(0.8, 1.25), stretch=1.2, rotate_deg=15, shear=0.1, flip=True,
                        brightness=0.2, contrast=0.4, hole=0.35),
    contrast=Augmentation(shift=0.12, zoom=(0.85, 1.7), stretch=1.3, rotate_deg=10, flip=True,
                          brightness=0.2, contrast=0.5),
)  # fmt: skip
_COLOUR_VIEWS: Final = Views(
    weak=Augmentation(shift=0.125, flip=True),
    strong=Augmentation(shift=0.125, zoom=(0.8, 1.4), stretch=1.2, rotate_deg=15, shear=0.1, flip=True,
                        brightness=0.3, contrast=0.5, tint=0.3, hole=0.4),
    contrast=Augmentation(shift=0.15, zoom=(1.0, 2.2), stretch=1.3, flip=True, brightness=0.3, contrast=0.5,
                          tint=0.4, grey=0.2),
)  # fmt: skip


def views_for(data: str) -> Views:
    """Return the changes of a data set's pictures that preserve their classes."""
    return {"digits": _DIGIT_VIEWS, "fashion-mnist": _FASHION_VIEWS}.get(data, _COLOUR_VIEWS)


_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "digits": {"size": "micro", "batch_size": 128, "pretrain_epochs": 60, "epochs": 40},
    "fashion-mnist": {
        "size": "mini",
        "num_images": 5000,
        "pretrain_epochs": 50,
        "epochs": 15,
        "learning_rate": 0.005,
        "prototypes": "clusters",
    },
    "cifar-10": {"size": "tiny", "pretrain_epochs": 200, "epochs": 100},
    "cifar-100": {"size": "tiny", "num_known": 50, "pretrain_epochs": 200, "epochs": 100},
    "folder": {"size": "small", "num_known": 50, "pretrain_epochs": 200, "epochs": 90},
}


def settings_for(data: str, **given: Any) -> TrainSettings:
    """Return the given settings, with defaults of the data set for the others; None counts as not given.

    The defaults of digits and Fashion-MNIST were tested; those of the others were not.

    Raises:
        ConfigError: If a value is out of range.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    return TrainSettings(data=data, **{**_DEFAULTS.get(data, {}), **changes})
