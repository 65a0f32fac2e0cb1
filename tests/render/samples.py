"""Formulas and documents made at random from a seed, and one document that holds every kind of block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from random import Random

from backproof.document.blocks import (
    Block,
    Callout,
    Code,
    Derivation,
    Details,
    Document,
    Equation,
    Figure,
    Glance,
    Instant,
    Items,
    Paragraph,
    Plot,
    Section,
    Series,
    Table,
)
from backproof.document.drawing import Drawing, Ellipse, Label, Path, Rectangle
from backproof.document.math import (
    Add,
    BigSum,
    Call,
    Cases,
    Div,
    Expr,
    Function,
    Indicator,
    Matrix,
    Mul,
    Neg,
    Num,
    Partial,
    Pow,
    Ref,
    Rel,
    Sym,
    Transpose,
    Words,
)

HOSTILE = (
    "<script>alert(1)</script>", "]]>", "a_b^c", r"\input{x}", "$1 & 2$", "100% #1 {x} ~",
    "**bold** `code` [l](u)", "é ß 中 🙂 \x00 \u202e", "| pipe |", '"quoted" \'too\'', "</style>",
    "{{ 7*7 }}", r"\end{document}",
    "--- ``x''", "# heading", "1. one", "x²",
)  # fmt: skip
EXACT = (
    "pi/2 + 4",
    "sqrt(2)/3",
    "3/4",
    "-3/4",
    "-pi",
    "2**(1/3)",
    "exp(-2)",
    "2*pi/3",
    "-5/2 + sqrt(3)",
    "7",
)
NAMES = ("x", "W", "delta", "lr", "eta", "s_out", "L", "epsilon", "Alpha")
FUNCTIONS = ("ReLU", "tanh", "exp", "sqrt", "abs", "log", "sin", "f", "sigma", "max", "norm")


def number(random: Random) -> Num:
    """Return a number of any size and sign, sometimes exact, sometimes with a reference."""
    ref = Ref("s", (random.randrange(3), 1), step=1) if random.random() < 0.4 else None
    if random.random() < 0.2:
        return Num(random.uniform(-3, 3), random.choice(EXACT), ref)
    value = random.choice([-1, 1]) * random.uniform(1, 10) * 10.0 ** random.randint(-9, 7)
    return Num(random.choice([value, round(value, 2), float(round(value)), random.randint(-99, 99)]), ref=ref)


def symbol(random: Random) -> Sym:
    """Return a letter or a word with any scripts and accent."""
    sub = random.choice([(), (), ("1",), ("i", "j"), ("out",), ("t-1",), ("12", "3"), ("alpha",)])
    sup = random.choice([(), (), (), ("1",), ("t+1",), ("out",)])
    accent = random.choice(["", "", "", "hat", "bar", "tilde"])
    return Sym(random.choice(NAMES), sub, sup, accent, random.choice([None, Ref("W", (), "gradient", 2)]))


def formula(random: Random, depth: int = 3) -> Expr:
    """Return a formula of any shape."""
    if depth == 0 or random.random() < 0.1:
        return random.choice([number, symbol])(random)
    return random.choice(SHAPES)(random, lambda: formula(random, depth - 1))


Make = Callable[[], Expr]


def _several(random: Random, make: Make, most: int = 3) -> tuple[Expr, ...]:
    return tuple(make() for _ in range(random.randint(1, most)))


def _call(random: Random, make: Make) -> Expr:
    function = Function(random.choice(FUNCTIONS), primes=random.choice([0, 0, 0, 1, 2]))
    return Call(function, tuple(make() for _ in range(2 if function.name == "max" else 1)))


def _matrix(random: Random, make: Make) -> Expr:
    width = random.randint(1, 3)
    return Matrix(tuple(tuple(make() for _ in range(width)) for _ in range(random.randint(1, 3))))


def _relation(random: Random, make: Make) -> Rel:
    return Rel(random.choice(["=", "<", ">", "<=", ">=", "!=", "approx"]), make(), make())


def _big_sum(random: Random, make: Make) -> Expr:
    bound = random.choice([(None, None), (Num(1), Sym("n")), (None, Sym("n")), (Rel("!=", Sym("j"), Sym("i")), None)])
    return BigSum(make(), random.choice(["i", "alpha"]), *bound)


SHAPES: list[Callable[[Random, Make], Expr]] = [
    lambda random, make: Add(_several(random, make)),
    lambda random, make: Mul(_several(random, make), random.choice(["", "", "matrix", "elementwise"])),  # type: ignore[arg-type]
    lambda random, make: Neg(make()),
    lambda random, make: Div(make(), make()),
    lambda random, make: Pow(make(), make()),
    lambda random, make: Transpose(make()),
    lambda random, make: Partial(make(), make()),
    lambda random, make: Indicator(_relation(random, make)),
    lambda random, make: Cases(((make(), _relation(random, make)), (make(), None))),
    lambda random, make: Words(random.choice(HOSTILE)),
    _call,
    _matrix,
    _relation,
    _big_sum,
]


def arithmetic(random: Random, depth: int = 4) -> Expr:
    """Return a formula of numbers with + - · / and small powers."""
    if depth == 0 or random.random() < 0.15:
        return Num(random.choice([random.randint(-9, 9), round(random.uniform(-5, 5), 2), 1.25e-05, -3.5e-07]))
    terms = tuple(arithmetic(random, depth - 1) for _ in range(random.randint(1, 3)))
    shape = random.randrange(5)
    if shape == 0:
        return Add(terms)
    if shape == 1:
        return Mul(terms)
    if shape == 2:
        return Neg(terms[0])
    return Div(terms[0], terms[-1]) if shape == 3 else Pow(terms[0], Num(random.choice([2, 3, -1])))


def distinct(random: Random) -> Num:
    """Return a number whose digits are unlikely to stand anywhere else."""
    return Num(random.choice([-1, 1]) * random.randint(1111, 9999) * 10.0 ** random.randint(-13, 0))


def _parts(random: Random) -> tuple[str | Expr, ...]:
    return (random.choice(HOSTILE), " then ", distinct(random), " and ", symbol(random))


def _equation(random: Random) -> Equation:
    terms = tuple(Mul((distinct(random), distinct(random))) for _ in range(random.choice([2, 12])))
    left = random.choice([symbol(random), Partial(Sym("L"), Sym("W")), Add(tuple(symbol(random) for _ in range(9)))])
    steps = (formula_of(random), Add(terms), Mul(terms[:3]), distinct(random))
    return Equation(left, steps, random.choice(["", "chain rule", *HOSTILE]), Ref("s"))


def formula_of(random: Random) -> Expr:
    """Return a formula of every shape around numbers that are unlikely to stand anywhere else."""
    return random.choice(SHAPES)(random, lambda: distinct(random))


def _table(random: Random) -> Table:
    width = random.choice([1, 4, 15])
    heads = tuple(_parts(random)[:1] for _ in range(width))
    rows = tuple(
        tuple(random.choice([distinct(random), None, "text", _parts(random), Num(0.5, "1/2")]) for _ in range(width))
        for _ in range(3)
    )
    return Table(heads, rows, random.choice(HOSTILE), tuple(range(0, width, 2)))


def drawing() -> Drawing:
    """Return a drawing with every kind of shape."""
    ref = Ref("W", (0, 1))
    return Drawing(
        700,
        120,
        (
            Path(((10, 10), (200, 60), (300, 20)), "negative", arrow=True, curved=True, ref=ref),
            Path(((10, 10), (200, 60)), "forward", arrow=True),
            Rectangle(300, 30, 80, 40, role="update", ref=ref),
            Ellipse(450, 50, 30, 20, "series1 solid"),
            *(Label(20 + 30 * place, 100, name, role="muted") for place, name in enumerate(HOSTILE)),
            Label(450, 50, Sym("delta", ("out",)), "start"),
            Label(500, 50, Num(-0.0123456), "end"),
            Path((), "axis"),
        ),
    )


def _plot() -> Plot:
    lines = (
        Series("loss <1>", (0, 1, 2, 3), (1.0, 0.1, float("nan"), 1e-4)),
        Series("p", (1, 2), (0.5, 0.0), "points"),
    )
    return Plot(lines, "step & <x>", "loss_$", ("It falls by ", Num(0.4321)), "The loss falls.", log_y=True)


def blocks(random: Random) -> tuple[Block, ...]:
    """Return one block of every kind."""
    inner: tuple[Block, ...] = (
        Paragraph(_parts(random)),
        _table(random),
        Code("x = '```'\n\\end{verbatim} <b>é", "c++"),
    )
    return (
        Paragraph(_parts(random)),
        Derivation(tuple(_equation(random) for _ in range(3))),
        _table(random),
        Items((_parts(random), ("one",)), random.random() < 0.5),
        *(
            Callout(kind, _parts(random), random.choice(["", *HOSTILE]))
            for kind in ("note", "warning", "agrees", "finding")
        ),
        Figure(drawing(), _parts(random), random.choice(HOSTILE)),
        _plot(),
        Glance(symbol(random), _parts(random), (1, 0, 3), -1.0, 2.0, ((0.5, -1.0), (0.0, 1.0)), Ref("W")),
        Instant(random.choice(HOSTILE), inner, "forward", 1, (Ref("s"),), (Ref("W", (), "before"),), HOSTILE[0]),
        Details(random.choice(HOSTILE), inner, random.random() < 0.5),
        Section(random.choice(HOSTILE), (Section("Deeper", inner, "loss"),), "backward", "same-anchor"),
        Section(
            random.choice(HOSTILE),
            (Section("A", (Section("B", (Section("C", inner),)),)),),
            "update",
            "same-anchor",
        ),
    )


def document(seed: int) -> Document:
    """Return a document with every kind of block, hostile names and numbers that can be found again."""
    random = Random(seed)
    record: dict[str, object] = {"</script><script>alert(1)</script>": [1, float("inf"), "]]>", "\u2028"]}
    parts = tuple(_chapter(random, place) for place in range(2))
    return Document(HOSTILE[0], blocks(random), HOSTILE[5], HOSTILE[seed % len(HOSTILE)], "agrees", record, parts=parts)


def _chapter(random: Random, place: int) -> Document:
    """A part of a document: of two with the same title and anchor, the second has a part too."""
    deeper = (Document("Deeper", (_table(random),)),) if place else ()
    inside = blocks(random)[:6] if place else ()
    return Document(HOSTILE[1], inside, HOSTILE[3], HOSTILE[4], "finding", {"a": 1}, parts=deeper, anchor="same-anchor")


def numbers(value: object) -> Iterator[Num]:
    """Yield every number of a document outside pictures."""
    if isinstance(value, Num):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from numbers(item)
    elif is_dataclass(value) and not isinstance(value, (Drawing, Series, type)):
        for field in fields(value):
            yield from numbers(getattr(value, field.name))
