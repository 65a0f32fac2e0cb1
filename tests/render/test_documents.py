"""Hostile names in every format, LaTeX that compiles, notebooks that are notebooks, messages, widths."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

import backproof.render
from backproof.document.blocks import Derivation, Document, Equation, Paragraph, Plot, Section, Series, Table
from backproof.document.math import Add, Matrix, Mul, Num, Sym
from backproof.errors import InputError
from backproof.render import FORMATS, render
from backproof.render.embedded import record_json
from backproof.render.latex import render_latex
from backproof.render.notebook import render_notebook
from backproof.render.pdf import compile_latex, render_pdf
from backproof.render.plot import plot_drawing, ticks
from backproof.render.svg import render_svg
from backproof.render.text import render_text

from .samples import document, drawing


class Tags(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("seed", range(8))
def test_html_is_well_formed_and_closed_to_hostile_names(seed: int) -> None:
    page = render(document(seed), "html")
    assert isinstance(page, str)
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    scripts = [attrs for tag, attrs in tags.seen if tag == "script"]
    assert all(attrs.get("class") == "data-record" for attrs in scripts if attrs.get("type") == "application/json")
    assert len(scripts) == 1 + len(document(seed).parts)
    assert not any(name.startswith("on") or name == "style" for _, attrs in tags.seen for name in attrs)
    ids = [attrs["id"] for _, attrs in tags.seen if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_headings_are_in_order() -> None:
    page = render(document(3), "html")
    assert isinstance(page, str)
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_record_survives_the_page() -> None:
    text = record_json({"a": "</script><!--", "b": [1.5, float("nan")]})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--", "b": [1.5, "nan"]}


@pytest.mark.parametrize("seed", range(3))
def test_latex_of_documents_compiles(seed: int) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    assert render_pdf(document(seed)).startswith(b"%PDF")


def wide_document() -> Document:
    x = [Sym("x", (str(place),)) for place in range(60)]
    numbers = tuple(Num(0.123456 * 1.37**place) for place in range(30))
    equations = (
        Equation(
            Sym("s"),
            (Add(tuple(x)), Add(numbers), Mul(numbers), Matrix((numbers[:24],)), Num(1.5)),
            "a long reason " * 12,
        ),
        Equation(Add(tuple(x[:14])), (Add(tuple(x)),), "a wide left side"),
        Equation(Sym("u"), (Mul((Matrix((numbers[:5],) * 5), Matrix((numbers[5:10],) * 5)), "matrix"),)),
    )
    rows = (numbers,) * 60
    return Document(
        "Wide",
        (Derivation(equations), Table(tuple((f"c{n}",) for n in range(30)), rows, "T", tuple(range(30)))),
    )


def test_nothing_runs_off_the_latex_page(tmp_path: Path) -> None:
    engine = shutil.which("pdflatex")
    if not engine:
        pytest.skip("pdflatex is not installed")
    (tmp_path / "wide.tex").write_text(render_latex(wide_document()), encoding="utf-8")
    command = [engine, "-no-shell-escape", "-interaction=nonstopmode", "wide.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    log = (tmp_path / "wide.log").read_text(encoding="latin-1")
    assert not [size for size in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(size) > 2]


def test_text_keeps_to_its_width() -> None:
    for width in (60, 80, 120):
        for line in render_text(wide_document(), width).splitlines():
            assert cell_len(line) <= width


def test_text_is_plain_unless_color_is_asked_for() -> None:
    assert "\x1b" not in render_text(document(2))
    assert "\x1b" in render_text(document(2), color=True)


def test_notebook_has_cells_with_ids_and_the_code_first() -> None:
    found = json.loads(render_notebook(document(0), code="import backproof as bp\n"))
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert found["cells"][0]["cell_type"] == "code"
    ids = [cell["id"] for cell in found["cells"]]
    assert len(set(ids)) == len(ids)
    attached = [name for cell in found["cells"] for name in cell.get("attachments", {})]
    sources = "".join("".join(cell["source"]) for cell in found["cells"])
    assert attached and all(f"attachment:{name}" in sources for name in attached)


def test_markdown_holds_no_markup_of_the_user() -> None:
    for seed in range(8):
        text = render(document(seed), "markdown")
        assert isinstance(text, str)
        prose = re.sub(r"(`{3,})\w*\n.*?\n\1|\$\$.*?\$\$|(?<!\\)\$[^$]*(?<!\\)\$", "", text, flags=re.S)
        assert "<script" not in prose and "](u)" not in prose.replace(r"\](u)", "")


def test_svg_is_well_formed() -> None:
    root = ElementTree.fromstring(render_svg(drawing(), "What <it> shows"))
    assert root[0].text == "What <it> shows"
    assert len(list(root.iter())) > 15


def test_plots_of_odd_data() -> None:
    for values in (
        (),
        (1.0,),
        (2.0, 2.0),
        (0.0, 0.0),
        (float("nan"), float("inf")),
        (-1e-300, 1e300),
        (1e-9, 1e9),
    ):
        series = Series("odd", tuple(float(place) for place in range(len(values))), values)
        for log in (False, True):
            plot = Plot((series,), "x", "y", (), "odd", log_y=log, log_x=log)
            assert plot_drawing(plot).shapes
            assert "odd" in render_text(Document("T", (plot,)))


def test_ticks_cover_the_data() -> None:
    for low, high in ((0.0, 1.0), (-3.7, 12.2), (1e-9, 2e-9), (-5e6, 5e6)):
        found = ticks(low, high)
        assert found[0] <= low + 1e-12 * abs(low) and found[-1] >= high - 1e-12 * abs(high)
        assert 3 <= len(found) <= 12


def test_formats_and_their_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Document("Title", (Section("One", (Paragraph(("words",)),)),))
    for format in set(FORMATS.values()) - {"pdf"}:
        assert "words" in str(render(small, format))
    with pytest.raises(InputError, match=r"no output format 'docx'; the formats are \.txt"):
        render(small, "docx")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="none of pdflatex, latexmk, xelatex, tectonic is installed"):
        render(small, ".pdf")


def test_a_broken_document_is_one_paragraph() -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    with pytest.raises(InputError, match="could not compile the document: ! Undefined control sequence") as raised:
        compile_latex(r"\documentclass{article}\begin{document}\nonsense\end{document}")
    assert "\n" not in str(raised.value)


def test_render_imports_only_documents() -> None:
    folder = Path(backproof.render.__file__).parent
    allowed = {"rich", "backproof", "__future__", *sys.stdlib_module_names}
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert all(name.split(".")[0] in allowed for name in names), file
            inner = [name for name in names if name.startswith("backproof")]
            assert all(name.startswith(("backproof.document", "backproof.errors")) for name in inner), file
