"""Every module says what is public, and what it says exists."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.structure.code import Module, modules, shown

PUBLIC = [
    module
    for module in modules()
    if module.path.name != "__main__.py" and not (module.unit == "problems" and module.name.count(".") > 0)
]
"""All but ``__main__`` and the problem files, which are run, not imported."""


def declared(module: Module) -> bool:
    return any(
        isinstance(target, ast.Name) and target.id == "__all__"
        for node in module.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    )


def needs_names(module: Module) -> bool:
    """Private modules (``_x``) and files with nothing but a docstring need no list."""
    private = module.path.stem.startswith("_") and module.path.name != "__init__.py"
    return not private and len(module.tree.body) > 1


def test_all_is_explicit() -> None:
    assert [shown(m.path) for m in PUBLIC if needs_names(m) and not declared(m)] == []


@pytest.mark.parametrize("module", PUBLIC, ids=lambda m: m.name or "backproof")
def test_every_public_name_exists(module: Module) -> None:
    if not declared(module):
        return
    loaded = importlib.import_module(".".join(["backproof", module.name]).rstrip("."))
    names = list(loaded.__all__)
    assert [name for name in names if not hasattr(loaded, name)] == []
    assert len(set(names)) == len(names)


def test_what_the_commands_call_is_no_module_of_the_same_name() -> None:
    """``import backproof.capture`` would hide the function ``backproof.capture`` behind the folder."""
    import backproof

    for module in PUBLIC:
        importlib.import_module(".".join(["backproof", module.name]).rstrip("."))
    assert [name for name in ("capture", "ops_table", "solve", "trace") if not callable(getattr(backproof, name))] == []
