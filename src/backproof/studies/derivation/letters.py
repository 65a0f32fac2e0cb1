"""The letters of a derivation: s before an activation and z after it, W and b, γ and β, numbered along a chain of layers.

The names of the program stay what they are; a letter is how a page writes a name that the program made up itself
("0.linear"). A name that the user gave ("scores") is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...graph import Graph, Node
from ...notation import layer_symbols, named
from ...ops import Elementwise

__all__ = ["letters"]

_LETTERS = {
    "linear": "s", "conv": "s", "conv_transpose": "s", "batch_norm": "y", "layer_norm": "y", "embedding": "e",
    "softmax": "p", "log_softmax": "p", "max_pool": "m", "avg_pool": "m", "adaptive_avg_pool": "m",
    "rms_norm": "y",
}  # fmt: skip
_WEIGHTS = frozenset({"linear", "conv", "conv_transpose", "embedding"})
_PARTS = {"weight": "W", "bias": "b", "running_mean": "mu", "running_var": "v"}


def letters(graph: Graph, program: Graph, given: Mapping[str, str]) -> dict[str, str]:
    """For each name that gets a letter, the name that it is written as ("0.linear" as "s1"); ``given`` ones are kept.

    Args:
        graph: the textbook's view of the network.
        program: the network as it was captured.
        given: symbols that the reader chose.
    """
    layers = layer_symbols(program) | _variances(program)
    counts = _counts(program)
    own = {n.name: program.by_name.get(n.name, n) for n in graph.nodes}
    wanted = {n: w for n, node in own.items() if n not in given and (w := _wanted(node, layers, counts))}
    taken = {_shown(n.name, given) for n in graph.nodes if n.name not in wanted and n.role not in ("constant", "helper")}
    found = dict(given)
    for name, letter in wanted.items():
        symbol = _shown(letter, {})
        if symbol not in taken:
            found[name] = letter
            taken.add(symbol)
        else:
            taken.add(_shown(name, given))
    return found


def _variances(graph: Graph) -> dict[str, str]:
    return {n.inputs[2].name: "v" for n in graph.nodes if n.op.name in ("batch_norm", "layer_norm")}


def _shown(name: str, given: Mapping[str, str]) -> tuple[object, ...]:
    symbol = named(name, symbols=given)
    return symbol.name, symbol.sub, symbol.sup, symbol.accent


def _counts(graph: Graph) -> dict[str, int]:
    """For each numbered part of a chain ("net.2") how many layers with weights the chain has up to it."""
    chains: dict[str, dict[int, bool]] = {}
    for node in graph.nodes:
        parent, _, number = node.module.rpartition(".")
        if not node.is_leaf and number.isdecimal() and node.name.startswith(f"{node.module}."):
            parts = chains.setdefault(parent, {})
            parts[int(number)] = parts.get(int(number), False) or node.op.name in _WEIGHTS
    found = {}
    for parent, parts in chains.items():
        count = 0
        for number in sorted(parts):
            count += parts[number]
            found[f"{parent}.{number}" if parent else str(number)] = count
    return found


def _wanted(node: Node, layers: Mapping[str, str], counts: Mapping[str, int]) -> str:
    """The letter of one node with its module's path, or its number in a chain."""
    if node.name == "input" and node.role == "input":
        return "x"
    path, _, last = node.name.rpartition(".")
    word, mark, call = last.partition("#")
    layer = layers.get(node.name, "").rpartition(".")[2].partition("#")[0]
    letter = layer or (_PARTS.get(word, "") if node.is_leaf else _letter(node, word))
    if not letter or (not path and node.is_leaf):
        return ""
    parent, _, number = path.partition("#")[0].rpartition(".")
    count = counts.get(path, 0)
    if number.isdecimal() and count:
        numbered = f"x{count}_hat" if letter == "x_hat" else f"{letter}{count}"
        return (f"{parent}." if parent else "") + numbered + mark + call
    return (f"{path}." if path else "") + letter + mark + call


def _letter(node: Node, word: str) -> str:
    """The letter of a computed value whose name is its operation's; a name of the user's own has none."""
    if word == "x_hat" and node.op.family == "normalisation":
        return word
    if node.role != "value" or word not in (node.op.name, node.op.name + "_", "rms_norm", "attention"):
        return ""
    if (letter := _LETTERS.get(node.op.name) or _LETTERS.get(word)) is not None:
        return letter
    return "z" if isinstance(node.op, Elementwise) and len(node.inputs) == 1 and node.op.family == "elementwise" else ""
