"""Text from the user made safe in each format: markup characters, control characters, foreign letters."""

from __future__ import annotations

import re
import unicodedata

from .notation import macro

__all__ = ["clean", "latex", "markdown", "xml"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
_XML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def clean(text: str) -> str:
    """Return the text with a visible mark for control characters, which no format shows (or allows)."""
    return _CONTROL.sub("\ufffd", text)


def xml(text: str) -> str:
    """Return the text for HTML, MathML or SVG, as content or inside an attribute."""
    return clean(text).translate(_XML)


# --- LaTeX -----------------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": "'",
    "\u00a0": "~", "\n": " ", "\t": " ", "-": "{-}", "[": "{[}", "]": "{]}", "*": "{*}",
    "–": "--", "—": "---", "“": "``", "”": "''", "‘": "`", "’": "'", "…": r"\dots{}", "•": r"\textbullet{}",
    "ᵀ": r"\textsuperscript{T}", "°": r"\textdegree{}", "\u2009": r"\,", "\u202f": r"\,", "\u2060": "",
    "√": r"\ensuremath{\surd}", "´": "'",
}  # fmt: skip
_MATHS = {
    "−": "-", "·": r"\cdot", "×": r"\times", "÷": r"\div", "±": r"\pm", "⊙": r"\odot", "⊗": r"\otimes", "∗": r"\ast", "⋆": r"\star",
    "∘": r"\circ", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "≪": r"\ll",
    "≫": r"\gg", "∝": r"\propto",
    "→": r"\to", "←": r"\leftarrow", "↔": r"\leftrightarrow", "⇒": r"\Rightarrow", "↦": r"\mapsto",
    "↑": r"\uparrow", "↓": r"\downarrow", "∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∈": r"\in",
    "∉": r"\notin", "∪": r"\cup", "∩": r"\cap", "⊂": r"\subset", "∀": r"\forall", "∃": r"\exists",
    "‖": r"\Vert", "′": "'",
    "ℝ": r"\mathrm{R}", "✓": r"\surd", "✗": r"\times", "⁻": "^{-}", "⁺": "^{+}", "₋": "_{-}", "₊": "_{+}",
    "⁽": "^{(}", "⁾": "^{)}", "⋅": r"\cdot", "⌊": r"\lfloor", "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil",
}  # fmt: skip


def latex(text: str) -> str:
    """Return the text for LaTeX's text mode; a letter that pdflatex lacks becomes its code, [U+4E2D]."""
    parts = re.split(r"([A-Za-z]\u0302)", clean(text))
    return "".join(
        rf"\ensuremath{{\hat{{{part[0]}}}}}" if i % 2 else "".join(map(_latex_sign, part))
        for i, part in enumerate(parts)
    )


def _latex_sign(sign: str) -> str:
    if sign in _LATEX:
        return _LATEX[sign]
    if sign in _MATHS:
        return rf"\ensuremath{{{_MATHS[sign]}}}"
    if sign.isascii() or "\u00a1" <= sign <= "\u017e":
        return sign if sign.isprintable() and sign not in _NOT_IN_T1 else _decomposed(sign)
    if found := macro(sign):
        return rf"\ensuremath{{{found}}}"
    return _decomposed(sign)


_NOT_IN_T1 = set("¢¤¥¦¨©ª¬®¯¶·¸¹º¼½¾²³µ¡¿«»´±") | set(
    "ĀāĈĉĊċĒēĔĕĖėĜĝĠġĢģĤĥĦħĨĩĪīĬĭĮįĴĵĶķĸĻļĽľĿŀŅņŉŌōŎŏŖŗŜŝŦŧŨũŪūŬŭŲųŴŵŶŷſ"
)


def _decomposed(sign: str) -> str:
    """Return a raised or lowered digit or letter by its parts; otherwise the sign's code."""
    kind, _, plain = unicodedata.decomposition(sign).partition(" ")
    if kind in ("<super>", "<sub>"):
        base = "".join(chr(int(code, 16)) for code in plain.split())
        return rf"\text{'super' if kind == '<super>' else 'sub'}script{{{latex(base)}}}"
    return f"{{[}}U+{ord(sign):04X}{{]}}"


# --- Markdown --------------------------------------------------------------------------------------------

_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|$~!])")
_LINE_START = re.compile(r"^(\s*\d*)([-+=.)])")


def markdown(text: str, start: bool = True) -> str:
    """Return the text for Markdown prose: nothing in it is read as markup, HTML or mathematics.

    Args:
        text: the words.
        start: whether they may begin a line, where ``1.`` or ``-`` would begin a list.
    """
    marked = _MARKDOWN.sub(r"\\\1", " ".join(clean(text).split("\n")))
    marked = marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LINE_START.sub(r"\1\\\2", marked) if start else marked
