"""Formulas as MathML Core, which browsers show without scripts or fonts of ours.

Each formula becomes exactly one element, well-formed as XML, so that a reference can be put on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backproof.document.math import BigSum, Call, Cases, Div, Expr, Matrix, Num, Partial, Ref, Rel, Sym

from .escape import xml
from .notation import Script, character, full, is_rounded, numbered, ref_key, script_parts
from .printer import RELATIONS, Level, Printer, is_tall

__all__ = ["MathMLPrinter", "attributes", "math", "mathml_of", "reference", "wrap"]

_ACCENTS = {"hat": "^", "bar": "¯", "tilde": "~"}
_TIMES = "<mo>\u2062</mo>"
_APPLY = "<mo>\u2061</mo>"
_THIN = '<mspace width="0.17em"></mspace>'


def _sign(sign: str) -> str:
    return f'<mo form="infix">{xml(sign)}</mo>'


_LOWERED = "₀₁₂₃₄₅₆₇₈₉"
_DIGITS = str.maketrans(_LOWERED, "0123456789")


class MathMLPrinter(Printer):
    """Prints formulas as presentation MathML, limited to MathML Core."""

    operators = {sign: _sign(shown) for sign, shown in RELATIONS.items()} | {
        "plus": _sign("+"), "minus": _sign("−"), "neg": '<mo form="prefix">−</mo>', "dot": _sign("·"),
        "spaced dot": _sign("·"), "odot": _sign("⊙"), "ast": _sign("∗"), "star": _sign("⋆"), "none": _TIMES, "thin": _TIMES + _THIN,
        "comma": '<mo separator="true">,</mo>',
    }  # fmt: skip

    def row(self, pieces: Sequence[str]) -> str:
        return pieces[0] if len(pieces) == 1 and pieces[0] else f"<mrow>{''.join(pieces)}</mrow>"

    def fence(self, body: str, content: tuple[Expr, ...], marks: str = "()") -> str:
        grows = str(any(is_tall(expr) for expr in content)).lower()
        left, right = (
            f'<mo form="{form}" fence="true" stretchy="{grows}" lspace="0" rspace="0">{mark}</mo>'
            for form, mark in zip(("prefix", "postfix"), marks, strict=True)
        )
        return f"<mrow>{left}{body}{right}</mrow>"

    def digits(self, text: str) -> str:
        return f"<mn>{text}</mn>"

    def words(self, text: str) -> str:
        return f"<mtext>{xml(text)}</mtext>"

    def name(self, name: str) -> str:
        return character(name)

    def print_sym(self, sym: Sym, within: Level) -> str:
        name = f"<mi>{xml(character(sym.name))}</mi>"
        if sym.accent in _ACCENTS:
            name = f'<mover accent="true">{name}<mo stretchy="false">{_ACCENTS[sym.accent]}</mo></mover>'
        return self.mark(_with_scripts(name, sym), sym)

    def mark(self, body: str, leaf: Num | Sym) -> str:
        added = attributes(leaf)
        place = min(body.index(">"), body.index(" ") if " " in body else len(body))
        return body[:place] + added + body[place:]

    def function(self, name: str, call: Call) -> str:
        if call.function.sub:
            bare = replace(call, function=replace(call.function, sub=(), primes=0))
            name, sub = self.function(name, bare), _scripts(call.function.sub)
            if call.function.primes:
                return f"<msubsup>{name}{sub}<mo>{'′' * call.function.primes}</mo></msubsup>"
            return f"<msub>{name}{sub}</msub>"
        text = call.function.text or character(name)
        letter = text.rstrip(_LOWERED)
        shown, primes = f"<mi>{xml(letter)}</mi>", f"<mo>{'′' * call.function.primes}</mo>"
        if not letter or letter == text:
            return f"<msup><mi>{xml(text)}</mi>{primes}</msup>" if call.function.primes else f"<mi>{xml(text)}</mi>"
        below = f"<mn>{xml(text[len(letter) :].translate(_DIGITS))}</mn>"
        if call.function.primes:
            return f"<msubsup>{shown}{below}{primes}</msubsup>"
        return f"<msub>{shown}{below}</msub>"

    def applied(self, function: str, arguments: str) -> str:
        return f"<mrow>{function}{_APPLY}{arguments}</mrow>"

    def radical(self, expr: Expr) -> str:
        return f"<msqrt>{self(expr)}</msqrt>"

    def power(self, base: str, exponent: Expr) -> str:
        return f"<msup>{base}{self(exponent)}</msup>"

    def transposed(self, base: str) -> str:
        return f'<msup>{base}<mi mathvariant="normal">T</mi></msup>'

    def print_div(self, div: Div, within: Level) -> str:
        return f"<mfrac>{self(div.top)}{self(div.bottom)}</mfrac>"

    def print_partial(self, partial: Partial, within: Level) -> str:
        top, bottom = (self.show(part, Level.FRACTION) for part in (partial.top, partial.bottom))
        return f"<mfrac><mrow><mo>∂</mo>{top}</mrow><mrow><mo>∂</mo>{bottom}</mrow></mfrac>"

    def print_bigsum(self, total: BigSum, within: Level) -> str:
        return f"<mrow>{self._bounded(total)}{self.show(total.body, Level.TERM)}</mrow>"

    def _bounded(self, total: BigSum) -> str:
        sign, index = f"<mo>{'∏' if total.sign == 'prod' else '∑'}</mo>", _script(total.index)
        upper = self(total.upper) if total.upper else ""
        lower = f"<mrow>{index}<mo>=</mo>{self(total.lower)}</mrow>" if total.lower else index
        lower = self(total.lower) if isinstance(total.lower, Rel) else lower
        if upper:
            return f"<munderover>{sign}{lower}{upper}</munderover>"
        return f"<munder>{sign}{lower}</munder>" if total.index or total.lower else sign

    def print_cases(self, cases: Cases, within: Level) -> str:
        rows = [self._case(value, test) for value, test in cases.rows]
        return f'<mrow><mo form="prefix" fence="true" stretchy="true">{{</mo>{_table(rows, "cases")}</mrow>'

    def _case(self, value: Expr, test: Expr | None) -> list[str]:
        condition = f"<mrow><mtext>if\u00a0</mtext>{self(test)}</mrow>" if test else self.words("otherwise")
        return [self(value), condition]

    def print_matrix(self, matrix: Matrix, within: Level) -> str:
        rows = [[self(entry) for entry in row] for row in matrix.rows]
        return self.fence(_table(rows, "matrix"), (matrix,), "[]")


def attributes(leaf: Num | Sym) -> str:
    """Return the attributes that tie an element to its quantity: data-ref, and data-full for a number."""
    added = reference(leaf.ref)
    if isinstance(leaf, Num) and (leaf.ref or leaf.exact or is_rounded(leaf)):
        added += f' data-full="{xml(full(leaf))}"'
    return added


def reference(ref: Ref | None) -> str:
    """Return the data-ref attribute, with a space before it, or nothing."""
    return f' data-ref="{xml(ref_key(ref))}"' if ref else ""


def _with_scripts(name: str, sym: Sym) -> str:
    sub = _scripts(sym.sub)
    sup = f'<mrow><mo stretchy="false">(</mo>{_scripts(sym.sup)}<mo stretchy="false">)</mo></mrow>'
    if sym.sub and sym.sup:
        return f"<msubsup>{name}{sub}{sup}</msubsup>"
    if sym.sub:
        return f"<msub>{name}{sub}</msub>"
    return f"<msup>{name}{sup}</msup>" if sym.sup else name


def _scripts(parts: tuple[str, ...]) -> str:
    if len(parts) == 1:
        return _script(parts[0])
    return "<mrow>" + '<mo separator="true">,</mo>'.join(_script(part) for part in parts) + "</mrow>"


_SCRIPT_TAGS = {"letter": "mi", "word": "mi", "number": "mn", "sign": "mo", "text": "mtext"}


def _script(text: str) -> str:
    if (own := numbered(text)) is not None:
        return f"<msub>{_script(own[0])}<mn>{own[1]}</mn></msub>"
    pieces = [_script_part(part) for part in script_parts(text)]
    return pieces[0] if len(pieces) == 1 else f"<mrow>{''.join(pieces)}</mrow>"


def _script_part(part: Script) -> str:
    if part.kind == "hat":
        return f'<mover accent="true">{_script(part.text)}<mo stretchy="false">^</mo></mover>'
    tag = _SCRIPT_TAGS[part.kind]
    return f"<{tag}>{xml(part.text)}</{tag}>"


def _table(rows: Sequence[Sequence[str]], kind: str) -> str:
    cells = "".join(f"<mtr>{''.join(f'<mtd>{cell}</mtd>' for cell in row)}</mtr>" for row in rows)
    return f'<mtable class="{kind}">{cells}</mtable>'


_printer = MathMLPrinter()


def mathml_of(expr: Expr) -> str:
    """Return a formula as one MathML element, without the surrounding <math>.

    >>> mathml_of(Num(-0.45))
    '<mrow><mo form="prefix">−</mo><mn>0.45</mn></mrow>'
    """
    return _printer(expr)


def math(expr: Expr, display: bool = False) -> str:
    """Return a formula as a <math> element, in text style or with full-size fractions and sums."""
    return wrap(_printer(expr), display)


def wrap(body: str, display: bool) -> str:
    """Return MathML in its <math> element."""
    return f'<math displaystyle="{str(display).lower()}">{body}</math>'
