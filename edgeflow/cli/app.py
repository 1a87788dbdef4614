"""The ``edgeflow`` command: global options, subcommands, and the translation of errors to exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from edgeflow.cli import (
    bench,
    capture,
    certs,
    coverage,
    demo,
    plan,
    profile,
    replay,
    run,
    serve,
    simulate,
    sweep,
    top,
    train,
    verify,
    worker,
)
from edgeflow.cli.log import LogLevel, configure_logging
from edgeflow.cli.screen import complain
from edgeflow.errors import EXIT_CODES, EdgeflowError
from edgeflow.incident import heed_environment
from edgeflow.versions import installed_version

INTERRUPTED = 130
_EPILOG = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."


class ReportingGroup(TyperGroup):
    """Turns an `EdgeflowError` into one line on stderr and the error's exit code.

    Typer reports usage errors (2). Any other exception is a bug of edgeflow's and keeps its traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeflowError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            complain(str(error))
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    name="edgeflow",
    cls=ReportingGroup,
    help="Run one PyTorch model on a handful of unequal machines, and get the same answer.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgeflow {installed_version() or '(not installed)'}")
        raise typer.Exit


@app.callback()
def _options(
    log_level: Annotated[
        LogLevel,
        typer.Option(help="Least level to log to stderr; as JSON lines unless stderr is a terminal."),
    ] = LogLevel.WARNING,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    # `debug` is read from the context, `version` by its callback.
    configure_logging(log_level)
    heed_environment()


app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
app.command("capture")(capture.capture)
app.command("certs")(certs.certs)
app.command("coverage")(coverage.coverage)
app.command("plan")(plan.plan)
app.command("profile")(profile.profile)
app.command("replay")(replay.replay)
app.command("run")(run.run)
app.command("serve")(serve.serve)
app.command("simulate")(simulate.simulate)
app.command("sweep")(sweep.sweep)
app.command("train")(train.train)
app.command("top")(top.top)
app.command("verify")(verify.verify)
app.command("worker")(worker.worker)


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    # SIGTERM must unwind the `with` blocks, or local workers would outlive the command.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    app(prog_name="edgeflow")
    sys.exit(0)
