"""Read formulas into a Graph."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BackproofError, FormulaError, InputError
from ..graph import Builder, Graph, Node, Role, Source
from ..ops import OPS, Elementwise, Op
from ..ops.arbitrary import arbitrary, differentiated
from ..ops.shapes import axes_of
from .parse import parse, primed
from .quantity import CONSTANTS

__all__ = ["FUNCTIONS", "FormulaOrigin", "add_formula", "is_function", "read_model"]

_ALIASES = {
    "ln": "log",
    "sigma": "sigmoid",
    "σ": "sigmoid",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "logistic": "sigmoid",
    "swish": "silu",
}
_BINARY: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
}
_RELATIONS: dict[type[ast.AST], str] = {
    ast.Gt: "gt",
    ast.Lt: "lt",
    ast.GtE: "ge",
    ast.LtE: "le",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}


# --- functions in formulas --------------------------------------------------------------------------------------------
Emit = Callable[..., Node]
_Build = Callable[["_Reader", list[Node], dict[str, Any]], Node]


@dataclass(frozen=True)
class _Builtin:
    """A function of formulas that is no elementwise operation.

    Args:
        build: from the reader, the operands and the keywords to a node.
        forms: how it may be called, for the message.
        counts: the numbers of operands that it takes; keywords go with the first of them.
        keywords: the keywords that it takes.
    """

    build: _Build
    forms: str
    counts: tuple[int, ...] = (1,)
    keywords: frozenset[str] = frozenset()

    def takes(self, count: int, keywords: set[str]) -> bool:
        both = {"dim", "axis"} <= keywords
        return count in self.counts and not both and keywords <= (self.keywords if count == self.counts[0] else set())


_AXES = frozenset({"dim", "axis", "keepdim"})


def _axes(keywords: dict[str, Any], default: Any = None) -> Any:
    return keywords.get("dim", keywords.get("axis", default))


def _folding(op: str) -> _Build:
    def build(reader: _Reader, args: list[Node], keywords: dict[str, Any]) -> Node:
        dim = _axes(keywords)
        if dim is None and op == "logsumexp":
            dim = tuple(range(len(args[0].shape)))  # torch's logsumexp has no "all axes"
        return reader.emit(op, args[0], dim=dim, keepdim=bool(keywords.get("keepdim", False)))

    return build


def _reduction(op: str) -> _Builtin:
    return _Builtin(_folding(op), f"{op}(x, dim=, keepdim=)", (1,), _AXES)


def _extreme(name: str, pair: str, fold: str) -> _Builtin:
    def build(reader: _Reader, args: list[Node], keywords: dict[str, Any]) -> Node:
        return reader.emit(pair, *args) if len(args) == 2 else _folding(fold)(reader, args, keywords)

    return _Builtin(build, f"{name}(a, b) or {name}(x, dim=, keepdim=)", (1, 2), _AXES)


def _along(op: str, name: str = "") -> _Builtin:
    def build(reader: _Reader, args: list[Node], keywords: dict[str, Any]) -> Node:
        dim = _axes(keywords, -1)
        if not isinstance(dim, int):
            raise InputError(f"{name or op} runs along one axis, not {dim}")
        axes_of(dim, len(args[0].shape))
        return reader.emit(op, args[0], dim=dim)

    return _Builtin(build, f"{name or op}(x, dim=)", (1,), frozenset({"dim", "axis"}))


def _transposed(reader: _Reader, args: list[Node], keywords: dict[str, Any]) -> Node:
    return reader.transpose(args[0])


def _reduce(reader: _Reader, args: list[Node], keywords: dict[str, Any]) -> Node:
    """The sum or the mean over all entries, by the problem's setting ``reduction``."""
    return reader.emit(reader.reduction, args[0])


def _norm(reader: _Reader, args: list[Node], keywords: dict[str, Any]) -> Node:
    return reader.emit("root", _folding("sum")(reader, [reader.emit("square", args[0])], keywords))


def _product(name: str, op: str = "matmul") -> _Builtin:
    return _Builtin(lambda reader, args, keywords: reader.emit(op, *args), f"{name}(a, b)", (2,))


def _cast(dtype: str) -> _Builtin:
    return _Builtin(lambda reader, args, keywords: reader.emit("cast", args[0], dtype=dtype), f"{dtype}(x)")


CASTS = {dtype: _cast(dtype) for dtype in ("bfloat16", "float16", "float32", "float64")}
"""Roundings to a dtype, for rules that calculate in another one on the way."""
FUNCTIONS: dict[str, _Builtin] = {
    "sum": _reduction("sum"),
    "mean": _reduction("mean"),
    "logsumexp": _reduction("logsumexp"),
    "max": _extreme("max", "maximum", "amax"),
    "min": _extreme("min", "minimum", "amin"),
    "index": _along("positions", "index"),
    "softmax": _along("softmax"),
    "log_softmax": _along("log_softmax"),
    "transpose": _Builtin(_transposed, "transpose(x)"),
    "reduce": _Builtin(_reduce, "reduce(x)"),
    "norm": _Builtin(_norm, "norm(x, dim=, keepdim=)", (1,), _AXES),
    "dot": _product("dot"),
    "matmul": _product("matmul"),
    "outer": _product("outer", "outer"),
}


def is_function(name: str) -> bool:
    """Whether formulas know a function of this name."""
    return name in FUNCTIONS or name in CASTS or _ALIASES.get(name, name) in OPS


class _Reader:
    """Turns one syntax tree after another into nodes.

    Args:
        functions: the names that are arbitrary functions.
        indices: givens that are whole numbers, which may stand as an index: p[y].
    """

    def __init__(
        self,
        builder: Builder,
        names: dict[str, Node],
        reduction: str = "sum",
        dtype: str = "float64",
        reserved: Iterable[str] = (),
        functions: Iterable[str] = (),
        indices: Mapping[str, int] | None = None,
    ) -> None:
        self.functions, self.indices = frozenset(functions), indices or {}
        self.used: list[str] = []  # the givens that stood as an index
        self.builder, self.names, self.reduction, self.dtype = builder, names, reduction, dtype
        self.reserved = set(reserved)  # names of formulas, which no step inside another formula may take
        self.place, self.source = "", None

    def emit(self, op: Any, *inputs: Node, **attrs: Any) -> Node:
        record: Op = OPS[op] if isinstance(op, str) else op
        name = f"{record.name}#2" if record.name in self.reserved else record.name
        operands = self.operands(record, inputs)
        return self.builder.emit(record, *operands, source=self.source, name=name, **attrs)

    def operands(self, op: Op, inputs: Sequence[Node]) -> list[Node]:
        """A truth value counts as 0 or 1 in arithmetic, and a number as true unless it is 0 where truth is asked for."""
        if op.name == "where":
            return [self.truth(inputs[0]), *(self.count(x) for x in inputs[1:])]
        if op.name.startswith("logical_"):
            return [self.truth(x) for x in inputs]
        return [x if op.family in ("shape", "index") else self.count(x) for x in inputs]

    def truth(self, x: Node) -> Node:
        return x if x.dtype == "bool" else self.builder.emit("ne", x, self.number(0), source=self.source)

    def count(self, x: Node) -> Node:
        return x if x.dtype != "bool" else self.builder.emit("cast", x, dtype=self.dtype, source=self.source)

    def assign(self, name: str, text: str, place: str, source: Source | None, role: Role = "value") -> Node:
        """Read ``name = text`` and name the result."""
        self.place, self.source = place, source  # type: ignore[assignment]
        tree = parse(text, place)
        before = len(self.builder.nodes)
        try:
            node = self.read(tree)
        except FormulaError:
            raise
        except BackproofError as error:
            raise FormulaError(f"{place}, {text}: {error}") from None
        if node not in self.builder.nodes[before:] or node.role == "constant":
            node = self.emit("identity", node)
        self.names[name] = self.builder.rename(node, name, role)
        return self.names[name]

    def read(self, tree: ast.expr) -> Node:
        if isinstance(tree, ast.Constant):
            return self.number(tree.value)
        if isinstance(tree, ast.Name):
            return self.name(tree.id)
        if isinstance(tree, ast.UnaryOp):
            return self.negative(tree)
        if isinstance(tree, ast.BinOp):
            return self.emit(_BINARY[type(tree.op)], self.read(tree.left), self.read(tree.right))
        if isinstance(tree, ast.Compare):
            return self.emit(_RELATIONS[type(tree.ops[0])], self.read(tree.left), self.read(tree.comparators[0]))
        if isinstance(tree, ast.Attribute):
            return self.transpose(self.read(tree.value))
        if isinstance(tree, ast.Subscript):
            return self.subscript(tree)
        if isinstance(tree, ast.Call):
            return self.call(tree)
        raise FormulaError(f"{self.place} has '{ast.unparse(tree)}' where a number is needed")

    def number(self, value: Any) -> Node:
        if not isinstance(value, (int, float)):
            raise FormulaError(f"{self.place} has {value!r} where a number is needed")
        return self.builder.constant(value, (), self.dtype)

    def negative(self, tree: ast.UnaryOp) -> Node:
        if isinstance(tree.op, ast.UAdd):
            return self.read(tree.operand)
        if isinstance(tree.operand, ast.Constant):
            return self.number(-tree.operand.value)  # type: ignore[operator]
        return self.emit("neg", self.read(tree.operand))

    def name(self, name: str) -> Node:
        if name in self.names:
            return self.names[name]
        if name in CONSTANTS:
            return self.builder.constant(CONSTANTS[name], (), self.dtype, name=name)
        if name in self.functions:
            raise FormulaError(f"{self.place} uses the function '{name}' without an argument; write {name}(...)")
        close = difflib.get_close_matches(name, list(self.names), 1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(self.names) or 'nothing yet'}"
        raise FormulaError(f"{self.place} uses '{name}', which is not given and not computed before it{hint}")

    def transpose(self, node: Node) -> Node:
        rank = len(node.shape)
        return node if rank < 2 else self.emit("permute", node, dims=(*range(rank - 2), rank - 1, rank - 2))

    def subscript(self, tree: ast.Subscript) -> Node:
        node, dim = self.read(tree.value), 0
        parts = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
        if len(parts) > len(node.shape):
            raise FormulaError(
                f"{self.place}: '{ast.unparse(tree)}' has more indices than '{ast.unparse(tree.value)}' has axes"
            )
        for part in parts:
            if isinstance(part, ast.Slice):
                bounds = [None if b is None else _integer(b, self.place) for b in (part.lower, part.upper, part.step)]
                if bounds[2] is not None and bounds[2] < 1:
                    raise FormulaError(f"{self.place}: '{ast.unparse(tree)}' steps backwards or not at all")
                start, end, step = slice(*bounds).indices(node.shape[dim])
                if start >= end:
                    raise FormulaError(f"{self.place}: '{ast.unparse(tree)}' is empty")
                node, dim = self.emit("slice", node, dim=dim, start=start, end=end, step=step), dim + 1
            else:
                node = self.emit("select", node, dim=dim, index=self.index(part, node.shape[dim]))
        return node

    def index(self, part: ast.expr, size: int) -> int:
        """A whole number, or a given that is one; the latter counts from 0 and never from the end."""
        if not isinstance(part, ast.Name):
            return _integer(part, self.place)
        index = self.indices.get(part.id)
        if index is None:
            raise FormulaError(
                f"{self.place} uses '{part.id}' as an index, which is no whole number; an index is a whole number or a "
                "given that is one, counted from 0"
            )
        if not 0 <= index < size:
            raise FormulaError(
                f"{self.place} uses {part.id} = {index} as an index where there are {size} entries; "
                f"give {part.id} a whole number from 0 to {size - 1}"
            )
        self.used.append(part.id)
        return index

    def call(self, tree: ast.Call) -> Node:
        name, primes = primed(tree.func.id)  # type: ignore[attr-defined]
        if name not in self.functions and not is_function(name):
            close = difflib.get_close_matches(name, [*self.functions, *FUNCTIONS, *OPS, *_ALIASES], 1)
            raise FormulaError(
                f"{self.place} calls '{name}', which is not a known function"
                + (f"; did you mean '{close[0]}'?" if close else "")
            )
        args = [self.read(a) for a in tree.args]
        keywords = {k.arg or "": _literal(k.value, self.place) for k in tree.keywords}
        if not args:
            raise FormulaError(f"{self.place} calls '{name}' without an argument")
        if name in self.functions:
            return self.undefined(name, primes, args, keywords)
        if (name in FUNCTIONS or name in CASTS) and not primes:
            return self.builtin(name, FUNCTIONS.get(name) or CASTS[name], args, keywords)
        return self.elementwise(_ALIASES.get(name, name), args, keywords, primes)

    def undefined(self, name: str, primes: int, args: list[Node], keywords: dict[str, Any]) -> Node:
        """A call of a function that was declared to be arbitrary, or of its derivative."""
        if len(args) != 1 or keywords:
            raise FormulaError(f"{self.place} calls '{name}' with the wrong arguments; it has one: {name}(s)")
        return self.emit(differentiated(arbitrary(name), primes), self.count(args[0]))

    def builtin(self, name: str, function: _Builtin, args: list[Node], keywords: dict[str, Any]) -> Node:
        if not function.takes(len(args), set(keywords)):
            raise FormulaError(f"{self.place} calls {name} with the wrong arguments; it is {function.forms}")
        dims = _axes(keywords)
        whole = all(type(d) is int for d in (dims if isinstance(dims, tuple) else (dims,)))
        if (dims is not None and not whole) or keywords.get("keepdim", 0) not in (0, 1):
            raise FormulaError(
                f"{self.place} calls {name} along the axis {dims}; an axis is a whole number, counted from 0"
            )
        return function.build(self, args, keywords)

    def elementwise(self, name: str, args: list[Node], keywords: dict[str, Any], primes: int = 0) -> Node:
        op = OPS.get(name)
        if not isinstance(op, Elementwise) or (primes and not (op.differentiable and len(op.operands) == 1)):
            raise FormulaError(f"{self.place} calls '{name}{chr(39) * primes}', which has no meaning in a formula")
        if not _fits(op, len(args), keywords):
            wants = f"{name}({', '.join([*op.operands, *(f'{k}=' for k in op.attrs)])})"
            raise FormulaError(f"{self.place} calls {name} with the wrong arguments; it is {wants}")
        return self.emit(differentiated(op, primes), *args, **keywords)


def _fits(op: Op, count: int, keywords: dict[str, Any]) -> bool:
    """Whether an operation takes so many operands, and attributes like those of its examples."""
    if count != len(op.operands) or set(keywords) - set(op.attrs):
        return False
    given = [dict(example.attrs) for example in op.examples]
    enough = any(set(attrs) <= set(keywords) for attrs in given)
    return enough and all(
        _is_like(value, [op.attrs[key], *(a.get(key) for a in given)]) for key, value in keywords.items()
    )


def _is_like(value: Any, known: list[Any]) -> bool:
    """A number where numbers are known to fit; else (a word, a truth value) one of a kind with those."""
    if isinstance(value, (bool, str)):
        return any(type(value) is type(k) and (isinstance(k, bool) or value == k) for k in known)
    return isinstance(value, (int, float)) and any(
        isinstance(k, (int, float)) and not isinstance(k, bool) for k in known
    )


def _integer(tree: ast.expr, place: str) -> int:
    value = _literal(tree, place)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormulaError(f"{place}: the index '{ast.unparse(tree)}' must be a whole number")
    return value


def _literal(tree: ast.expr, place: str) -> Any:
    try:
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError):
        raise FormulaError(f"{place}: '{ast.unparse(tree)}' must be a plain number") from None


@dataclass(frozen=True)
class FormulaOrigin:
    """The texts behind a Graph of formulas: name -> formula, in order, and the setting ``reduction``.

    ``functions`` are the names that stand for arbitrary functions, ``indices`` the givens that stand as an index.
    """

    formulas: Mapping[str, str]
    reduction: str
    loss_name: str | None
    functions: tuple[str, ...] = ()
    indices: tuple[str, ...] = ()


def add_formula(
    builder: Builder,
    names: dict[str, Node],
    name: str,
    text: str,
    place: str,
    role: Role = "value",
    functions: Iterable[str] = (),
) -> Node:
    """Append ``name = text`` to a graph under construction; ``names`` gives the quantities it may use."""
    return _Reader(builder, names, functions=functions).assign(name, text, place, None, role)


def read_model(
    formulas: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    roles: Mapping[str, Role],
    reduction: str = "sum",
    loss: str | None = None,
    title: str = "",
    file: str = "",
    lines: Mapping[str, int] | None = None,
    outputs: Sequence[str] = (),
    functions: Sequence[str] = (),
    indices: Mapping[str, int] | None = None,
) -> Graph:
    """Read formulas, in order, into a Graph.

    Args:
        formulas: name -> formula; a formula may use the givens and what was computed before it.
        shapes: the givens' shapes by name.
        roles: the givens' roles ("parameter", "input", "target"), "input" by default.
        reduction: what ``reduce(...)`` means: "sum" or "mean".
        loss: the name of the loss; the last formula whose result is one number by default.
        title, file, lines: for messages and source lines.
        outputs: names that the model returns; the last one by default.
        functions: names that stand for arbitrary differentiable functions of one argument.
        indices: givens that are whole numbers, which formulas may use as an index.

    Raises:
        FormulaError: a formula is refused; the message quotes it.
    """
    builder, names = Builder(), {}
    for name, shape in shapes.items():
        names[name] = builder.leaf(name, roles.get(name, "input"), shape, "float64")
    reader = _Reader(builder, names, reduction, reserved=formulas, functions=functions, indices=indices)
    for name, text in formulas.items():
        if name in shapes or name in CONSTANTS or name in functions:
            raise FormulaError(f"'{name}' is given and computed; rename one of them")
        source = Source(file or "formula", (lines or {}).get(name, 0), f'{name} = "{text}"')
        reader.assign(name, text, f"the formula of '{name}'" + (f" in {file}" if file else ""), source)
    if not formulas:
        raise InputError("a model needs at least one formula")
    loss_node = _loss(names, list(formulas), loss)
    origin = FormulaOrigin(
        dict(formulas),
        reduction,
        loss_node.name if loss_node else None,
        tuple(functions),
        tuple(dict.fromkeys(reader.used)),
    )
    last = tuple(names[name] for name in (outputs or list(formulas)[-1:]))
    return Graph(tuple(builder.nodes), last, loss_node, title, origin).check()


def _loss(names: Mapping[str, Node], formulas: list[str], loss: str | None) -> Node | None:
    if loss is not None:
        if loss not in names:
            raise FormulaError(f"the loss '{loss}' is not computed; known: {', '.join(formulas)}")
        if names[loss].size != 1:
            raise FormulaError(
                f"the loss must be one number, and '{loss}' has shape {list(names[loss].shape)}; write sum(...) or mean(...)"
            )
        return names[loss]
    return names[formulas[-1]] if names[formulas[-1]].size == 1 else None
