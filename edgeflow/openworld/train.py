"""Training: SimCLR without labels, then a method; each resumes from its last checkpoint (`fit`)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeflow.errors import ConfigError
from edgeflow.openworld import losses, predict
from edgeflow.openworld.augment import Augmentation, augment
from edgeflow.openworld.data import load
from edgeflow.openworld.fit import Epoch, Fit, OnEpoch, run_epochs
from edgeflow.openworld.learner import Learner, freeze, pixel_statistics
from edgeflow.openworld.methods import METHODS, Batch, Method, State, Terms
from edgeflow.openworld.metrics import Scores, score
from edgeflow.openworld.model import build
from edgeflow.openworld.settings import TrainSettings, views_for
from edgeflow.openworld.splits import OpenWorldSplit, open_world_split, renumber

#: Temperature of SimCLR.
_SIMCLR_TEMPERATURE: Final = 0.4
_MOMENTUM: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Pictures to train and evaluate on.

    Attributes:
        split: Training pictures; the unlabelled ones are the transductive test.
        test_images_NCHW: Held-out pictures, uint8: the inductive test.
        test_targets_N: Their classes in the numbering of the split.
    """

    split: OpenWorldSplit
    test_images_NCHW: Tensor
    test_targets_N: Tensor


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a training.

    Attributes:
        transductive: Scores on the unlabelled training pictures.
        inductive: Scores on held-out pictures, with thresholds and clusters from the training pictures.
    """

    settings: TrainSettings
    transductive: Scores
    inductive: Scores
    history: tuple[Epoch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A learner at the end of its training, with its material and result."""

    learner: Learner
    material: Material
    predictor: predict.Predictor
    result: Result


def prepare(settings: TrainSettings) -> Material:
    """Read the data and split it.

    Raises:
        ConfigError: If the data are missing, or do not fit the settings.
    """
    folder = None if settings.folder is None else Path(settings.folder)
    training = load(settings.data, "train", folder=folder)
    training = training.subset(settings.num_images, seed=settings.subset_seed)
    split = open_world_split(
        training,
        num_known=settings.num_known,
        label_ratio=settings.label_ratio,
        seed=settings.seed,
        leave_out=settings.leave_out,
    )
    test = load(settings.data, "test", folder=folder).subset(settings.test_images, seed=settings.subset_seed)
    targets = renumber(test.labels_N, split.order)
    present = targets >= 0
    return Material(split=split, test_images_NCHW=test.images_NCHW[present], test_targets_N=targets[present])


def fresh_learner(settings: TrainSettings, material: Material) -> Learner:
    """Return an untrained learner for the material."""
    split = material.split
    model = build(
        settings.size,
        num_known=split.num_known,
        num_novel=split.num_novel,
        image_size=split.images_NCHW.shape[2],
        in_channels=split.images_NCHW.shape[1],
        seed=settings.seed,
    )
    mean, std = pixel_statistics(split.images_NCHW)
    learner = Learner(model, mean=mean, std=std, seed=settings.seed)
    return learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train(settings: TrainSettings, folder: Path, *, on_epoch: OnEpoch | None = None) -> Trained:
    """Pre-train, train and evaluate, from the latest checkpoints in ``folder``; write new ones there.

    Pre-training depends on few settings; trainings that agree on these share its checkpoint.

    Raises:
        ConfigError: If the data, a checkpoint or the method is wrong.
    """
    method = find_method(settings.method)
    material = prepare(settings)
    learner = fresh_learner(settings, material)
    folder.mkdir(parents=True, exist_ok=True)
    if settings.pretrain_seed is None:
        pretrain(learner, settings, material, folder, on_epoch=on_epoch)
    else:
        others = msgspec.structs.replace(settings, seed=settings.pretrain_seed, pretrain_seed=None)
        head = {name: tensor.clone() for name, tensor in learner.model.head.state_dict().items()}
        pretrain(learner, others, material, folder, on_epoch=on_epoch)
        learner.model.head.load_state_dict(head)
    if settings.num_novel is not None:  # after SimCLR, so that its checkpoint is the same for every number
        learner.model.resize_novel(settings.num_novel, seed=settings.seed)
    history = learn(learner, method, settings, material, folder, on_epoch=on_epoch)
    predictor = fit_predictor(learner, method, settings, material)
    split = material.split
    result = Result(
        settings=settings,
        transductive=judge(
            learner, predictor, split.images_NCHW[split.unlabelled], split.targets_N[split.unlabelled]
        ),
        inductive=judge(learner, predictor, material.test_images_NCHW, material.test_targets_N),
        history=tuple(history),
    )
    return Trained(learner=learner, material=material, predictor=predictor, result=result)


def find_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; there are {len(METHODS)}: {', '.join(METHODS)}")
    return METHODS[name]


def pretrain(
    learner: Learner,
    settings: TrainSettings,
    material: Material,
    folder: Path,
    *,
    on_epoch: OnEpoch | None = None,
) -> list[Epoch]:
    """Train the extractor by SimCLR on all training pictures, without labels."""
    images = material.split.images_NCHW
    how = views_for(settings.data).contrast

    def terms(batch: Batch) -> Terms:
        features = learner.features(torch.cat(batch.views))
        first, second = learner.projector(features).chunk(2)
        return {"view contrast": losses.view_contrast(first, second, temperature=_SIMCLR_TEMPERATURE)}

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(images), generator=generator)
        for chosen in torch.split(order, settings.pretrain_batch_size):
            if len(chosen) > 1:
                yield _batch(images, chosen, (how, how), material.split.targets_N[:0], generator)

    freeze(learner, trainable_blocks=None)
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=settings.pretrain_learning_rate, weight_decay=settings.weight_decay
    )
    return run_epochs(
        Fit(
            phase="simclr",
            path=folder / f"simclr-{fingerprint(settings, _PRETRAINING)}.safetensors",
            learner=learner,
            optimizer=optimizer,
            learning_rate=settings.pretrain_learning_rate,
            warmup=0.1,
            epochs=settings.pretrain_epochs,
            steps=math.ceil(len(images) / settings.pretrain_batch_size),
            seed=settings.seed,
            state=State(num_known=material.split.num_known, num_classes=material.split.num_classes),
            terms=terms,
            batches=batches,
            judge=None,
            on_epoch=on_epoch,
        )
    )


def learn(
    learner: Learner,
    method: Method,
    settings: TrainSettings,
    material: Material,
    folder: Path,
    *,
    on_epoch: OnEpoch | None = None,
) -> list[Epoch]:
    """Train by the method, from a pre-trained learner."""
    step = method.terms
    if step is None:
        return []
    split = material.split
    hows = tuple(views_for(settings.data).named(name) for name in method.views)
    num_pictures = len(split.labelled) + (len(split.unlabelled) if method.uses_unlabelled else 0)
    steps = math.ceil(num_pictures / settings.batch_size)
    state = State(num_known=split.num_known, num_classes=learner.model.config.num_classes)

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        labelled, unlabelled = (
            part[torch.randperm(len(part), generator=generator)].tensor_split(steps)
            for part in (split.labelled, split.unlabelled)
        )
        for with_labels, without in zip(labelled, unlabelled, strict=True):
            chosen = torch.cat([with_labels, without]) if method.uses_unlabelled else with_labels
            yield _batch(split.images_NCHW, chosen, hows, split.targets_N[with_labels], generator)

    def scores() -> Scores | None:
        if method.predicts != "argmax":
            return None  # clusters are made at the end only
        images, targets = split.images_NCHW[split.unlabelled], split.targets_N[split.unlabelled]
        return judge(learner, predict.argmax, images, targets)

    if settings.prototypes == "clusters":
        start_prototypes(learner, material, seed=settings.seed)
    freeze(learner, trainable_blocks=settings.trainable_blocks)
    optimizer = torch.optim.SGD(
        [parameter for parameter in learner.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        momentum=_MOMENTUM,
        weight_decay=settings.weight_decay,
    )
    return run_epochs(
        Fit(
            phase=settings.method,
            path=folder / f"{settings.method}-{fingerprint(settings)}.safetensors",
            learner=learner,
            optimizer=optimizer,
            learning_rate=settings.learning_rate,
            warmup=0.0,
            epochs=settings.epochs,
            steps=steps,
            seed=settings.seed,
            state=state,
            terms=lambda batch: step(learner, batch, state),
            batches=batches,
            judge=scores,
            on_epoch=on_epoch,
        )
    )


def start_prototypes(learner: Learner, material: Material, *, seed: int) -> None:
    """Set known prototypes to the mean labelled feature of their class, novel ones to clusters."""
    split = material.split
    features_ND, _ = learner.evaluate(split.images_NCHW)
    normal_ND = F.normalize(features_ND.clone(), dim=1)
    labels = split.targets_N[split.labelled]
    clusters = predict.fit_clusters(
        normal_ND,
        split.labelled,
        labels,
        num_known=split.num_known,
        num_classes=learner.model.config.num_classes,
        seed=seed,
    )
    head = learner.model.head
    with torch.no_grad():
        for label in range(split.num_known):
            head.known[label] = normal_ND[split.labelled[labels == label]].mean(dim=0)
        for cluster, label in enumerate(clusters.class_of.tolist()):
            if label >= split.num_known:
                head.novel[label - split.num_known] = clusters.centres_KD[cluster]


def fit_predictor(
    learner: Learner, method: Method, settings: TrainSettings, material: Material
) -> predict.Predictor:
    """Return the predictor of the method, fitted to the training pictures alone."""
    split = material.split
    config = learner.model.config
    if method.predicts == "argmax" or (method.predicts == "reject" and not config.num_novel):
        return predict.argmax
    features, logits = learner.evaluate(split.images_NCHW)
    if method.predicts == "clusters":
        return predict.fit_clusters(
            features,
            split.labelled,
            split.targets_N[split.labelled],
            num_known=split.num_known,
            num_classes=config.num_classes,
            seed=settings.seed,
        )
    return predict.fit_rejection(
        features[split.unlabelled],
        logits[split.unlabelled],
        num_known=split.num_known,
        num_novel=config.num_novel,
        novel_share=float((split.targets_N[split.unlabelled] >= split.num_known).float().mean()),
        seed=settings.seed,
    )


def judge(learner: Learner, predictor: predict.Predictor, images_NCHW: Tensor, targets_N: Tensor) -> Scores:
    """Return the scores on uint8 pictures."""
    features, logits = learner.evaluate(images_NCHW)
    num_known = learner.model.config.num_known
    return score(
        targets_N.numpy(),
        predictor(features, logits),
        predict.novelty(logits, num_known),
        num_known=num_known,
    )


#: Settings that SimCLR depends on.
_PRETRAINING: Final = (
    "data", "folder", "num_images", "subset_seed", "leave_out", "num_known", "label_ratio", "size", "seed",
    "pretrain_batch_size", "pretrain_epochs", "pretrain_learning_rate", "weight_decay",
)  # fmt: skip


def fingerprint(settings: TrainSettings, names: tuple[str, ...] | None = None) -> str:
    """Return 12 hex digits that identify the settings, or those called ``names``."""
    values = msgspec.to_builtins(settings)
    for name in ("num_novel", "pretrain_seed"):
        if values[name] is None:  # keep fingerprints from before this setting existed
            del values[name]
    chosen = {name: values[name] for name in sorted(names or values)}
    return hashlib.sha256(msgspec.json.encode(chosen)).hexdigest()[:12]


def _batch(
    images_NCHW: Tensor,
    chosen: Tensor,
    hows: tuple[Augmentation, ...],
    labels: Tensor,
    generator: torch.Generator,
) -> Batch:
    x_NCHW = images_NCHW[chosen].float() / 255
    return Batch(
        views=tuple(augment(x_NCHW, how, generator) for how in hows), labels=labels, generator=generator
    )
