"""``edgeflow train``: the open-world classifier, by one method or by all of them over several seeds."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edgeflow.cli import options
from edgeflow.cli.files import make_folder, writing
from edgeflow.cli.screen import bar, note, say, say_json
from edgeflow.errors import ConfigError

if TYPE_CHECKING:
    from edgeflow.openworld.estimate import Estimate
    from edgeflow.openworld.fit import Epoch
    from edgeflow.openworld.settings import TrainSettings
    from edgeflow.openworld.table import Row
    from edgeflow.openworld.train import Trained


def train(
    data: Annotated[
        str, typer.Option(help="digits, fashion-mnist, cifar-10, cifar-100 or folder.")
    ] = "digits",
    folder: Annotated[
        Path | None, typer.Option(help="Where the data's files lie, if not in their usual place.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="How to train; an unknown name is answered with the known ones.")
    ] = "lps",
    table: Annotated[bool, typer.Option("--table", help="All methods over all seeds, as a table.")] = False,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="With --table: parts of LPS left out, too.")
    ] = False,
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="One training each.")] = "0",
    images: Annotated[
        int | None, typer.Option(help="Training pictures to use. (default: suits the data)")
    ] = None,
    known: Annotated[int | None, typer.Option(help="Classes with labels. (default: suits the data)")] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Classes that must not occur, by the data's numbers."),
    ] = None,
    label_ratio: Annotated[float, typer.Option(help="Share of their pictures that have labels.")] = 0.5,
    epochs: Annotated[int | None, typer.Option(help="Of the method. (default: suits the data)")] = None,
    pretrain_epochs: Annotated[int | None, typer.Option(help="Of SimCLR. (default: suits the data)")] = None,
    trainable_blocks: Annotated[
        int | None,
        typer.Option(help="Blocks that train, from the head; 0: the head. (default: suits the data)"),
    ] = None,
    estimate: Annotated[
        int | None,
        typer.Option(
            "--estimate-classes",
            metavar="LARGEST",
            help="Estimate after SimCLR how many classes there are, up to this many, and train with that "
            "many prototypes. (default: the true number)",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="For checkpoints, logs and pictures.")
    ] = Path("train-output"),
    results: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --table: its rows. (default: results.csv in the output)"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of torch. Results are equal for equal numbers.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Seeds side by side on Ray: `local` starts one here.", show_default=False
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Train the open-world classifier; the same command goes on after it was killed."""
    import torch

    from edgeflow.openworld.settings import settings_for

    torch.set_num_threads(threads)
    settings = settings_for(
        data,
        folder=None if folder is None else str(folder),
        method=method,
        num_images=images,
        num_known=known,
        leave_out=None if leave_out is None else tuple(parse_seeds(leave_out)),
        label_ratio=label_ratio,
        epochs=epochs,
        pretrain_epochs=pretrain_epochs,
        trainable_blocks=trainable_blocks,
    )
    if ablations and not table:
        raise typer.BadParameter("--ablations goes with --table")
    if estimate is not None and (table or ray is not None):
        raise typer.BadParameter("--estimate-classes goes with neither --table nor --ray")
    make_folder(output)
    numbers = parse_seeds(seeds)
    if estimate is not None:
        _estimated(settings, numbers, output, largest=estimate, json=json)
        return
    rows = _rows(
        settings,
        numbers,
        output,
        results=results or output / "results.csv",
        table=table,
        ablations=ablations,
        threads=threads,
        ray=ray,
    )
    if json:
        say_json(rows)
        return
    from edgeflow.openworld.table import markdown

    say(markdown(rows))


def _estimated(
    settings: TrainSettings, seeds: Sequence[int], output: Path, *, largest: int, json: bool
) -> None:
    """Train with as many prototypes as classes are estimated, seed by seed."""
    from edgeflow.openworld.table import markdown
    from edgeflow.openworld.train import find_method

    find_method(settings.method)  # before SimCLR takes its time
    tell = note if json else say
    rows, estimates = [], []
    for seed in seeds:
        own = msgspec.structs.replace(settings, seed=seed)
        found = _estimate(own, output, largest=largest)
        for num_classes, share in found.agreement.items():
            tell(f"{num_classes:4d} classes: {100 * share:5.1f} % of the labelled pictures agree")
        tell(f"estimate: {found.num_classes} classes")
        own = msgspec.structs.replace(own, num_novel=found.num_classes - settings.num_known)
        rows.append(_one(own, output))
        estimates.append({"num_classes": found.num_classes, "agreement": found.agreement})
    if json:
        say_json([{**row, **estimate} for row, estimate in zip(rows, estimates, strict=True)])
    else:
        say(markdown(rows))


def _estimate(settings: TrainSettings, output: Path, *, largest: int) -> Estimate:
    """Return how many classes there are, by the features of SimCLR."""
    from edgeflow.openworld.estimate import estimate_num_classes
    from edgeflow.openworld.train import fresh_learner, prepare, pretrain

    material = prepare(settings)
    learner = fresh_learner(settings, material)
    with bar("simclr") as move:
        pretrain(
            learner,
            settings,
            material,
            output,
            on_epoch=lambda _name, done, of, _: move(done, of),
        )
    split = material.split
    features, _ = learner.evaluate(split.images_NCHW)
    labels = split.targets_N[split.labelled]
    return estimate_num_classes(features, split.labelled, labels, largest=largest, seed=settings.seed)


def parse_seeds(text: str) -> list[int]:
    """Return ``"0,1,2"`` or ``"0-2"`` as numbers.

    Examples:
        >>> parse_seeds("0-2, 7")
        [0, 1, 2, 7]
    """
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            numbers += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError as error:
        raise typer.BadParameter(f"--seeds: expected numbers such as 0,1,2 or 0-4, got {text!r}") from error
    if not numbers or len(set(numbers)) != len(numbers):
        raise typer.BadParameter(f"--seeds: no number, or one twice, in {text!r}")
    return numbers


def _rows(
    settings: TrainSettings,
    seeds: Sequence[int],
    output: Path,
    *,
    results: Path,
    table: bool,
    ablations: bool,
    threads: int,
    ray: str | None,
) -> list[Row]:
    from edgeflow.openworld.table import run_on_ray, run_table, variants

    names = list(variants(ablations=ablations)) if table else [settings.method]
    if not table and ray is None:
        return [_one(msgspec.structs.replace(settings, seed=seed), output) for seed in seeds]
    if ray is not None:
        address = None if ray == "local" else ray
        return run_on_ray(
            settings, names, seeds, results=results, folder=output, threads=threads, address=address
        )
    with bar("trainings") as move:
        rows = []
        total = len(names) * len(seeds)
        for row in run_table(settings, names, seeds, results=results, folder=output):
            rows.append(row)
            move(len(rows), total)
            note(f"{row['variant']}, seed {row['seed']}: all {100 * float(row['transductive_all']):.1f}")
    return rows


def _one(settings: TrainSettings, output: Path) -> Row:
    """Train once, and write what there is to see of it."""
    from edgeflow.openworld.plots import plot_all
    from edgeflow.openworld.table import row_of
    from edgeflow.openworld.train import train as run
    from edgeflow.openworld.weights import save_model

    own = output / f"{settings.method}-seed{settings.seed}"
    if settings.num_novel is not None:
        own = own.with_name(f"{own.name}-{settings.num_known + settings.num_novel}-classes")
    make_folder(own)
    with bar(f"{settings.method}, seed {settings.seed}") as move:
        total = settings.pretrain_epochs + settings.epochs

        def on_epoch(phase: str, done: int, _of: int, _epoch: Epoch) -> None:
            move(done if phase == "simclr" else settings.pretrain_epochs + done, total)

        trained = run(settings, output, on_epoch=on_epoch)
    _write_logs(trained, own)
    with writing(own / "model.safetensors"):
        save_model(own / "model.safetensors", trained, command=shlex.join(["edgeflow", *sys.argv[1:]]))
    try:
        for path in plot_all(trained, own):
            note(f"written to {path}")
    except ConfigError as error:  # a training is no failure because nobody can draw it
        note(str(error))
    return row_of(settings.method, trained.result)


def _write_logs(trained: Trained, folder: Path) -> None:
    result = trained.result
    with writing(folder / "result.json"):
        (folder / "result.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
        )
    if not result.history:
        return
    terms = list(result.history[0].terms)
    scores = ("seen", "novel", "all", "nmi_novel", "gap")
    with writing(folder / "history.csv"), (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "loss", *terms, *scores])
        for epoch in result.history:
            judged = ["" if epoch.scores is None else getattr(epoch.scores, name) for name in scores]
            writer.writerow([epoch.number, epoch.loss, *(epoch.terms[name] for name in terms), *judged])
