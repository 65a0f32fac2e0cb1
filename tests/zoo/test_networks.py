"""Networks that people use: captured without an opaque node, and every gradient is torch.autograd's."""

from __future__ import annotations

import pytest

from backproof.errors import CaptureError
from backproof.graph import Graph

from .agreement import agreement, built, captured
from .own_models import OWN
from .published_models import PUBLISHED, Specimen

QUICK = ["ResNet", "ViT", "BERT", "GPT-2", "Llama", "T5"]  # the rest at night; our own always
ROUNDING = 1e-16  # of the largest gradient: what a gradient that is 0 (a key's bias before softmax) is apart from 0


def quick(name: str) -> object:
    marks = [] if name in QUICK or name in OWN else [pytest.mark.nightly]
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [quick(name) for name in (*OWN, *PUBLISHED)])
def test_network(name: str) -> None:
    specimen = built(name)
    graph = captured(specimen)
    assert graph.facts["opaque_nodes"] == []
    speaks_the_user_s_language(specimen, graph)
    differences = agreement(specimen, graph)
    largest = max(d.norm for d in differences[1:])
    assert [d for d in differences if not d.error <= 1e-10 * d.norm + ROUNDING * largest] == []


@pytest.mark.nightly
def test_a_network_that_rescales_its_own_weights_is_refused_by_their_names() -> None:
    specimen = built("RWKV")
    specimen.model.config.rescale_every = 6
    with pytest.raises(CaptureError, match=r"changes a parameter in place .*attention\.output\.weight"):
        captured(specimen)


def speaks_the_user_s_language(specimen: Specimen, graph: Graph) -> None:
    """Parameters by their own names, values in modules that exist, and most of an own network's with their source line."""
    tied = set(graph.facts["tied_weights"])
    assert {n.name for n in graph.parameters} == {
        n for n, _ in specimen.model.named_parameters(remove_duplicate=False)
    } - tied
    assert set(specimen.inputs) <= {n.name for n in graph.nodes} | {
        name for name, value in specimen.inputs.items() if isinstance(value, bool)
    }
    modules = {name for name, _ in specimen.model.named_modules()}
    places = {n.module.partition("#")[0] for n in graph.values}
    assert places <= modules | {"loss"}, places - modules
    assert len(places) > 1


@pytest.mark.parametrize("name", OWN)
def test_own_names_and_lines(name: str) -> None:
    graph = captured(built(name))
    lines = [n.source for n in graph.values]
    assert all(s is not None and s.file.endswith(("own_models.py", "published_models.py")) for s in lines)


def test_names_of_the_unet() -> None:
    names = set(captured(built("U-Net")).by_name)
    assert {"fine", "coarse", "bottom", "up", "up#2"} <= names


def test_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from backproof import vjps

    right = vjps.VJPS["linear"]
    monkeypatch.setitem(vjps.VJPS, "linear", lambda r: (None, *right(r)[1:]))
    specimen = built("LeNet")
    differences = agreement(specimen, captured(specimen))
    assert [d.name for d in differences if d.error > 1e-10 * d.norm] == [
        n for n, _ in specimen.model.named_parameters() if not n.startswith("fc2")
    ]
