"""What is printed is right: the printed formulas alone give autograd's gradients, for every operation and every network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import backproof as bp
from backproof.ops import OPS
from backproof.studies.derivation.backward import Backward
from tests.laws.laws import WRONG_IN_TORCH
from tests.laws.samples import CASES, case_name, gap, on_autograd, sample
from tests.zoo.networks import NETWORKS, Network, build

GRADIENTS = [case for case in CASES if OPS[case[0]].differentiable]
TOLERANCE = 1e-9


@pytest.mark.parametrize("case", GRADIENTS, ids=case_name)
def test_every_operation(case: tuple[str, int]) -> None:
    op = OPS[case[0]]
    s = sample(op, op.examples[case[1]], seed=3)
    assert s.graph.loss is not None
    work = Backward(s.graph, s.graph.loss, [n.name for n in s.moving])
    found = work.evaluate({n.name: t for n, t in s.leaves.items()})
    values = on_autograd(s.graph, s.leaves, s.moving)
    theirs = torch.autograd.grad(values[s.graph.loss], [values[n] for n in s.moving], allow_unused=True)
    for node, expected in zip(s.moving, theirs, strict=True):
        zero = torch.zeros(node.shape, dtype=torch.float64)
        assert gap(found[node.name], zero if expected is None else expected) <= (
            1e-8 if op.name in WRONG_IN_TORCH else TOLERANCE
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(name: str) -> None:
    """With other numbers than the captured ones, so that nothing of the capture can help."""
    net = build(name)
    derived = bp.derive(net.model, *net.inputs, loss=net.loss, targets=net.targets)
    assert not derived.finding and all(e.agrees for e in derived.evidence)
    other = build(name, seed=1)
    other.model.train(net.model.training)
    named = dict(zip([n.name for n in derived.work.graph.of_role("input")], other.inputs, strict=True))
    found = derived.evaluate({**{n: p.detach() for n, p in other.model.named_parameters()}, **named})
    gradients = gradients_of(other, net.targets)
    assert gradients
    for parameter, gradient in gradients.items():
        size = max(float(gradient.abs().max()), 1e-3)
        assert float((found[parameter] - gradient).abs().max()) <= TOLERANCE * size, parameter


def gradients_of(net: Network, targets: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """torch's own gradients of a network's loss."""
    output = net.model(*net.inputs)
    losses = {"mse": F.mse_loss, "cross_entropy": F.cross_entropy, "huber": F.huber_loss, "l1": F.l1_loss}
    (output if net.loss is None else losses[net.loss](output, targets)).backward()
    return {n: p.grad for n, p in net.model.named_parameters() if p.grad is not None}
