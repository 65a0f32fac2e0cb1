"""Which versions of which packages are installed, without importing them."""

from __future__ import annotations

from importlib import metadata

__all__ = ["version_of"]


def version_of(package: str) -> str | None:
    """Return the installed version of a package, or None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
