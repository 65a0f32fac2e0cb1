"""Who may import whom. An arrow never points back; amend the tables here when a part is added."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.structure.code import Module, modules, shown

EVERYTHING = {"*"}
CORE = {"errors", "graph", "ops"}

ALLOWED: dict[str, set[str]] = {
    # unit: what it may import anywhere in its files (itself always)
    "": EVERYTHING,  # the package itself: `import backproof as bp`, lazily (see test_startup)
    "__main__": {"cli"},
    "errors": set(),
    "ops": {"errors"},
    "graph": {"errors", "ops"},
    "vjps": CORE,
    "differentiate": CORE | {"vjps"},
    "capturing": CORE,
    "formula": CORE,
    "joint": CORE,
    "document": {"errors"},
    "plugins": {"domains", "ops"},  # what other packages bring
    "progress": set(),  # how far long work is
    "data": {"errors"},  # pictures and samples, and the files that they come from
    "notation": {"document", "graph"},  # how names are written
    "domains": CORE | {"document", "notation"},
    "pictures": CORE | {"document", "differentiate"},
    "coverage": CORE | {"document", "domains", "result", "vjps"},
    "checking": CORE
    | {"differentiate", "document", "domains", "formula", "result"},  # is a gradient right, and what is wrong with it
    "testing": {"checking", "errors"},  # for the tests of those who use Backproof
    "optimizers": CORE | {"formula"},
    "render": {"document", "errors"},
    "result": {"document", "errors"},
    "studies": CORE
    | {
        "capturing",
        "checking",
        "data",
        "differentiate",
        "document",
        "domains",
        "formula",
        "joint",
        "notation",
        "optimizers",
        "pictures",
        "problems",
        "progress",
        "result",
    },
    "problems": EVERYTHING - {"cli"},  # problem files are such as a user could write
    "cli": {"errors"},
}

LAZILY: dict[str, set[str]] = {
    # unit: what it may import besides, inside functions only (or for types)
    "result": {"render"},
    "graph": {"render", "result", "document"},
    "capturing": {
        "differentiate",
        "domains",
    },  # what was rewritten or recorded is compared with the model before it is trusted
    "cli": EVERYTHING,
}

OUTSIDE: dict[str, set[str]] = {
    # unit: packages that it must not import; "lazily" below says where a function may
    "errors": {"torch", "sympy", "numpy", "rich"},
    "ops": {"torch", "numpy", "rich"},
    "graph": {"torch", "sympy", "numpy", "rich"},
    "vjps": {"torch", "numpy", "rich"},
    "differentiate": {"torch", "numpy", "rich"},
    "document": {"torch", "sympy", "numpy", "rich"},
    "progress": {"torch", "sympy", "numpy", "rich"},
    "render": {"torch"},
}

TRACERS = {"capturing", "joint"}
"""The only units that may touch torch.export or torch.fx, or place hooks."""


Import = tuple[str, bool, int]
"""The full dotted name, whether it stands inside a function or TYPE_CHECKING, and the line."""


def imports(module: Module) -> Iterator[Import]:
    package = ["backproof", *module.name.split(".")] if module.name else ["backproof"]
    if module.path.name != "__init__.py":
        package.pop()
    for node, lazy in _walk(module.tree, False):
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazy, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{start}.{alias.name}", lazy, node.lineno) for alias in node.names)


def _walk(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, lazy
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
        isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, lazy or inside)


def within(allowed: set[str], unit: str) -> bool:
    return unit in allowed or ("*" in allowed)


def own_arrows(module: Module) -> Iterator[tuple[str, bool, int]]:
    """The units of Backproof that a module imports."""
    units = {m.unit for m in modules()}
    for name, lazy, line in imports(module):
        package, _, rest = name.partition(".")
        if package == "backproof":
            unit = rest.partition(".")[0]
            yield (unit if unit in units else ""), lazy, line


@pytest.mark.parametrize("unit", sorted({m.unit for m in modules()}))
def test_every_part_has_its_place(unit: str) -> None:
    assert unit in ALLOWED, f"say in ALLOWED what {unit!r} may import"


def test_arrows_never_point_back() -> None:
    wrong = [
        f"{shown(module.path)}:{line} imports {target or 'backproof itself'}"
        for module in modules()
        for target, lazy, line in own_arrows(module)
        if target != module.unit
        and not within(ALLOWED.get(module.unit, set()), target)
        and not (lazy and within(LAZILY.get(module.unit, set()), target))
    ]
    assert wrong == []


def test_only_the_command_line_knows_the_command_line() -> None:
    wrong = [
        f"{shown(module.path)}:{line}"
        for module in modules()
        for target, _, line in own_arrows(module)
        if target == "cli" and module.unit not in ("cli", "__main__")
    ]
    assert wrong == []


def test_foreign_packages_stay_where_they_belong() -> None:
    wrong = [
        f"{shown(module.path)}:{line} imports {name}"
        for module in modules()
        for name, lazy, line in imports(module)
        if name.partition(".")[0] in OUTSIDE.get(module.unit, set()) and not lazy
    ]
    assert wrong == []


def test_no_unit_without_torch_imports_it_even_lazily() -> None:
    free_of_torch = ("errors", "ops", "graph", "differentiate", "document", "render")
    wrong = [
        f"{shown(module.path)}:{line} imports {name}"
        for module in modules()
        for name, _, line in imports(module)
        if module.unit in free_of_torch and name.partition(".")[0] == "torch"
    ]
    assert wrong == []


def tracer_uses(module: Module) -> Iterator[str]:
    for name, _, line in imports(module):
        if name.startswith(("torch.export", "torch.fx", "torch._functorch", "torch._dynamo")):
            yield f"{shown(module.path)}:{line} imports {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            is_hook = node.attr.startswith("register_") and node.attr.endswith("hook")
            if is_hook or text in ("torch.export", "torch.fx"):
                yield f"{shown(module.path)}:{node.lineno} uses {text}"


def test_only_capture_and_joint_trace() -> None:
    wrong = [use for module in modules() if not is_tracer(module) for use in tracer_uses(module)]
    assert wrong == []


def is_tracer(module: Module) -> bool:
    return module.unit in TRACERS or module.unit.startswith("capture")
