"""Nothing in edgeflow turns bytes into code or objects of any class: by its text, and by its syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeflow

PACKAGE = Path(edgeflow.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

#: Modules that rebuild objects of any class, or run code, from bytes.
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
#: Calls that do.
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load"}
ATTRIBUTES |= {"yaml.full_load", "os.system", "os.popen", "subprocess.getoutput"}


def findings(source: str) -> Iterator[str]:
    """Every use of one of these in a module's text."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in MODULES:
                    yield module
                yield from (f"{module}.{n.name}" for n in names if f"{module}.{n.name}" in ATTRIBUTES)
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield f"{name}()"
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(module))]):
                if module.split(".")[0] in MODULES:
                    yield module
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    value = keyword.value
                    is_true = isinstance(value, ast.Constant) and value.value is True
                    if keyword.arg in ("allow_pickle", "shell") and is_true:
                        yield f"{keyword.arg}=True"
                # A loader that is derived from yaml's safe one, in the same module.
                is_safe = any(
                    keyword.arg == "Loader"
                    and f"class {ast.unparse(keyword.value)}(yaml.SafeLoader)" in source
                    for keyword in keywords
                )
                if ast.unparse(node.func) in ATTRIBUTES and not is_safe:
                    yield ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_uses_them(path: Path) -> None:
    assert list(findings(path.read_text())) == []


def test_none_is_named_as_a_module_anywhere() -> None:
    """Also where a syntax tree would not show it: in a string that is imported, for example."""
    pattern = re.compile(rf"(import|from)\s+({'|'.join(MODULES)})\b|['\"]({'|'.join(MODULES)})['\"]")
    assert [str(path) for path in SOURCES if pattern.search(path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, marshal as m",
        "from cloudpickle import loads",
        "def f():\n    from pickle import load",
        "eval('1')",
        "exec(x)",
        "torch.load(f)",
        "from torch import load",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "yaml.load(x)",
        "yaml.load(x, Loader=Mine)",
        "import_module('pickle')",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(findings(source))
