"""``backproof doctor``: say what is installed, and which optional parts are here."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
from collections.abc import Iterable

from .listing import Listing
from .options import add_common
from .output import present
from .versions import version_of

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "backproof doctor --json"

REQUIRED = ("torch", "sympy", "mpmath", "numpy", "rich", "fast-sugiyama")
LATEX = ("lualatex", "pdflatex", "xelatex", "tectonic")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """List versions and optional parts; a required package that is missing is a finding."""
    return present(arguments, _examined)


def _examined() -> Listing:
    packages = {name: version_of(name) for name in REQUIRED}
    found = _plugins() if packages["torch"] else []
    data = {
        "backproof": version_of("backproof"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "latex": _first(LATEX),
        "chromium": _first(BROWSERS),
        "device": _device() if packages["torch"] else None,
        "plugins": found,
    }
    install = "missing: pip install -c constraints.txt -e ."
    rows = [
        ("backproof", data["backproof"] or "not installed; run from its source folder"),
        ("python", f"{data['python']} on {data['platform']}"),
        *((name, version or install) for name, version in packages.items()),
        ("latex", data["latex"] or "not found: no .pdf; .tex files are written all the same"),
        ("chromium", data["chromium"] or "not found: only the tests of the page need it"),
        ("device", data["device"] or "unknown: torch could not be asked"),
        *((f"plug-in {p['name']}", _described(p)) for p in found),
    ]
    table = tuple((name, str(value)) for name, value in rows)
    missing = None in packages.values() or sys.version_info < (3, 11) or any(p["error"] for p in found)
    return Listing("Backproof's surroundings", ("part", "found"), table, data, finding=missing)


def _plugins() -> list[dict[str, str]]:
    """The packages that extend Backproof, and whether they can be loaded."""
    import dataclasses
    import warnings

    from backproof.plugins import plugins

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a warning would say stands in the table
        return [dataclasses.asdict(found) for found in plugins()]


def _described(plugin: dict[str, str]) -> str:
    state = f"left out: {plugin['error']}" if plugin["error"] else "loaded"
    return f"{plugin['group']} of {plugin['package']} ({plugin['value']}), {state}"


def _first(programs: Iterable[str]) -> str | None:
    return next((found for program in programs if (found := shutil.which(program))), None)


def _device() -> str | None:
    """Name the accelerator that torch sees, else the CPU; None when torch itself fails to import."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu, {torch.get_num_threads()} threads"
