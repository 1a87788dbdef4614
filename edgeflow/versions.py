"""Versions of installed packages."""

from __future__ import annotations

from importlib import metadata


def installed_version(package: str = "edgeflow-inference") -> str:
    """Return a package's version; empty if it is not installed, as edgeflow in a source tree.

    Examples:
        >>> installed_version("no-such-package")
        ''
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
