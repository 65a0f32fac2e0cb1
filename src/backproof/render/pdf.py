"""A Document as PDF, through whichever LaTeX is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from backproof.document.blocks import Document
from backproof.errors import InputError

from .latex import render_latex

__all__ = ["compile_latex", "render_pdf"]

_ENGINES = {
    "pdflatex": ["-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error"],
    "latexmk": ["-pdf", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "-norc"],
    "xelatex": ["-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error"],
    "tectonic": ["--untrusted"],
}
_MOST_RUNS = 4
_TIMEOUT = 180


def render_pdf(document: Document) -> bytes:
    """Return the document as a PDF file.

    Args:
        document: what to show.

    Raises:
        InputError: no LaTeX is installed, or it refuses the document.
    """
    return compile_latex(render_latex(document))


def compile_latex(source: str) -> bytes:
    """Compile LaTeX in a temporary directory, without shell escape, and return the PDF."""
    engine = next((name for name in _ENGINES if shutil.which(name)), None)
    if engine is None:
        raise InputError(
            f"A PDF needs a LaTeX program, and none of {', '.join(_ENGINES)} is installed. Install one "
            "(TeX Live, MiKTeX or tectonic), or write the .tex file and compile it elsewhere, or print the "
            ".html page."
        )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "document.tex").write_text(source, encoding="utf-8")
        for _ in range(_MOST_RUNS):
            if b"Rerun" not in _run(engine, place):
                break
        return (place / "document.pdf").read_bytes()


def _run(engine: str, place: Path) -> bytes:
    command = [str(shutil.which(engine)), *_ENGINES[engine], "document.tex"]
    try:
        done = subprocess.run(
            command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{engine} did not finish within {_TIMEOUT} s; write the .tex file instead.") from None
    if done.returncode:
        raise InputError(f"{engine} could not compile the document: {_complaint(done.stdout)}")
    return done.stdout


def _complaint(output: bytes) -> str:
    shown = output.decode("utf-8", "replace").splitlines()
    found = [place for place, line in enumerate(shown) if line.startswith("!")]
    return " ".join(line.strip() for line in (shown[found[0] : found[0] + 4] if found else shown[-3:]))
