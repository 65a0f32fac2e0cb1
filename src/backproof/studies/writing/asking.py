"""In a script: a rule that asks for the loss again (L-BFGS) as torch.optim has it, fed by the script's own backward pass."""

from __future__ import annotations

from collections.abc import Iterator

from ...optimizers import Optimizer
from ...optimizers.witness import torch_settings

__all__ = ["asking_setup", "asking_update"]


def asking_setup(rule: Optimizer) -> Iterator[str]:
    """Before the loop: the parameters as one optimizer holds them, and how their parts of a long vector are found."""
    settings = ", ".join(f"{k}={v!r}" for k, v in torch_settings(rule.rule, rule.hyper).items())
    yield "w = {name: data[name].clone().requires_grad_() for name in trained}"
    yield f"rule = torch.optim.LBFGS(list(w.values()), {settings})"
    yield ""
    yield ""
    yield "def parts(flat):"
    yield "    pieces = flat.split([data[name].numel() for name in trained])"
    yield "    return {name: piece.reshape(data[name].shape) for name, piece in zip(trained, pieces, strict=True)}"
    yield ""
    yield ""


def asking_update(loss: str) -> Iterator[str]:
    """In the loop: one update of all parameters, for which the loss and its gradient are computed again and again."""
    yield "    def closure():"
    yield "        found, slopes = forward_and_backward(*{**here, **{name: w[name].detach() for name in trained}}.values())"
    yield "        for name in trained:"
    yield "            w[name].grad = slopes.get(name)"
    yield f"        return found[{loss}]"
    yield ""
    yield "    rule.step(closure)"
    yield "    kept = rule.state[w[trained[0]]]"
    yield '    kept = {"d": parts(kept["d"]), "prev": parts(kept["prev_flat_grad"])} if "d" in kept else {}'
    yield "    for name in trained:"
    yield "        before, data[name] = data[name], w[name].detach().clone()"
    yield '        record["parameters"][name] = {'
    yield '            "before": as_list(before), "gradient": as_list(gradients.get(name)), "after": as_list(data[name]),'
    yield '            "state": {k: as_list(v[name]) for k, v in kept.items()},'
    yield "        }"
