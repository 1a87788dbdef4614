"""An experiment: methods over seeds, or trainings with an estimated number of classes, and their files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.files import make_folder, writing
from edgeflow.openworld.estimate import Estimate, estimate_num_classes
from edgeflow.openworld.fit import Epoch
from edgeflow.openworld.plots import plot_all
from edgeflow.openworld.settings import TrainSettings
from edgeflow.openworld.table import Row, row_of, run_on_ray, run_table, variants
from edgeflow.openworld.train import Trained, find_method, fresh_learner, prepare, pretrain, train
from edgeflow.openworld.weights import save_model
from edgeflow.telemetry.progress import Progress

#: Scores of an epoch in ``history.csv``.
_SCORES = ("seen", "novel", "all", "nmi_novel", "gap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where an experiment writes, and whom it tells.

    Attributes:
        folder: For checkpoints, logs, models and plots.
        command: The command line, which is stored in the models.
        note: Told in words of each file and each finished training.
    """

    folder: Path
    command: str
    progress: Progress
    note: Callable[[str], None]


def run_methods(
    settings: TrainSettings,
    seeds: Sequence[int],
    surroundings: Surroundings,
    *,
    results: Path,
    table: bool,
    ablations: bool,
    threads: int,
    ray: str | None,
) -> list[Row]:
    """Train over seeds: the settings' own method, or all methods of the table.

    Args:
        results: The table's file of rows; trainings that have a row are not run again.
        ablations: With ``table``: include the ablations of LPS.
        threads: torch threads of each worker of Ray.
        ray: Address of a Ray cluster that runs the seeds side by side; ``local`` starts one here.

    Raises:
        ConfigError: If the data, a checkpoint, the method or a file is wrong.
    """
    names = list(variants(ablations=ablations)) if table else [settings.method]
    if not table and ray is None:
        return [train_and_save(msgspec.structs.replace(settings, seed=seed), surroundings) for seed in seeds]
    folder = surroundings.folder
    if ray is not None:
        address = None if ray == "local" else ray
        return run_on_ray(
            settings, names, seeds, results=results, folder=folder, threads=threads, address=address
        )
    with surroundings.progress.bar("trainings") as move:
        rows = []
        total = len(names) * len(seeds)
        for row in run_table(settings, names, seeds, results=results, folder=folder):
            rows.append(row)
            move(len(rows), total)
            surroundings.note(
                f"{row['variant']}, seed {row['seed']}: all {100 * float(row['transductive_all']):.1f}"
            )
    return rows


def run_estimated(
    settings: TrainSettings,
    seeds: Sequence[int],
    surroundings: Surroundings,
    *,
    largest: int,
    on_estimate: Callable[[Estimate], None],
) -> list[tuple[Estimate, Row]]:
    """For each seed estimate the number of classes, and train with that many prototypes.

    Args:
        largest: Most classes to try.
        on_estimate: Told of each estimate before its training.

    Raises:
        ConfigError: If the data, the method or ``largest`` is wrong.
    """
    find_method(settings.method)  # fail before the long pre-training
    found = []
    for seed in seeds:
        own = msgspec.structs.replace(settings, seed=seed)
        estimate = estimate_classes(own, surroundings, largest=largest)
        on_estimate(estimate)
        own = msgspec.structs.replace(own, num_novel=estimate.num_classes - settings.num_known)
        found.append((estimate, train_and_save(own, surroundings)))
    return found


def estimate_classes(settings: TrainSettings, surroundings: Surroundings, *, largest: int) -> Estimate:
    """Estimate the number of classes from the features after SimCLR."""
    material = prepare(settings)
    learner = fresh_learner(settings, material)
    with surroundings.progress.bar("simclr") as move:
        pretrain(
            learner,
            settings,
            material,
            surroundings.folder,
            on_epoch=lambda _name, done, of, _: move(done, of),
        )
    split = material.split
    features, _ = learner.evaluate(split.images_NCHW)
    labels = split.targets_N[split.labelled]
    return estimate_num_classes(features, split.labelled, labels, largest=largest, seed=settings.seed)


def train_and_save(settings: TrainSettings, surroundings: Surroundings) -> Row:
    """Train once; write the model, logs and plots to a folder of their own; return the row."""
    own = surroundings.folder / f"{settings.method}-seed{settings.seed}"
    if settings.num_novel is not None:
        own = own.with_name(f"{own.name}-{settings.num_known + settings.num_novel}-classes")
    make_folder(own)
    with surroundings.progress.bar(f"{settings.method}, seed {settings.seed}") as move:
        total = settings.pretrain_epochs + settings.epochs

        def on_epoch(phase: str, done: int, _of: int, _epoch: Epoch) -> None:
            move(done if phase == "simclr" else settings.pretrain_epochs + done, total)

        trained = train(settings, surroundings.folder, on_epoch=on_epoch)
    for path in (*write_logs(trained, own), _write_model(trained, own, surroundings.command)):
        surroundings.note(f"written to {path}")
    try:
        for path in plot_all(trained, own):
            surroundings.note(f"written to {path}")
    except ConfigError as error:  # a training succeeds also where plots cannot be drawn
        surroundings.note(str(error))
    return row_of(settings.method, trained.result)


def _write_model(trained: Trained, folder: Path, command: str) -> Path:
    path = folder / "model.safetensors"
    with writing(path):
        save_model(path, trained, command=command)
    return path


def write_logs(trained: Trained, folder: Path) -> list[Path]:
    """Write ``result.json`` and, if there were epochs, ``history.csv``; return the paths written."""
    result = trained.result
    paths = [folder / "result.json"]
    with writing(paths[0]):
        paths[0].write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    if not result.history:
        return paths
    paths.append(folder / "history.csv")
    terms = list(result.history[0].terms)
    with writing(paths[1]), paths[1].open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "loss", *terms, *_SCORES])
        for epoch in result.history:
            judged = ["" if epoch.scores is None else getattr(epoch.scores, name) for name in _SCORES]
            writer.writerow([epoch.number, epoch.loss, *(epoch.terms[name] for name in terms), *judged])
    return paths
