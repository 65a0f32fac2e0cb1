"""``key=value`` as typed after ``--set``: values are TOML where they read as such, else words or formulas."""

from __future__ import annotations

import re

from backproof.errors import InputError

__all__ = ["Value", "parse_setting", "parse_value"]

Value = bool | int | float | str | list["Value"] | dict[str, "Value"]

_KEY = re.compile(r"[^\W\d][\w.\-]*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_DEEPEST = 16


def parse_setting(text: str) -> tuple[str, Value]:
    """Read ``key=value``.

    Example:
        >>> parse_setting("x=[.1, 2, pi/2]")
        ('x', [0.1, 2, 'pi/2'])
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        raise InputError(f"--set takes key=value, as in `--set lr=0.5`; it was given {_short(text)}.")
    try:
        return key, parse_value(value.strip())
    except _Unreadable as reason:
        raise InputError(f"--set {key}: {reason} in {_short(value)}.") from None


def parse_value(text: str, depth: int = 0) -> Value:
    """Read a number, a word, a formula or an array of these, as in ``[pi/2, 0.5]``.

    Raises:
        ValueError: quotes or brackets do not match, or there is nothing.
    """
    if not text:
        raise _Unreadable("there is no value")
    value = _toml(text)
    if value is not None:
        return value
    return _array(text, depth) if text.startswith("[") else _word(text)


class _Unreadable(ValueError):
    """A value whose quotes or brackets do not match."""


def _toml(text: str) -> Value | None:
    """Return what TOML reads, or None where it does not read or reads a date."""
    import tomllib

    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return None
    value = table["value"]
    return value if len(table) == 1 and isinstance(value, bool | int | float | str | list | dict) else None


def _word(text: str) -> Value:
    """Read what TOML does not: ``.5``, ``True``, and anything else as the text of a name or formula."""
    if _NUMBER.fullmatch(text):
        return float(text)
    if text in ("True", "False"):
        return text == "True"
    _pieces(text)
    if text[0] in "\"'{":
        raise _Unreadable("neither TOML nor a formula stands")
    return text


def _array(text: str, depth: int) -> Value:
    if depth >= _DEEPEST:
        raise _Unreadable(f"arrays are nested deeper than {_DEEPEST}")
    if not text.endswith("]"):
        raise _Unreadable("a bracket is opened and not closed")
    pieces = [piece.strip() for piece in _pieces(text[1:-1])]
    if pieces and not pieces[-1]:  # a comma before the closing bracket, as TOML allows
        pieces.pop()
    return [parse_value(piece, depth + 1) for piece in pieces]


def _pieces(text: str) -> list[str]:
    """Cut at the commas that stand outside quotes and brackets."""
    open_brackets: list[str] = []
    quote, pieces, start = "", [], 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "," and not open_brackets:
            pieces.append(text[start:place])
            start = place + 1
        else:
            _follow(letter, open_brackets)
    if quote or open_brackets:
        raise _Unreadable("a quote or bracket is opened and not closed")
    return [*pieces, text[start:]]


_CLOSING = {"(": ")", "[": "]", "{": "}"}


def _follow(letter: str, open_brackets: list[str]) -> None:
    """Keep the stack of open brackets, as their closing partners."""
    if letter in _CLOSING:
        open_brackets.append(_CLOSING[letter])
    elif letter in ")]}" and (not open_brackets or open_brackets.pop() != letter):
        raise _Unreadable(f"a {letter!r} closes nothing")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
