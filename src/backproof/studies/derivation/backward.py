"""A derivation: forward equations, one named error signal per pre-activation, each gradient in terms of these.

An error signal gets a name where it arrives before an activation, or where more than one formula uses it; elsewhere it
is written out in the one formula that uses it. So nothing is written twice, and the size is linear in the depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...differentiate import Joint, differentiate
from ...document.blocks import Equation
from ...document.math import Expr, Ref, Sym, plain
from ...domains.printed import Unreadable
from ...domains.symbols import Layout, Writer
from ...domains.typed import NotTyped, typed
from ...domains.whole import Meaning, whole_value
from ...errors import MissingRule
from ...graph import Graph, Node
from ...notation import delta_of, named
from ...ops import Elementwise
from ...ops.arbitrary import base_of
from ..writing.why import why_gradient, why_value
from .folding import Entry, Fold, fold
from .letters import letters
from .textbook import as_textbook
from .unknown import gaps

__all__ = ["Backward", "Line", "Phase"]

Phase = Literal["forward", "backward", "gradient", "expanded"]
_NO_ACTIVATIONS = frozenset(
    {"identity", "neg", "square", "sqrt", "root", "rsqrt", "reciprocal", "abs", "cast", "log", "exp"}
)
_TWICE = frozenset({"softmax_grad", "standardise_grad", "rms_standardise_grad"})
_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
MOST_ENTRIES = 256
MOST_COMPARED = 4_096
MOST_WRITTEN_OUT = 600
MOST_SCALARS = 30_000


@dataclass(frozen=True)
class Line:
    """One equation of a derivation: a node of the joint graph and its formula (``shaped``: with how shapes line up)."""

    node: Node
    left: Expr
    shaped: Expr
    rule: str
    phase: Phase

    @cached_property
    def right(self) -> Expr:
        """The formula as it is written."""
        return plain(self.shaped)

    def equation(self) -> Equation:
        """The equation for a page."""
        return Equation(self.left, (self.right,), self.rule)


def _origins(node: Node) -> list[Node]:
    """The operands of a node, with transposes and views without a name looked through."""
    found = []
    for x in node.inputs:
        while x.role == "helper" and x.op.family == "shape":
            x = x.inputs[0]
        found.append(x)
    return found


def _is_place(graph: Graph, name: str) -> bool:
    """Whether a quantity's numbers say places: where a formula of entries reads or writes."""
    return (
        name in graph.by_name and graph.by_name[name].dtype.startswith("int") and graph.by_name[name].role != "constant"
    )


def _content(node: Node) -> object:
    raw = node.value.tolist() if hasattr(node.value, "tolist") else node.value
    return node.name if node.size > MOST_COMPARED else (node.dtype, node.shape, repr(raw))


class Backward:
    """The derivation of one number's gradients.

    Args:
        graph: the forward graph (kept as ``program``; ``graph`` is the textbook's view of it).
        of: what is differentiated.
        wrt: the names of the leaves or values whose gradients are wanted, in the order of the page.
        names: symbols that the reader writes differently.
        layout: how matrices are shown.
    """

    def __init__(
        self,
        graph: Graph,
        of: Node,
        wrt: Sequence[str],
        names: Mapping[str, str] | None = None,
        layout: str = "own",
        integers: Mapping[str, object] | None = None,
    ) -> None:
        self.program, graph = graph, as_textbook(graph)
        self.graph, self.of, self.names = (
            graph,
            graph.by_name[of.name],
            letters(graph, self.program, graph.by_name[of.name], names or {}),
        )
        self.wrt = [graph.by_name[name] for name in wrt]
        self.joint: Joint = differentiate(graph, of=self.of, wrt=self.wrt, beyond=True)
        self._layout, self._integers = Layout.of(graph, layout), dict(integers or {})
        self._measured: dict[int, dict[Node, int]] = {}
        self._values = [n for n in graph.nodes if n.role == "value"]
        self.given_names = frozenset(names or {})
        self.functions = {f[0] for n in graph.nodes if (f := base_of(n.op)) is not None}

    # --- which error signals have a name, and which ---------------------------------------------------------------------
    @cached_property
    def signals(self) -> list[Node]:
        """The values whose error signal has a name, from the loss backwards."""
        uses = self._uses()
        found = []
        for value in reversed(self._values):
            adjoint = self.joint.gradients[value]
            if adjoint is None or value is self.of or value in self.wrt:
                continue
            wanted = uses[adjoint] > 1 or self._is_before_activation(value) or self._is_written_twice(adjoint)
            if wanted or self._is_in_product(value):
                found.append(value)
        return found

    def _uses(self) -> dict[Node, int]:
        """In how many equations each node would be written out, if every value and leaf had an equation of its own."""
        users = self.joint.graph.users
        found: dict[Node, int] = {}
        for node in reversed(self.joint.graph.nodes):
            ends = (u.of is not None and u.of.role != "helper" for u in users[node])
            found[node] = sum(1 if end else found[u] for end, u in zip(ends, users[node], strict=True))
        return found

    def _is_written_twice(self, adjoint: Node) -> bool:
        """Whether what goes back through a softmax or a normalisation mentions its error signal more than once."""
        return any(n.op.name in _TWICE and n.inputs[0] is adjoint for n in self.joint.graph.users[adjoint])

    def _is_in_product(self, value: Node) -> bool:
        """Whether it is a factor of a product of two computed matrices, as Q, K and V of an attention are."""
        return len(value.shape) > 1 and any(
            user.op.name == "matmul" and len(user.shape) > 1 and not any(x.is_leaf for x in _origins(user))
            for user in self._users_through_transposes(value)
        )

    def _users_through_transposes(self, value: Node) -> list[Node]:
        users = list(self.graph.users[value])
        turned = [u for u in users if u.op.name == "permute" and u.role == "helper"]
        return users + [v for u in turned for v in self.graph.users[u]]

    def _is_before_activation(self, value: Node) -> bool:
        return any(
            self.joint.gradients.get(user) is not None
            and (
                user.op.family == "softmax"
                or (
                    isinstance(user.op, Elementwise)
                    and len(user.op.operands) == 1
                    and user.op.name not in _NO_ACTIVATIONS
                )
            )
            for user in self.graph.users[value]
        )

    @cached_property
    def _deltas(self) -> dict[str, Sym]:
        """Name of the value -> the symbol of its error signal: δ with the subscript of s, where that tells them apart."""
        symbols = {v: named(v.name, symbols=self.names) for v in self.signals}
        counts = Counter(s.name for v, s in symbols.items() if self._is_before_activation(v)) or Counter(
            s.name for s in symbols.values()
        )
        ranked = [*counts.most_common(2), ("", 0), ("", 0)]
        main = ranked[0][0] if ranked[0][1] > ranked[1][1] else ""
        main = "s" if any(s.name == "s" for s in symbols.values()) else main
        alone = counts[main] == 1 and (main == "s" or len(symbols) == 1)
        found = {}
        for value, own in symbols.items():
            ref = Ref(value.name, (), "gradient")
            plain = own.name == main and (own.sub or own.sup or alone)
            found[value.name] = Sym("delta", own.sub, own.sup, "", ref) if plain else delta_of(value, self.names)
        return found

    @cached_property
    def delta_names(self) -> dict[str, str]:
        """Name of the value -> how its error signal is typed: delta_out for s_out."""
        found = {}
        for value, sym in self._deltas.items():
            own = "_".join(["delta", *sym.sub]) if not sym.sup else f"delta_{value}".replace(".", "_")
            found[value] = own if own not in self.graph.by_name else f"error_{value}"
        return found

    # --- writing ----------------------------------------------------------------------------------------------------------
    def _writer(self, unnamed: frozenset[str]) -> Writer:
        grads = self.joint.gradients
        known: dict[str, Expr] = {}
        for value, sym in self._deltas.items():
            adjoint = grads[self.graph.by_name[value]]
            assert adjoint is not None
            known[adjoint.name] = sym
        known |= self._constants
        return Writer(
            self.joint.graph, self._layout, 1, self.names, known=known, integers=self._integers, unnamed=unnamed
        )

    @cached_property
    def _constants(self) -> dict[str, Expr]:
        """Constant tensors have symbols, equal ones the same."""
        symbols: dict[object, Expr] = {}
        found: dict[str, Expr] = {}
        for node in self.joint.graph.of_role("constant"):
            if node.size > 1:
                own = Sym("c", (node.name.removeprefix("constant").lstrip("#") or "1",), ref=Ref(node.name))
                found[node.name] = symbols.setdefault(_content(node), own)
        return found

    @cached_property
    def writer(self) -> Writer:
        """Writes in terms of the named error signals."""
        return self._writer(frozenset(v.name for v in self._values if v not in self.signals))

    @cached_property
    def expander(self) -> Writer:
        """Writes every error signal out."""
        return self._writer(frozenset(v.name for v in self._values))

    @cached_property
    def forward(self) -> list[Line]:
        """What each value on the way is computed from."""
        needed = self.behind
        return [
            Line(v, self.writer.symbol(v), self.writer.shaped(v), why_value(v, self.program), "forward")
            for v in self._values
            if v in needed
        ]

    @property
    def gaps(self) -> list[str]:
        """What has no textbook form, in words."""
        return gaps(self.graph, self.behind)

    @cached_property
    def behind(self) -> set[Node]:
        """Everything that is differentiated depends on, itself included."""
        return self._ancestors()

    def _ancestors(self) -> set[Node]:
        found, stack = set[Node](), [self.of]
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += node.inputs
        return found

    @cached_property
    def backward(self) -> list[Line]:
        """The named error signals, from the loss backwards."""
        return [self._line(v, self.writer, "backward") for v in self.signals]

    @cached_property
    def gradients(self) -> list[Line]:
        """The gradients in terms of the error signals."""
        return [self._line(n, self.writer, "gradient") for n in self.reached]

    @cached_property
    def expanded(self) -> list[Line]:
        """The same with every error signal put in."""
        if not self.is_expandable:
            return []
        return [self._line(n, self.expander, "expanded") for n in self.reached]

    @cached_property
    def is_expandable(self) -> bool:
        """Whether the gradients with everything put in stay readable: every branch doubles what lies behind it."""
        sizes = self._sizes(self.expander, entries=False)
        return sum(sizes[g] for n in self.reached if (g := self.joint.gradients[n]) is not None) <= MOST_WRITTEN_OUT

    def _sizes(self, writer: Writer, *, entries: bool) -> dict[Node, int]:
        """How many symbols the formula of each node has, of a whole tensor or about how many of one entry."""
        used: dict[Node, int] = {}
        found: dict[Node, int] = {}
        for node in self.joint.graph.nodes:
            inner = max((x.size for x in node.inputs), default=1) // max(min(node.size, 10**9), 1) if entries else 1
            if entries and node.op.name in ("matmul", "linear"):
                inner = node.inputs[0].shape[-1] if node.inputs[0].shape else 1
            found[node] = 1 + max(inner, 1) * sum(used[x] for x in node.inputs)
            used[node] = 1 if node.is_leaf or writer.is_named(node) else found[node]
        return found

    @property
    def reached(self) -> list[Node]:
        """The wanted ones on which the loss depends."""
        return [n for n in self.wrt if self.joint.gradients[n] is not None]

    def _line(self, of: Node, writer: Writer, phase: Phase) -> Line:
        adjoint = self.joint.gradients[of]
        assert adjoint is not None
        rule = self.rule(of) if phase != "expanded" else "the error signals put in"
        return Line(adjoint, writer.symbol(adjoint), writer.shaped(adjoint), rule, phase)

    def folds(self, lines: Sequence[Line]) -> list[Fold]:
        """Equations in order, with those that repeat with another number written once."""
        return fold([Entry(line.left, line.right, line.rule.translate(_DIGITS)) for line in lines])

    @property
    def lines(self) -> list[Line]:
        """The derivation in order, without the expanded forms."""
        return [*self.forward, *self.backward, *self.gradients]

    def rule(self, of: Node) -> str:
        """The rule behind an error signal or a gradient; what it passes without a name on the way is said too."""
        said, passed, stack = [], set[Node](), [of]
        while stack:
            node = stack.pop(0)
            users = tuple(u for u in self.graph.users[node] if self.joint.gradients.get(u) is not None)
            reason = why_gradient(node, users, self.graph, self.names)
            top, name = named(self.of.name, symbols=self.names).name, self.names.get(node.name, node.name)
            said.append(reason if node is of else f"∂{top}/∂{name}: {reason}")
            for user in (self._named_user(u) for u in users):
                if user is not None and user not in passed and user is not self.of and user not in self.signals:
                    passed.add(user)
                    stack.append(user)
        return "; ".join(said[:3])

    def _named_user(self, user: Node) -> Node | None:
        while user.role == "helper":
            following = self.graph.users[user]
            if len(following) != 1:
                return None
            user = following[0]
        return user

    # --- typed formulas -----------------------------------------------------------------------------------------------------
    def typed(self, expr: Expr) -> str | None:
        """The formula in the language of problems, where all its quantities are single numbers."""
        if any(n.size > 1 or n.shape for n in self.behind):
            return None
        try:
            return typed(expr, self._typed_name)
        except NotTyped:
            return None

    def _typed_name(self, sym: Sym) -> str:
        if sym.ref is None:
            raise NotTyped(sym.name)
        return self.delta_names[sym.ref.name] if sym.ref.kind == "gradient" else sym.ref.name

    # --- evaluating what is printed -------------------------------------------------------------------------------------------
    def evaluate(
        self, leaves: Mapping[str, Tensor], functions: Mapping[str, Elementwise] | None = None, expanded: bool = False
    ) -> dict[str, Tensor]:
        """The gradients from the printed formulas alone, in the order of the page.

        Args:
            leaves: the givens' and parameters' values.
            functions: what to put in for arbitrary functions.
            expanded: whether to use the expanded formulas of the gradients.

        Returns:
            the gradient of every wanted quantity, and of every value with a named error signal; without those behind an
            operation that has no textbook form.

        Raises:
            MissingRule: a formula on the page has a part that cannot be read back.
        """
        values: dict[str, Tensor] = {
            n.name: t.double() if t.is_floating_point() else t for n, t in self._leaves(leaves)
        }
        found: dict[str, Tensor] = {}

        def meaning(ref: Ref) -> Tensor | None:
            value = (found if ref.kind == "gradient" else values).get(ref.name)
            return value.mT if value is not None and ref.name in self._layout.flipped and not ref.index else value

        lines = [*self.forward, *self.expanded] if expanded else self.lines
        writer = self.expander if expanded else self.writer
        places = {**self._integers, **{n: t.tolist() for n, t in values.items() if _is_place(self.graph, n)}}
        knowing = replace(writer, integers=places)
        for line in lines:
            try:
                result = self._value(line, writer, knowing, meaning, functions)
            except MissingRule:
                if self.gaps:
                    continue  # behind an operation without a form; the page says so
                raise
            if line.node.of is None:
                values[line.node.name] = result
                if _is_place(self.graph, line.node.name):
                    places[line.node.name] = result.long().tolist()
            else:
                found[line.node.of.name] = result
        for node in self.wrt:
            if node not in self.reached:
                found[node.name] = torch.zeros(node.shape, dtype=torch.float64)
        return found

    def _entry_sizes(self, writer: Writer) -> dict[Node, int]:
        if id(writer) not in self._measured:
            self._measured[id(writer)] = self._sizes(writer, entries=True)
        return self._measured[id(writer)]

    def _leaves(self, leaves: Mapping[str, Tensor]) -> list[tuple[Node, Tensor]]:
        from ...domains.numbers import tensor_of

        constants = [(n, tensor_of(n)) for n in self.joint.graph.of_role("constant")]
        return [(self.graph.by_name[n], t) for n, t in leaves.items() if n in self.graph.by_name] + constants

    def _value(
        self,
        line: Line,
        writer: Writer,
        knowing: Writer,
        meaning: Meaning,
        functions: Mapping[str, Elementwise] | None,
    ) -> Tensor:
        """What an equation says: by its formula of whole tensors, or where that leaves open a shape, entry by entry.

        ``writer`` wrote the page; ``knowing`` writes entries with the places that numbers have decided by now.
        """
        node = line.node
        try:
            value = whole_value(line.shaped, meaning, functions)
            if (node.of or node).name in self._layout.flipped and value.ndim > 1:
                value = value.mT
            if not value.ndim:
                return value.expand(node.shape)
            if node.op.name == "reshape" or [n for n in value.shape if n > 1] == [n for n in node.shape if n > 1]:
                return value.reshape(node.shape)
            raise Unreadable(f"a formula of shape {list(value.shape)} for {list(node.shape)}")
        except Unreadable as reason:
            if node.size > MOST_ENTRIES or node.size * self._entry_sizes(writer)[node] > MOST_SCALARS:
                raise MissingRule(f"the printed formula of {node.name} cannot be read back: {reason}") from None
        try:
            entries = np.asarray(knowing.entries(node), dtype=object).reshape(-1)
            flat = [whole_value(entry, meaning, functions) for entry in entries]
        except Unreadable as reason:
            raise MissingRule(f"the printed formula of {node.name} cannot be read back: {reason}") from None
        return torch.stack([v.double().reshape(()) for v in flat]).reshape(node.shape)
