"""The colours and marks of the phases and of drawings, once, for CSS, LaTeX and TikZ.

Every colour is paired with a word, a sign or a dash, so that nothing depends on colour alone. The hues are
blue, vermilion, green and purple, which stay apart for all common kinds of colour blindness.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CALLOUTS", "DARK", "DASHES", "LIGHT", "PHASES", "Mark", "css_variables"]

LIGHT = {
    "ink": "#1b1f24", "muted": "#59636e", "paper": "#ffffff", "panel": "#f6f7f9", "line": "#d3d8de",
    "accent": "#0a58a6", "given": "#59636e", "forward": "#0a58a6", "loss": "#8b2f86",
    "backward": "#b23c07", "update": "#12703f", "result": "#1b1f24", "parameter": "#12703f",
    "positive": "#0a58a6", "negative": "#b23c07", "axis": "#59636e", "series0": "#0a58a6",
    "series1": "#b23c07", "series2": "#12703f", "series3": "#8b2f86",
    "series4": "#7a5c00", "series5": "#59636e",
}  # fmt: skip
DARK = {
    "ink": "#e8eaed", "muted": "#a4adb8", "paper": "#14171b", "panel": "#1d2127", "line": "#3a414a",
    "accent": "#82bdf5", "given": "#a4adb8", "forward": "#82bdf5", "loss": "#dda0e6", "backward": "#f5a878",
    "update": "#7ad3a3", "result": "#e8eaed", "parameter": "#7ad3a3", "positive": "#82bdf5",
    "negative": "#f5a878", "axis": "#a4adb8", "series0": "#82bdf5", "series1": "#f5a878",
    "series2": "#7ad3a3", "series3": "#dda0e6",
    "series4": "#e3c55e", "series5": "#a4adb8",
}  # fmt: skip

DASHES = {
    "negative": (6, 4), "muted": (2, 3), "series1": (7, 4), "series2": (2, 3), "series3": (9, 3, 2, 3),
    "series4": (12, 4), "series5": (4, 2),
}  # fmt: skip
"""Lengths of dash and gap by role; a role that is not named has an unbroken line."""


@dataclass(frozen=True)
class Mark:
    """A word with a sign before it: as text, as LaTeX and as a colour of a rich console."""

    word: str
    sign: str
    latex: str
    terminal: str


PHASES = {
    "given": Mark("given", "◇", r"$\diamond$", "bright_black"),
    "forward": Mark("forward", "→", r"$\rightarrow$", "blue"),
    "loss": Mark("loss", "◎", r"$\odot$", "magenta"),
    "backward": Mark("backward", "←", r"$\leftarrow$", "red"),
    "update": Mark("update", "↻", r"$\star$", "green"),
    "result": Mark("result", "■", r"$\bullet$", "bold"),
}
"""The mark of each phase of a training step."""

CALLOUTS = {
    "note": Mark("Note", "i", "", "blue"),
    "warning": Mark("Warning", "!", "", "yellow"),
    "agrees": Mark("Agrees", "✓", r"$\surd$", "green"),
    "finding": Mark("Finding", "✗", r"$\times$", "red"),
}
"""The mark of each kind of callout; ``agrees`` and ``finding`` mark verdicts too."""


def css_variables(colors: dict[str, str]) -> str:
    """Return CSS declarations ``--forward:#0a58a6;...`` of a palette."""
    return "".join(f"--{name}:{color};" for name, color in colors.items())
