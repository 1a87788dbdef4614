"""The diagram of rooms in ARCHITECTURE.md is the contract that the import linter checks."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def layers() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = [item["layers"] for item in contracts if item["name"] == "Imports point down only"]
    return list(found)


def test_the_diagram_is_the_contract() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text[text.index("## Layers") :]
    assert section.split("```")[1].strip().splitlines() == layers()


def test_every_package_has_its_place() -> None:
    names = {name.strip() for line in layers() for name in line.replace("|", ":").split(":")}
    packages = {
        path.stem
        for path in (ROOT / "edgeflow").iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or path.suffix == ".py"
    } - {"__init__"}
    assert packages == names
