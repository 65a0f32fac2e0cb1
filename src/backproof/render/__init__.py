"""A Document in every format that people read: text, HTML, LaTeX, PDF, Markdown and a notebook.

``render`` knows blocks and formulas (:mod:`backproof.document`) and nothing of networks, theories or torch.
Each format is a table from the kind of block to a function; formulas have one printer for each kind of output
and share the rules for parentheses and signs (:mod:`.printer`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from backproof.document.blocks import Document
from backproof.errors import InputError

__all__ = ["FORMATS", "render"]

FORMATS = {
    ".txt": "text", ".html": "html", ".htm": "html", ".tex": "latex", ".pdf": "pdf", ".md": "markdown",
    ".ipynb": "notebook",
}  # fmt: skip
"""The format that a file name's suffix asks for."""


def render(document: Document, format: str) -> str | bytes:
    """Return the document in a format: bytes for ``pdf``, text for the others.

    Args:
        document: what to show.
        format: "text", "html", "latex", "pdf", "markdown" or "notebook"; a suffix such as ".tex" will do.

    Raises:
        InputError: there is no such format, or no LaTeX for a PDF.
    """
    name = FORMATS.get(format, format)
    if name not in FORMATS.values():
        raise InputError(f"There is no output format {format!r}; the formats are {', '.join(FORMATS)}.")
    renderer: Callable[[Document], str | bytes] = getattr(import_module(f".{name}", __name__), f"render_{name}")
    return renderer(document)
