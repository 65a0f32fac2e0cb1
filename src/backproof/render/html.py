"""A Document as one self-contained HTML file: nothing is loaded; nothing runs unless ``page.js`` is there.

The content-security policy in the page allows exactly the style (and the script) that the page holds, by
their hashes. The record is embedded as JSON data for the script, in ``<script id="record">``.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Mapping

from backproof.document.blocks import Block, Details, Document, Figure, Section

from .embedded import condensed, record_json
from .escape import xml
from .html_blocks import Page, blocks, phase_mark
from .latex import render_latex
from .page import asset, program
from .palette import CALLOUTS, DARK, LIGHT, PHASES, css_variables
from .svg import drawing_css

__all__ = ["render_fragment", "render_frame", "render_html", "style_sheet"]


def render_html(document: Document) -> str:
    """Return the whole page.

    Args:
        document: what to show; its record, if it has one, is embedded for the page's script. A document with parts
            is a page with chapters, each with its own record and time axis.
    """
    moves = _moves(document)
    page = Page()
    style = style_sheet() + asset("page.css") + (asset("stage.css") if moves else "")
    script = (program() if moves else "") + (asset("trails.js") if _has_trails(document.blocks) else "")
    return _PAGE.format(
        policy=_policy(style, script),
        title=xml(document.title),
        style=style,
        header=_header(document),
        content=_chapters(document, page) if document.parts else _layout(document, page, "main"),
        record=_embedded(document),
        script=f"{_for_script(document) if moves else ''}<script>{script}</script>" if script else "",
    )


def _has_trails(blocks: Iterable[Block]) -> bool:
    """Whether there is a picture of runs that can be followed step by step."""
    return any(
        (isinstance(b, Figure) and b.view == "trails") or (isinstance(b, (Section, Details)) and _has_trails(b.blocks))
        for b in blocks
    )


def _moves(document: Document) -> bool:
    """Whether there is a time axis anywhere in it."""
    return bool(document.play) or any(_moves(part) for part in document.parts)


def _for_script(document: Document) -> str:
    """What the program puts on the page, and the LaTeX source that it hands out; all of it inert by itself."""
    source = base64.b64encode(zlib.compress(render_latex(document).encode(), 9)).decode()
    return asset("stage.html") + asset("tools.html") + _data("latex", {"deflated": source})


# --- chapters --------------------------------------------------------------------------------------------


def _layout(document: Document, page: Page, tag: str) -> str:
    """The blocks with their contents beside them; ``tag`` holds the blocks."""
    body = blocks(document.blocks, page)
    name = ' id="content"' if tag == "main" else ""
    contents = _contents(page, document.title if page.prefix else "")
    return f'<div class="layout">\n{contents}\n<{tag}{name} class="solution">\n{body}\n</{tag}>\n</div>'


def _chapters(document: Document, page: Page) -> str:
    """A page of several worked solutions: their titles, what stands before them, then one after the other."""
    before = _layout(document, page, "div") if document.blocks else ""
    made = [_part(part, page) for part in document.parts]
    titles = "".join(
        f'<li><a href="#{key}">{xml(part.title)}</a></li>' for part, (key, _) in zip(document.parts, made, strict=True)
    )
    nav = f'<nav class="chapters" aria-label="Chapters"><ol>{titles}</ol></nav>'
    return f'{nav}\n<main id="content">\n{before}\n{"".join(text for _, text in made)}\n</main>'


def _part(part: Document, around: Page) -> tuple[str, str]:
    """A chapter with its id; chapters of a chapter follow its blocks."""
    key = around.key(part.anchor or part.title)
    page = Page(around.level + 1, f"{key}/", around.taken)
    tag = f"h{min(around.level, 6)}"
    head = f'<{tag} id="{page.key("title")}">{xml(part.title)}</{tag}>{_subtitle(part)}{_verdict(part)}'
    inside = _layout(part, page, "div") + "".join(_part(deeper, page)[1] for deeper in part.parts)
    return key, (
        f'<article class="part" id="{key}" data-part="{key}" aria-labelledby="{key}/title">\n'
        f'<header class="part-head">{head}</header>\n{inside}\n{_embedded(part, named=False)}\n</article>\n'
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="Backproof">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body class="backproof">
<a class="skip" href="#content">Skip to the content</a>
{header}
{content}
{record}
{script}
</body>
</html>
"""


def render_fragment(document: Document) -> str:
    """Return the document for a notebook: the page in a frame of its own, then the same without scripts.

    A document without a time axis is its blocks and style alone.
    """
    still, framed = _still(document), render_frame(document)
    return (
        f"{framed}<details><summary>The whole solution, without scripts</summary>{still}</details>" if framed else still
    )


def render_frame(document: Document) -> str:
    """Return the page in a frame of its own, which holds all of it; nothing for a document without a time axis."""
    if not _moves(document):
        return ""
    name, page = xml(document.title), xml(render_html(document))
    return f'<iframe sandbox="allow-scripts" title="{name}" width="100%" height="860" srcdoc="{page}"></iframe>'


def _still(document: Document) -> str:
    page = Page(level=3)
    body = blocks(document.blocks, page) + "".join(_part(part, page)[1] for part in document.parts)
    heading = f'<p class="title">{xml(document.title)}</p>' if document.title else ""
    return (
        f'<div class="backproof fragment"><style>{style_sheet()}</style>'
        f"{heading}{_subtitle(document)}{_verdict(document)}\n{body}\n</div>"
    )


def style_sheet() -> str:
    """Return the style of everything inside an element of class ``backproof``."""
    light = f".backproof{{color-scheme:light dark;{css_variables(LIGHT)}}}"
    dark = f"@media screen and (prefers-color-scheme:dark){{.backproof{{{css_variables(DARK)}}}}}"
    phases = "".join(f".phase-{name}{{--phase:var(--{name})}}" for name in PHASES)
    widths = "".join(f".f{size}{{min-width:{size}ch}}" for size in range(1, 25))
    nested = f"{asset('document.css')}{drawing_css()}{phases}{widths}"
    return f"{light}\n{dark}\n.backproof{{\n{nested}\n}}\n"


def _policy(style: str, script: str) -> str:
    scripts = f"; script-src {_hash(script)}" if script else ""
    closed = "img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; style-src {_hash(style)}{scripts}; {closed}"


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _header(document: Document) -> str:
    return (
        f'<header class="banner"><div class="banner-inner"><h1 id="title">{xml(document.title)}</h1>'
        f"{_subtitle(document)}{_verdict(document)}</div></header>"
    )


def _subtitle(document: Document) -> str:
    return f'<p class="subtitle">{xml(document.subtitle)}</p>' if document.subtitle else ""


def _verdict(document: Document) -> str:
    if not document.verdict:
        return ""
    mark = CALLOUTS.get(document.standing)
    sign = f'<span class="sign" aria-hidden="true">{mark.sign}</span> ' if mark else ""
    word = f'<span class="word">{mark.word}</span> ' if mark else ""
    return f'<p class="verdict {document.standing}">{sign}{word}{xml(document.verdict)}</p>'


def _contents(page: Page, of: str = "") -> str:
    top = min((level for level, _, _ in page.contents), default=0)
    listed = [(level - top + 2, key, section) for level, key, section in page.contents if level <= top + 1]
    if len(listed) < 3:
        return ""
    items = "".join(
        f'<li class="depth{level}{f" phase-{section.phase}" if section.phase else ""}"><a href="#{key}">'
        f"{phase_mark(section.phase)}<span>{xml(section.title)}</span></a></li>"
        for level, key, section in listed
    )
    name = f"Contents of {of}" if of else "Contents"
    return f'<nav class="contents" aria-label="{xml(name)}"><p>Contents</p><ol>{items}</ol></nav>'


def _embedded(document: Document, named: bool = True) -> str:
    """The record and what the program needs to step through it."""
    record = condensed(document.record, bool(document.play.get("large"))) if document.play else document.record
    return _data("record", record, named) + _data("play", document.play, named)


def _data(key: str, data: Mapping[str, object], named: bool = True) -> str:
    """Data for the script, found by its class; where there is one of it in the page, by its id too."""
    name = f'id="{key}" ' if named else ""
    return f'<script type="application/json" {name}class="data-{key}">{record_json(data)}</script>' if data else ""
