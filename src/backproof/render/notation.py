"""How names and numbers are written, in whatever format: Greek letters, scripts, digits, signs, references.

A number becomes a small formula tree here (:func:`number_tree`), so that the printers have one rule for a
minus sign and one rule for parentheses, whether the number is 0.45, -1.97e-05 or the exact pi/2 + 4.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from backproof.document.math import Expr, Mul, Neg, Num, Pow, Ref, Words

from .exact import exact_tree
from .leaf import Digits

__all__ = [
    "GREEK", "Script", "character", "decimal", "full", "is_plain", "is_rounded", "macro", "negative",
    "number_tree", "numbered",
    "ref_key", "script_parts", "scripted",
]  # fmt: skip

DIGITS = 4
"""Significant digits that are shown."""

_SMALLEST_PLAIN, _LARGEST_PLAIN = -4, 5
"""Decimal exponents between which a number is written without a power of ten."""

_SMALL = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau "
    "upsilon phi chi psi omega"
).split()
GREEK = dict(zip(_SMALL, "αβγδεζηθικλμνξοπρστυφχψω", strict=True))
GREEK |= {name.capitalize(): letter.upper() for name, letter in GREEK.items()}
"""The Greek letters by their names; a capital letter by the capitalised name."""

_OTHER = {
    "nabla": ("∇", r"\nabla"),
    "partial": ("∂", r"\partial"),
    "ell": ("ℓ", r"\ell"),
    "infinity": ("∞", r"\infty"),
    "oo": ("∞", r"\infty"),
    "emptyset": ("∅", r"\emptyset"),
}
_LATIN_SHAPES = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True)) | {"ο": "o"}
_MACROS = {
    letter: r"\mathrm{" + _LATIN_SHAPES[letter] + "}" if letter in _LATIN_SHAPES else "\\" + name
    for name, letter in GREEK.items()
} | {"ε": r"\varepsilon", "φ": r"\varphi"}
_MACROS |= dict(_OTHER.values())


def character(name: str) -> str:
    """Return the character of a name such as ``delta`` (δ), or the name itself."""
    return GREEK.get(name) or _OTHER.get(name, (name, ""))[0]


def macro(name: str) -> str | None:
    """Return the LaTeX macro of a named or typed letter (``delta`` or δ), or None for any other name."""
    return _MACROS.get(character(name))


# --- subscripts and superscripts -------------------------------------------------------------------------

_PLAIN = "0123456789+−=()aehijklmnoprstuvxβγρφχ"
_SUBSCRIPT = dict(zip(_PLAIN, "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True))
_RAISABLE = "0123456789+−=()abcdefghijklmnoprstuvwxyzβγδθφχT"
_SUPERSCRIPT = dict(zip(_RAISABLE, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵝᵞᵟᶿᵠᵡᵀ", strict=True))
_NUMBERED = re.compile(r"^([^\W\d_]\u0302?)_(\d+)$")
_SCRIPT_TOKENS = re.compile(r"[^\W\d_]+\u0302?|\d+(?:\.\d+)?|[-+−=<>/*(),:]")


@dataclass(frozen=True)
class Script:
    """A piece of a subscript: kind "letter", "word", "number", "sign", "hat" (a letter with one) or "text" (anything else)."""

    kind: str
    text: str


def scripted(text: str, raised: bool = False) -> str | None:
    """Return the text in Unicode subscripts (or superscripts), or None where a character has none."""
    table = _SUPERSCRIPT if raised else _SUBSCRIPT
    found = [table.get(sign) for sign in text.replace("-", "−")]
    return None if None in found else "".join(sign for sign in found if sign)


def script_parts(text: str) -> list[Script]:
    """Cut a subscript into letters, words, numbers and signs; one "text" piece where that does not work."""
    tokens = _SCRIPT_TOKENS.findall(text)
    if "".join(tokens) != text.replace(" ", "") or not tokens:
        return [Script("text", text)]
    return [_script(token) for token in tokens]


def numbered(text: str) -> tuple[str, str] | None:
    """The letter and the number of a symbol's name in another symbol's script: y and 2 of y_2; None for any other text."""
    found = _NUMBERED.match(text)
    return (found[1], found[2]) if found else None


def _script(token: str) -> Script:
    if token[0].isdigit():
        return Script("number", token)
    if not token[0].isalpha():
        return Script("sign", token.replace("-", "−"))
    if token.endswith("\u0302"):
        return Script("hat", character(token[:-1]))
    return Script("letter" if len(character(token)) == 1 else "word", character(token))


# --- numbers ---------------------------------------------------------------------------------------------


def decimal(value: float | int) -> tuple[str, int]:
    """Return the size of a number as it is shown: its digits and a power of ten (0 where none is written).

    >>> decimal(-0.45), decimal(1.97e-05), decimal(2.0), decimal(0.893012)
    (('0.45', 0), ('1.97', -5), ('2', 0), ('0.8930', 0))
    """
    if isinstance(value, int):
        return str(abs(value)), 0
    size = abs(float(value))
    if not math.isfinite(size):
        return ("nan" if math.isnan(size) else "∞"), 0
    if size == int(size) and size < 10 ** (_LARGEST_PLAIN + 2):
        return str(int(size)), 0
    return _four_digits(size)


def _four_digits(size: float) -> tuple[str, int]:
    short = f"{size:.{DIGITS - 1}e}"
    noise_free = f"{size:.11e}"
    digits, exponent = short.split("e")
    if float(noise_free) == float(short):
        digits = digits.rstrip("0").rstrip(".")
    power = int(exponent)
    if not _SMALLEST_PLAIN <= power < _LARGEST_PLAIN:
        return digits, power
    places = max(0, len(digits.partition(".")[2]) - power)
    return f"{float(short):.{places}f}", 0


def number_tree(number: Num) -> Expr:
    """Return the formula that spells a number: digits, a power of ten, a fraction, a root, a minus sign."""
    if number.exact is not None:
        return exact_tree(number.exact) or Words(number.exact)
    digits, power = decimal(number.value)
    tree: Expr = Digits(digits)
    if power:
        tree = Mul((tree, Pow(Digits("10"), _signed_digits(power))))
    return Neg(tree) if number.value < 0 else tree


def _signed_digits(value: int) -> Expr:
    return Neg(Digits(str(-value))) if value < 0 else Digits(str(value))


def negative(expr: Expr) -> bool:
    """Return whether a formula is written with a minus sign in front."""
    return isinstance(expr, Neg) or (isinstance(expr, Num) and isinstance(number_tree(expr), Neg))


def full(number: Num) -> str:
    """Return a number in full precision."""
    return repr(number.value)


def is_rounded(number: Num) -> bool:
    """Return whether the digits that are shown are not the whole number."""
    digits, power = decimal(number.value)
    return digits not in ("nan", "∞") and float(f"{digits}e{power}") != abs(number.value)


def is_plain(number: Num) -> bool:
    """Return whether a number is digits with at most a sign and a power of ten, so that it has a point."""
    tree = number_tree(number)
    return number.exact is None or isinstance(tree.arg if isinstance(tree, Neg) else tree, Digits)


def ref_key(ref: Ref) -> str:
    """Return the stable text form of a reference, ``kind:name:index:step[:state]``.

    >>> ref_key(Ref("s", (0, 1), step=1))
    'value:s:0.1:1'
    """
    index = ".".join(str(number) for number in ref.index)
    key = f"{ref.kind}:{ref.name}:{index}:{ref.step}"
    return f"{key}:{ref.state}" if ref.state else key
