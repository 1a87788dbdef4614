"""docs/security.md names tests that exist, and no test of a promise is missing there by a typing error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("|") and "`tests/" in line]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_every_promise_has_tests_that_are_there(row: str) -> None:
    found = 0
    for part in row.split("|")[2].split(";"):
        file, names = part.split(":", 1)
        source = (ROOT / file.strip(" `")).read_text()
        for name in re.findall(r"`(test_\w+)`", names):
            assert f"def {name}(" in source, name
            found += 1
    assert found


def test_the_number_of_fuzz_tests_and_inputs_is_the_one_that_is_stated() -> None:
    source = (ROOT / "tests" / "security" / "test_fuzz.py").read_text()
    count = len(re.findall(r"^@both\(", source, re.MULTILINE))
    short, long = re.findall(r"SHORT, LONG = (\S+), (\S+)", source)[0]
    stated = (
        f"Each of its {count} tests draws {int(short)} inputs in the ordinary suite and {int(long):,} in the"
    )
    assert stated in " ".join(TEXT.split())
