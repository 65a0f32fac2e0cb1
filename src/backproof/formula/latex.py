r"""Formulas in LaTeX, rewritten in the grammar of :mod:`.parse`: ``\delta_1 x^\top`` becomes ``outer(delta_1, x)``.

What stands side by side is multiplied as on paper, by the shapes: numbers, matrices and columns, a column and a row. Nothing is
evaluated. Greek letters, subscripts and ``W^{(1)}`` name quantities; ``\odot`` multiplies entry by entry.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import FormulaError
from .parse import MAX_LENGTH
from .quantity import CONSTANTS
from .read import is_function

__all__ = ["from_latex", "is_latex"]

Shape = tuple[int, ...]
MOST_DEPTH = 60
_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\d+\.?\d*|\.\d+|[^\W\d_]|\S")
_SPACES = frozenset(
    r"\, \; \: \! \quad \qquad \left \right \big \Big \bigl \bigr \Bigl \Bigr \displaystyle \limits & ~".split()
)
_STYLES = frozenset(
    r"\mathbf \boldsymbol \bm \mathrm \mathit \text \textrm \textbf \operatorname \mathsf \mathcal \mathbb \operatorname* "
    r"\textstyle \vec \mathtt".split()
)
_MARKS = {r"\hat": "hat", r"\bar": "bar", r"\tilde": "tilde", r"\widehat": "hat", r"\dot": "dot", r"\overline": "bar"}
_FRACTIONS = (r"\frac", r"\tfrac", r"\dfrac")
_BETWEEN = {r"\odot": "⊙", r"\circ": "⊙", "*": "⊙", r"\cdot": "·", r"\times": "·", "/": "/", "@": "·", r"\otimes": "⊗"}
_TRANSPOSED = frozenset({r"\top", "T", r"\intercal", r"\mathsf", "⊤"})
_OPENING = {"(": ")", "[": "]", r"\{": r"\}", r"\lbrack": r"\rbrack"}
_NORMS = {r"\|": r"\|", r"\lVert": r"\rVert", r"\Vert": r"\Vert"}
_RELATIONS = {">": ">", "<": "<", r"\ge": ">=", r"\geq": ">=", r"\le": "<=", r"\leq": "<=", r"\gt": ">", r"\lt": "<"}
_FOLDING = ("sum", "mean", "norm", "logsumexp", "reduce")
_ALIASES = {r"\ln": "log", r"\varepsilon": "epsilon", r"\vartheta": "theta", r"\varphi": "phi"}


def is_latex(text: str) -> bool:
    """Whether a formula is meant as LaTeX: it has a backslash, braces, a caret or dollar signs."""
    return any(mark in text for mark in "\\^{$")


def from_latex(text: str, shapes: Mapping[str, Shape], place: str = "the formula") -> str:
    r"""Rewrite a LaTeX formula in the grammar of formulas.

    Args:
        text: the formula, with or without dollar signs.
        shapes: of the quantities that it may use, by name; ``W_1``, ``W_{1}`` and ``W^{(1)}`` find ``W1`` and ``W_1``.
        place: how a message calls it.

    Raises:
        FormulaError: it uses something else than formulas have, an unknown name, or shapes that do not go together.

    Example:
        >>> from_latex(r"\delta_1 x^\top", {"delta_1": (3,), "x": (2,)})
        'outer(delta_1, x)'
        >>> from_latex(r"\tfrac{2}{N} (y - t) \odot \sigma'(s)", {"N": (), "y": (3,), "t": (3,), "s": (3,)})
        "(((2) / (N)) * (((y) - (t)))) * (sigmoid'(s))"
    """
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"{place} has {len(text)} characters, and the limit is {MAX_LENGTH}")
    reader = _Latex(_tokens(text), shapes, place)
    piece = reader.sum(0)
    if reader.at < len(reader.tokens):
        raise reader.refusal(f"'{reader.tokens[reader.at]}' is not expected here")
    if piece.ones:
        raise reader.refusal("a vector of ones has no length by itself; multiply it with a matrix")
    return piece.text


def _tokens(text: str) -> list[str]:
    return [t for t in _TOKEN.findall(text.strip().strip("$")) if t not in _SPACES]


@dataclass(frozen=True)
class _Piece:
    """A part that is read: its text in the grammar, its shape, whether it is a row, and whether it is the vector of ones."""

    text: str
    shape: Shape = ()
    row: bool = False
    ones: bool = False

    @property
    def vector(self) -> bool:
        return self.ones or len(self.shape) == 1


@dataclass
class _Latex:
    tokens: list[str]
    shapes: Mapping[str, Shape]
    place: str
    at: int = 0
    bars: int = 0  # how many |...| are open

    # --- tokens ---------------------------------------------------------------------------------------------------------------
    def refusal(self, what: str) -> FormulaError:
        around = " ".join(self.tokens[max(self.at - 4, 0) : self.at + 4])
        return FormulaError(f"{self.place}: {what} (near '{around}')")

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise self.refusal(f"'{expected or 'something'}' is missing")
        self.at += 1
        return token

    def group(self) -> list[str]:
        """The tokens of a braced group, or the single next one."""
        if self.peek() != "{":
            return [self.take()]
        depth, start = 0, self.at + 1
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return self.tokens[start : self.at - 1]

    # --- sums and products ---------------------------------------------------------------------------------------------------
    def sum(self, depth: int) -> _Piece:
        if depth > MOST_DEPTH:
            raise self.refusal(f"it is nested more than {MOST_DEPTH} deep")
        sign = self.take() if self.peek() in ("+", "-") else ""
        total = self.product(depth)
        total = replace(total, text=f"-({total.text})") if sign == "-" else total
        while self.peek() in ("+", "-"):
            operator = self.take()
            total = self.entrywise(total, self.product(depth), operator)
        if self.peek() in _RELATIONS:
            relation = _RELATIONS[self.take()]
            total = self.entrywise(total, self.sum(depth + 1), relation)
        return total

    def product(self, depth: int) -> _Piece:
        """Factors side by side; what stands between two of them, if anything."""
        factors, between = [self.factor(depth)], list[str]()
        while True:
            if self.peek() in _BETWEEN:
                between.append(_BETWEEN[self.take()])
            elif self.starts_factor():
                between.append("")
            else:
                return self.multiplied(factors, between)
            factors.append(self.factor(depth))

    def multiplied(self, factors: list[_Piece], between: list[str]) -> _Piece:
        """Entry by entry last of all, as in σ'(s) ⊙ Wᵀδ; where the shapes do not allow that, from left to right."""
        cuts = [k + 1 for k, sign in enumerate(between) if sign == "⊙"]
        bounds = [0, *cuts, len(factors)]
        try:
            parts = [self.folded(factors[a:b], between[a : b - 1]) for a, b in itertools.pairwise(bounds)]
            if len({p.shape for p in parts if p.shape}) > 1:
                raise self.refusal("the shapes of an entry-by-entry product differ")
            return self.folded(parts, ["⊙"] * (len(parts) - 1))
        except FormulaError:
            if not cuts:
                raise
            return self.folded(factors, between)

    def folded(self, factors: Sequence[_Piece], between: Sequence[str]) -> _Piece:
        total = factors[0]
        for sign, factor in zip(between, factors[1:], strict=True):
            total = self.times(total, factor, sign)
        return total

    def times(self, a: _Piece, b: _Piece, sign: str) -> _Piece:
        if sign == "/":
            return self.entrywise(a, b, "/")
        if a.ones or b.ones:
            return self.summed(a, b)
        if sign == "⊙" or not a.shape or not b.shape:
            return self.entrywise(a, b, "*")
        if len(a.shape) == len(b.shape) == 1:
            return self.vectors(a, b, sign)
        inner = (a.shape[-1], b.shape[-2] if len(b.shape) > 1 else b.shape[0])
        if inner[0] != inner[1] or (len(b.shape) == 1 and b.row):
            raise self.refusal(
                f"shapes {_shown(a)} and {_shown(b)} cannot be multiplied as matrices; entry by entry is \\odot"
            )
        batch = a.shape[:-2] if len(a.shape) > 2 else b.shape[:-2]
        rows = a.shape[-2:-1] if len(a.shape) > 1 else ()
        columns = b.shape[-1:] if len(b.shape) > 1 else ()
        return _Piece(f"({a.text}) @ ({b.text})", (*batch, *rows, *columns), row=len(a.shape) == 1)

    def vectors(self, a: _Piece, b: _Piece, sign: str) -> _Piece:
        if sign == "⊗":
            return _Piece(f"outer({a.text}, {b.text})", (*a.shape, *b.shape))
        if a.row or (sign == "·" and not b.row):
            if a.shape != b.shape or b.row:
                raise self.refusal(f"shapes {_shown(a)} and {_shown(b)} have no dot product")
            return _Piece(f"dot({a.text}, {b.text})")
        if not b.row:
            raise self.refusal("two columns stand side by side: write a^\\top b, a b^\\top or a \\odot b")
        return _Piece(f"outer({a.text}, {b.text})", (*a.shape, *b.shape))

    def summed(self, a: _Piece, b: _Piece) -> _Piece:
        """𝟏ᵀA sums over the rows of A, A𝟏 over its columns."""
        whole, axis = (b, 0) if a.ones else (a, len(a.shape) - 1)
        if whole.ones or not whole.shape:
            raise self.refusal("a vector of ones is multiplied with a matrix or a vector")
        rest = (*whole.shape[:axis], *whole.shape[axis + 1 :])
        return _Piece(f"sum({whole.text}, dim={axis})", rest, row=a.ones and len(rest) == 1)

    def entrywise(self, a: _Piece, b: _Piece, operator: str) -> _Piece:
        if a.ones or b.ones:
            other = b if a.ones else a
            a, b = (replace(p, text="1", shape=other.shape, ones=False) if p.ones else p for p in (a, b))
        shape = _broadcast(a.shape, b.shape)
        if shape is None or (len(a.shape) == len(b.shape) == 1 and a.row != b.row):
            raise self.refusal(f"shapes {_shown(a)} and {_shown(b)} do not go together")
        return _Piece(f"({a.text}) {operator} ({b.text})", shape, row=(a if a.shape else b).row)

    # --- factors -----------------------------------------------------------------------------------------------------------------
    def starts_factor(self) -> bool:
        token = self.peek()
        if token in ("|", *_NORMS):
            return not self.bars
        closing = {*_OPENING.values(), *_NORMS.values(), "}", ")", ",", "|", "="} - set(_OPENING) - set(_NORMS)
        return bool(token) and token not in closing | set("+-^_'") | set(_RELATIONS)

    def factor(self, depth: int) -> _Piece:
        piece = self.bare(depth)
        while self.peek() == "^":
            self.take()
            piece = self.raised(piece, self.group(), depth)
        return piece

    def raised(self, piece: _Piece, power: list[str], depth: int) -> _Piece:
        if power and power[0] in _TRANSPOSED and len([t for t in power if t not in "{}"]) <= 2:
            if len(piece.shape) >= 2:
                *batch, rows, columns = piece.shape
                return replace(piece, text=f"transpose({piece.text})", shape=(*batch, columns, rows))
            return replace(piece, row=not piece.row)
        exponent = self.inside(power, depth)
        if piece.text in ("e", "E") and piece.text not in self.shapes:
            return replace(exponent, text=f"exp({exponent.text})")
        if exponent.shape:
            raise self.refusal("an exponent is a number, or \\top for the transpose")
        if len(piece.shape) > 1 and power[0] == "-":
            raise self.refusal("the inverse of a matrix is no formula here; give the claim as a function")
        return replace(piece, text=f"({piece.text}) ** ({exponent.text})")

    def inside(self, tokens: list[str], depth: int) -> _Piece:
        """A group read by itself."""
        reader = _Latex(tokens, self.shapes, self.place)
        piece = reader.sum(depth + 1)
        if reader.at < len(tokens):
            raise reader.refusal(f"'{tokens[reader.at]}' is not expected here")
        return piece

    def bare(self, depth: int) -> _Piece:
        token = self.peek()
        if token == "{":
            return self.inside(self.group(), depth)
        if token in _OPENING:
            self.take()
            piece = self.sum(depth + 1)
            self.take(_OPENING[token])
            return replace(piece, text=f"({piece.text})")
        if token in _NORMS or token in ("|", r"\lvert"):
            return self.barred(depth)
        if token in _FRACTIONS:
            self.take()
            above, below = self.group(), self.group()
            return self.entrywise(self.inside(above, depth), self.inside(below, depth), "/")
        if token == r"\sqrt":
            self.take()
            piece = self.inside(self.group(), depth)
            return replace(piece, text=f"sqrt({piece.text})")
        if token[:1].isdigit() or token[:1] == ".":
            return _Piece(self.take())
        if token == r"\sum":
            raise self.refusal(
                "a sum over an index is written sum(x), over an axis sum(x, dim=0), or \\mathbf{1}^\\top x"
            )
        if token == r"\partial":
            raise self.refusal("a derivative is what is claimed; write out what it is")
        return self.named(depth)

    def barred(self, depth: int) -> _Piece:
        opening = self.take()
        closing = _NORMS.get(opening, r"\rvert" if opening == r"\lvert" else "|")
        self.bars += 1
        piece = self.sum(depth + 1)
        self.bars -= 1
        self.take(closing)
        if opening in _NORMS:
            return _Piece(f"norm({piece.text})")
        return replace(piece, text=f"abs({piece.text})")

    def named(self, depth: int) -> _Piece:
        """A quantity, a function with its argument, ones, or an indicator."""
        word, styled = self.word()
        if styled and word == "1":
            return self.ones(depth)
        word = self.subscripted(word)
        primes = 0
        while self.peek() == "'" or (self.peek() == "^" and self.peek(1) == r"\prime"):
            self.at += 1 if self.peek() == "'" else 2
            primes += 1
        name = self.known(word)
        if name is not None and not primes:
            return _Piece(name, self.shapes[name])
        function = _ALIASES.get("\\" + word, word)
        if is_function(function):
            return self.called(function, primes, depth)
        if word in CONSTANTS and not primes:
            return _Piece(word)
        known = ", ".join(self.shapes) or "nothing"
        raise self.refusal(f"'{word}' is neither a quantity nor a function; known here: {known}")

    def word(self) -> tuple[str, bool]:
        r"""A name: a letter, ``\alpha``, ``\hat{y}``, ``\mathrm{relu}``; and whether a style command spelled it."""
        token = self.take()
        if token in _STYLES:
            return "".join(t.strip("\\") for t in self.group() if t not in "{}"), True
        if (joined := self.joined()) is not None:
            return joined, False
        if token in _MARKS:
            inner = "".join(t.strip("\\") for t in self.group() if t not in "{}")
            return f"{inner}_{_MARKS[token]}", False
        if not token.strip("\\").isalpha():
            raise self.refusal(f"'{token}' has no meaning here")
        return _ALIASES.get(token, token).strip("\\"), False

    def joined(self) -> str | None:
        """A name of several letters that stands there plainly, as lr or softmax; its first letter is taken already."""
        start = self.at - 1
        for end in range(min(start + 14, len(self.tokens)), start + 1, -1):
            word = "".join(self.tokens[start:end])
            if word in self.shapes or (word.isalpha() and is_function(word)):
                self.at = end
                return word
        return None

    def subscripted(self, word: str) -> str:
        while True:
            if self.peek() == "_":
                self.take()
                word += "_" + "".join(t.strip("\\") for t in self.group() if t not in (*_STYLES, "{", "}", ","))
            elif self.peek() == "^" and self.peek(1) == "{" and self.peek(2) in ("(", "["):
                self.take()
                word += "_" + "".join(t for t in self.group() if t.isalnum())
            else:
                return word

    def known(self, word: str) -> str | None:
        """The quantity that a word means; signs between the parts of a name do not count."""
        if word in self.shapes:
            return word
        plain = {"".join(c for c in name if c.isalnum()): name for name in self.shapes}
        return plain.get("".join(c for c in word if c.isalnum()))

    def called(self, function: str, primes: int, depth: int) -> _Piece:
        if self.peek() == "^":  # sin^2 x
            self.take()
            power = self.inside(self.group(), depth)
            inner = self.called(function, primes, depth)
            return replace(inner, text=f"({inner.text}) ** ({power.text})")
        pieces, axis = self.arguments(depth) if self.peek() == "(" else ([self.factor(depth)], None)
        text = ", ".join([*(p.text for p in pieces), *([] if axis is None else [f"dim={axis}"])])
        shape = pieces[0].shape
        for piece in pieces[1:]:
            shape = _broadcast(shape, piece.shape) or shape
        if function in _FOLDING or (function in ("max", "min") and len(pieces) == 1):
            shape = () if axis is None else tuple(n for k, n in enumerate(shape) if k != axis % len(shape))
        return _Piece(f"{function}{chr(39) * primes}({text})", shape, pieces[0].row)

    def arguments(self, depth: int) -> tuple[list[_Piece], int | None]:
        """What stands in the brackets after a function: operands, then perhaps an axis."""
        self.take("(")
        found, axis = [self.sum(depth + 1)], None
        while self.peek() == ",":
            self.take()
            setting = re.match(r"(?:dim|axis)=(-?\d+)", "".join(self.tokens[self.at : self.at + 8]))
            if setting is None:
                found.append(self.sum(depth + 1))
                continue
            axis = int(setting[1])
            while self.peek() not in (",", ")", ""):
                self.take()
        self.take(")")
        return found, axis

    def ones(self, depth: int) -> _Piece:
        """The vector of ones, or the indicator of a condition in brackets or as an index."""
        if self.peek() in ("[", r"\{", "("):
            closing = _OPENING[self.take()]
            piece = self.sum(depth + 1)
            self.take(closing)
            return replace(piece, text=f"1 * ({piece.text})")
        if self.peek() == "_":
            self.take()
            condition = self.group()
            if any(t in _RELATIONS for t in condition):
                piece = self.inside(condition, depth)
                return replace(piece, text=f"1 * ({piece.text})")
        return _Piece("1", ones=True)


def _broadcast(a: Shape, b: Shape) -> Shape | None:
    """The shape of an entry-by-entry operation, or None."""
    n = max(len(a), len(b))
    pairs = zip((1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b, strict=True)
    found = [max(p, q) if 1 in (p, q) or p == q else -1 for p, q in pairs]
    return None if -1 in found else tuple(found)


def _shown(piece: _Piece) -> str:
    return f"{list(piece.shape)}" + (" (a row)" if piece.row and len(piece.shape) == 1 else "")
