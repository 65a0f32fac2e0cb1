"""How names are written: s_out becomes s with subscript out, W1 becomes W with subscript 1, fc1.weight becomes W of fc1.

The names of symbols are a convention that a reader may change (``--set symbols={"s": "a"}``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .document.math import Ref, Sym
from .graph import Graph, Node

__all__ = ["GREEK", "delta_of", "layer_symbols", "named", "symbol"]

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega".split()
)
HAT = "\u0302"
"""Behind the letter that it stands on, where a symbol's name is part of another symbol."""
_PARTS = re.compile(r"^([A-Za-z]+?)(\d+)$")
_PLACES = re.compile(r"^([A-Z])(out|in|hid)$|^([a-z])(out)$")
_ROLES = {"weight": "W", "bias": "b", "target": "t", "input": "x"}
_OPERATIONS = {"linear": "s", "mse_loss": "L", "cross_entropy_loss": "L", "l1_loss": "L", "huber_loss": "L"}


def named(name: str, *, ref: Ref | None = None, symbols: Mapping[str, str] | None = None, state: bool = False) -> Sym:
    """The symbol of a name.

    Args:
        name: a name of the record; ``#2`` marks the second value of that name.
        ref: the quantity that the symbol stands for.
        symbols: names that the reader writes differently.
    """
    if symbols and name in symbols:
        name = symbols[name]
    *path, last = name.split(".")
    last, _, count = last.partition("#")
    last = _ROLES.get(last, last) if path else _ROLES.get(last, last) if last in ("weight", "bias", "target") else last
    if last.startswith(("weight_", "bias_")):  # weight_ih_l0: W with subscripts ih and l0
        word, _, rest = last.partition("_")
        last = f"{_ROLES[word]}_{rest}"
    letter, sub = ("L", ()) if last.endswith("_loss") else _letter(last)
    sup = (count,) if count else ()
    if letter.endswith("hat") and len(letter) > 3:
        return Sym(letter[:-3], sub, (*_path(path), *sup), "hat", ref)
    return Sym(letter, sub, (*_path(path), *sup), "", ref)


def _path(path: list[str]) -> tuple[str, ...]:
    return (".".join(path).replace("#", ":"),) if path else ()


def _letter(word: str) -> tuple[str, tuple[str, ...]]:
    """The letter and the subscripts of one word: s_out -> s, out; W1 -> W, 1; Wout -> W, out; m_hat -> m-hat."""
    head, *rest = [part for part in word.split("_") if part] or [word]
    found = _PARTS.match(head)
    if rest == ["hat"]:
        return (found[1] + "hat", (found[2],)) if found and len(found[1]) == 1 else (head + "hat", ())
    if found and (len(found[1]) <= 2 or found[1].lower() in GREEK):
        return found[1], (found[2], *rest)
    if place := _PLACES.match(head):
        return place[1] or place[3], (place[2] or place[4], *rest)
    return head, tuple(rest)


def symbol(node: Node, symbols: Mapping[str, str] | None = None, step: int = 0) -> Sym:
    """The symbol of a node's value (for an adjoint: of the gradient that it is)."""
    if node.of is not None:
        return delta_of(node.of, symbols, step)
    kind = "before" if node.role == "parameter" else "value"
    ref = None if node.role == "constant" else Ref(node.name, (), kind, step)  # type: ignore[arg-type]
    return named(node.name, ref=ref, symbols=symbols)


_STEP = re.compile(r"^((?:.*\.)?)t(\d+)\.([a-z])$")  # the value of a recurrent layer at one time: lstm.t3.h
_DRAWN = {"mask": "m", "noise": "epsilon", "slope": "a"}


def _relettered(name: str, letters: Mapping[str, str]) -> str:
    """A name with another last word: drop.mask#2 as drop.m#2."""
    path, dot, last = name.rpartition(".")
    word, mark, count = last.partition("#")
    return path + dot + letters.get(word, word) + mark + count


_NORMALISED = {"batch_norm": ("", "mu", "", "gamma", "beta"), "layer_norm": ("", "mu", "", "gamma", "beta")}


def layer_symbols(graph: Graph) -> dict[str, str]:
    """The letters that the field gives to a layer's own quantities: μ, γ and β of a normalisation, m of a mask."""
    found = {n.name: _relettered(n.name, _DRAWN) for n in graph.of_role("draw")}
    found |= {n.name: f"{step[1]}{step[3]}{step[2]}" for n in graph.nodes if (step := _STEP.match(n.name))}
    for node in graph.nodes:
        for x, letter in zip(node.inputs, _NORMALISED.get(node.op.name, ()), strict=False):
            path, _, last = x.name.rpartition(".")
            if letter and last.partition("#")[0] in ("mean", "weight", "bias"):
                _, mark, count = last.partition("#")
                found[x.name] = (f"{path}." if path else "") + letter + mark + count
    return found


def delta_of(node: Node, symbols: Mapping[str, str] | None = None, step: int = 0) -> Sym:
    """The error signal of a value: delta with the value's symbol above, as in delta^(s)."""
    own = named(node.name, symbols=symbols)
    words = own.name + (own.accent and HAT) + "".join(f"_{s}" for s in own.sub)
    return Sym("delta", (), (words, *own.sup), "", Ref(node.name, (), "gradient", step))
