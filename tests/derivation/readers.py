"""Read printed formulas back: LaTeX, MathML and plain text, each into the same items, and these into one number.

Every symbol stands for a random number that its name decides, every function for a random smooth function, a transpose
for 0.9 x + 0.1, and so on: two formulas that say the same have the same worth, whatever they are printed in.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from typing import Any
from xml.etree import ElementTree

from backproof.document.math import (
    Add,
    BigSum,
    Call,
    Cases,
    Div,
    Expr,
    Indicator,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Rel,
    Sym,
    Transpose,
    Words,
)
from backproof.render.notation import GREEK, character, decimal

Item = tuple[Any, ...]


def drawn(name: str) -> float:
    """A number between 0.5 and 1.5 that a name decides."""
    return 0.5 + zlib.crc32(plain_name(name).encode()) / 2**32


def plain_name(name: str) -> str:
    """A name without what formats write differently: lowered and raised letters, spaces, signs of one meaning."""
    text = unicodedata.normalize("NFKC", name).replace("−", "-").replace("′", "'").replace("×", "x")
    text, hats = text.replace("\u0302", ""), "hat" * text.count("\u0302")
    text = "".join(character(w) for w in re.split(r"(?<![A-Za-z])([A-Za-z]+)(?![A-Za-z])", text))
    return (
        re.sub(r"[\s{}\[\]_,()^:.#⁠]", "", text).replace("ε", "ϵ").replace("ϵ", "ε").replace("ϕ", "φ").replace("ϱ", "ρ")
        + hats
    )


# --- what each construction is worth --------------------------------------------------------------------------------------
def called(name: str, args: list[float]) -> float:
    return drawn(f"f:{plain_name(name)}") + sum((i + 1) * math.sin(a) for i, a in enumerate(args))


def power(base: float, exponent: float) -> float:
    if base == 10.0:
        return float(10.0**exponent)
    return math.copysign((abs(base) + 0.1) ** max(min(exponent, 6.0), -6.0), base)


def transposed(x: float) -> float:
    return 0.9 * x + 0.1


def summed(index: str, body: float) -> float:
    return drawn("sum" + index) * body + 0.3


def related(sign: str, a: float, b: float) -> float:
    return drawn("R" + sign) + 0.7 * a - 0.4 * b


def chosen(rows: list[tuple[float, float | None]]) -> float:
    return sum((k + 1) * v + (k + 2) * 0.1 * (0.25 if c is None else c) for k, (v, c) in enumerate(rows))


def partial(top: float, bottom: float) -> float:
    return 1.3 * top / bottom


def symbol(name: str, sub: str, sup: str, accent: str) -> float:
    return drawn(f"{character(name)}{accent}|{plain_name(sub)}|{plain_name(sup)}")


RELATIONS = {"=": "=", "<": "<", ">": ">", "≤": "<=", "≥": ">=", "≠": "!="}


# --- the tree itself --------------------------------------------------------------------------------------------------------
def worth(e: Expr) -> float:
    """What a formula tree is worth, without printing it."""
    if isinstance(e, Num):
        return number(e)
    if isinstance(e, Sym):
        return symbol(e.name, ",".join(e.sub), ",".join(e.sup), e.accent)
    if isinstance(e, Add):
        return sum(map(worth, e.terms))
    if isinstance(e, Neg):
        return -worth(e.arg)
    if isinstance(e, Mul):
        return math.prod(map(worth, e.factors)) * signs(e.style, len(e.factors))
    if isinstance(e, Div):
        return worth(e.top) / worth(e.bottom)
    if isinstance(e, Pow):
        return power(worth(e.base), worth(e.exponent))
    if isinstance(e, Transpose):
        return transposed(worth(e.arg))
    return _others(e)


def _others(e: Expr) -> float:
    if isinstance(e, Call):
        if e.function.name == "abs":
            return called("abs", [worth(e.args[0])])
        name = e.function.text or character(e.function.name)
        name = {"sqrt": "√"}.get(e.function.name, name)
        return called(name + "".join(e.function.sub) + "'" * e.function.primes, [worth(a) for a in e.args])
    if isinstance(e, BigSum):
        return summed(e.index, worth(e.body))
    if isinstance(e, Rel):
        return related(e.sign, worth(e.left), worth(e.right))
    if isinstance(e, Indicator):
        return worth(e.relation)
    if isinstance(e, Cases):
        return chosen([(worth(v), None if c is None else worth(c)) for v, c in e.rows])
    if isinstance(e, Partial):
        return partial(worth(e.top), worth(e.bottom))
    assert isinstance(e, Words), e
    return drawn(e.text)


def signs(style: str, factors: int) -> float:
    """Each kind of product has a factor of its own, so that no printer may confuse two."""
    return {"elementwise": 1.05, "convolution": 1.1, "correlation": 1.15}.get(style, 1.0) ** (factors - 1)


def number(e: Num) -> float:
    if e.exact is not None:
        return float(eval(e.exact, {"pi": math.pi, "sqrt": math.sqrt}))
    digits, exponent = decimal(e.value)
    size = math.inf if digits == "∞" else float(f"{digits}e{exponent}")
    return math.copysign(7.5 if math.isinf(size) else size, e.value)


# --- items to a number ------------------------------------------------------------------------------------------------------
_PRODUCTS = {"⊙": 1.05, "∗": 1.1, "⋆": 1.15, "·": 1.0, "": 1.0}


_E = ("symbol", "e", "", "", "")


class Reader:
    """Reads a list of items: relation, sum, product, factor with what stands behind it."""

    def __init__(self, items: list[Item]) -> None:
        self.items, self.place = items, 0

    def peek(self) -> Item:
        return self.items[self.place] if self.place < len(self.items) else ("end",)

    def take(self) -> Item:
        self.place += 1
        return self.items[self.place - 1]

    def whole(self) -> float:
        value = self.relation()
        assert self.peek()[0] == "end", (self.peek(), self.items)
        return value

    def relation(self) -> float:
        value = self.sum()
        while self.peek()[0] == "op" and self.peek()[1] in RELATIONS:
            value = related(RELATIONS[self.take()[1]], value, self.sum())
        return value

    def sum(self) -> float:
        value = self.term()
        while self.peek() in (("op", "+"), ("op", "−")):
            value += self.term() if self.take()[1] == "+" else -self.term()
        return value

    def term(self) -> float:
        if self.peek() == ("op", "−"):
            self.take()
            return -self.term()
        value = self.factor()
        while self.peek()[0] not in ("end",) and self.peek() not in (("op", "+"), ("op", "−"), ("op", ",")):
            sign = ""
            if self.peek()[0] == "op":
                if self.peek()[1] not in (*_PRODUCTS, "/"):
                    break
                sign = self.take()[1]
            after = self.factor()
            value = value / after if sign == "/" else value * after * _PRODUCTS[sign]
        return value

    def factor(self) -> float:
        if self.peek() == ("op", "−"):
            self.take()
            return -self.factor()
        kind, *rest = self.take()
        if self.peek()[0] == "power" and (kind, *rest) in (_E, ("group", [_E])):
            return called("exp", [Reader(self.take()[1]).whole()])
        value = getattr(self, f"_{kind}")(*rest)
        while self.peek()[0] in ("power", "transpose"):
            after = self.take()
            value = transposed(value) if after[0] == "transpose" else power(value, Reader(after[1]).whole())
        return float(value)

    def _number(self, value: float) -> float:
        return value

    def _group(self, items: list[Item]) -> float:
        return Reader(items).whole()

    def _frac(self, top: list[Item], bottom: list[Item]) -> float:
        return Reader(top).whole() / Reader(bottom).whole()

    def _partial(self, top: list[Item], bottom: list[Item]) -> float:
        return partial(Reader(top).whole(), Reader(bottom).whole())

    def _call(self, name: str, items: list[Item]) -> float:
        args: list[list[Item]] = [[]]
        for item in items:
            if item == ("op", ","):
                args.append([])
            else:
                args[-1].append(item)
        return called(name, [Reader(a).whole() for a in args if a])

    def _symbol(self, name: str, sub: str, sup: str, accent: str) -> float:
        if name == "π" and not sub and not sup:
            return math.pi
        return symbol(name, sub, sup, accent)

    def _words(self, text: str) -> float:
        return drawn(text)

    def _sum(self, index: str) -> float:
        return summed(index, self.term())

    def _cases(self, rows: list[tuple[list[Item], list[Item] | None]]) -> float:
        return chosen([(Reader(v).whole(), None if c is None else Reader(c).whole()) for v, c in rows])


# --- plain text -------------------------------------------------------------------------------------------------------------
_LOW, _HIGH = "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵝᵞᵟᶿᵠᵡ"
_ACCENTS = {"\u0302": "hat", "\u0304": "bar", "\u0303": "tilde"}


def text_items(text: str) -> list[Item]:
    """The items of a formula in plain text."""
    return _Text(text).items("")


class _Text:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def items(self, end: str) -> list[Item]:
        found: list[Item] = []
        while self.at < len(self.text) and not (end and self.text.startswith(end, self.at)):
            sign = self.text[self.at]
            if sign == " ":
                self.at += 1
            elif sign == "{":
                found.append(self.cases())
            else:
                found += self.one(sign)
        self.at += len(end)
        return found

    def one(self, sign: str) -> list[Item]:
        if sign in "+−⊙∗⋆·/,=<>≤≥≠":
            self.at += 1
            return [("op", sign)]
        if sign in "([":
            self.at += 1
            return [("group", self.items(")" if sign == "(" else "]"))]
        if sign == "|":
            self.at += 1
            return [("call", "abs", self.items("|"))]
        if sign == "∑":
            self.at += 1
            return [("sum", self.lowered())]
        if sign == "√":
            self.at += 1
            return [("call", "√", self.argument())]
        if sign == "∂":
            return [self.partial()]
        if sign in "ᵀ^" or sign in _HIGH:
            return [self.raised(sign)]
        return self.word()

    def argument(self) -> list[Item]:
        if self.text[self.at] == "(":
            self.at += 1
            return self.items(")")
        return self.word()

    def partial(self) -> Item:
        self.at += 1
        top = self.atom()
        assert self.text[self.at : self.at + 2] == "/∂", self.text[self.at :]
        self.at += 2
        return ("partial", [top], [self.atom()])

    def raised(self, sign: str) -> Item:
        if sign == "ᵀ":
            self.at += 1
            return ("transpose",)
        if sign == "^":
            self.at += 1
            return ("power", self.argument())
        body = self.run(_HIGH)
        return ("power", text_items(unicodedata.normalize("NFKC", body)))

    def run(self, signs: str) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in signs:
            self.at += 1
        return self.text[start : self.at]

    def lowered(self) -> str:
        if self.text[self.at : self.at + 1] == "_":
            return self.script()
        found = self.run(_LOW)
        while found and self.text[self.at : self.at + 1] == "," and self.text[self.at + 1 : self.at + 2] in tuple(_LOW):
            self.at += 1
            found += "," + self.run(_LOW)
        return found

    def script(self) -> str:
        """_out, _(n,i) or _out,(1:4): parts with commas between them."""
        found = ""
        while self.text[self.at : self.at + 1] in ("_", ",") and not self.text.startswith(", ", self.at):
            self.at += 1
            if self.text[self.at : self.at + 1] == "(":
                found += self.bracket()
            else:
                match = re.compile(r"[^\W_ᵀ]+", re.U).match(self.text, self.at)
                assert match, self.text[self.at :]
                found += match[0]
                self.at = match.end()
            found += ","
        return found

    def bracket(self) -> str:
        depth, start = 0, self.at
        while True:
            depth += (self.text[self.at] == "(") - (self.text[self.at] == ")")
            self.at += 1
            if not depth:
                return self.text[start + 1 : self.at - 1]

    def word(self) -> list[Item]:
        match = re.compile(r"\d+(?:\.\d+)?|∞").match(self.text, self.at)
        if match:
            self.at = match.end()
            return [("number", 7.5 if match[0] == "∞" else float(match[0]))]
        return [self.atom()]

    def atom(self) -> Item:
        """A letter or a word with its accent and scripts; a call where a parenthesis follows at once."""
        name = self.letters()
        accent = _ACCENTS.get(self.text[self.at : self.at + 1], "")
        self.at += bool(accent)
        sub = self.lowered()
        primes = self.run("′")
        if self.text[self.at : self.at + 1] == "(":
            self.at += 1
            return ("call", name + sub + "'" * len(primes), self.items(")"))
        return ("symbol", name, sub, self.label(), accent)

    def letters(self) -> str:
        """A word, or a name of several parts that a function has; digits belong to it before a parenthesis alone."""
        for name in ("ln softmax", "ln σ", "Jᵀ", "avgpoolᵀ", "convᵀ", "vec⁻¹"):
            if self.text.startswith(name + ("(" if name != "Jᵀ" else ""), self.at):
                self.at += len(name)
                return name
        start = self.at
        while (
            self.at < len(self.text) and self.text[self.at].isalpha() and self.text[self.at] not in _LOW + _HIGH + "ᵀ"
        ):
            self.at += 1
        digits = re.compile(r"(?:\d+[a-z]*|\[[^\]]*\])(?=[(′])").match(self.text, self.at)
        self.at = digits.end() if digits and self.at > start else self.at
        assert self.at > start, self.text[self.at :]
        return self.text[start : self.at]

    def label(self) -> str:
        """A superscript in parentheses: ⁽¹⁾ or ^(blocks.0)."""
        if self.text[self.at : self.at + 1] == "⁽":
            start = self.at
            self.at = self.text.index("⁾", self.at) + 1
            return unicodedata.normalize("NFKC", self.text[start : self.at])
        if self.text[self.at : self.at + 2] == "^(" and not self.is_power():
            self.at += 1
            return self.bracket()
        return ""

    def is_power(self) -> bool:
        """Whether ^( begins an exponent: it has a sign with spaces around it."""
        keep = self.at
        self.at += 1
        inside = self.bracket()
        self.at = keep
        return " " in inside

    def cases(self) -> Item:
        self.at += 1
        depth, start = 1, self.at
        while depth:
            depth += (self.text[self.at] == "{") - (self.text[self.at] == "}")
            self.at += 1
        rows = []
        for row in _split(self.text[start : self.at - 1]):
            value, _, test = row.rpartition(" if ")
            if value:
                rows.append((text_items(value.strip()), text_items(test.strip())))
            else:
                rows.append((text_items(row.removesuffix("otherwise").strip()), None))
        return ("cases", rows)


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "({[") - (sign in ")}]")
        if sign == ";" and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [p.strip() for p in parts]


# --- LaTeX ----------------------------------------------------------------------------------------------------------------
_TOKEN = re.compile(r"\\begin\{cases\}|\\end\{cases\}|\\\\|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\S")
_MACROS = {f"\\{name}": letter for name, letter in GREEK.items()} | {
    r"\to": "→",
    r"\varepsilon": "ε",
    r"\varphi": "φ",
    r"\ell": "ℓ",
}
_UPRIGHT = {
    "log",
    "ln",
    "exp",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "arctan",
    "arcsin",
    "arccos",
    "max",
    "min",
    "det",
}
_SIGNS = {r"\odot": "⊙", r"\ast": "∗", r"\star": "⋆", r"\cdot": "·", "-": "−", "+": "+", ",": ",", "=": "=", "<": "<",
          ">": ">", r"\le": "≤", r"\ge": "≥", r"\ne": "≠"}  # fmt: skip


def latex_items(text: str) -> list[Item]:
    """The items of a formula in LaTeX."""
    return _Latex(_TOKEN.findall(text)).items(())


class _Latex:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def items(self, ends: tuple[str, ...]) -> list[Item]:
        found: list[Item] = []
        while self.peek() and self.peek() not in ends:
            if self.peek() in (r"\,", r"\quad", r"\;", r"\!", "{}"):
                self.take()
            else:
                found += self.one()
        return found

    def one(self) -> list[Item]:
        token = self.take()
        if token in _SIGNS:
            return [("op", _SIGNS[token])]
        if token == "{":
            inside = self.items(("}",))
            self.take()
            return [("group", inside)] if inside else []
        if token in ("(", "[") or token in (r"\left", r"\lvert"):
            return [self.fenced(token)]
        if token == "^":
            return [self.raised()]
        if token == r"\frac":
            return [self.fraction()]
        if token == r"\sqrt":
            return [("call", "√", self.argument())]
        if token == r"\sum":
            self.take()
            return [("sum", self.raw())]
        if token == r"\begin{cases}":
            return [self.cases()]
        if re.fullmatch(r"\d+(?:\.\d+)?", token) or token == r"\infty":
            return [("number", 7.5 if token == r"\infty" else float(token))]
        if token == r"\text":
            return [("words", self.raw())]
        return [self.atom(token)]

    def argument(self) -> list[Item]:
        assert self.take() == "{"
        inside = self.items(("}",))
        self.take()
        return inside

    def raw(self) -> str:
        """The text of a group, its macros as letters."""
        assert self.take() == "{"
        depth, found = 1, ""
        while depth:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if not depth:
                break
            if token != r"\,":
                found += (
                    {r"\hat": "\u0302", **_MACROS}.get(token, "")
                    if token.startswith("\\") and len(token) > 2
                    else token.removeprefix("\\")
                )
        return found

    def fenced(self, token: str) -> Item:
        if token == r"\lvert":
            inside = self.items((r"\rvert",))
            self.take()
            return ("call", "abs", inside)
        if token == r"\left":
            self.take()
            inside = self.items((r"\right",))
            self.at += 2
            return ("group", inside)
        inside = self.items((")" if token == "(" else "]",))
        self.take()
        return ("group", inside)

    def raised(self) -> Item:
        inside = self.tokens[self.at : self.at + 4]
        if inside[:3] == ["{", r"\mathsf", "T"]:
            self.at += 4
            return ("transpose",)
        return ("power", self.argument())

    def fraction(self) -> Item:
        parts = []
        is_partial = self.tokens[self.at + 1] == r"\partial"
        for _ in range(2):
            assert self.take() == "{"
            if is_partial:
                assert self.take() == r"\partial"
            parts.append(self.items(("}",)))
            self.take()
        return ("partial" if is_partial else "frac", *parts)

    def cases(self) -> Item:
        rows: list[tuple[list[Item], list[Item] | None]] = []
        while True:
            value = self.items(("&",))
            self.take()
            words = (self.take(), self.raw())[1]
            test = None if words == "otherwise" else self.items((r"\\", r"\end{cases}"))
            rows.append((value, test))
            if self.take() == r"\end{cases}":
                return ("cases", rows)

    def atom(self, token: str) -> Item:
        name, accent = self.name(token)
        sub = sup = primes = ""
        if self.peek() == "_":
            self.take()
            sub = self.raw() if self.peek() == "{" else self.take()
        if self.tokens[self.at : self.at + 3] == ["^", "{", "("]:
            self.take()
            sup = self.raw()
        while self.peek() == "'":
            primes += self.take()
        if (
            name.endswith("ᵀ")
            or self.tokens[self.at : self.at + 2]
            in (
                [
                    "(",
                ],
                ["(", "("],
            )
            or self.follows()
        ):
            if self.follows():
                if self.peek() == r"\!":
                    self.take()
                token = self.take()
                return ("call", name + sub + primes, self.fenced(token)[1])
        return ("symbol", name, sub, sup, accent)

    def follows(self) -> bool:
        """Whether a parenthesis follows at once."""
        return self.peek() in ("(", r"\left", r"\!")

    def name(self, token: str) -> tuple[str, str]:
        if token in (r"\hat", r"\bar", r"\tilde", r"\widehat", r"\overline", r"\widetilde"):
            accent = {r"\hat": "hat", r"\widehat": "hat", r"\bar": "bar", r"\overline": "bar"}.get(token, "tilde")
            return self.raw(), accent
        if token in (r"\mathit", r"\mathrm", r"\textit", r"\operatorname"):
            name = self.raw()
            return (name + self.inverse(), "")
        if token[1:] in _UPRIGHT:
            name = token[1:]
            if self.peek() == r"\operatorname" and name == "ln":
                self.take()
                return "ln softmax" if self.raw() == "softmax" else "?", ""
            if self.peek() == r"\sigma" and name == "ln":
                self.take()
                return "ln σ", ""
            return name, ""
        name = _MACROS.get(token, token)
        return (name + self.inverse() if name == "J" else name), ""

    def inverse(self) -> str:
        """vec to the power of -1, conv and a Jacobian transposed: parts of a function's name."""
        if self.tokens[self.at : self.at + 4] == ["^", "{", "-", "1"]:
            self.at += 5
            return "⁻¹"
        if self.tokens[self.at : self.at + 3] == ["^", "{", r"\mathsf"]:
            self.at += 5
            return "ᵀ"
        return ""


# --- MathML -----------------------------------------------------------------------------------------------------------------
def mathml_items(text: str) -> list[Item]:
    """The items of a formula in MathML."""
    return _of(ElementTree.fromstring(f"<m>{text}</m>")[0])


_APPLY, _TIMES = "\u2061", "\u2062"
_OPERATORS = set("+−⊙∗⋆·,=<>≤≥≠")


def _of(node: ElementTree.Element) -> list[Item]:
    rule = _RULES.get(node.tag)
    if rule is not None:
        return rule(node)  # type: ignore[no-any-return]
    raise AssertionError(node.tag)


def _all(node: ElementTree.Element) -> str:
    return "".join(node.itertext())


def _row(node: ElementTree.Element) -> list[Item]:
    children = [c for c in node if not (c.tag == "mo" and c.text == _TIMES) and c.tag != "mspace"]
    if len(children) >= 2 and children[1].tag == "mo" and children[1].text == _APPLY:
        inside = [i for c in children[2:] for i in _of(c)]
        return [("call", _function(children[0]), inside[0][1] if inside[0][0] == "group" else inside)]
    if children and children[0].tag == "mo" and children[0].get("fence") == "true" and children[0].text in ("(", "["):
        return [("group", [i for c in children[1:-1] for i in _of(c)])]
    if children and children[0].tag == "mo" and children[0].text == "|":
        return [("call", "abs", [i for c in children[1:-1] for i in _of(c)])]
    if children and children[0].tag == "mo" and children[0].text == "{":
        return [_cases(children[1])]
    if children and children[0].tag in ("munder", "munderover") and children[0][0].text == "∑":
        return [("sum", _all(children[0][1])), *[i for c in children[1:] for i in _of(c)]]
    found = [i for c in children for i in _of(c)]
    return found if node.get("open") else _grouped(found)


def _grouped(items: list[Item]) -> list[Item]:
    return items


def _function(node: ElementTree.Element) -> str:
    return _all(node).replace("′", "'")


def _cases(table: ElementTree.Element) -> Item:
    rows: list[tuple[list[Item], list[Item] | None]] = []
    for row in table:
        value, test = (cell[0] for cell in row)
        condition = None if _all(test) == "otherwise" else [i for c in list(test)[1:] for i in _of(c)]
        rows.append((_of(value), condition))
    return ("cases", rows)


def _identifier(node: ElementTree.Element) -> list[Item]:
    return [("symbol", node.text or "", "", "", "")]


def _number(node: ElementTree.Element) -> list[Item]:
    return [("number", 7.5 if node.text == "∞" else float(node.text or "nan"))]


def _operator(node: ElementTree.Element) -> list[Item]:
    text = node.text or ""
    return [("op", text)] if text in _OPERATORS else []


def _fraction(node: ElementTree.Element) -> list[Item]:
    top, bottom = node
    if len(top) and top[0].text == "∂":
        return [("partial", *([i for c in list(part)[1:] for i in _of(c)] for part in (top, bottom)))]
    return [("frac", _of(top), _of(bottom))]


def _scripted(node: ElementTree.Element) -> list[Item]:
    base, *scripts = node
    last = scripts[-1]
    if last.tag == "mi" and last.get("mathvariant") == "normal" and node.tag == "msup":
        return [("group", _of(base)), ("transpose",)]
    sub = _all(scripts[0]) if node.tag in ("msub", "msubsup") else ""
    if node.tag == "msup" and not (_all(last).startswith("(") and len(last) and last[0].text == "("):
        return [("group", _of(base)), ("power", _of(last))]
    name, accent = _base(base)
    return [("symbol", name, sub, _all(last).replace("^", "\u0302") if node.tag != "msub" else "", accent)]


def _base(node: ElementTree.Element) -> tuple[str, str]:
    if node.tag == "mover":
        return node[0].text or "", {"^": "hat", "¯": "bar", "~": "tilde"}[node[1].text or ""]
    return node.text or "", ""


_RULES = {
    "mrow": _row, "mi": _identifier, "mn": _number, "mo": _operator, "mfrac": _fraction, "msup": _scripted, "msub": _scripted,
    "msubsup": _scripted, "mover": lambda n: [("symbol", _base(n)[0], "", "", _base(n)[1])],
    "msqrt": lambda n: [("call", "√", [i for c in n for i in _of(c)])], "mtext": lambda n: [("words", _all(n))],
}  # fmt: skip
