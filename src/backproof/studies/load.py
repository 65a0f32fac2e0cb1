"""Find a problem by its id or file, and read it."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from ..errors import BackproofError, InputError
from ..problems.catalogue import find
from ..problems.problem import Exercise, FormulaProblem, Problem
from ..problems.toml import read_toml

__all__ = ["load_problem"]


def load_problem(problem: Any) -> tuple[Problem | FormulaProblem | Exercise, str]:
    """A problem and its id.

    Args:
        problem: a built-in id, the path of a .toml or .py file, or a problem itself.
    """
    if isinstance(problem, (Problem, FormulaProblem, Exercise)):
        return problem, getattr(problem, "title", "") or "problem"
    if not isinstance(problem, (str, Path)):
        raise InputError(f"a problem is an id, a file or a bp.Problem, not a {type(problem).__name__}")
    path, name = find(str(problem))
    if path.suffix == ".toml":
        return read_toml(path, name if name.endswith(".toml") else path.name), name
    return _from_python(path), name


def _from_python(path: Path) -> Problem | FormulaProblem | Exercise:
    module = _run(path)
    found = getattr(module, "problem", None)
    if not isinstance(found, (Problem, FormulaProblem, Exercise)):
        what = "no variable named problem" if found is None else f"a problem that is a {type(found).__name__}"
        raise InputError(f"{path.name} has {what}; it needs: problem = bp.Problem(model, inputs, targets, ...)")
    return found


def _run(path: Path) -> Any:
    """Run the user's file as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"backproof_problem_{path.stem.replace('-', '_')}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BackproofError:
        raise
    except SyntaxError as error:
        raise InputError(f"{path.name}:{error.lineno} is not Python: {error.msg}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a problem file may call sys.exit()
        line = next(
            (
                f.lineno
                for f in reversed(traceback.extract_tb(error.__traceback__))
                if Path(f.filename).name == path.name
            ),
            "?",
        )
        raise InputError(f"{path.name}:{line} fails: {type(error).__name__}: {str(error)[:200]}") from None
    return module
