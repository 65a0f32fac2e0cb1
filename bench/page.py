"""What a page costs its reader: its size, the time until it can be stepped through, the time of a step, axe's complaints.

Three pages: the worked problem ``uva-dl-1/relu-tanh-net``, one traced update of a transformer of twelve layers written
with plain operations, and one of ResNet-50. Each is opened in Chromium: "ready" is the time from the start of loading until the time
axis stands, the median of five; "step" the median of thirty steps, each until its layout is done. axe-core looks at
the page with every module open, at 390 pixels in dark and 1,600 in light colours; of a very large page it sees the
stage and the first modules of each pass. Needs playwright, chromium and axe-playwright-python, as the tests of pages
do.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _measure  # first: it makes the package importable
import torch
from _networks import resnet50
from torch import Tensor, nn

import backproof as bp

TARGETS = {
    "uva-dl-1/relu-tanh-net": {"bytes": 1e6, "ready": 0.3, "step": 0.016},
    "transformer, 12 layers": {"bytes": 5e6, "ready": 1.0, "step": 0.016},
    "ResNet-50": {"bytes": 5e6, "ready": 1.0, "step": 0.016},
}
SHORTER = """() => {
    const sections = document.querySelectorAll('main > section section');
    for (const section of document.querySelectorAll('*').length > 30000 ? sections : [])
        for (const instant of [...section.querySelectorAll(':scope > .instant')].slice(2)) instant.remove();
}"""
"""Of a very large page axe sees the stage and the first modules of each pass: the rest is of the same kinds."""
STEPS = """async () => {
    const times = [], next = document.querySelector('[data-go=next]');
    for (let i = 0; i < 30; i++) {
        const start = performance.now();
        next.click();
        document.querySelector('.panel').getBoundingClientRect();
        times.push(performance.now() - start);
        await new Promise(done => setTimeout(done, 5));
    }
    return times;
}"""


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * g + b over the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g, self.b = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """From x of shape [..., width] to the same shape."""
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.g + self.b


class Layer(nn.Module):
    """Attention and a two-layer network, each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.n1, self.n2 = heads, LayerNorm(width), LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def split(self, x: Tensor) -> Tensor:
        """From [N, T, width] to [N, heads, T, width / heads]."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """From x of shape [N, T, width] to the same shape."""
        y = self.n1(x)
        q, k, v = self.split(self.q(y)), self.split(self.k(y)), self.split(self.v(y))
        a = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        x = x + self.o((a @ v).transpose(1, 2).reshape(x.shape))
        return x + self.down(nn.functional.gelu(self.up(self.n2(x))))


class Transformer(nn.Module):
    """Token numbers [N, T] to logits [N T, words]."""

    def __init__(self, width: int = 64, layers: int = 12, words: int = 100) -> None:
        super().__init__()
        self.table, self.n, self.out = nn.Embedding(words, width), LayerNorm(width), nn.Linear(width, words)
        self.layers = nn.ModuleList([Layer(width, 4) for _ in range(layers)])

    def forward(self, tokens: Tensor) -> Tensor:
        """From [N, T] to [N T, words]."""
        x = self.table(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.out(self.n(x)).flatten(0, 1)


def transformer() -> str:
    torch.manual_seed(0)
    tokens, targets = torch.randint(100, (2, 16)), torch.randint(100, (32,))
    return bp.trace(Transformer(), tokens, targets, loss="cross_entropy", optimizer="adam", evidence="sampled").html()


def resnet() -> str:
    torch.manual_seed(0)
    pictures, classes = torch.randn(2, 3, 64, 64), torch.tensor([3, 7])
    return bp.trace(resnet50(), pictures, classes, loss="cross_entropy", optimizer="sgd").html()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--only", metavar="WORD", default="", help="pages whose name has this word")
    arguments = parser.parse_args()
    makers: dict[str, Callable[[], str]] = {
        "uva-dl-1/relu-tanh-net": lambda: bp.solve("uva-dl-1/relu-tanh-net").html(),
        "transformer, 12 layers": transformer,
        "ResNet-50": resnet,
    }
    pages = {name: make() for name, make in makers.items() if arguments.only in name}
    found = {name: {"bytes": len(page.encode()), **opened(page)} for name, page in pages.items()}
    rows = [_row(name, figures, TARGETS[name]) for name, figures in found.items()]
    heads = ("page", "size (target)", "ready (target)", "step (target)", "axe violations")
    _measure.show("page", heads, rows, found, arguments.json)


def _row(name: str, figures: dict[str, Any], target: dict[str, float]) -> tuple[str, ...]:
    size = f"{figures['bytes'] / 1e6:.2f} MB (< {target['bytes'] / 1e6:g})"
    times = (f"{1000 * figures[key]:.0f} ms (< {1000 * target[key]:.0f})" for key in ("ready", "step"))
    return (name, size, *times, str(figures["violations"]))


def opened(page: str) -> dict[str, Any]:
    """Open a page in Chromium and measure it."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "page.html"
        path.write_text(page, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        ready = [_ready(browser, path.as_uri()) for _ in range(5)]
        step = _visit(browser, path.as_uri(), lambda tab: statistics.median(tab.evaluate(STEPS))) / 1000
        violations = sum(_violations(browser, path.as_uri(), *kind) for kind in ((390, "dark"), (1600, "light")))
        browser.close()
    return {"ready": statistics.median(ready), "step": step, "violations": violations}


def _visit(browser: Any, address: str, measure: Any, **options: Any) -> Any:
    tab = browser.new_page(**({"viewport": {"width": 1280, "height": 860}} | options))
    tab.goto(address)
    found = measure(tab)
    tab.close()
    return found


def _ready(browser: Any, address: str) -> float:
    return _visit(browser, address, lambda tab: float(tab.evaluate("document.documentElement.dataset.ready"))) / 1000


def _violations(browser: Any, address: str, width: int, scheme: str) -> int:
    """What axe finds with every module open."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        raise SystemExit("axe-playwright-python is not installed")
    rules = (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")

    def look(tab: Any) -> int:
        tab.evaluate("document.querySelector('.modules:not([hidden]) [data-all=open]')?.click()")
        tab.wait_for_timeout(500)
        tab.evaluate(SHORTER)
        tab.evaluate(rules)
        found = tab.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        return sum(len(violation["nodes"]) for violation in found)

    return int(_visit(browser, address, look, viewport={"width": width, "height": 900}, color_scheme=scheme))


if __name__ == "__main__":
    main()
