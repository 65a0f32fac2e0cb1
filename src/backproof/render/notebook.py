"""A Document as a Jupyter notebook: one Markdown cell for each top block, drawings attached as SVG."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from backproof.document.blocks import Block, Document
from backproof.document.drawing import Drawing

from .html import render_frame
from .markdown import Writer, render_blocks, render_heading
from .svg import render_svg

__all__ = ["render_notebook"]

_MOST_OF_PAGE = 3_000_000


def render_notebook(document: Document, code: str = "") -> str:
    """Return the notebook's JSON, in the format nbformat 4.5.

    Args:
        document: what to show.
        code: Python that makes the result again; it becomes the first cell.
    """
    cells = [_code_cell(code)] if code else []
    heading, *rest = _chapter(document, 1)
    cells += [heading, *_page_cell(document), *rest]
    numbered = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells, 1)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, "title": document.title}
    return json.dumps(
        {"cells": numbered, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5},
        indent=1,
        ensure_ascii=False,
    )


@dataclass
class _Attachments:
    """The drawings of one cell."""

    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, drawing: Drawing) -> str:
        name = f"drawing-{len(self.found) + 1}.svg"
        data = base64.b64encode(render_svg(drawing).encode()).decode()
        self.found[name] = {"image/svg+xml": data}
        return name


def _page_cell(document: Document) -> list[dict[str, object]]:
    """The page to step through, as the output of a cell; a very large one is left to its own file."""
    framed = render_frame(document)
    if not framed or len(framed) > _MOST_OF_PAGE:
        return []
    words = "The page to step through, which a trusted notebook shows here. The whole solution follows below."
    data = {"text/html": framed.splitlines(keepends=True), "text/plain": [words]}
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    return [_code_cell("# The page to step through; running this cell takes it away.") | {"outputs": [output]}]


def _chapter(document: Document, depth: int) -> Iterator[dict[str, object]]:
    """The cells of a document's heading and blocks, then those of its parts."""
    yield _text_cell(render_heading(document, depth), {})
    yield from (_block_cell(block, depth + 1) for block in document.blocks)
    for part in document.parts:
        yield from _chapter(part, depth + 1)


def _block_cell(block: Block, depth: int) -> dict[str, object]:
    attachments = _Attachments()
    text = render_blocks([block], Writer(depth, attachments.add))
    return _text_cell(text, attachments.found)


def _text_cell(text: str, attachments: dict[str, dict[str, str]]) -> dict[str, object]:
    cell: dict[str, object] = {
        "cell_type": "markdown",
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    return cell | ({"attachments": attachments} if attachments else {})


def _code_cell(code: str) -> dict[str, object]:
    source = code.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
