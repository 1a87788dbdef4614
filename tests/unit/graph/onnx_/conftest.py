"""Without the packages that these tests need, the test modules skip themselves, and say why."""

from __future__ import annotations

from importlib.util import find_spec


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # hidden on purpose
        return False


# The helpers are not to be looked through for doctests then: half imported, they would break the others.
collect_ignore_glob = (
    []
    if _is_installed("onnx") and _is_installed("onnxruntime")
    else ["onnx_cases.py", "draws.py", "families/*"]
)
