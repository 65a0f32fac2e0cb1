"""What every study returns: frozen data with one method that says how it reads, and all output formats."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .document.blocks import Document
from .document.math import Expr
from .errors import InputError

__all__ = ["Result", "plain", "write", "written"]

FULL_ENTRIES = 1000


class Result:
    """The base of all results.

    A subclass gives :meth:`document` (pure data to blocks) and :meth:`to_dict`; everything else follows. ``print``, a
    notebook and a rich console show it as a terminal does.
    """

    finding: bool = False

    def document(self) -> Document:
        """The worked solution as blocks."""
        raise NotImplementedError

    def terminal(self) -> Document:
        """What a terminal shows of it: the whole document, or less where that fills many screens."""
        return self.document()

    def to_dict(self, full: bool = False) -> dict[str, Any]:
        """The record as plain data; tensors beyond 1,000 entries become summaries unless ``full``."""
        raise NotImplementedError

    def script(self) -> str:
        """A plain PyTorch program that recomputes the record, without Backproof."""
        raise InputError("this result has no program behind it that could be written out as a script")

    def text(self, width: int = 80, color: bool = False) -> str:
        """What a terminal shows, as plain text; a file that ends in .txt has the whole document."""
        from .render.text import render_text

        return render_text(self.terminal(), width=width, color=color)

    def __str__(self) -> str:
        return self.text()

    def html(self) -> str:
        """The document as one self-contained HTML file."""
        return self._rendered("html")

    def latex(self) -> str:
        """The document as LaTeX that compiles."""
        return self._rendered("latex")

    def markdown(self) -> str:
        """The document as Markdown with mathematics between dollars."""
        return self._rendered("markdown")

    def _rendered(self, form: str) -> str:
        from .render import render

        text = render(self.document(), form)
        assert isinstance(text, str)
        return text

    def json(self, full: bool = False) -> str:
        """The record as JSON."""
        return json.dumps(self.to_dict(full), ensure_ascii=False, allow_nan=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to a file whose suffix says the format; nothing half-written is left behind.

        Raises:
            InputError: the suffix is unknown, or the folder does not exist.
        """
        from .render import FORMATS, render

        target = Path(path)
        suffix = target.suffix.lower()
        if suffix == ".py":
            return write(target, self.script())
        if suffix == ".json":
            return write(target, self.json(full=True) + "\n")
        if suffix not in FORMATS:
            known = ", ".join(sorted({*FORMATS, ".json", ".py"}))
            raise InputError(f"'{target.name}' ends in no known format; use one of {known}")
        return write(target, render(self.document(), FORMATS[suffix]))

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from .render.text import renderable

        yield renderable(self.terminal())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from .render.html import render_fragment
        from .render.latex import render_latex_fragment

        document = self.document()
        return {
            "text/plain": self.text(),
            "text/html": render_fragment(document),
            "text/latex": render_latex_fragment(document),
        }


def write(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all: into a temporary file beside it, then renamed."""
    path = path.resolve() if path.is_symlink() else path
    if not path.parent.is_dir():
        raise InputError(f"the folder '{path.parent}' does not exist; make it first, or give another path")
    data = content.encode() if isinstance(content, str) else content
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    except OSError as error:
        raise InputError(f"'{path.parent}' cannot be written to: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise InputError(f"'{path.name[:80]}' cannot be written: {error.strerror}") from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def written(expr: Expr) -> tuple[str, str]:
    """A formula as plain text and as LaTeX, for records."""
    from .render.math_latex import latex_of
    from .render.math_text import text_of

    return text_of(expr), latex_of(expr)


def plain(value: Any, full: bool = False) -> Any:
    """Plain data for JSON: tensors as nested lists up to 1,000 entries, beyond that a summary."""
    if hasattr(value, "detach"):
        tensor = value.detach()
        parts = {"real": tensor.real, "imag": tensor.imag} if tensor.is_complex() else None
        return _tensor(tensor, full) if parts is None else {key: _tensor(part, full) for key, part in parts.items()}
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(k): plain(v, full) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, full) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _tensor(tensor: Any, full: bool) -> Any:
    if tensor.is_complex():
        return _pairs(tensor, full)
    if full or tensor.numel() <= FULL_ENTRIES:
        return plain(tensor.tolist())
    wide = tensor.double()
    summary = {
        "min": wide.min().item(),
        "max": wide.max().item(),
        "mean": wide.mean().item(),
        "norm": wide.norm().item(),
    }
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."), **plain(summary)}


def _pairs(tensor: Any, full: bool) -> Any:
    """A complex tensor with each number as a pair of its real and its imaginary part."""
    import torch

    return _tensor(torch.view_as_real(tensor.resolve_conj()), full)
