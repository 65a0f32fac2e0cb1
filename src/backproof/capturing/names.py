"""Where a node comes from: the user's line, the module, and the name that the user gave to the value.

torch.export records the Python stack of every operation. The last node of an assignment ``s = self.fc1(x)`` takes
the target's name, within the module that the line belongs to; every other node is called by its module path and
its operation.
"""

from __future__ import annotations

import ast
import linecache
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..graph import Source

__all__ = ["Origin", "is_library", "origins", "user_line", "user_stack"]

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_OWN = str(Path(__file__).resolve().parent.parent)
_ENTRY = str(Path(__file__).resolve().parent / "origin.py")


@dataclass(frozen=True)
class _Frame:
    file: str
    line: int
    function: str


@dataclass(frozen=True)
class Origin:
    """A node's name (before numbering), module path and source line."""

    name: str
    module: str
    source: Source | None


def is_library(file: str) -> bool:
    """Whether a file belongs to torch, Python or this program rather than to the user."""
    if file.startswith("<"):  # a notebook's cell has lines to show; what exec and torch.fx make has none of the user's
        return file.startswith("<eval_with_key") or not linecache.getlines(file)
    return "/site-packages/" in file or "/torch/" in file or file.startswith(_OWN) or "/lib/python3" in file


def user_stack() -> str:
    """The frames of the user's own code from the call of the model to here, printed as Python prints a stack."""
    frame: Any = sys._getframe(1)
    found: list[str] = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _ENTRY and code.co_name == "forward":
            break
        if not is_library(code.co_filename):
            found.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}\n')
        frame = frame.f_back
    return "".join(reversed(found))


def _frames(trace: str | None) -> tuple[_Frame, ...]:
    """The frames of the user's own files, outermost first."""
    found = (_Frame(m["file"], int(m["line"]), m["function"]) for m in _FRAME.finditer(trace or ""))
    return tuple(f for f in found if not is_library(f.file))


def _source(frame: _Frame) -> Source:
    return Source(frame.file, frame.line, linecache.getline(frame.file, frame.line).strip())


def user_line(trace: str | None) -> Source | None:
    """The innermost line of the user's own code in a printed stack, if there is one."""
    frames = _frames(trace)
    return _source(frames[-1]) if frames else None


@dataclass(frozen=True)
class _Statement:
    """An assignment: its lines, its target (of several, the last) and whether a loop repeats it."""

    first: int
    last: int
    targets: tuple[str, ...]
    looped: bool

    @property
    def target(self) -> str:
        return self.targets[-1]


@lru_cache(maxsize=256)
def _statements(file: str) -> dict[int, _Statement]:
    """The plain assignments of a file, by line."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    table: dict[int, _Statement] = {}
    _collect(tree, False, table)
    shared = _shared_lines(tree)
    return {line: statement for line, statement in table.items() if line not in shared}


def _shared_lines(tree: ast.AST) -> set[int]:
    """Lines on which several statements stand: which of them an operation belongs to cannot be told."""
    starts = Counter(
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr))
    )
    return {line for line, count in starts.items() if count > 1}


def _collect(tree: ast.AST, looped: bool, table: dict[int, _Statement]) -> None:
    for node in ast.iter_child_nodes(tree):
        inside = looped or isinstance(node, (ast.For, ast.While))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inside = False
        if targets := _targets(node):
            assert isinstance(node, ast.stmt)
            statement = _Statement(node.lineno, node.end_lineno or node.lineno, targets, inside)
            table.update(dict.fromkeys(range(statement.first, statement.last + 1), statement))
        _collect(node, inside, table)


def _targets(node: ast.AST) -> tuple[str, ...]:
    """The names that a plain assignment gives, in order; none where it is not plain."""
    if any(isinstance(inner, ast.Lambda) for inner in ast.walk(node)):
        return ()  # the operations of this line are the lambda's, and the target is not theirs
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        found = target.elts if isinstance(target, ast.Tuple) else [target]
        return (
            tuple(x.id for x in found if isinstance(x, ast.Name)) if all(isinstance(x, ast.Name) for x in found) else ()
        )
    if isinstance(node, (ast.AugAssign, ast.AnnAssign)) and isinstance(node.target, ast.Name):
        return (node.target.id,)
    return ()


def _modules(meta: dict[str, Any], prefix: str) -> list[tuple[str, bool]]:
    """The module paths around a node, outermost first, with whether the class is torch's own.

    In the second call of ``layer``, the path of its ``fc`` is ``layer#2.fc``.
    """
    found = []
    outer, shown, again = "", "", ""
    for key, (path, kind) in (meta.get("nn_module_stack") or {}).items():
        name = path if isinstance(path, str) else str(path)
        if name != prefix and not name.startswith(prefix + "."):
            continue
        name, call = name[len(prefix) :].lstrip("."), key.partition("@")[2]
        inner = name[len(outer) :] if name.startswith(f"{outer}.") else name
        shown = shown + inner if inner != name else name
        count = f"#{int(call) + 1}" if call and name else ""
        shown, outer, again = shown + ("" if count == again else count), name, count or again
        found.append((shown, "torch.nn.modules" in str(kind)))
    return found


@dataclass(frozen=True)
class _Place:
    frames: tuple[_Frame, ...]
    modules: list[tuple[str, bool]]
    kind: str

    @property
    def module(self) -> str:
        return self.modules[-1][0] if self.modules else ""

    def module_of(self, depth: int) -> str:
        """The module whose ``forward`` the frame of this depth is in."""
        own = [name for name, library in self.modules if not library]
        count = sum(f.function == "forward" for f in self.frames[: depth + 1])
        return own[count - 1] if 0 < count <= len(own) else ""

    def key(self, depth: int) -> tuple[Any, ...] | None:
        """What stays the same during one execution of the assignment at this depth."""
        if depth >= len(self.frames):
            return None
        frame = self.frames[depth]
        statement = _statements(frame.file).get(frame.line)
        return None if statement is None else (self.frames[:depth], frame.file, statement, self.module_of(depth))


def origins(nodes: Sequence[Any], prefix: str = "model") -> list[Origin]:
    """The origin of each fx node, in order.

    Args:
        nodes: fx nodes with torch.export's meta.
        prefix: the attribute under which our wrapper holds the user's module.
    """
    places = [_Place(_frames(n.meta.get("stack_trace")), _modules(n.meta, prefix), _kind(n)) for n in nodes]
    names: list[str | None] = [None] * len(places)
    for depth in range(max((len(p.frames) for p in places), default=0)):
        for run in _runs(places, depth):
            for last in _ends(places, run, depth):
                if names[last] is None:
                    names[last] = _qualified(places[last], depth)
    for i, node in enumerate(nodes):
        names[i] = _unpacked(node, places[i], names[i])
    return [_origin(place, name) for place, name in zip(places, names, strict=True)]


def _unpacked(node: Any, place: _Place, name: str | None) -> str | None:
    """The name of a part in ``a, b = f(x)``: the target of its place; of nothing else that line has the name."""
    depth = len(place.frames) - 1
    statement = (
        None
        if depth < 0 or place.key(depth) is None
        else _statements(place.frames[depth].file)[place.frames[depth].line]
    )
    if statement is None or len(statement.targets) < 2:
        return name
    if place.kind != "getitem" or not isinstance(node.args[1], int) or node.args[1] >= len(statement.targets):
        return None
    module = place.module_of(depth)
    return ".".join(part for part in (module, statement.targets[node.args[1]]) if part)


def _kind(node: Any) -> str:
    target = getattr(node.target, "_opname", None) or getattr(node.target, "__name__", str(node.target))
    return str(target).rstrip("_")


def _runs(places: list[_Place], depth: int) -> Iterable[list[int]]:
    """Maximal stretches of nodes that belong to the same assignment at this depth of the stack."""
    run: list[int] = []
    previous = None
    for i, place in enumerate(places):
        key = place.key(depth)
        if run and key != previous:
            yield run
            run = []
        if key is not None:
            run.append(i)
        previous = key
    if run:
        yield run


def _ends(places: list[_Place], run: list[int], depth: int) -> list[int]:
    """The last node of each execution: a loop of one line repeats its operations."""
    frame = places[run[0]].frames[depth]
    period = len(run)
    if _statements(frame.file)[frame.line].looped:
        kinds = [places[i].kind for i in run]
        period = next(p for p in range(1, len(run) + 1) if len(run) % p == 0 and kinds == kinds[:p] * (len(run) // p))
    return run[period - 1 :: period]


def _qualified(place: _Place, depth: int) -> str:
    frame, module = place.frames[depth], place.module_of(depth)
    target = _statements(frame.file)[frame.line].target
    return f"{module}.{target}" if module else target


def _origin(place: _Place, name: str | None) -> Origin:
    source = _source(place.frames[-1]) if place.frames else None
    return Origin(name or ".".join(part for part in (place.module, place.kind) if part), place.module, source)
