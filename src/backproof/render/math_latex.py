"""Formulas as LaTeX for amsmath; MathJax and KaTeX read the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backproof.document.math import BigSum, Call, Cases, Div, Expr, Matrix, Partial, Rel, Sym

from .escape import latex as escape
from .notation import Script, character, macro, numbered, script_parts
from .printer import Level, Printer, is_tall

__all__ = ["UPRIGHT", "LatexPrinter", "latex_of"]

UPRIGHT = frozenset(
    "log ln exp sin cos tan sinh cosh tanh arctan arcsin arccos max min det dim ker inf sup lim".split()
)
"""Function names with a LaTeX macro of their own."""

_ACCENTS = {
    "hat": (r"\hat", r"\widehat"),
    "bar": (r"\bar", r"\overline"),
    "tilde": (r"\tilde", r"\widetilde"),
}
_RELATIONS = {"=": "=", "<": "<", ">": ">", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "approx": r"\approx"}
_FENCES = {"()": ("(", ")"), "[]": ("[", "]"), "||": (r"\lvert ", r" \rvert"), "‖‖": (r"\lVert ", r" \rVert")}
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")


class LatexPrinter(Printer):
    """Prints formulas as LaTeX."""

    operators = _RELATIONS | {
        "plus": "+", "minus": "-", "neg": "-", "dot": r"\cdot", "spaced dot": r"\cdot", "odot": r"\odot",
        "ast": r"\ast", "star": r"\star",
        "none": "", "thin": r"\,", "comma": ",",
    }  # fmt: skip

    def row(self, pieces: Sequence[str]) -> str:
        return " ".join(piece for piece in pieces if piece)

    def fence(self, body: str, content: tuple[Expr, ...], marks: str = "()") -> str:
        left, right = _FENCES[marks]
        if any(is_tall(expr) for expr in content):
            return rf"\left{left}{body}\right{right}"
        return f"{left}{body}{right}"

    def digits(self, text: str) -> str:
        return {"∞": r"\infty", "nan": r"\mathrm{nan}"}.get(text, text)

    def words(self, text: str) -> str:
        return rf"\text{{{escape(text)}}}"

    def name(self, name: str) -> str:
        return character(name)

    def print_sym(self, sym: Sym, within: Level) -> str:
        name = _letter(sym.name)
        if sym.accent in _ACCENTS:
            name = f"{_ACCENTS[sym.accent][len(character(sym.name)) > 1]}{{{name}}}"
        sub = f"_{{{','.join(_script(part) for part in sym.sub)}}}" if sym.sub else ""
        sup = f"^{{({','.join(_script(part) for part in sym.sup)})}}" if sym.sup else ""
        return name + sub + sup

    def function(self, name: str, call: Call) -> str:
        shown = call.function.latex or _function_name(name, call.function.text)
        sub = f"_{{{','.join(_script(part) for part in call.function.sub)}}}" if call.function.sub else ""
        return shown + sub + "'" * call.function.primes

    def applied(self, function: str, arguments: str) -> str:
        return function + (r"\!" if arguments.startswith(r"\left") else "") + arguments

    def radical(self, expr: Expr) -> str:
        return rf"\sqrt{{{self(expr)}}}"

    def power(self, base: str, exponent: Expr) -> str:
        return f"{base}^{{{self(exponent)}}}"

    def transposed(self, base: str) -> str:
        return f"{{{'{}' if '^' in base else ''}{base}}}^{{\\mathsf T}}"

    def print_div(self, div: Div, within: Level) -> str:
        return rf"\frac{{{self(div.top)}}}{{{self(div.bottom)}}}"

    def print_partial(self, partial: Partial, within: Level) -> str:
        top, bottom = (self.show(part, Level.FRACTION) for part in (partial.top, partial.bottom))
        return rf"\frac{{\partial {top}}}{{\partial {bottom}}}"

    def print_bigsum(self, total: BigSum, within: Level) -> str:
        return rf"\{total.sign}{self._bounds(total)} {self.show(total.body, Level.TERM)}"

    def _bounds(self, total: BigSum) -> str:
        index = _script(total.index) if total.index else ""
        lower = self(total.lower) if total.lower else ""
        if lower and not isinstance(total.lower, Rel):
            lower = f"{index} = {lower}"
        below = f"_{{{lower or index}}}" if lower or index else ""
        return below + (f"^{{{self(total.upper)}}}" if total.upper else "")

    def print_cases(self, cases: Cases, within: Level) -> str:
        rows = [rf"{{{self(value)}}} & {self._condition(test)}" for value, test in cases.rows]
        return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"

    def _condition(self, test: Expr | None) -> str:
        return rf"\text{{if }} {self(test)}" if test else r"\text{otherwise}"

    def print_matrix(self, matrix: Matrix, within: Level) -> str:
        rows = r" \\ ".join(" & ".join(f"{{{self(entry)}}}" for entry in row) for row in matrix.rows)
        width = max((len(row) for row in matrix.rows), default=1)
        if width <= 10:
            return rf"\begin{{bmatrix}} {rows} \end{{bmatrix}}"
        return rf"\left[\begin{{array}}{{{'c' * width}}} {rows} \end{{array}}\right]"


def _letter(name: str) -> str:
    if found := macro(name):
        return found
    if len(name) == 1 and name.isascii() and name.isalpha():
        return name
    return rf"\mathit{{{name}}}" if _WORD.fullmatch(name) else rf"\textit{{{escape(name)}}}"


def _script(text: str) -> str:
    if (own := numbered(text)) is not None:
        return f"{_script(own[0])}_{{{own[1]}}}"
    return " ".join(_script_part(part) for part in script_parts(text))


def _script_part(part: Script) -> str:
    if part.kind == "hat":
        return rf"\hat{{{_script(part.text)}}}"
    if part.kind in ("letter", "word") and (found := macro(part.text)):
        return found
    if part.kind == "word" or part.kind == "text":
        return rf"\mathrm{{{part.text}}}" if _WORD.fullmatch(part.text) else rf"\text{{{escape(part.text)}}}"
    return part.text.replace("−", "-") if part.text.isascii() or part.text == "−" else rf"\text{{{escape(part.text)}}}"


def _function_name(name: str, text: str) -> str:
    if name in UPRIGHT:
        return "\\" + name
    shown = text or name
    if len(shown) == 1 or macro(shown):
        return _letter(shown)
    plain = shown if _WORD.fullmatch(shown) else rf"\text{{{escape(shown)}}}"
    return rf"\operatorname{{{plain}}}"


_printer = LatexPrinter()


def latex_of(expr: Expr) -> str:
    r"""Return a formula as LaTeX, for use inside a maths environment.

    >>> latex_of(Partial(Sym("L"), Sym("W", sub=("1",))))
    '\\frac{\\partial L}{\\partial W_{1}}'
    """
    return _printer(expr)
