"""Other operations than those the search was made on, branches that inputs leave out, compiled and captured functions."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backproof as bp
from backproof.checking.mistakes.textbook import FORMS, Textbook
from backproof.errors import InputError
from tests.docs.blocks import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from mutants import Family, function_of
from mutants_unseen import FAMILIES

CASES = [(f, slip) for f in FAMILIES for slip in f.slips][::7]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize("family", FAMILIES[::2], ids=lambda f: f.name)
def test_what_is_right_is_left_alone(family: Family) -> None:
    found = bp.check(function_of(family, ""), family.leaves(0))
    assert found.ok is True, found.message()


@pytest.mark.parametrize(("family", "slip"), CASES, ids=lambda v: getattr(v, "name", v))
def test_a_slip_in_an_operation_not_seen_before_is_found(family: Family, slip: str) -> None:
    found = bp.check(function_of(family, slip), family.leaves(0))
    assert found.ok is False and found.wrong, slip


# What the mistake is called, for slips of each way in which it is found.
NAMED = {
    ("AveragePool", "padding counted"): "count_include_pad=True",
    ("CausalAttention", "mask forgotten"): "is_causal=False",
    ("TemperedLogSoftmax", "softmax for its logarithm"): "softmax stands where log_softmax belongs",
    ("RMSNorm", "epsilon outside the root"): "outside the root",
    ("BilinearForm", "made symmetric"): "symmetric",
    ("SlidingMax", "windows overwrite one another"): "not added up",
    ("Upsample", "weights exchanged"): "exchanged",
    ("EmbeddingBag", "repeated words overwrite"): "not accumulated",
    ("Normalize", "short vectors projected too"): "branch",
    ("CumulativeSum", "along the other axis"): "computed with 0",
}


@pytest.mark.parametrize(("family", "slip"), NAMED)
def test_the_mistake_is_named(family: str, slip: str) -> None:
    chosen = next(f for f in FAMILIES if f.name == family)
    assert NAMED[family, slip] in (bp.check(function_of(chosen, slip), chosen.leaves(0)).cause or "")


def made(forward: Any, backward: Any) -> Any:
    """A Function of one tensor; its backward pass gets the output's gradient and the input."""

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return forward(x)  # type: ignore[no-any-return]

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return backward(g, *ctx.saved_tensors)  # type: ignore[no-any-return]

    return Made.apply


RARE = {
    "a narrow window": (lambda x: torch.where((x - 7.3).abs() < 0.05, x**3, x**2), lambda g, x: 2 * g * x),
    "an if": (lambda x: x / x.norm() * 50 if x.norm() > 50 else 1 * x, lambda g, x: g),
    "tiny values": (lambda x: x / x.abs().clamp_min(1e-2), lambda g, x: 0 * g),
    "the backward pass alone": (torch.tanh, lambda g, x: g * torch.where(x.abs() > 200, 1.0, 1 - torch.tanh(x) ** 2)),
}


@pytest.mark.parametrize("name", RARE)
def test_branches_that_the_inputs_leave_out_are_entered(name: str) -> None:
    found = bp.check(made(*RARE[name]), normal(20))
    assert found.ok is False and "branch" in (found.cause or ""), found.message()
    assert bp.check(made(*RARE[name]), normal(20), elsewhere=False).ok is True


def test_indices_are_never_exchanged_for_others_that_kernels_would_trust() -> None:
    def wrong(table: Tensor, index: Tensor) -> Any:
        def backward(ctx: Any, g: Tensor) -> Any:
            return torch.zeros(9, 2, dtype=g.dtype).index_put((index.reshape(-1),), g.repeat_interleave(3, 0) / 3), None

        def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
            return F.embedding_bag(index, table, mode="mean")

        body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        return type("Bag", (torch.autograd.Function,), body).apply(table, index)  # type: ignore[attr-defined]

    assert bp.check(wrong, (normal(9, 2), torch.tensor([[0, 8, 3], [3, 3, 1]]))).ok is False


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_textbook_forms_give_what_torch_gives(form: Any) -> None:
    x = normal(2, 4, 5)
    arguments: dict[str, tuple[Any, ...]] = {
        "group_norm": (x, 2, normal(4), normal(4)), "instance_norm": (x,), "rms_norm": (x, (5,), normal(5)),
        "scaled_dot_product_attention": (x, normal(2, 4, 5, seed=1), x, None, 0.0, False),
        "cosine_similarity": (x, normal(2, 4, 5, seed=1)), "embedding_bag": (torch.tensor([[0, 3], [1, 1]]), normal(4, 2)),
    }  # fmt: skip
    given = arguments[form.__name__]
    assert torch.allclose(FORMS[form](*given), form(*given), rtol=1e-12)
    with Textbook():
        assert torch.allclose(form(*given), FORMS[form](*given), rtol=1e-12)


def test_what_varies_is_told_from_what_is_wrong() -> None:
    draws = itertools.cycle([1.0, 1 + 3e-10, 1 - 2e-10, 1 + 1e-10, 1 - 4e-10])
    varying = bp.check(made(torch.square, lambda g, x: 2 * g * x * next(draws)), normal(5))
    assert varying.ok is True and "varies from run to run" in " ".join(varying.notes)
    assert bp.check(made(torch.square, lambda g, x: 2.01 * g * x * next(draws)), normal(5)).ok is False
    loud = itertools.cycle([1.0, 1.5, 0.7, 1.2, 0.9, 1.1, 1.3])
    assert bp.check(made(torch.square, lambda g, x: 2 * g * x * next(loud)), normal(5)).ok is False


def test_compiled_functions_are_compared_with_their_eager_form() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    found = bp.check(torch.compile(module, backend="aot_eager"), normal(2, 3).float())
    assert found.ok is True and "eager" in found.notes[0], found.message()
    assert {"the reference's forward pass", "the reference, differentiated in float64"} == {
        o.name for o in found.oracles
    }

    def miscompiled(graph: Any, inputs: Any) -> Any:
        return lambda *args: tuple(1.5 * o for o in graph(*args))

    wrong = bp.check(torch.compile(lambda x: torch.sin(x), backend=miscompiled), normal(4))
    assert wrong.ok is False and "forward pass differs" in (wrong.cause or "")


def test_a_softmax_taken_for_an_elementwise_function_is_named_and_definitions_are_whole_words() -> None:
    x, t = normal(5), torch.tensor([0.1, 0.2, 0.0, 0.4, 0.3], dtype=torch.float64)

    def loss(x: Tensor, t: Tensor) -> Tensor:
        return ((torch.softmax(x, 0) - t) ** 2).sum()

    given = {"x": x.requires_grad_(), "t": t}
    defined = {"s": "softmax(x)", "a": "2 * (s - t)"}  # "a" and "s" are letters of softmax too
    right = bp.check(loss, given, claim={"x": "s * (a - sum(a * s))", **defined})
    wrong = bp.check(loss, given, claim={"x": "a * s * (1 - s)", **defined})
    assert right.ok is True and wrong.ok is False and len(wrong.wrong) == 5
    assert wrong.cause is not None and "as in an elementwise function" in wrong.cause


def test_a_captured_graph_is_checked_by_its_own_derivation_too() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    graph = bp.capture(module, normal(5, 3), loss=F.mse_loss, targets=normal(5, 2))
    found = bp.check(graph)
    assert found.ok is True and [o.agrees for o in found.oracles if "derivation" in o.name] == [True]
    wrong = bp.check(graph, claim={"2.bias": torch.zeros(2)})
    assert [o.agrees for o in wrong.oracles if "derivation" in o.name] == [False]
    for graph_without, inputs in (
        (bp.capture(module, normal(5, 3)), None),
        (graph, normal(5, 3)),
        (graph, {"y": normal(1)}),
    ):
        with pytest.raises(InputError):
            bp.check(graph_without, inputs)


@pytest.mark.parametrize(
    "x",
    [normal(0, 3), normal(3, 1).expand(3, 4), normal(4, 4).t(), normal(), normal(3)],
    ids=lambda t: str(list(t.shape)),
)
def test_inputs_of_every_layout(x: Tensor) -> None:
    assert bp.check(lambda x: (x**3).sum(), x).ok is True
    assert bp.check(lambda a, b: a * b * b, (x, x)).ok is True


def test_sparse_inputs_are_refused_and_keywords_reach_a_function() -> None:
    with pytest.raises(InputError, match="sparse_coo"):
        bp.check(torch.sum, torch.eye(3).to_sparse())
    found = bp.check(made(torch.square, lambda g, x: 3 * g * x), {"x": normal(4)})
    assert found.ok is False and "3/2" in (found.cause or "") and len(found.oracles) == 2
