"""A record as a plain PyTorch script: the forward pass, the backward pass by hand, the update, without Backproof."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ...domains.numbers import HELPERS, code, helper_source
from ...errors import InputError
from ...graph import Graph, Node
from ...optimizers.base import Equations, Optimizer
from ..trace import Trace
from .asking import asking_setup, asking_update

__all__ = ["script_of"]

MOST_NUMBERS = 20_000


def script_of(trace: Trace) -> str:
    """Write a script that recomputes every step of a record and prints it as JSON.

    Raises:
        InputError: the numbers are too many to be written out.
    """
    drawn = sum(n.size for step in trace.steps for n in step.graph.of_role("draw"))
    count = sum(t.numel() for t in trace.program.start.values()) + drawn
    if count > MOST_NUMBERS:
        raise InputError(
            f"a script would have {count:,} numbers written out, more than {MOST_NUMBERS:,}; save the record as .json instead"
        )
    return _Script(trace).text()


class _Script:
    """Collects the lines of a script; every node of the graph becomes one line."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.program = trace, trace.program
        self.names: dict[Node, str] = {}
        self.taken: set[str] = set(keyword.kwlist) | {
            "torch",
            "F",
            "json",
            "math",
            "record",
            "new",
            "steps",
            "before",
            "after",
            "state",
            "step",
            "sample",
            "samples",
            "as_list",
            "itertools",
            "Sequence",
            *HELPERS,
            "forward_and_backward",
            "update",
            "draws",
            "t",
            "w",
            "g",
            "data",
        }

    def text(self) -> str:
        step = self.trace.steps[0]
        if step.graph.surrogates:
            name = next(iter(step.graph.surrogates.values())).name
            raise InputError(
                f"a script without your model cannot run the backward pass of {name}, which is your own code; "
                "write the trace as .html or .json instead"
            )
        joint = self.program.joint(step.graph)
        body = joint.graph if joint else step.graph
        givens, both = self._givens(), self._pass(body)
        parts = [
            self._head(body, both),
            givens,
            both,
            *self._update(),
            self._loop(step.graph, joint is not None),
        ]
        return "\n\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"

    # --- parts ------------------------------------------------------------------------------------------------------------
    def _head(self, graph: Graph, body: str) -> str:
        title = self.trace.title.replace('"""', "'''").replace("\\", "")
        helpers = helper_source({n.op.name for n in graph.nodes})
        code = "\n".join([body, *helpers])
        lines = [
            f'"""{title}: every value, gradient and update, recomputed step by step in plain PyTorch."""',
            "",
            "import json",
        ]
        lines += ["import itertools"] if "itertools." in code else []
        lines += ["import math"] if "math." in code else []
        lines += ["from collections.abc import Sequence"] if "Sequence[" in code else []
        lines += ["", "import torch"] + (["import torch.nn.functional as F"] if "F." in code else [])
        return "\n".join([*lines, *helpers])

    def _givens(self) -> str:
        lines = ["# What is given: inputs, targets and the parameters at the start."]
        for node in self.program.given:
            tensor = self.program.start[node.name]
            name = self._name(node.name)
            self.names[node] = name
            lines.append(f"{name} = {'None' if node.role == 'draw' else _literal(tensor)}")
        lines.append("")
        pairs = ", ".join(f"{n.name!r}: {self.names[n]}" for n in self.program.given)
        return "\n".join([*lines, f"data = {{{pairs}}}", *self._draws()])

    def _draws(self) -> Iterable[str]:
        """What each step drew at random, as it was recorded."""
        if not any(step.graph.of_role("draw") for step in self.trace.steps):
            return
        yield "# What was drawn at random, step by step."
        yield "draws = ["
        for step in self.trace.steps:
            found = {n.name: _literal(step.leaves[n.name]) for n in step.graph.of_role("draw")}
            yield f"    {_mapping(found)},"
        yield "]"

    def _name(self, name: str) -> str:
        """A Python name for a name of the record."""
        plain = re.sub(r"\W+", "_", name.replace("grad(", "d_").replace(")", "")).strip("_") or "value"
        plain = plain if plain.isidentifier() else f"v_{plain}"
        candidate, count = plain, 1
        while candidate in self.taken:
            count += 1
            candidate = f"{plain}_{count}"
        self.taken.add(candidate)
        return candidate

    def _pass(self, graph: Graph) -> str:
        """The forward and the backward pass as one function of the leaves."""
        leaves = [n for n in graph.nodes if n.is_leaf and n.role != "constant"]
        own = {n.name: self.names[n] for n in self.program.given}
        names: dict[Node, str] = {n: own.get(n.name, self._name(n.name)) for n in leaves}
        lines = [
            f"def forward_and_backward({', '.join(names[n] for n in leaves)}):",
            '    """Every value and the gradient of the loss with respect to it."""',
        ]
        first_adjoint = True
        for node in graph.nodes:
            if node.is_leaf and node.role != "constant":
                continue
            if node.of is not None and first_adjoint:
                lines.append("    # backward")
                first_adjoint = False
            if node.role == "constant":
                names[node] = (
                    _number(node) if node.size == 1 and not node.shape else self._assigned(node, lines, _constant(node))
                )
            else:
                names[node] = self._assigned(
                    node, lines, code(node, [_operand(x, node, names[x]) for x in node.inputs])
                )
        values = {n.name: names[n] for n in graph.nodes if n.role in ("value", "draw")}
        gradients = {
            n.of.name: names[n] for n in graph.nodes if n.of is not None and n.of.role not in ("helper", "constant")
        }
        lines.append(f"    values = {_mapping(values)}")
        lines.append(f"    gradients = {_mapping(gradients)}")
        return "\n".join([*lines, "    return values, gradients"])

    def _assigned(self, node: Node, lines: list[str], text: str) -> str:
        name = self._name(node.name)
        note = f"  # {node.source.text}" if node.source and node.role == "value" and len(node.source.text) < 60 else ""
        lines.append(f"    {name} = {text}{note}".replace("\n", " "))
        return name

    def _update(self) -> list[str]:
        """The update rule, for the first update and for the later ones where they differ."""
        if self.program.optimizer is None or self.program.optimizer.rule.asks:
            return []
        return [text for k, (rule, shape) in enumerate(self.kinds) for text in self._one_update(rule, shape, k)]

    @property
    def kinds(self) -> list[tuple[Optimizer, tuple[int, ...]]]:
        """The different updates: a rule, with the parameter's shape where its equations depend on it."""
        return list(dict.fromkeys(self._kind(n) for n in self.program.trained))

    def _kind(self, name: str) -> tuple[Optimizer, tuple[int, ...]]:
        rule, shape = self.program.rule_of(name), tuple(self.program.start[name].shape)
        assert rule is not None
        return rule, shape if rule.equations(2, shape) != rule.equations(2) else ()

    def _one_update(self, rule: Optimizer, shape: tuple[int, ...], place: int) -> list[str]:
        lines = [
            f"def update{place or ''}(w, g, state, t):",
            f'    """One update: {rule.described()}. Returns the new parameter and the new state."""',
        ]
        dtype = str(next(iter(self.program.start.values())).dtype).removeprefix("torch.")
        hyper = rule.numbers(dtype)
        spans = self._spans(rule, shape, dtype)
        turn = _in_torch if not (rule.rule.whole or rule.rule.name == "sparseadam") else _as_tensors
        lines += [
            f"    {k} = {float(v)!r}"
            for k, v in hyper.items()
            if _used(k, tuple(e for _, found in spans for e in found))
        ]
        states = rule.state_of(shape)
        kept = {s: f"torch.as_tensor({s}, dtype=w.dtype)" if s in rule.rule.shared else s for s in states}
        lines += [f"    {s} = state[{s!r}]" for s in states]
        if len(spans) == 1:
            lines += [f"    {name} = {turn(text)}" for name, text in spans[0][1]]
        for k, (last, equations) in enumerate(spans if len(spans) > 1 else []):
            head = "else" if k == len(spans) - 1 else f"{'el' if k else ''}if t <= {last}"
            lines += [f"    {head}:", *(f"        {name} = {turn(text)}" for name, text in equations)]
        return ["\n".join([*lines, f"    return w, {_mapping(kept)}"])]

    def _spans(self, rule: Optimizer, shape: tuple[int, ...], dtype: str) -> list[tuple[int, Equations]]:
        """The different sets of equations in order, each with the last update that it holds for."""
        spans: list[tuple[int, Equations]] = []
        for t in range(1, max(len(self.trace.steps), 2) + 1):
            found = rule.equations(t, shape, dtype)
            if spans and spans[-1][1] == found:
                spans.pop()
            spans.append((t, found))
        return spans

    def _loop(self, graph: Graph, has_loss: bool) -> str:
        program = self.program
        trained = list(program.trained)
        count = len({s.sample for s in self.trace.steps})
        samples = (
            "[None]"
            if count == 1 and self.trace.steps[0].sample is None
            else f"list(range({program.start[program.samples[0]].shape[0]}))"
        )
        loss = repr(graph.loss.name) if graph.loss is not None else None
        lines = [
            "def as_list(value):",
            "    return None if value is None else (torch.view_as_real(value) if value.is_complex() else value).tolist()",
            "",
            "",
            "steps = []",
            f"trained = {trained!r}",
            f"state = {_mapping({n: self._zeros(n) for n in trained})}",
            *(asking_setup(program.optimizer) if program.optimizer and program.optimizer.rule.asks else []),
            f"by_sample = {list(program.samples)!r}",
            f"samples = {samples}",
            f"for sample in (samples * {program.steps})[:{len(self.trace.steps)}]:",
            "    here = dict(data)",
            "    if sample is not None:",
            "        here |= {name: data[name][sample : sample + 1] for name in by_sample}",
            *(["    here |= draws[len(steps)]"] if graph.of_role("draw") else []),
            "    values, gradients = forward_and_backward(*here.values())",
            '    record = {"step": len(steps) + 1}',
            *([f'    record["loss"] = values[{loss}].item()'] if loss and has_loss else []),
            '    record["values"] = {n: as_list(v) for n, v in values.items()}',
            '    record["gradients"] = {n: as_list(v) for n, v in gradients.items()}',
            '    record["parameters"] = {}',
            *(
                asking_update(loss or "None")
                if program.optimizer and program.optimizer.rule.asks
                else self._updates_of()
            ),
            *self._buffers_of(graph),
            "    steps.append(record)",
            'print(json.dumps({"steps": steps}))',
        ]
        return "\n".join(lines)

    def _buffers_of(self, graph: Graph) -> Iterable[str]:
        """The buffers that the forward pass changes go on with their new values."""
        if not graph.state:
            return
        yield f"    new = {_mapping({old.name: f'values[{new.name!r}]' for old, new in graph.state.items()})}"
        yield '    record["buffers"] = {n: {"before": as_list(data[n]), "after": as_list(v)} for n, v in new.items()}'
        yield "    data |= new"

    def _zeros(self, name: str) -> str:
        """The state of a parameter at the start."""
        rule = self.program.rule_of(name)
        shape = tuple(self.program.start[name].shape)
        kept = rule.state_of(shape) if rule and not rule.rule.asks else ()
        shapes = {s: rule.shape_of(s, shape) for s in kept} if rule else {}
        return _mapping(
            {
                s: f"torch.zeros_like(data[{name!r}])" if own == shape else f"data[{name!r}].new_zeros({own})"
                for s, own in shapes.items()
            }
        )

    def _updates_of(self) -> Iterable[str]:
        yield "    for name in trained:"
        yield "        before, gradient = data[name], gradients.get(name)"
        if self.program.optimizer is not None:
            yield "        if gradient is not None:"
            several = len(self.kinds) > 1
            which = {n: f"update{self.kinds.index(self._kind(n)) or ''}" for n in self.program.trained}
            call = f"{_mapping(which)}[name]" if several else "update"
            yield f"            data[name], state[name] = {call}(before, gradient, state[name], len(steps) + 1)"
        yield '        record["parameters"][name] = {'
        yield '            "before": as_list(before), "gradient": as_list(gradient), "after": as_list(data[name]),'
        yield '            "state": {k: as_list(v) for k, v in state[name].items()},'
        yield "        }"


_PLAIN_NUMBERS = {"add", "sub", "mul", "div", "pow", "pow'0"}


def _operand(operand: Node, user: Node, name: str) -> str:
    """A plain number where torch takes one beside a tensor; else the operand's variable."""
    others = any(x.role != "constant" for x in user.inputs)
    is_number = operand.role == "constant" and not operand.shape and operand.name.split("#")[0] != "one"
    if not (is_number and others and user.op.name in _PLAIN_NUMBERS):
        return name
    value: Any = operand.value.item() if hasattr(operand.value, "item") else operand.value
    number = float(value)
    return repr(int(number)) if number.is_integer() and abs(number) < 1e6 else repr(number)


def _used(name: str, equations: Iterable[tuple[str, str]]) -> bool:
    return any(re.search(rf"\b{name}\b", text) for _, text in equations)


_TORCH = {
    "sqrt": "torch.sqrt",
    "max": "torch.maximum",
    "abs": "torch.abs",
    "sign": "torch.sign",
    "where": "torch.where",
}


def _in_torch(text: str) -> str:
    """An update formula as torch code: its functions are torch's, everything else is Python already."""
    return re.sub(r"\b(sqrt|max|abs|sign|where)\(", lambda m: _TORCH[m[1]] + "(", text)


_AS_TENSORS = {
    "sqrt": "(({0}) ** 0.5)",
    "min": "torch.minimum(*torch.broadcast_tensors(torch.as_tensor({0}).double(), torch.as_tensor({1}).double()))",
    "max": "torch.maximum(*torch.broadcast_tensors(torch.as_tensor({0}).double(), torch.as_tensor({1}).double()))",
}


class _Calls(ast.NodeTransformer):
    """Rules over whole matrices take plain numbers and tensors alike; torch's functions take tensors."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        assert isinstance(node.func, ast.Name)
        name, keywords = node.func.id, {k.arg: k for k in node.keywords}
        if name in ("bfloat16", "float16", "float32", "float64"):
            return _expression(f"({ast.unparse(node.args[0])}).to(torch.{name})")
        if name == "max" and keywords:
            return _expression(f"torch.amax({', '.join(map(ast.unparse, [*node.args, *node.keywords]))})")
        if name in _AS_TENSORS:
            return _expression(_AS_TENSORS[name].format(*map(ast.unparse, node.args)))
        node.func = _expression({"norm": "torch.linalg.vector_norm"}.get(name, f"torch.{name}"))
        return node


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _as_tensors(text: str) -> str:
    """An update formula of a rule over matrices as torch code."""
    return ast.unparse(ast.fix_missing_locations(_Calls().visit(ast.parse(text, mode="eval"))))


def _mapping(names: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key!r}: {value}" for key, value in names.items()) + "}"


def _literal(tensor: Tensor) -> str:
    dtype = str(tensor.dtype)
    return f"torch.tensor({tensor.tolist()!r}, dtype={dtype})"


def _number(node: Node) -> str:
    value: Any = node.value.item() if hasattr(node.value, "item") else node.value
    if node.name.split("#")[0] == "one":
        return f"torch.ones(({', '.join(map(str, node.shape))}), dtype=torch.{node.dtype})"
    return f"torch.tensor({float(value) if node.is_float else value!r}, dtype=torch.{node.dtype})"


def _constant(node: Node) -> str:
    if hasattr(node.value, "tolist"):
        return f"torch.tensor({node.value.tolist()!r}, dtype=torch.{node.dtype})"
    return f"torch.full({tuple(node.shape)!r}, {float(node.value)!r}, dtype=torch.{node.dtype})"
