"""Operations and domains that other packages bring, by the entry points ``backproof.ops`` and ``backproof.domains``.

They are loaded once, when a function of Backproof is first asked for (never for ``--help``). A package that fails is left
out with one warning, and whatever it had registered before it failed is taken back.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

__all__ = ["GROUPS", "Plugin", "PluginWarning", "load", "plugins"]

GROUPS = ("backproof.ops", "backproof.domains")
_loaded: list[Plugin] | None = None


class PluginWarning(UserWarning):
    """A package that extends Backproof could not be loaded and is left out."""


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Args:
        name: its name.
        group: ``backproof.ops`` or ``backproof.domains``.
        value: what it points to, "module" or "module:object".
        package: the package that brings it, with its version.
        error: why it was left out; "" if it works.
    """

    name: str
    group: str
    value: str
    package: str
    error: str = ""


def plugins() -> tuple[Plugin, ...]:
    """The entry points that are installed, loaded."""
    load()
    return tuple(_loaded or ())


def load() -> None:
    """Load every entry point, once.

    Warns:
        PluginWarning: for each that fails, in one paragraph.
    """
    global _loaded
    if _loaded is not None:
        return
    _loaded = []
    for group in GROUPS:
        for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
            _loaded.append(_one(point))


def _one(point: EntryPoint) -> Plugin:
    distribution = point.dist
    package = "unknown" if distribution is None else f"{distribution.name} {distribution.version}"
    error = _failure(point)
    if error:
        warnings.warn(
            f"the package {package} extends Backproof ({point.group}: {point.name} = {point.value}) and could not be loaded: "
            f"{error}; it is left out. Update or uninstall it; `backproof doctor` lists what is installed.",
            PluginWarning,
            stacklevel=2,
        )
    return Plugin(point.name, point.group, point.value, package, error)


def _failure(point: EntryPoint) -> str:
    """Load an entry point; what went wrong in a line, or nothing."""
    from .ops.base import unregistered_on_failure

    try:
        with unregistered_on_failure():
            found = point.load()
            if point.group == "backproof.domains":
                _take(found, point)
            elif callable(found):
                found()
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    return ""


def _take(found: object, point: EntryPoint) -> None:
    from .domains.base import Domain, register

    if not isinstance(found, Domain):
        raise TypeError(f"{point.value} is a {type(found).__name__} and no Domain")
    register(found)
