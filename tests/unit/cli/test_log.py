"""Logging: one line an event, JSON for programs, and only edgeflow's own logger is touched."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from edgeflow.cli.log import JsonFormatter, LogLevel, TextFormatter, configure_logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The logger of edgeflow, put back as it was."""
    logger = logging.getLogger("edgeflow")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def record(message: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("edgeflow.x").makeRecord(
        "edgeflow.x", logging.INFO, "file.py", 1, message, (), None, extra=extra
    )


def test_json_carries_the_keys_of_the_event() -> None:
    line = json.loads(JsonFormatter().format(record("plan.applied", plan_id="p1", num_stages=3)))

    assert line["event"] == "plan.applied"
    assert (line["level"], line["logger"], line["plan_id"], line["num_stages"]) == (
        "info",
        "edgeflow.x",
        "p1",
        3,
    )


def test_json_carries_what_json_cannot_say() -> None:
    assert json.loads(JsonFormatter().format(record("x", value={1, 2})))["value"] == "{1, 2}"


def test_text_is_one_line() -> None:
    line = TextFormatter().format(record("plan.applied", num_stages=3))

    assert line.endswith("plan.applied num_stages=3")
    assert "\n" not in line


def test_only_the_level_asked_for_is_written(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogLevel.WARNING)
    logging.getLogger("edgeflow.part").info("quiet")
    logging.getLogger("edgeflow.part").warning("loud")
    captured = capsys.readouterr()

    assert captured.out == ""
    assert [json.loads(line)["event"] for line in captured.err.splitlines()] == ["loud"]


def test_configuring_twice_does_not_write_twice(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogLevel.INFO)
    configure_logging(LogLevel.INFO)
    logger.info("once")

    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_root_logger_is_left_alone(logger: logging.Logger) -> None:
    before = logging.getLogger().handlers[:]
    configure_logging(LogLevel.DEBUG)

    assert logging.getLogger().handlers == before
