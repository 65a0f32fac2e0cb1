"""A network at other depths: its repeated part once more or less often, with new random weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ...errors import InputError

__all__ = ["deepened", "repeated_part"]


@dataclass(frozen=True)
class _Part:
    """Which children of a container repeat: ``count`` units of ``period`` children from ``start`` on."""

    path: str
    start: int
    period: int
    count: int


def repeated_part(model: nn.Module) -> _Part:
    """The longest run of alike parts in a Sequential or a ModuleList.

    Raises:
        InputError: there is none.
    """
    parts = [p for path, module in model.named_modules() if isinstance(module, (nn.Sequential, nn.ModuleList))
             for p in _runs(path, module)]  # fmt: skip
    if not parts:
        raise InputError(
            "a depth can be a symbol only where a part is repeated: put two or more alike layers or blocks into an "
            "nn.Sequential or an nn.ModuleList that the forward pass goes through; this model has none"
        )
    return max(parts, key=lambda p: (p.count * p.period, -p.start))


def _runs(path: str, container: nn.Module) -> Iterator[_Part]:
    kinds = [_kind(child) for child in container.children()]
    for start in range(len(kinds)):
        for period in range(1, (len(kinds) - start) // 2 + 1):
            unit, count = kinds[start : start + period], 1
            while kinds[start + count * period : start + (count + 1) * period] == unit:
                count += 1
            if count > 1 and any(shapes for _, shapes in unit):
                yield _Part(path, start, period, count)


def _kind(module: nn.Module) -> tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]:
    """What a part is: its description and the shapes of its parameters."""
    return repr(module), tuple((n, tuple(p.shape)) for n, p in module.named_parameters())


def deepened(model: nn.Module, repeats: int, seed: int = 0) -> nn.Module:
    """A copy of a model whose repeated part stands so many times, each with random weights of its own."""
    part = repeated_part(model)
    made = copy.deepcopy(model)
    container = made.get_submodule(part.path)
    children = list(container.children())
    unit = children[part.start : part.start + part.period]
    end = part.start + part.period * part.count
    copies = [copy.deepcopy(child) for _ in range(repeats) for child in unit]
    replaced = copy.copy(container)
    numbered = enumerate([*children[: part.start], *copies, *children[end:]])
    replaced._modules = {str(i): child for i, child in numbered}
    if not part.path:
        made = replaced
    else:
        parent, _, name = part.path.rpartition(".")
        setattr(made.get_submodule(parent), name, replaced)
    _draw(made, seed)
    return made.train(model.training)


def _draw(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(
                    0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
                )
