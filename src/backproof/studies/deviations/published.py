"""Published rules that torch.optim does not have, to be recognised: their equations, in the names of their settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .program import Line, Program

__all__ = ["published"]

SIGN = (("d", "sign(beta1 * m + (1 - beta1) * g)"), ("m", "beta2 * m + (1 - beta2) * g"))
RULES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("Lion (Chen et al. 2023): the sign of beta1 m + (1 - beta1) g, then m with beta2", (*SIGN, ("w", "w - lr * d"))),
    (
        "Lion (Chen et al. 2023): the sign of beta1 m + (1 - beta1) g, then m with beta2, and decoupled weight decay",
        (("w", "w - lr * weight_decay * w"), *SIGN, ("w", "w - lr * d")),
    ),
)


def published(settings: frozenset[str]) -> Iterator[tuple[str, Program]]:
    """Each rule, and its program, whose settings are among those that there are."""
    for words, equations in RULES:
        lines = tuple(Line(n, ast.parse(text, mode="eval").body) for n, text in equations)
        if frozenset().union(*(x.names for x in lines)) <= settings | {"w", "g", "m", "d", "lr"}:
            yield words, Program(lines, ("m",))
