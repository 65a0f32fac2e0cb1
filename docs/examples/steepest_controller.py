"""How strongly can a small controller react to one of its inputs, whatever its weights in a box?"""

import torch
from torch import nn

import backproof as bp


class Controller(nn.Module):
    """Two tanh layers with a connection around the second, and one command."""

    def __init__(self, width=3):
        super().__init__()
        self.sense = nn.Linear(2, width)
        self.think = nn.Linear(width, width)
        self.act = nn.Linear(width, 1)

    def forward(self, x):
        """From x [2], an angle and a speed, to the command [1]."""
        h = torch.tanh(self.sense(x))
        h = h + torch.tanh(self.think(h))
        return self.act(h)


def work(width, limit):
    """The certificate is the answer; its blocks are the page."""
    certificate = bp.certify(
        Controller(width),
        torch.zeros(2),
        wrt="x[0]",
        weights=(-limit, limit),
        biases=(-limit, limit),
        inputs_in=(-1, 1),
    )
    answers = {"upper": str(certificate.upper), "attained": float(certificate.lower), "typical": certificate.typical}
    return bp.Answer(answers, tuple(certificate.blocks()), certificate.evidence)


problem = bp.Exercise(
    work,
    title="The steepest controller",
    about="Every weight and bias lies between -limit and limit, every input between -1 and 1. How large can the derivative "
    "of the command with respect to the first input be?",
    settings={"width": 3, "limit": 0.5},
)
