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


def letters(graph: Graph, program: Graph, of: Node, given: Mapping[str, str]) -> dict[str, str]:
    """For each name that gets a letter, the name that it is written as ("0.linear" as "s1"); ``given`` ones are kept.

    Args:
        graph: the textbook's view of the network.
        program: the network as it was captured.
        of: what is differentiated; what it does not depend on gets no letter.
        given: symbols that the reader chose.
    """
    layers = layer_symbols(program) | _variances(program)
    counts = _counts(program)
    behind = _behind(of)
    own = {n.name: program.by_name.get(n.name, n) for n in graph.nodes if n in behind}
    wanted = {n: w for n, node in own.items() if n not in given and (w := _wanted(node, layers, counts))}
    kept = [n for n in own if n not in wanted and own[n].role not in ("constant", "helper")]
    taken = {_shown(n, given) for n in kept}
    found = {n: _first(n, own) for n in kept if _first(n, own) != n} | dict(given)
    for name, letter in wanted.items():
        letter = _like_first(letter, name, own)
        symbol = _shown(letter, {})
        if symbol not in taken:
            found[name] = letter
            taken.add(symbol)
        else:
            taken.add(_shown(name, given))
    return found


def _first(name: str, names: Mapping[str, Node]) -> str:
    """The first of several values of one name gets its number too: x beside x#2 is x#1, and so with a module's calls."""
    path, dot, last = name.rpartition(".")
    if "#" not in last and f"{name}#2" in names:
        last = f"{last}#1"
    if path and "#" not in path and not names[name].is_leaf and any(n.startswith(f"{path}#2.") for n in names):
        path = f"{path}#1"
    return path + dot + last


def _like_first(letter: str, name: str, names: Mapping[str, Node]) -> str:
    """A letter with the numbers that :func:`_first` gives its name."""
    path, _, last = _first(name, names).rpartition(".")
    if last.endswith("#1") and "#" not in letter.rpartition(".")[2]:
        letter += "#1"
    if path.endswith("#1") and letter.startswith(path[:-1].rstrip("#") + "."):
        letter = path + letter[len(path) - 2 :]
    return letter


def _behind(of: Node) -> set[Node]:
    found, stack = set[Node](), [of]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.inputs)
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
        for place in sorted(parts):
            count += parts[place]
            found[f"{parent}.{place}" if parent else str(place)] = count
    return found


def _wanted(node: Node, layers: Mapping[str, str], counts: Mapping[str, int]) -> str:
    """The letter of one node with its module's path, or its number in a chain."""
    if node.name == "input" and node.role == "input":
        return "x"
    path, _, last = node.name.rpartition(".")
    word, mark, call = last.partition("#")
    if node.is_leaf and word.isdecimal() and path:  # an entry of a ParameterList
        return f"{path}_{word}{mark}{call}"
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
    bare = word[:-2] if word[-2:] in ("1d", "2d", "3d") else word.rstrip("_")
    if node.role != "value" or bare not in (node.op.name, "rms_norm", "attention"):
        return ""
    if (letter := _LETTERS.get(node.op.name) or _LETTERS.get(word)) is not None:
        return letter
    return "z" if isinstance(node.op, Elementwise) and len(node.inputs) == 1 and node.op.family == "elementwise" else ""
