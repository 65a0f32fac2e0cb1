"""A deep convolutional network in half of its memory: the plan, what it costs, and the same gradients."""

import torch
from torch import nn

import backproof as bp


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(x)))


def network():
    torch.manual_seed(1)
    blocks = (Block(8) for _ in range(6))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.Flatten(), nn.Linear(8 * 12 * 12, 5))


def work(budget, batch):
    found = bp.memory(network(), torch.ones(batch, 3, 12, 12), optimizer="sgd")
    plan = found.plan(budget)
    measured = plan.measure()
    answers = {"plain": found.peak_bytes, "plan": plan.predicted_peak, "measured": measured.measured_peak}
    answers["same_gradients"] = measured.gradients_equal
    evidence = measured.evidence(plan.changes_result)
    return bp.Answer(answers, plan.blocks(), evidence, finding=plan.finding)


problem = bp.Exercise(
    work,
    settings={"budget": "0.9MB", "batch": 16},
    title="A convolutional network in half of its memory",
    about="Which activations should be computed again so that a step fits?",
)
