"""Changes around a rule: what is done to the gradient before it, to its step after it, and over time.

A change is written in the language of the formulas, so that it is confirmed by replaying it, and takes other edits too.
``c_`` stands for a number that is not known yet; the search fits it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from .edits import Edit, everywhere, expression, text_of_tree
from .program import Line, Program

__all__ = ["UNKNOWN", "periods", "wrappers"]

UNKNOWN = "c_"
SAFE = "1e-300"

GRADIENT: tuple[tuple[str, str], ...] = (
    ("sign({g})", "the gradient is replaced by its sign"),
    ("{g} - row_mean({g})", "the gradient is centralised: its mean over all axes but the first is taken off (for parameters "
     "with more than one axis)"),
    ("{g} - mean({g})", "the gradient is centralised: its mean over the whole parameter is taken off"),
    ("{g} - column_mean({g})", "the gradient is centralised: its mean over the first axis is taken off"),
    ("{g} / max(norm({g}), " + SAFE + ")", "the gradient is divided by its norm (that of each parameter)"),
    ("{g} / norm({g})", "the gradient is divided by its norm (that of each parameter), which gives NaN for a gradient of 0"),
    ("{g} / (norm({g}) + c_)", "the gradient is divided by its norm (that of each parameter) plus {c}"),
    ("{g} / max(norm_all, " + SAFE + ")", "the gradient is divided by the norm of the gradients of all parameters"),
    ("{g} / (norm_all + c_)", "the gradient is divided by the norm of the gradients of all parameters plus {c}"),
    ("{g} / max(max(abs({g})), " + SAFE + ")", "the gradient is divided by its largest entry"),
    ("{g} / (max(abs({g})) + c_)", "the gradient is divided by its largest entry plus {c}"),
    ("{g} / max(mean(abs({g})), " + SAFE + ")", "the gradient is divided by its mean size"),
    ("{g} / (mean(abs({g})) + c_)", "the gradient is divided by its mean size plus {c}"),
    ("{g} / max(sqrt(mean({g}**2)), " + SAFE + ")", "the gradient is divided by its root mean square"),
    ("{g} / (sqrt(mean({g}**2)) + c_)", "the gradient is divided by its root mean square plus {c}"),
    ("{g} / (sqrt(mean(({g} - mean({g}))**2)) + c_)", "the gradient is divided by its standard deviation plus {c}"),
    ("({g} - mean({g})) / (sqrt(mean(({g} - mean({g}))**2)) + c_)",
     "the gradient is standardised: its mean taken off, divided by its standard deviation plus {c}"),
    ("min(max({g}, -c_), c_)", "each entry of the gradient is clipped to [-{c}, {c}]"),
    ("{g} * min(1, c_ / max(norm({g}), " + SAFE + "))", "the gradient is clipped by its norm (that of each parameter) to {c}"),
    ("{g} * min(1, c_ / (norm({g}) + 1e-6))", "the gradient is clipped by its norm (that of each parameter, plus 1e-6) to {c}"),
    ("{g} * min(1, c_ / max(norm_all, " + SAFE + "))",
     "the gradient is clipped by the norm of the gradients of all parameters to {c}"),
    ("{g} * min(1, c_ / (norm_all + 1e-6))",
     "the gradient is clipped by the norm of the gradients of all parameters (plus 1e-6) to {c}"),
    ("{g} * min(1, c_ / max(sqrt(mean({g}**2)), " + SAFE + "))", "the gradient is clipped by its root mean square to {c}"),
    ("{g} * c_ * norm(w) / max(norm({g}), " + SAFE + ")",
     "the gradient is scaled to {c} times the norm of w (a trust ratio of the gradient, as in LARS)"),
    ("where(norm(w) * norm({g}) > 0, {g} * c_ * norm(w) / max(norm({g}), " + SAFE + "), {g})",
     "the gradient is scaled to {c} times the norm of w, where neither is 0 (a trust ratio of the gradient, as in LARS)"),
    ("{g} * c_ * norm(w) / (norm(g) + weight_decay * norm(w))",
     "the gradient is scaled by a trust ratio {c} |w|/(|g| + weight_decay |w|) for each parameter (as in LARS)"),
    ("where(norm(w) * norm(g) > 0, c_ * norm(w) / max(norm(g) + weight_decay * norm(w), " + SAFE + "), 1) * {g}",
     "the gradient is scaled by a trust ratio {c} |w|/(|g| + weight_decay |w|) for each parameter, 1 where either is 0 (as in LARS)"),
    ("{g} * c_ * norm(w) / (norm(g) + weight_decay * norm(w) + 1e-8)",
     "the gradient is scaled by a trust ratio {c} |w|/(|g| + weight_decay |w| + 1e-8) for each parameter (as in LARS)"),
    ("{g} * norm(w) / (norm({g}) + c_)", "the gradient is scaled to the norm of w, with {c} added to its own"),
    ("{g} + c_ * w", "{c} times w is added to the gradient: a weight decay (L2) that is no setting"),
    ("{g} + c_ * sign(w)", "{c} times the sign of w is added to the gradient (an L1 penalty)"),
    ("{g} + weight_decay * sign(w)", "the weight decay adds the sign of w too (an L1 penalty)"),
    ("{g} + weight_decay * w", "the weight decay is added to the gradient (L2) besides"),
    ("{g} + weight_decay * (w - w_first)", "the weight decay pulls towards the start of w too"),
    ("{g} + c_", "{c} is added to the gradient"),
    ("tanh({g})", "the gradient goes through tanh"),
    ("arctan({g})", "the gradient goes through arctan"),
    ("{g} / (1 + abs({g}))", "the gradient goes through g/(1 + |g|)"),
    ("sign({g}) * abs({g})**c_", "the size of the gradient is raised to the power {c}"),
    ("sign({g}) * log(1 + abs({g}))", "the size of the gradient goes through log(1 + |g|)"),
    ("bfloat16({g})", "the gradient is rounded to bfloat16"),
    ("float16({g})", "the gradient is rounded to float16"),
    ("float32({g})", "the gradient is rounded to float32"),
    ("{g} + c_ * ({g} - g_raw)", "{c} times the change of the gradient since the update before is added to it"),
    ("where(t == 1, {g}, {g} + c_ * ({g} - g_raw))",
     "{c} times the change of the gradient since the update before is added to it, from the second update on"),
    ("g_raw", "the gradient of the update before is used (in the first one 0)"),
    ("where(t == 1, {g}, g_raw)", "the gradient of the update before is used (in the first one its own)"),
    ("({g} + g_raw) / 2", "the mean of this gradient and the one before is used"),
    ("max({g}, 0)", "negative entries of the gradient are dropped"),
    ("abs({g})", "the gradient is replaced by its size, without sign"),
    ("where(abs({g}) == max(abs({g})), {g}, 0)", "only the largest entry of the gradient counts"),
)  # fmt: skip
"""New gradients, and what each is in words; ``g_raw`` is the gradient of the update before."""

STEP: tuple[tuple[str, str], ...] = (
    ("lr * sign({x})", "the step is lr times the sign of the rule's step"),
    ("{x} / max(norm({x}), " + SAFE + ") * lr", "the step is divided by its norm: each parameter moves by lr"),
    ("{x} / (norm({x}) / lr + c_)", "the step is divided by its norm (before lr, plus {c}): each parameter moves by about lr"),
    ("{x} / (sqrt(mean({x}**2)) / lr + c_)", "the step is divided by its root mean square (before lr, plus {c})"),
    ("{x} / (max(abs({x})) / lr + c_)", "the step is divided by its largest entry (before lr, plus {c})"),
    ("{x} / (mean(abs({x})) / lr + c_)", "the step is divided by its mean size (before lr, plus {c})"),
    ("where(norm(w_old) * norm({x}) > 0, norm(w_old) / max(norm({x}), " + SAFE + "), 1 / lr) * lr * {x}",
     "the step is scaled by a trust ratio |w|/|step| for each parameter, 1 where either is 0 (as in LAMB)"),
    ("norm(w_old) / max(norm({x}), " + SAFE + ") * lr * {x}",
     "the step is scaled by a trust ratio |w|/|step| for each parameter, also where w is 0"),
    ("norm(w_old) / (norm({x}) / lr + c_) * {x}",
     "the step is scaled by a trust ratio |w|/(|step| + {c}) for each parameter"),
    ("where(norm(w_old) > 0, norm(w_old) / (norm({x}) / lr + c_), 1) * {x}",
     "the step is scaled by a trust ratio |w|/(|step| + {c}) for each parameter, 1 where w is 0"),
    ("min(where(norm(w_old) * norm({x}) > 0, norm(w_old) * lr / max(norm({x}), " + SAFE + "), 1), c_) * {x}",
     "the step is scaled by a trust ratio |w|/|step| for each parameter, at most {c}"),
    ("min(norm(w_old), c_) * lr / max(norm({x}), " + SAFE + ") * {x}",
     "the step is scaled by a trust ratio |w|/|step| for each parameter, with |w| at most {c}"),
    ("where(norm(w_old) * norm({x}) > 0, c_ * norm(w_old) / max(norm({x}), " + SAFE + ") * lr, 1) * {x}",
     "the step is scaled by a trust ratio {c} |w|/|step| for each parameter, 1 where either is 0 (as in LARS)"),
    ("where({x} * g > 0, {x}, 0)", "entries whose step goes against the sign of their gradient are left out (a cautious mask)"),
    ("where({x} * g > 0, {x}, 0) / max(mean(where({x} * g > 0, 1, 0)), 1e-3)",
     "entries whose step goes against the sign of their gradient are left out, and the others scaled up by their share, at "
     "least 1e-3 (a cautious mask)"),
    ("where({x} * g > 0, {x}, 0) * numel / (sum(where({x} * g > 0, 1, 0)) + c_)",
     "entries whose step goes against the sign of their gradient are left out, and the others scaled up by entries/(kept + {c}) "
     "(a cautious mask)"),
    ("where({x} * g >= 0, {x}, 0)", "entries whose step goes against the sign of their gradient are left out (a cautious mask)"),
    ("where({x} * g < 0, c_, 1) * {x}", "the step is multiplied by {c} where it goes against the sign of the gradient"),
    ("where({x} * g > 0, 1, c_) * {x}", "the step is multiplied by {c} where it does not go with the sign of the gradient"),
    ("min(max({x}, -c_), c_)", "each entry of the step is clipped to [-{c}, {c}]"),
    ("lr * min(max({x} / lr, -c_), c_)", "each entry of the step before lr is clipped to [-{c}, {c}]"),
    ("{x} * min(1, c_ / max(norm({x}), " + SAFE + "))", "the step is clipped by its norm (for each parameter) to {c}"),
    ("{x} * min(1, lr * c_ / max(norm({x}), " + SAFE + "))",
     "the step before lr is clipped by its norm (for each parameter) to {c}"),
    ("{x} / max(1, sqrt(mean({x}**2)) / lr / c_)",
     "the step before lr is clipped by its root mean square (for each parameter) to {c}"),
    ("{x} * min(1, c_ * norm(w_old) / max(norm({x}), " + SAFE + "))",
     "the step is clipped to {c} times the norm of w (for each parameter)"),
    ("lr * {x} / max(sqrt(mean({x}**2)), " + SAFE + ")", "the step is divided by its root mean square: lr is what is left"),
    ("{x} - row_mean({x})", "the step is centralised: its mean over all axes but the first is taken off"),
    ("{x} - mean({x})", "the step is centralised: its mean over the parameter is taken off"),
    ("{x} / sqrt(numel)", "the step is divided by the root of the number of entries"),
    ("{x} / numel", "the step is divided by the number of entries"),
    ("{x} / n", "the step is divided by the number of parameters"),
    ("where(ndim > 1, 1, c_) * {x}", "the step of parameters with one axis is multiplied by {c}"),
    ("where(ndim > 1, c_, 1) * {x}", "the step of parameters with more than one axis is multiplied by {c}"),
    ("where(i == 0, c_, 1) * {x}", "the step of the first parameter is multiplied by {c}"),
    ("where(i == 0, 1, c_) * {x}", "the step of all parameters but the first is multiplied by {c}"),
    ("where(i == n - 1, c_, 1) * {x}", "the step of the last parameter is multiplied by {c}"),
    ("c_**i * {x}", "the step of each parameter is {c} times as long as for the one before"),
    ("c_**(n - 1 - i) * {x}", "the step of each parameter is {c} times as long as for the one after"),
    ("{x} + lr * weight_decay * w_old", "w shrinks by lr times the weight decay besides (decoupled)"),
    ("{x} + weight_decay * w_old", "w shrinks by the weight decay, not multiplied by lr, besides"),
    ("where(t == 1, c_, 1) * {x}", "the first step is multiplied by {c}"),
    ("lr * sign({x}) * (abs({x}) / lr)**c_", "the size of the step before lr is raised to the power {c}"),
    ("lr * tanh({x} / lr)", "the step before lr goes through tanh"),
    ("{x} + c_ * w_old", "w shrinks by {c} times itself besides: a weight decay that is no setting"),
    ("{x} + lr * c_ * w_old", "w shrinks by lr times {c} times itself besides: a weight decay that is no setting"),
    ("{x} + c_ * step_raw", "{c} times the step before is added"),
)  # fmt: skip
"""New steps from the step x = w_old - w; ``step_raw`` is the step of the update before."""

AFTER: tuple[tuple[str, str], ...] = (
    ("float32(w)", "w is rounded to float32 after each update"),
    ("bfloat16(w)", "w is rounded to bfloat16 after each update"),
    ("float16(w)", "w is rounded to float16 after each update"),
    ("min(max(w, -c_), c_)", "w is clipped to [-{c}, {c}] after each update"),
    ("max(w, 0)", "negative entries of w are set to 0 after each update"),
    ("w - mean(w)", "the mean of w is taken off after each update"),
    ("w * min(1, c_ / max(norm(w), " + SAFE + "))", "w is scaled to a norm of at most {c} after each update"),
    ("w * norm(w_old) / max(norm(w), " + SAFE + ")", "w keeps its norm in each update"),
    ("sign(w) * max(abs(w) - c_, 0)", "w is shrunk towards 0 by {c} after each update (soft threshold)"),
    ("sign(w) * max(abs(w) - lr * c_, 0)", "w is shrunk towards 0 by lr times {c} after each update (soft threshold)"),
    ("where(t == 1, w, w)", ""),
)  # fmt: skip


def wrappers(program: Program) -> Iterator[Edit]:
    """Every change around the rule; those with ``c_`` in their names have a number to fit."""
    yield from _between(program)
    yield from _only_for_some(program)
    yield from _mixed(program)
    for name in _gradients(program):
        for text, words in GRADIENT:
            if "weight_decay" in text and "weight_decay" not in program.names:
                continue
            yield Edit(_before(program, name, text), "wrapped", name, (name,), how=words)
    for text, words in STEP:
        if "weight_decay" in text and "weight_decay" not in program.names:
            continue
        for step in _steps(program, text):
            yield Edit(step, "wrapped", "the step", ("w",), how=words)
    for text, words in AFTER:
        if words:
            yield Edit(_ended(program, [("w", text)]), "wrapped", "w", ("w",), how=words)
    yield from _in_one_line(program)
    yield from _restarted(program)
    yield from _states_changed(program)
    yield from _behind(program)


# --- pieces -----------------------------------------------------------------------------------------------------------------
def _line(name: str, text: str) -> Line:
    return Line(name, expression(text))


def _ended(program: Program, lines: list[tuple[str, str]], state: tuple[str, ...] = ()) -> Program:
    end = tuple(_line(n, x) for n, x in lines)
    return replace(program, lines=(*program.lines, *end), state=(*program.state, *state))


def _begun(program: Program, lines: list[tuple[str, str]], state: tuple[str, ...] = ()) -> Program:
    begin = tuple(_line(n, x) for n, x in lines)
    return replace(program, lines=(*begin, *program.lines), state=(*program.state, *state))


def _gradients(program: Program) -> list[str]:
    """The names of the gradient on its way: g, and what the sign and the weight decay make of it."""
    assigned = [line.name for line in program.lines]
    return ["g", *(n for n in ("g_1", "g_2") if n in assigned)]


def _before(program: Program, name: str, text: str) -> Program:
    """The gradient under this name changed as soon as it is there."""
    at = next((k + 1 for k, line in enumerate(program.lines) if line.name == name), 0)
    new, state = _line(name, text.replace("{g}", name)), program.state
    body = (*program.lines[:at], new, *program.lines[at:])
    if "g_raw" not in new.names:
        return replace(program, lines=body)
    kept = Line("g_kept", expression(name))
    last = Line("g_raw", expression("g_kept"))
    return replace(program, lines=(*program.lines[:at], kept, new, *program.lines[at:], last), state=(*state, "g_raw"))


def _steps(program: Program, text: str) -> Iterator[Program]:
    """The step of the last line changed, and, where another line moves w too, the whole step."""
    last = program.lines[-1]
    state = ("step_raw",) if "step_raw" in text else ()
    kept = [("step_raw", "x_")] if state else []
    tree = last.tree
    if last.name == "w" and isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Sub):
        lines = [("x_", text_of_tree(tree.right)), ("y_", text.replace("{x}", "x_"))]
        body = replace(program, lines=program.lines[:-1])
        yield _ended(body, [*lines, ("w", f"{text_of_tree(tree.left)} - y_"), *kept], state)
    if sum(line.name == "w" for line in program.lines) > 1 or last.name != "w":
        lines = [("x_", "w_old - w"), ("y_", text.replace("{x}", "x_")), ("w", "w_old - y_"), *kept]
        yield _ended(program, lines, state)


# --- which parameters, which lines ----------------------------------------------------------------------------------------------
def _between(program: Program) -> Iterator[Edit]:
    """State that all parameters have in common."""
    if program.state:
        whole = replace(program, shared=program.state)
        yield Edit(
            whole, "wrapped", "the state", (), how="all parameters share one state: each goes on from the one before"
        )
    turn = "t - 1 - floor((t - 1) / n) * n == i"
    yield Edit(_held(program, turn, ("w",)), "wrapped", "w", (), how="only one parameter moves per update, in turn")
    idle = _held(program, turn, ("w", *program.state))
    yield Edit(
        idle, "wrapped", "w", (), how="only one parameter moves per update, in turn; the state of the others waits"
    )
    for name in program.state if len(program.state) > 1 else ():
        one = replace(program, shared=(name,))
        yield Edit(one, "wrapped", name, (), how=f"all parameters share one {name}: each goes on from the one before")


WHICH = (
    ("ndim > 1", "parameters with one axis"),
    ("ndim < 2", "parameters with more than one axis"),
    ("i > 0", "the first parameter"),
    ("i == 0", "all parameters but the first"),
    ("i < n - 1", "the last parameter"),
)


def _only_for_some(program: Program) -> Iterator[Edit]:
    """Settings that do not hold for every parameter."""
    for name in settings_in(program):
        for condition, which in WHICH:
            words = f"{_spoken(name)} is left out for {which}"
            yield Edit(
                everywhere(program, name, expression(f"where({condition}, {name}, 0)")), "wrapped", name, (), how=words
            )


def settings_in(program: Program) -> list[str]:
    """The settings that a program reads."""
    inner = {line.name for line in program.lines} | {"w", "g", "t", *program.state} | _GIVEN
    inner |= {f"{s}_old" for s in (*program.state, "w")}
    return [n for n in program.names if n not in inner]


_GIVEN = {"i", "n", "ndim", "numel", "norm_all", "f_t", "g_old", "t_old", "lr_first", "lr_old", "w_first", UNKNOWN}


def _spoken(name: str) -> str:
    return {"weight_decay": "the weight decay", "momentum": "the momentum", "lr": "the update"}.get(name, name)


def _in_one_line(program: Program) -> Iterator[Edit]:
    """The gradient changed in one line only, such as that of m."""
    for k, line in enumerate(program.lines):
        for name in _gradients(program):
            if name not in line.names or line.name in ("g_1", "g_2"):
                continue
            for text, words in GRADIENT:
                if "g_raw" in text or "c_" in text or "weight_decay" in text:
                    continue
                new = everywhere(program, name, expression(f"({text.replace('{g}', name)})"), k)
                yield Edit(new, "wrapped", name, (line.name,), how=f"in the line of {line.name}, {words}")


def _mixed(program: Program) -> Iterator[Edit]:
    """A state taken together with the gradient where it is used: Nesterov's look ahead, quasi-hyperbolic momentum."""
    g = _gradients(program)[-1]
    for name in program.state:
        uses = [k for k, line in enumerate(program.lines) if name in line.names and line.name != name]
        for k in uses:
            for text, words in _mixtures(program, name, g):
                new = everywhere(program, name, expression(f"({text})"), k)
                where = program.lines[k].name
                yield Edit(new, "wrapped", name, (where,), how=f"{where} uses {words} in the place of {name}")


def _mixtures(program: Program, name: str, g: str) -> Iterator[tuple[str, str]]:
    for mu in (n for n in ("momentum", "beta1") if n in program.names):
        yield f"{g} + {mu} * {name}", f"{g} + {mu} {name} (as Nesterov's momentum)"
        yield f"{mu} * {name} + (1 - {mu}) * {g}", f"{mu} {name} + (1 - {mu}) {g} (as Nesterov's momentum)"
        yield f"sign({mu} * {name}_old + (1 - {mu}) * {g})", f"the sign of {mu} {name} + (1 - {mu}) {g} (as in Lion)"
    yield f"c_ * {name} + (1 - c_) * {g}", f"a mixture, {{c}} {name} and the rest {g} (quasi-hyperbolic momentum),"
    yield f"{name} + c_ * {g}", f"{name} + {{c}} {g}"


STATE = (
    ("min(max({s}, -c_), c_)", "{s} is clipped to [-{c}, {c}]"),
    ("{s} * min(1, c_ / max(norm({s}), " + SAFE + "))", "{s} is clipped by its norm to {c}"),
    ("{s} / max(norm({s}), " + SAFE + ")", "{s} is divided by its norm"),
    ("{s} / (norm({s}) + c_)", "{s} is divided by its norm plus {c}"),
    ("{s} - mean({s})", "the mean of {s} over the parameter is taken off it"),
    ("{s} - row_mean({s})", "the mean of {s} over all axes but the first is taken off it"),
    ("sign({s})", "only the sign of {s} is kept"),
    ("mean({s}) + 0 * {s}", "{s} is its mean over the parameter"),
    ("max(c_, {s})", "{s} is held at or above {c}"),
    ("min(c_, {s})", "{s} is held at or below {c}"),
)


def _states_changed(program: Program) -> Iterator[Edit]:
    """A state changed as soon as it is computed, so that the next update goes on from that."""
    for name in program.state:
        at = max((k + 1 for k, line in enumerate(program.lines) if line.name == name), default=0)
        for text, words in STATE if at else ():
            body = (*program.lines[:at], _line(name, text.replace("{s}", name)), *program.lines[at:])
            yield Edit(replace(program, lines=body), "wrapped", name, (name,), how=words.replace("{s}", name))


def _behind(program: Program) -> Iterator[Edit]:
    """w follows behind the rule's own w."""
    begun = _begun(program, [("w", "where(t == 1, w, w_fast)")])
    new = _ended(begun, [("w_fast", "w"), ("w", "w_old + c_ * (w - w_old)")], ("w_fast",))
    yield Edit(new, "wrapped", "w", ("w",),
               how="w is a running average of the rule's own w: in each update it goes {c} of the way to it")  # fmt: skip


def _restarted(program: Program) -> Iterator[Edit]:
    """State set to 0 where the gradient turns against it."""
    for name in program.state:
        for g in _gradients(program)[-1:]:
            text = f"where({name} * {g} < 0, 0, {name})"
            at = next((k + 1 for k, line in enumerate(program.lines) if line.name == g), 0)
            body = (*program.lines[:at], _line(name, text), *program.lines[at:])
            words = f"{name} starts again from 0 in each entry where the gradient has the other sign"
            yield Edit(replace(program, lines=body), "wrapped", name, (name,), how=words)
            whole = _line(name, f"where(sum({name} * {g}) < 0, 0, {name})")
            words = f"{name} starts again from 0 where it points against the gradient (their product over the parameter is < 0)"
            body = (*program.lines[:at], whole, *program.lines[at:])
            yield Edit(replace(program, lines=body), "wrapped", name, (name,), how=words)


# --- periods ----------------------------------------------------------------------------------------------------------------
def periods(program: Program, longest: int = 12) -> Iterator[Edit]:
    """What happens every k updates: steps only then, state from 0, Lookahead."""
    for k in range(2, longest + 1):
        yield from _every(program, k)
        for words, new in _restarts(program, k):
            yield Edit(new, "wrapped", "the state", (), how=words)
        yield Edit(_lookahead(program, k), "wrapped", "w", ("w",),
                   how=f"Lookahead: every {k} updates w goes back to {{c}} of the way from where it was {k} updates ago")  # fmt: skip


def _every(program: Program, k: int) -> Iterator[Edit]:
    for phase in sorted({0, 1 % k}):
        now = f"t - floor(t / {k}) * {k} == {phase}"
        when = f"only every {k} updates" + (", from the first one on" if phase else "")
        yield Edit(
            _held(program, now, ("w",)), "wrapped", "w", ("w",), how=f"w moves {when}; the state goes on in all of them"
        )
        for total, words in (("g_sum / g_count", "the mean of the gradients since the last step"),
                             ("g_sum", "the sum of the gradients since the last step"),
                             ("g", "the last gradient")):  # fmt: skip
            yield Edit(_accumulated(program, now, total, k, phase), "wrapped", "w", ("w",),
                       how=f"a step is made {when}, with {words}")  # fmt: skip


def _held(program: Program, now: str, names: tuple[str, ...]) -> Program:
    return _ended(program, [(s, f"where({now}, {s}, {s}_old)") for s in names])


def _accumulated(program: Program, now: str, total: str, k: int, phase: int) -> Program:
    counted = everywhere(program, "t", expression(f"floor((t + {(k - phase) % k}) / {k})"))
    held = _held(counted, now, ("w", *program.state))
    kept = [("g_sum", f"where({now}, 0, g_sum)"), ("g_count", f"where({now}, 0, g_count)")]
    begin = [("g_sum", "g_sum + g"), ("g_count", "g_count + 1"), ("g", total)]
    return _ended(_begun(held, begin), kept, ("g_sum", "g_count"))


def _restarts(program: Program, k: int) -> Iterator[tuple[str, Program]]:
    """State set to 0 before every k-th update, or after it; with the count of updates too."""
    for after, when in ((f"t - floor(t / {k}) * {k} == 0", f"after every {k} updates"),
                        (f"t - floor((t - 1) / {k}) * {k} == {k}", f"before update {k}, {2 * k}, ...")):  # fmt: skip
        for name in program.state:
            new = [(name, f"where({after}, 0, {name})")]
            changed = _ended(program, new) if when.startswith("after") else _begun(program, new)
            yield f"{name} starts again from 0 {when}", changed
        if len(program.state) > 1 and when.startswith("after"):
            new = [(s, f"where({after}, 0, {s})") for s in program.state]
            yield f"the whole state starts again from 0 {when}", _ended(program, new)
            again = everywhere(program, "t", expression(f"(t - floor((t - 1) / {k}) * {k})"))
            yield f"the whole state and the count of updates start again from 0 {when}", _ended(again, new)


def _lookahead(program: Program, k: int) -> Program:
    now = f"t - floor(t / {k}) * {k} == 0"
    lines = [
        ("w_slow", "where(t == 1, w_old, w_slow)"),
        ("w", f"where({now}, w_slow + c_ * (w - w_slow), w)"),
        ("w_slow", f"where({now}, w, w_slow)"),
    ]
    return _ended(program, lines, ("w_slow",))
