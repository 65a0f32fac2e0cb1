"""The network of small_net.toml as an nn.Module."""

import torch
from torch import Tensor, nn

import backproof as bp


class Net(nn.Module):
    """Two inputs, three tanh units, one output."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 3, bias=False)
        self.out = nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.tensor([[0.60, 0.01], [0.70, 0.43], [0.00, 0.88]]))
            self.out.weight.copy_(torch.tensor([[0.02, 0.03, 0.09]]))

    def forward(self, x: Tensor) -> Tensor:
        """From x of shape [N, 2] to y of shape [N, 1]."""
        s = self.hidden(x)
        z = torch.tanh(s)
        y = self.out(z)
        return y


problem = bp.Problem(
    Net(),
    torch.tensor([[0.75, 0.80], [0.20, 0.05], [-0.75, 0.80], [0.20, -0.05]]),
    torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]),
    title="Two inputs, three tanh units, one output, four samples, three updates",
    loss="mse",
    optimizer=(torch.optim.SGD, {"lr": 0.1}),
    steps=3,
)
