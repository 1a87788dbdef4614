"""The ``edgeflow`` command: global options, commands, and the one place where errors become exit codes."""

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
    """Turns what edgeflow raises on purpose into one line on stderr and the error's own exit code.

    Usage errors (2) are typer's. Anything else that is raised is a mistake of ours and keeps its traceback.
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
        LogLevel, typer.Option(help="How much to log, to stderr; JSON lines where that is no terminal.")
    ] = LogLevel.WARNING,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    # `debug` and `version` are read elsewhere: from the context, and by the callback.
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
    # A terminated command must leave through its `with` blocks, or its workers would outlive it.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    app(prog_name="edgeflow")
    sys.exit(0)
