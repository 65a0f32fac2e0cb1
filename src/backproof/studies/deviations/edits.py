"""Single edits of an update rule's formulas: what somebody who writes the rule down again may write otherwise.

Nothing here knows a rule or a mistake by name. An edit moves a term or a factor, drops one, adds one that the rule has
elsewhere, takes another name, another sign, another function, another order or another count of the updates.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from .program import Line, Path, Program, counted, put, sites

__all__ = ["Edit", "everywhere", "exchanged_edits", "expression", "further_edits", "plain_edits", "text_of_tree"]


@dataclass(frozen=True)
class Edit:
    """A changed program, the kind of change, what was changed, and from which line to which.

    Args:
        kind: "moved", "dropped", "sign", "name", "order", "count", "factor", "function", "swapped", "start", "narrow",
            "constant".
        what: the expression concerned, as text.
        where: the line it was changed in (its name), and for a move the line it went to.
        inside: the innermost function around it before, and after.
        how: what became of it; for a change around the rule the whole phrase.
        when: the updates that it holds for, in words; "" for all.
    """

    program: Program
    kind: str
    what: str
    where: tuple[str, ...]
    inside: tuple[str, str] = ("", "")
    how: str = ""
    when: str = ""


def plain_edits(program: Program) -> Iterator[Edit]:
    """The plain single edits: something left out, turned round, swapped, in another order, moved within its line."""
    yield from _dropped(program)
    yield from _counts(program)
    yield from _signs(program)
    yield from _order(program)
    yield from (e for e in _moved(program) if e.where[0] == e.where[1])
    yield from _swapped(program)


def further_edits(program: Program) -> Iterator[Edit]:
    """The other single edits: moves between lines, other starts, names, functions and factors."""
    yield from _narrowed(program)
    yield from _starts(program)
    yield from _names(program)
    yield from _functions(program)
    yield from _decay_moved(program)
    yield from (e for e in _moved(program) if e.where[0] != e.where[1])
    yield from _factors(program)
    yield from _averages(program)
    yield from _differences(program)


# --- pieces -----------------------------------------------------------------------------------------------------------------
def expression(text: str) -> ast.expr:
    """A formula as a tree."""
    return ast.parse(text, mode="eval").body


def text_of_tree(tree: ast.expr) -> str:
    """A tree as a formula."""
    return ast.unparse(ast.fix_missing_locations(tree))


def _bin(left: ast.expr, op: ast.operator, right: ast.expr) -> ast.BinOp:
    return ast.BinOp(left, op, right)


def _with(program: Program, k: int, tree: ast.expr) -> Program:
    lines = list(program.lines)
    lines[k] = Line(lines[k].name, tree)
    return replace(program, lines=tuple(lines))


def _places(program: Program) -> Iterator[tuple[int, Path, ast.expr]]:
    for k, line in enumerate(program.lines):
        for path, node in sites(line.tree):
            yield k, path, node


def _around(line: Line, path: Path) -> str:
    """The innermost function that a place is inside of."""
    calls = [x.func.id for x, _ in _way(line, path) if isinstance(x, ast.Call) and isinstance(x.func, ast.Name)]
    return calls[-1] if calls else ""


def _way(line: Line, path: Path) -> Iterator[tuple[ast.AST, str]]:
    """The expressions on the way to a place, each with the part of it where the way goes on."""
    tree: ast.AST = line.tree
    for step, k in path:
        yield tree, step
        value = getattr(tree, step)
        tree = value if k is None else value[k]


def _in_exponent(line: Line, path: Path) -> bool:
    return any(
        isinstance(x, ast.BinOp) and isinstance(x.op, ast.Pow) and step == "right" for x, step in _way(line, path)
    )


def _in_case(line: Line, path: Path) -> bool:
    return any(isinstance(x, ast.Compare) for x, _ in _way(line, path))


def everywhere(program: Program, name: str, new: ast.expr, only: int | None = None) -> Program:
    """Every use of a name replaced, in one line or in all."""

    class Renamer(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return new if node.id == name else node

    lines = [
        Line(line.name, Renamer().visit(ast.parse(text_of_tree(line.tree), mode="eval")).body)
        if only in (None, k) and name in line.names
        else line
        for k, line in enumerate(program.lines)
    ]
    return replace(program, lines=tuple(lines))


# --- the edits ------------------------------------------------------------------------------------------------------------------
COUNTS = {
    "t - 1": "t counts from 0",
    "t + 1": "t is one ahead",
    "2 * t": "t counts every update twice",
    "1": "t stays at 1",
    "n * (t - 1) + i + 1": "one count of updates is shared by all parameters",
}


def _counts(program: Program) -> Iterator[Edit]:
    for text, how in COUNTS.items():
        new = [counted(line, expression(text)) for line in program.lines]
        changed = [k for k, line in enumerate(new) if line is not program.lines[k]]
        if changed:
            yield Edit(replace(program, lines=tuple(new)), "count", "t", (), how=how)
        for k in changed:
            yield Edit(_with(program, k, new[k].tree), "count", "t", (new[k].name,), how=how)
    yield from _cases(program)
    if "lr" in program.names:
        yield Edit(
            everywhere(program, "lr", expression("lr_first")), "count", "lr", (), how="the rate is the one at the start"
        )


def _cases(program: Program) -> Iterator[Edit]:
    """A case of the first updates that ends earlier or later."""
    for k, line in enumerate(program.lines):
        for path, node in sites(line.tree):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "t":
                last = node.comparators[0]
                for change in (-1, 1, -2, 2):
                    if isinstance(last, ast.Constant):
                        case = ast.Compare(node.left, node.ops, [ast.Constant(last.value + change)])  # type: ignore[operator]
                        words = f"the case {text_of_tree(node)} is the case {text_of_tree(case)} in {line.name}"
                        yield Edit(
                            _with(program, k, put(line.tree, path, case)), "wrapped", "t", (line.name,), how=words
                        )


def exchanged_edits(program: Program) -> Iterator[Edit]:
    """Another operation on the same operands, anywhere."""
    for k, path, node in _places(program):
        yield from _exchanged(program, k, path, node)


def _dropped(program: Program) -> Iterator[Edit]:
    for k, path, node in _places(program):
        for kept, gone in _halves(node):
            line = program.lines[k]
            yield Edit(_with(program, k, put(line.tree, path, kept)), "dropped", gone, (line.name,),
                       (_around(line, path), ""))  # fmt: skip
    for k, line in enumerate(program.lines[:-1]):
        if (
            any(other.name == line.name for j, other in enumerate(program.lines) if j != k)
            or line.name in program.state
        ):
            lines = (*program.lines[:k], *program.lines[k + 1 :])
            yield Edit(
                replace(program, lines=lines), "dropped", f"{line.name} = {text_of_tree(line.tree)}", (line.name,)
            )


def _halves(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    """What may be left of an expression when a part is forgotten, and what then is gone."""
    if isinstance(node, ast.BinOp):
        sign = {ast.Add: "+ ", ast.Sub: "- ", ast.Mult: "* ", ast.Div: "/ ", ast.Pow: "** "}.get(type(node.op), "")
        gone = text_of_tree(node.right)
        sums = isinstance(node.right, ast.BinOp) and isinstance(node.right.op, (ast.Add, ast.Sub))
        yield node.left, sign + (f"({gone})" if sums and isinstance(node.op, (ast.Mult, ast.Div)) else gone)
        if not isinstance(node.op, ast.Pow):
            back = {ast.Add: " +", ast.Mult: " *"}.get(type(node.op), "")
            other = ast.UnaryOp(ast.USub(), node.right) if isinstance(node.op, ast.Sub) else node.right
            other = _bin(ast.Constant(1), ast.Div(), node.right) if isinstance(node.op, ast.Div) else other
            yield other, text_of_tree(node.left) + back
    elif isinstance(node, ast.UnaryOp):
        yield node.operand, "-"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        for part in node.args[1:] if node.func.id == "where" else node.args:
            if node.func.id != "where":
                yield part, node.func.id + "(...)"
            else:
                yield part, f"the case {text_of_tree(node.args[0])}"


def _signs(program: Program) -> Iterator[Edit]:
    for k, path, node in _places(program):
        line = program.lines[k]
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
            op: ast.operator = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            new = put(line.tree, path, _bin(node.left, op, node.right))
            yield Edit(_with(program, k, new), "sign", text_of_tree(node.right), (line.name,))
        if isinstance(node, ast.Name):
            new = put(line.tree, path, ast.UnaryOp(ast.USub(), node))
            yield Edit(_with(program, k, new), "sign", node.id, (line.name,))
    yield Edit(everywhere(program, "g", expression("-g")), "sign", "g", ())


def _swapped(program: Program) -> Iterator[Edit]:
    inner = {line.name for line in program.lines} | {"w", "g", "t"}
    settings = [n for n in program.names if n not in inner and n not in program.state]
    for a, b in combinations(settings, 2):
        once = everywhere(program, a, expression("swap_"))
        both = everywhere(everywhere(once, b, expression(a)), "swap_", expression(b))
        yield Edit(both, "swapped", f"{a} and {b}", ())


def _order(program: Program) -> Iterator[Edit]:
    count = len(program.lines)
    for k in range(count):
        rest = [*program.lines[:k], *program.lines[k + 1 :]]
        for to in range(count):
            if to != k:
                lines = (*rest[:to], program.lines[k], *rest[to:])
                after = lines[to - 1].name if to else ""
                yield Edit(
                    replace(program, lines=lines), "order", program.lines[k].name, (program.lines[k].name, after)
                )


def _moved(program: Program) -> Iterator[Edit]:
    """A term, a factor or a divisor taken out at one place and put in at another."""
    for k, path, node in _places(program):
        for kept, part, op in _parts(node):
            cut = _with(program, k, put(program.lines[k].tree, path, kept))
            yield from _placed(program, cut, k, path, part, op)


def _parts(node: ast.expr) -> Iterator[tuple[ast.expr, ast.expr, ast.operator]]:
    """What stays when a part is taken out, the part, and the operation that joined it."""
    if not isinstance(node, ast.BinOp) or isinstance(node.op, (ast.Pow, ast.MatMult)):
        return
    yield node.left, node.right, node.op
    if isinstance(node.op, (ast.Add, ast.Mult)):
        yield node.right, node.left, node.op
    if isinstance(node.op, (ast.Add, ast.Sub)):
        for factor, _ in _factors_of(node.right):
            yield node.left, factor, node.op
    if isinstance(node.op, ast.Mult) and isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Sub):
        # (1 - a) * x is x - a * x
        for factor, _ in _factors_of(_bin(node.left.right, ast.Mult(), node.right)):
            yield node.right, factor, ast.Sub()


def _factors_of(term: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """A product without one of its factors, and that factor."""
    if isinstance(term, ast.BinOp) and isinstance(term.op, ast.Mult):
        yield term.left, term.right
        yield term.right, term.left
        for smaller, gone in _factors_of(term.left):
            yield _bin(smaller, ast.Mult(), term.right), gone


def _decay_moved(program: Program) -> Iterator[Edit]:
    """A term taken out of a line and added to the gradient wherever that is used; or, times the rate, to the step."""
    for k, path, node in _places(program):
        for kept, part, op in _parts(node):
            if not isinstance(op, (ast.Add, ast.Sub)):
                continue
            source, inside = program.lines[k], _around(program.lines[k], path)
            cut = _with(program, k, put(source.tree, path, kept))
            for g in ("g", "g_1"):
                if g in program.names:
                    new = everywhere(cut, g, _bin(expression(g), ast.Add(), part))
                    yield Edit(new, "moved", text_of_tree(part), (source.name, g), (inside, ""), how=g)
            last = len(program.lines) - 1
            if "lr" in program.names and k != last:
                scaled = _bin(expression("lr"), ast.Mult(), part)
                new = _with(cut, last, _bin(cut.lines[last].tree, ast.Sub(), scaled))
                yield Edit(
                    new,
                    "moved",
                    text_of_tree(part),
                    (source.name, program.lines[last].name),
                    (inside, ""),
                    how="the step",
                )


def _placed(program: Program, cut: Program, k: int, path: Path, part: ast.expr, op: ast.operator) -> Iterator[Edit]:
    source = program.lines[k]
    additive = isinstance(op, (ast.Add, ast.Sub))
    ops: tuple[ast.operator, ...] = (ast.Add(), ast.Sub()) if additive else (ast.Mult(), ast.Div())
    before = _around(source, path)
    for to, line in enumerate(cut.lines):
        for way, node in sites(line.tree):
            if isinstance(node, ast.Constant) or _in_exponent(line, way) or _in_case(line, way):
                continue
            for join in ops:
                new = put(line.tree, way, _bin(node, join, part))
                turned = "minus " if additive and type(join) is not type(op) and "w" != source.name != line.name else ""
                yield Edit(_with(cut, to, new), "moved", turned + text_of_tree(part), (source.name, line.name),
                           (before, _around(line, way)), how=text_of_tree(node))  # fmt: skip


def _narrowed(program: Program) -> Iterator[Edit]:
    """State that is rounded after each update, all of it or one."""
    for precision in ("float32", "bfloat16", "float16"):
        for names in (program.state, *((s,) for s in program.state if len(program.state) > 1)):
            what = "the state" if names == program.state else names[0]
            yield Edit(replace(program, narrow=names, precision=precision), "narrow", what, (), how=precision)


def _averages(program: Program) -> Iterator[Edit]:
    """A running average a s + (1 - a) x as another kind of memory."""
    for k, line in enumerate(program.lines):
        tree = line.tree
        if line.name not in program.state or not isinstance(tree, ast.BinOp) or not isinstance(tree.op, ast.Add):
            continue
        if not (isinstance(tree.left, ast.BinOp) and isinstance(tree.right, ast.BinOp)):
            continue
        a, share, x = (f"({text_of_tree(n)})" for n in (tree.left.left, tree.right.left, tree.right.right))
        s = line.name
        old, sized = text_of_tree(tree), x.removeprefix("(").removesuffix(")")
        for text, words in (
            (
                f"{s} - {share} * sign({s} - {x}) * {x}",
                f"{s} moves by {share} {sized}, up or down by its sign (as in Yogi)",
            ),
            (f"{s} + ({x} - {s}) / t", f"{s} is the mean of all {sized} so far, not a running average"),
            (f"{s} + {x}", f"{s} is the sum of all {sized} so far, not a running average"),
            (f"max({s}, {x})", f"{s} is the largest {sized} so far"),
            (f"max({a} * {s}, {x})", f"{s} is the larger of {a} {s} and {sized} (as in Adamax)"),
            (f"max({s}, {old})", f"{s} never falls (as in AMSGrad)"),
            (f"min({s}, {old})", f"{s} never rises"),
            (f"sqrt({a} * {s}**2 + {share} * {x}**2)", f"{s} is a root mean square of {sized}"),
        ):
            yield Edit(_with(program, k, expression(text)), "wrapped", s, (s,), how=words)


def _differences(program: Program) -> Iterator[Edit]:
    """A value minus another one, such as g - m for g."""
    others = [*(f"{s}_old" for s in program.state), *program.state, "g_old", "w", "w_first"]
    for k, path, node in _places(program):
        if not isinstance(node, ast.Name) or (node.id in others and node.id not in ("g", "w")):
            continue
        line = program.lines[k]
        for other in (o for o in others if o != node.id):
            new = put(line.tree, path, expression(f"({node.id} - {other})"))
            yield Edit(_with(program, k, new), "name", node.id, (line.name,), how=f"{node.id} - {other}")


def _starts(program: Program) -> Iterator[Edit]:
    """A state that starts otherwise, or is forgotten after each update."""
    for k, line in enumerate(program.lines):
        if line.name in program.state:
            names = {n.id for n in ast.walk(line.tree) if isinstance(n, ast.Name)}
            gradient = next((n for n in ("g_2", "g_1", "g") if n in names), "g")
            for first in (gradient, f"{gradient}**2", f"abs({gradient})", "1", "0"):
                tree = ast.Call(ast.Name("where", ast.Load()), [expression("t == 1"), expression(first), line.tree], [])
                yield Edit(_with(program, k, tree), "start", line.name, (line.name,), how=first)
            yield Edit(everywhere(program, line.name, ast.Constant(0), k), "start", line.name, (line.name,), how="")


def _names(program: Program) -> Iterator[Edit]:
    """One use of a name, or all of them in a line, taken from another name."""
    assigned = [line.name for line in program.lines]
    pool = dict.fromkeys([*program.names, *assigned, *(f"{s}_old" for s in (*program.state, "w")), "g_old",
                          *(("lr_old",) if "lr" in program.names else ()), "norm_all", "w_first"])  # fmt: skip
    for k, path, node in _places(program):
        if not isinstance(node, ast.Name):
            continue
        line = program.lines[k]
        for name in (*pool, "0", "1"):
            if name != node.id:
                new = put(line.tree, path, expression(name))
                yield Edit(_with(program, k, new), "name", node.id, (line.name,), how=name)


def pool_of(program: Program) -> list[ast.expr]:
    """Factors that the rule has somewhere: expressions of settings and t alone, and 1 minus a setting."""
    inner = {line.name for line in program.lines} | {"w", "g"} | set(program.state)
    settings = [n for n in program.names if n not in inner]
    found = {n: expression(n) for n in settings} | {
        f"1 - {n}": expression(f"1 - {n}") for n in settings if n not in ("t", "lr")
    }
    for _, _, node in _places(program):
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if used and used <= set(settings) and isinstance(node, ast.BinOp):
            found[text_of_tree(node)] = node
    found |= {f"1 - {n}**t": expression(f"1 - {n}**t") for n in settings if n not in ("t", "lr", "eps", "weight_decay")}
    roots = {f"sqrt({text})": expression(f"sqrt({text})") for text in found}
    return [*found.values(), *roots.values(), ast.Constant(2)]


def scaled_by(program: Program, factors: list[ast.expr]) -> Iterator[Edit]:
    """Every expression of the program multiplied and divided by every factor."""
    for k, path, node in _places(program):
        line = program.lines[k]
        if isinstance(node, ast.Constant) or _in_exponent(line, path) or _in_case(line, path):
            continue
        for factor in factors:
            for op in (ast.Mult(), ast.Div()):
                new = put(line.tree, path, _bin(node, op, factor))
                yield Edit(_with(program, k, new), "factor", text_of_tree(node), (line.name,), (_around(line, path), ""),
                           how=("divided by " if isinstance(op, ast.Div) else "multiplied by ") + text_of_tree(factor))  # fmt: skip


def _factors(program: Program) -> Iterator[Edit]:
    yield from scaled_by(program, pool_of(program))


def _functions(program: Program) -> Iterator[Edit]:
    for k, path, node in _places(program):
        line = program.lines[k]
        yield from _exchanged(program, k, path, node)
        for name in ("abs", "sqrt", "sign", "square", "mean", "sum", "norm", "max", "mean_last", "mean_first"):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if len(node.args) == 2 and name == "max" and node.func.id == "max":
                    continue
                if len(node.args) == 1 and node.func.id != name:
                    new = put(line.tree, path, ast.Call(ast.Name(name, ast.Load()), node.args, []))
                    yield Edit(_with(program, k, new), "function", text_of_tree(node), (line.name,), how=name)
            if not isinstance(node, ast.Constant):
                new = put(line.tree, path, ast.Call(ast.Name(name, ast.Load()), [node], []))
                yield Edit(_with(program, k, new), "function", text_of_tree(node), (line.name,), how=name)


def _exchanged(program: Program, k: int, path: Path, node: ast.expr) -> Iterator[Edit]:
    """Another operation on the same operands: the smaller for the larger, a sum for it, a size for a square."""
    line = program.lines[k]
    new: list[ast.expr] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
        other = {"max": "min", "min": "max"}.get(node.func.id)
        if other:
            new = [ast.Call(ast.Name(other, ast.Load()), node.args, []), _bin(node.args[0], ast.Add(), node.args[1])]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        new = [ast.Call(ast.Name("abs", ast.Load()), [node.left], [])]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        new = [ast.Call(ast.Name("max", ast.Load()), [node.left, node.right], [])]
    for tree in new:
        yield Edit(
            _with(program, k, put(line.tree, path, tree)),
            "function",
            text_of_tree(node),
            (line.name,),
            how=text_of_tree(tree),
        )
