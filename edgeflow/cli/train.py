"""``edgeflow train``: the open-world classifier, by one method or by all of them over several seeds."""

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
        raise typer.BadParameter("--ablations goes with --table")
    if estimate is not None and (table or ray is not None):
        raise typer.BadParameter("--estimate-classes goes with neither --table nor --ray")
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
