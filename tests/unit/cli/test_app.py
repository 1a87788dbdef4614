"""The command as a whole: exit codes, what goes to stdout and what does not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgeflow import errors
from edgeflow.cli.app import ReportingGroup, app
from edgeflow.errors import EXIT_CODES, ConfigError, EdgeflowError, InfeasiblePlanError

COMMANDS = ["capture", "demo", "plan", "run", "verify", "worker"]


def failing(error: BaseException) -> typer.Typer:
    """An application whose only command raises ``error``."""
    made = typer.Typer(cls=ReportingGroup, pretty_exceptions_enable=False)

    @made.callback()
    def options(debug: bool = False) -> None:
        """Like the real one."""

    @made.command()
    def fail() -> None:
        raise error

    return made


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.GraphError("x"), 1),
        (ConfigError("x"), 3),
        (errors.InvalidPlanError("x"), 3),
        (InfeasiblePlanError("x", constraint="memory"), 4),
        (errors.WorkerUnreachableError("x"), 5),
        (errors.DeadlineExceededError("x"), 5),
        (errors.WorkerFailedError("x"), 1),
        (errors.CodecError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])

    assert result.exit_code == code
    assert code in EXIT_CODES


def test_an_error_is_one_line_on_stderr_without_a_traceback() -> None:
    result = CliRunner().invoke(failing(ConfigError("devices.pi4.memory: unknown unit 'gigs'")), ["fail"])

    assert result.stdout == ""
    assert result.stderr == "error: devices.pi4.memory: unknown unit 'gigs'\n"


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(failing(ConfigError("wrong")), ["--debug", "fail"])

    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: wrong\n")


def test_a_mistake_of_ours_is_not_dressed_up() -> None:
    result = CliRunner().invoke(failing(ZeroDivisionError("ours")), ["fail"])

    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_every_command_is_there_and_helps() -> None:
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", help_text)
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning.split()[0]}" in help_text


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert result.exit_code == 0
    assert result.stdout.startswith("edgeflow ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["plan"],
        ["plan", "mlp"],
        ["plan", "mlp", "--speeds", "1", "--cluster", "x.yaml"],
        ["plan", "mlp", "--speeds", "fast"],
        ["run", "mlp", "--speeds", "1", "--requests", "0"],
        ["run", "mlp", "--speeds", "1", "--local", "--workers", "a:1"],
        ["verify", "mlp", "--plan", "p.json", "--speeds", "1"],
        ["verify", "mlp", "--speeds", "1", "--tolerance", "-1"],
        ["verify", "mlp", "--speeds", "1", "--local", "--transport", "udp"],
        ["run", "mlp", "--speeds", "1", "--local", "--transport", "udp"],
        ["serve", "mlp", "--speeds", "1", "--local", "--transport", "udp"],
        ["worker", "--transport", "udp"],
        ["worker", "--speed", "2"],
        ["worker", "--threads", "0"],
        ["--log-level", "loud", "plan", "mlp"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2, result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "resnet51", "--speeds", "1"], "no model is called 'resnet51'"),
        (["plan", "mlp", "--speeds", "1,0"], "device 'device1': flops_per_second must be positive"),
        (["plan", "mlp", "--speeds", "1", "--memory", "1 gig"], "memory: unknown unit 'gig'"),
        (["plan", "mlp", "--cluster", "nowhere.yaml"], "cannot read cluster file nowhere.yaml"),
        (["verify", "math:gcd", "--speeds", "1"], "must return (module, args)"),
        (["worker", "--memory", "1 gig"], "--memory: unknown unit 'gig'"),
        (["worker", "--bind", "0.0.0.0:0"], "can be reached from other machines"),
        (["demo", "--output", "/dev/null/x"], "cannot make the folder /dev/null/x"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_configuration_is_3_and_says_what(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 3, result.output
    assert said in result.stderr
    assert result.stderr.startswith("error: ")


def test_capture_saves_a_graph_that_the_other_commands_take(tmp_path: Path) -> None:
    path = tmp_path / "mlp.edgeflow"
    result = CliRunner().invoke(app, ["capture", "mlp", "-o", str(path), "--json"])

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["num_operators"] > 0
    assert path.is_file()


def test_capture_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["capture", "mlp", "-o", str(tmp_path / "nowhere" / "mlp.edgeflow")])

    assert result.exit_code == 3
    assert "cannot write" in result.stderr


def test_every_error_class_leaves_through_its_own_code() -> None:
    """A class that somebody adds is covered by the tree, not by a list here."""

    class NewError(EdgeflowError):
        exit_code = 5

    assert CliRunner().invoke(failing(NewError("x")), ["fail"]).exit_code == 5
