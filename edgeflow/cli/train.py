"""``edgeflow train``: train the open-world classifier, by one method or by all, over seeds."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeflow.cli import options, screen
from edgeflow.files import make_folder

if TYPE_CHECKING:
    from edgeflow.openworld.estimate import Estimate


def train(
    data: Annotated[
        str, typer.Option(help="digits, fashion-mnist, cifar-10, cifar-100 or folder.")
    ] = "digits",
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the data's files. (default: their usual place)")
    ] = None,
    method: Annotated[
        str, typer.Option(help="Training method; an unknown name lists the known ones.")
    ] = "lps",
    table: Annotated[
        bool, typer.Option("--table", help="Compare all methods over all seeds in a table.")
    ] = False,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="With --table: include LPS with parts left out.")
    ] = False,
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Seeds; one training per seed.")] = "0",
    images: Annotated[
        int | None, typer.Option(help="Number of training pictures. (default: suits the data)")
    ] = None,
    known: Annotated[
        int | None, typer.Option(help="Number of classes with labels. (default: suits the data)")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Classes to leave out of training, by the data's numbers."),
    ] = None,
    label_ratio: Annotated[
        float, typer.Option(help="Share of the known classes' pictures that have labels.")
    ] = 0.5,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of the method. (default: suits the data)")
    ] = None,
    pretrain_epochs: Annotated[
        int | None, typer.Option(help="Epochs of SimCLR. (default: suits the data)")
    ] = None,
    trainable_blocks: Annotated[
        int | None,
        typer.Option(
            help="Number of last blocks to train; 0 trains the head alone. (default: suits the data)"
        ),
    ] = None,
    estimate: Annotated[
        int | None,
        typer.Option(
            "--estimate-classes",
            metavar="LARGEST",
            help="Estimate the number of classes after SimCLR, at most this many, and train with that many "
            "prototypes. (default: the true number)",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for checkpoints, logs and plots.")
    ] = Path("train-output"),
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --table: CSV file of its rows. (default: results.csv in the output folder)",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="torch threads; results depend on their number.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run seeds side by side on Ray; `local` starts one here.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Train the open-world classifier; after a kill, the same command continues where it was."""
    import torch

    from edgeflow.openworld.experiment import Surroundings, run_estimated, run_methods
    from edgeflow.openworld.settings import settings_for
    from edgeflow.openworld.table import markdown

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
        raise typer.BadParameter("--ablations needs --table")
    if estimate is not None and (table or ray is not None):
        raise typer.BadParameter("--estimate-classes excludes --table and --ray")
    make_folder(output)
    numbers = parse_seeds(seeds)
    surroundings = Surroundings(
        folder=output, command=shlex.join(["edgeflow", *sys.argv[1:]]), progress=screen, note=screen.note
    )
    if estimate is not None:
        found = run_estimated(
            settings,
            numbers,
            surroundings,
            largest=estimate,
            on_estimate=functools.partial(_tell, screen.note if json else screen.say),
        )
        if json:
            screen.say_json(
                [{**row, "num_classes": e.num_classes, "agreement": e.agreement} for e, row in found]
            )
        else:
            screen.say(markdown([row for _, row in found]))
        return
    rows = run_methods(
        settings,
        numbers,
        surroundings,
        results=results or output / "results.csv",
        table=table,
        ablations=ablations,
        threads=threads,
        ray=ray,
    )
    if json:
        screen.say_json(rows)
    else:
        screen.say(markdown(rows))


def _tell(print_line: Callable[[str], None], estimate: Estimate) -> None:
    for num_classes, share in estimate.agreement.items():
        print_line(f"{num_classes:4d} classes: {100 * share:5.1f} % of the labelled pictures agree")
    print_line(f"estimate: {estimate.num_classes} classes")


def parse_seeds(text: str) -> list[int]:
    """Parse numbers such as ``"0,1,2"`` or ``"0-2"``.

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
        raise typer.BadParameter(f"--seeds: expected at least one number, each once, got {text!r}")
    return numbers
