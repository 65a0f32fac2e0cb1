"""The product of the Hessian with a vector, from the captured graph differentiated twice, and its largest eigenvalue.

H u is the gradient of (gradient of the loss)ᵀ u (Pearlmutter 1994). The largest eigenvalue is found by the Lanczos
iteration with full reorthogonalisation; it needs products alone, no matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...differentiate import Joint, differentiate
from ...domains.numbers import evaluate
from ...errors import InputError
from ...graph import Builder, Graph, Node
from ..program import Program

__all__ = ["Eigenvalue", "HessianProduct", "lanczos"]

MOST_ITERATIONS = 120
ENOUGH = 1e-12


class HessianProduct:
    """u -> H u for the loss of a program, at any values of its trained parameters.

    Example:
        >>> import torch
        >>> from backproof.studies.trace import _program
        >>> model = torch.nn.Linear(1, 1, bias=False).double()
        >>> x, t = torch.tensor([[2.0]]).double(), torch.tensor([[0.0]]).double()
        >>> product = HessianProduct(_program(model, x, t, "mse", None, "model"))
        >>> product(product.start, torch.ones(1, dtype=torch.float64))
        tensor([8.], dtype=torch.float64)
    """

    def __init__(self, program: Program) -> None:
        joint = program.joint(program.graph)
        if joint is None or program.graph.loss is None:
            raise InputError("curvature is that of a loss: give loss=..., or a model whose output is one number")
        self.program, graph = program, program.graph
        reached = {n: joint.gradients.get(graph.by_name[n]) for n in program.trained}
        self.names = tuple(n for n, delta in reached.items() if delta is not None)
        if not self.names:
            raise InputError("no trained parameter changes the loss, so there is no curvature to measure")
        self.second = _second(joint, {n: d for n, d in reached.items() if d is not None})

    @property
    def start(self) -> dict[str, Tensor]:
        """The parameters as they are."""
        return {n: self.program.start[n] for n in self.names}

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(t.numel() for t in self.start.values())

    def __call__(self, parameters: Mapping[str, Tensor], u: Tensor) -> Tensor:
        """H u at the parameters; u is one vector over all of them in order."""
        pieces = dict(zip(self.names, u.split([self.program.start[n].numel() for n in self.names]), strict=True))
        leaves = {**self.program.start, **parameters}
        leaves |= {f"{n}·u": pieces[n].reshape(leaves[n].shape) for n in self.names}
        graph = self.second.graph
        values = evaluate(graph, {n: leaves[n.name] for n in graph.nodes if n.is_leaf and n.role != "constant"})
        found = [self.second.gradients[graph.by_name[n]] for n in self.names]
        zeros = [torch.zeros_like(leaves[n]) for n in self.names]
        return torch.cat([(z if d is None else values[d]).reshape(-1) for d, z in zip(found, zeros, strict=True)])


def _second(joint: Joint, slopes: Mapping[str, Node]) -> Joint:
    """The graph of sum(gradient * u), differentiated with respect to the parameters."""
    builder = Builder(joint.graph.nodes)
    total: Node | None = None
    for name, delta in slopes.items():
        u = builder.leaf(f"{name}·u", "input", delta.shape, delta.dtype)
        part = builder.emit("mul", delta, u)
        part = builder.emit("sum", part, dim=None, keepdim=False) if part.shape else part
        total = part if total is None else builder.emit("add", total, part)
    assert total is not None
    graph = Graph(tuple(builder.nodes), (total,))
    return differentiate(graph, of=total, wrt=[graph.by_name[n] for n in slopes])


@dataclass(frozen=True)
class Eigenvalue:
    """The largest eigenvalue with its vector, how far H v is from it, and how many products it took.

    ``residual`` is |H v - value v|: an eigenvalue of H lies within it of ``value``.
    """

    value: float
    vector: Tensor
    residual: float
    products: int


def lanczos(product: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype, seed: int = 0) -> Eigenvalue:
    """The largest eigenvalue of a symmetric matrix that is known by its products."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(size, generator=generator, dtype=torch.float64)
    basis, alphas, betas = [q / q.norm()], list[float](), list[float]()
    for k in range(min(size, MOST_ITERATIONS)):
        image = product(basis[k].to(dtype)).double()
        alphas.append(float(basis[k] @ image))
        stacked = torch.stack(basis)
        for _ in range(2):
            image = image - stacked.T @ (stacked @ image)
        betas.append(float(image.norm()))
        values, vectors = torch.linalg.eigh(_tridiagonal(alphas, betas))
        top = float(values[-1])
        tail = betas[-1] * abs(float(vectors[-1, -1]))
        scale = max(float(values.abs().max()), 1e-300)
        if tail <= (ENOUGH if dtype == torch.float64 else 1e-6) * scale or betas[-1] <= 1e-14 * scale:
            break
        basis.append(image / betas[-1])
    vector = stacked.T @ vectors[:, -1]
    residual = float((product(vector.to(dtype)).double() - top * vector).norm())
    return Eigenvalue(top, vector, residual, len(alphas) + 1)


def _tridiagonal(alphas: list[float], betas: list[float]) -> Tensor:
    side = torch.tensor(betas[:-1], dtype=torch.float64)
    return torch.diag(torch.tensor(alphas, dtype=torch.float64)) + torch.diag(side, 1) + torch.diag(side, -1)
