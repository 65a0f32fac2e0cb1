"""The vanishing gradient: how large can the derivative with respect to a first-layer weight be after L layers?"""

import math
from fractions import Fraction
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

import backproof as bp
from backproof.document.blocks import Derivation, Equation, Items, Paragraph, Plot, Section, Series, Table
from backproof.document.math import BigSum, Call, Div, Function, Mul, Num, Partial, Pow, Sym, Words
from backproof.ops import OPS, Elementwise
from backproof.studies.certificates.confirming import steepest
from backproof.studies.certificates.depths import over_depth, plot_over_depth
from backproof.studies.certificates.proving import number
from backproof.studies.verdicts import Evidence

ENTRY = "hidden.0.weight[0, 0]"
LARGEST = {"L": 60, "K": 200, "weights": 100_000}


class Net(nn.Module):
    """L hidden layers z = f(W z + b) of K units each, and one linear output; residual: z = z + f(W z + b)."""

    def __init__(self, inputs, L, K, f, biases=False, residual=False):
        super().__init__()
        sizes = [inputs, *[K] * L]
        self.hidden = nn.ModuleList(nn.Linear(a, b, bias=biases) for a, b in pairwise(sizes))
        self.out = nn.Linear(K, 1, bias=False)
        self.f, self.residual = f, residual

    def forward(self, x):
        """From x [inputs] to the output [1]."""
        z = self.f(self.hidden[0](x))
        for layer in self.hidden[1:]:
            z = z + self.f(layer(z)) if self.residual else self.f(layer(z))
        return self.out(z)


def activation_named(name):
    """The function of torch with this name, if Backproof has its formula."""
    op = OPS.get(name) if isinstance(name, str) else None
    function = getattr(torch, str(name), None) or getattr(F, str(name), None)
    if not isinstance(op, Elementwise) or op.operands != ("x",) or not op.differentiable or not callable(function):
        raise bp.InputError(
            f"activation is the name of a function of torch, such as sigmoid, tanh, relu, gelu, silu or softplus, not {name!r}"
        )
    return function


def entries_of(x, K):
    """The entries of x: a list, one number, or "ones"."""
    given = [1] * K if x == "ones" else x if isinstance(x, list) else [x]
    if not given or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in given):
        raise bp.InputError(f'x is a list of numbers, one for each input, or "ones" (K ones), not {x!r}')
    if len(given) > LARGEST["K"] or not all(abs(v) <= 1e6 for v in given):
        raise bp.InputError(f"x has up to {LARGEST['K']} entries between -1e6 and 1e6")
    return given


def refuse_sizes(L, K, weight_bound, bias_bound, samples):
    """Say at once what cannot be worked."""
    if not 1 <= L <= LARGEST["L"] or not 1 <= K <= LARGEST["K"] or L * K * K > LARGEST["weights"]:
        raise bp.InputError(
            f"L is from 1 to {LARGEST['L']} and K from 1 to {LARGEST['K']}, with at most {LARGEST['weights']:,} weights "
            f"in all; L = {L} and K = {K} are outside. The formula holds for every L and K"
        )
    if not 0 < weight_bound <= 1000 or not 0 <= bias_bound <= 1000:
        raise bp.InputError(
            f"weight_bound is a number above 0 and bias_bound one from 0 on, up to 1000, not {weight_bound} and {bias_bound}"
        )
    if not 10 <= samples <= 100_000:
        raise bp.InputError(f"samples is from 10 to 100,000, not {samples}")


class Setting:
    """The network of the question, and what is asked about it."""

    def __init__(self, L, K, x, f, w, b, residual, seed, samples):
        self.L, self.K, self.x, self.f, self.w, self.b = L, K, x, f, *(Fraction(str(v)) for v in (w, b))
        self.residual, self.seed, self.samples = residual, seed, samples

    def net(self, L, biases=False, K=None, f=None, residual=None):
        """The module and its input."""
        f = activation_named(f or self.f)
        residual = self.residual if residual is None else residual
        net = Net(len(self.x), L, K or self.K, f, biases, residual).double()
        return net, (torch.tensor([float(v) for v in self.x], dtype=torch.float64),)

    def box(self, biases):
        """The box of the question."""
        b = (str(-self.b), str(self.b)) if biases else None
        return {"wrt": ENTRY, "weights": (str(-self.w), str(self.w)), "biases": b,
                "inputs_in": {"x": (self.x, self.x)}, "seed": self.seed}  # fmt: skip

    def certified(self, biases):
        """The certificate at the depth of the question, with a search for the witness."""
        net, inputs = self.net(self.L, biases)
        return bp.certify(net, *inputs, **self.box(biases), samples=self.samples)

    def depths(self, label, biases=False, **other):
        """Certificates over the depth."""
        upto = sorted({1, 2, 4, 7, 10, self.L, *([20] if self.L > 20 else [])})
        upto = [L for L in upto if L <= max(self.L, 10)]
        make = lambda L: self.net(L, biases, **other)  # noqa: E731
        return over_depth(label, make, upto, **self.box(biases), samples=min(self.samples, 1000))

    @property
    def slope(self):
        """The largest slope of the activation, from values of its formula."""
        return steepest(OPS[self.f])


def closed_form(s, slope):
    """The bound by counting paths: |x_1|/K (K w m)^L, or with the ways around the layers |x_1| w m (1 + K w m)^(L-1)."""
    x1, m = (
        abs(Fraction(repr(s.x[0]))),
        Fraction(slope).limit_denominator(10**6) if is_simple(slope) else Fraction(slope),
    )
    if s.residual:
        return x1 * s.w * m * (1 + s.K * s.w * m) ** (s.L - 1)
    return x1 / s.K * (s.K * s.w * m) ** s.L


def is_simple(slope):
    """Whether the largest slope is a short fraction such as 1/4."""
    return abs(float(Fraction(slope).limit_denominator(64)) - slope) < 1e-13


def factor_of(s, slope):
    """The factor per layer of the worst case, as a fraction where it is one."""
    m = Fraction(slope).limit_denominator(64) if is_simple(slope) else Fraction(slope)
    return s.K * s.w * m + (1 if s.residual else 0)


def spelled(value):
    """A fraction as it is written, or its decimals rounded up, so that a bound stays one."""
    return str(value) if value.denominator < 10**4 else f"{math.ceil(value * 10**6) / 10**6:.8g}"


def formula_of(s, slope):
    """The bound as text and as LaTeX, with K, the box and the activation put in and L left open."""
    factor = spelled(factor_of(s, slope))
    if s.residual:
        start = spelled(s.w * (factor_of(s, slope) - 1) / (s.K * s.w))
        return f"{start} |x_1| ({factor})^(L-1)", rf"{start}\,|x_1|\left({factor}\right)^{{L-1}}"
    return f"(|x_1|/{s.K}) ({factor})^L", rf"\frac{{|x_1|}}{{{s.K}}}\left({factor}\right)^{{L}}"


def proof(s, slope, upper):
    """The proof as a student would write it: the paths counted, each bounded, the product taken."""
    x1, w, K, L, m = Sym("x", ("1",)), Sym("w", ("max",)), Sym("K"), Sym("L"), Sym("m")
    size = Call(Function("abs"), (x1,))
    f1 = Function(s.f, OPS[s.f].text, OPS[s.f].latex, 1)

    def link(layer, unit, before):
        return Sym("w", (unit, before), (layer,)), Call(f1, (Sym("s", (unit,), (layer,)),))

    first = (x1, Call(f1, (Sym("s", ("1",), ("1",)),)))
    one = Mul((*first, *link("2", "j", "1"), *link("3", "k", "j"), Words("..."), Sym("w", ("l",), ("out",))))
    left = Partial(Sym("f"), Sym("w", ("11",), ("1",)))
    ways = "the chain rule, written as a sum over all ways (1, j, k, ..., l) from unit 1 of layer 1 through one unit of each layer"
    lines = [Equation(left, (BigSum(one, "paths"),), ways)]
    lines.append(Equation(m, (Num(slope, spelled(Fraction(slope).limit_denominator(64)) if is_simple(slope) else None),),
                          f"the largest |{OPS[s.f].text}′| anywhere"))  # fmt: skip
    per = Mul((size, Pow(Mul((w, m)), L)))
    lines.append(Equation(Sym("P"), (per,), "no path is larger: L weights of at most w_max (layers 2 to L and the "
                          "output) and L slopes of at most m, times the input"))  # fmt: skip
    if s.residual:
        body = Mul((size, w, m, Pow(1 + Mul((K, w, m)), L - 1)))
        why = "each of the layers 2 to L is passed around (1) or through (K w_max m), whatever the others do"
        lines.append(Equation(Sym("B"), (body, number(upper) if isinstance(upper, Fraction) else Num(upper)), why))
        return Derivation(tuple(lines))
    lines.append(
        Equation(Sym("N"), (Pow(K, L - 1),), "the number of paths: one of K units in each of the layers 2 to L")
    )
    numbers = Mul((Div(Num(abs(s.x[0])), Num(s.K)), Pow(number(factor_of(s, slope)), Num(s.L))))
    whole = Mul((Div(size, K), Pow(Mul((K, w, m)), L)))
    end = number(upper) if isinstance(upper, Fraction) else Num(upper)
    same = abs(float(closed_form(s, slope)) - float(upper)) <= 1e-9 * float(upper)
    lines.append(
        Equation(Sym("B"), (Mul((Sym("N"), Sym("P"))), whole, numbers), "all paths together; with the numbers put in")
    )
    largest = Call(Function("max", "max", r"\max"), (Call(Function("abs"), (left,)),))
    why = "the same from the graph, error signal by error signal (below)"
    why += "" if same else "; smaller than B, because the steepest place is not reached"
    lines.append(Equation(largest, (end,), why))
    return Derivation(tuple(lines))


def uniform_net(s, **other):
    """A network of the question with weights drawn uniformly from the box."""
    net, _ = s.net(s.L, **other)
    for p in net.parameters():
        nn.init.uniform_(p, -float(s.w), float(s.w))
    return net


def layer_by_layer(s, seeds=60):
    """Signal and gradient through the layers for uniform weights: theory with its band, and draws, side by side."""
    kinds = {s.f: {}, **{f: {"f": f} for f in ("sigmoid", "tanh", "relu") if f != s.f}}
    if not s.residual:
        kinds[f"{s.f}, residual"] = {"residual": True}
    x, found = s.net(s.L)[1][0].reshape(1, -1), {}
    with torch.random.fork_rng():
        torch.manual_seed(s.seed)
        for label, other in kinds.items():
            make = partial(uniform_net, s, **other)
            found[label] = bp.propagate(make(), x, seeds=seeds, factory=make, seed=s.seed)
    return found


def flow_of(s, found):
    """The pictures: layers along one axis, the error signal on a logarithmic one."""
    own, lines = found[s.f], []
    for label, flow in found.items():
        for words, style, value in (
            ("predicted", "line", lambda x: x.backward[0]),
            ("drawn", "points", lambda x: x.seeds[1].mean),
        ):
            kept = [(k + 1.0, value(x)) for k, x in enumerate(flow.layers[:-1]) if value(x) > 0]
            if kept:
                lines.append(Series(f"{label}, {words}", *zip(*kept, strict=True), style))
    what = "mean square of the error signal"
    beside = Plot(tuple(lines), "layer", what, ("The backward pass of the others beside it.",),
                  f"{what} per layer for several networks", log_y=True)  # fmt: skip
    chi = "" if own.chi is None else (f" Theory: each layer multiplies its mean square by chi, here {own.chi:.3g} (a factor of "
                                      f"{math.sqrt(own.chi):.3g} in size).")  # fmt: skip
    said = (f"Weights are drawn uniformly from the box ({own.seeds} times), and the error signal begins as a standard normal at "
            f"the output.{chi} The theory is that of wide layers; {s.K} units are few, and the band says how far one network "
            "may lie from it.")  # fmt: skip
    return (Paragraph((said,)), own.plot("backward"), own.plot("forward"), beside)


def compared(s, slope):
    """The same question for other networks, over the depth."""
    least = math.ceil(1 / (slope * float(s.w)) - 1e-9)
    kinds = [s.depths(f"{s.f}, K = {s.K}" + (", residual" if s.residual else ""))]
    if least != s.K and 1 <= least <= 16:
        kinds.append(s.depths(f"{s.f}, K = {least}", K=least))
    kinds += [s.depths(f"{other}, K = {s.K}", f=other) for other in ("sigmoid", "tanh", "relu") if other != s.f]
    if not s.residual:
        kinds.append(s.depths(f"{s.f}, K = {s.K}, residual", residual=True))
    return kinds, least


def comparison(s, kinds, least, slope):
    """The table, the plots, and what they say."""
    head = (
        ("network",),
        ("worst case per layer",),
        ("typical per layer",),
        (f"bound, L = {kinds[0].depths[-1]}",),
        ("attained by a simple witness",),
    )
    rows = tuple(
        (k.label, Num(k.rate("upper") or 0.0), Num(k.rate("typical") or 0.0), Num(float(k.certificates[-1].upper)),
         Num(float(k.certificates[-1].lower)))
        for k in kinds
    )  # fmt: skip
    worst = plot_over_depth([k.series("upper") for k in kinds], "The worst case in the box, over the depth.",
                            "The certified bound over the depth for several networks")  # fmt: skip
    usual = plot_over_depth([k.series("typical") for k in kinds], "The typical size (root mean square of uniform draws).",
                            "The typical size of the derivative over the depth for several networks")  # fmt: skip
    said = [(f"The worst case decays exactly when K w_max m < 1, here for K < {least}: with K = {least} it no longer "
             "vanishes, and the typical size still does.",)]  # fmt: skip
    said.append(("A residual connection adds a way around each layer, so the factor per layer is at least 1 in the worst "
                 "case, and about 1 for typical weights.",))  # fmt: skip
    return (
        Table(head, rows, "Other networks in the same box, without biases", (1, 2, 3, 4)),
        worst,
        usual,
        Items(tuple(said)),
    )


def evidence_of(s, slope, upper, certificates):
    """The bound against the count of paths, and each certificate against autograd and 50 digits."""
    counted = closed_form(s, slope)
    gap = float(abs(counted - Fraction(upper)) / counted) if counted else float(upper)
    reached = s.f in ("sigmoid", "tanh", "relu") or gap <= 1e-9
    fits = gap <= 1e-9 if reached else Fraction(upper) <= counted
    note = "" if reached else "the steepest place is not reached in this box: the graph's bound is the smaller one"
    rows = [Evidence("the bound from the graph", "paths counted, and the largest slope searched for in 50 digits", fits,
                     gap if reached else 0.0, 1, 1, note)]  # fmt: skip
    for words, certificate in certificates.items():
        rows += [Evidence(f"{e.what} ({words})", e.oracle, e.agrees, e.error, e.looked_at, e.of, e.note)
                 for e in certificate.evidence]  # fmt: skip
        ratio = float(certificate.lower) / float(certificate.upper) if certificate.upper else 0.0
        rows.append(Evidence(f"the search stays below the bound ({words})", "projected gradient ascent", ratio <= 1 + 1e-12,
                             max(0.0, ratio - 1), 1, 1))  # fmt: skip
    return tuple(rows)


def work(L, K, x, activation, weight_bound, bias_bound, residual, samples, seed, open_depth):
    refuse_sizes(L, K, weight_bound, bias_bound, samples)
    activation_named(activation)
    s = Setting(L, K, entries_of(x, K), activation, weight_bound, bias_bound, residual, seed, samples)
    free, held = s.certified(biases=True), s.certified(biases=False)
    slope = s.slope
    upper = max(free.upper, held.upper)
    kinds, least = compared(s, slope)
    flows = layer_by_layer(s)
    own, with_biases = kinds[0], s.depths("with biases", biases=True)
    factor, (text, latex) = factor_of(s, slope), formula_of(s, slope)
    answers = {
        "bound": text, "bound_latex": latex, "bound_general": "(|x_1|/K) (K w_max max|f'|)^L",
        "upper": float(upper), "upper_exact": str(upper) if isinstance(upper, Fraction) else None,
        "witness_value": float(free.lower.exact or free.lower), "attained": free.is_tight or held.is_tight, "witness": dict(free.witness),
        "lower_without_biases": float(held.lower.exact or held.lower), "upper_without_biases": float(held.upper),
        "typical_rms": held.typical, "typical_predicted": held.predicted, "typical_rms_with_biases": free.typical,
        "rate": float(factor), "rate_exact": str(factor) if factor.denominator < 10**6 else None,
        "typical_rate": own.rate("typical"), "vanishes": bool(factor < 1), "smallest_K_that_does_not_vanish": least,
        "chi": {label: flow.chi for label, flow in flows.items()}, "symbolic": open_depth,
        "comparison": {k.label: {"rate": k.rate("upper"), "typical_rate": k.rate("typical")} for k in kinds},
    }  # fmt: skip
    proved = evidence_of(s, slope, upper, {"biases free": free, "no biases": held})
    if open_depth:
        proved = (*proved, every_depth(s, slope))
    blocks = (
        Section("What has to be shown", (Paragraph((question(s, open_depth),)),), "given", "question"),
        Section("The proof: count the paths", (proof(s, slope, upper),), "forward", "paths"),
        Section(
            "The same from the graph, as a certificate", (graph_words(s), *free.blocks()), "backward", "certificate"
        ),
        Section("Is the bound attained?", attained(s, free, held), "result", "attained"),
        Section("How small is it usually?", usually(s, held, own, with_biases), "result", "typical"),
        Section("Layer by layer", flow_of(s, flows), "result", "layers"),
        Section("Other networks", comparison(s, kinds, least, slope), "result", "others"),
    )
    return bp.Answer(answers, blocks, proved, remarks(s, factor))


def every_depth(s, slope, upto=20):
    """The formula with L left open against the graph's bound at each of the first depths."""
    wrong = [0.0]
    for depth in range(1, upto + 1):
        one = Setting(depth, s.K, s.x, s.f, s.w, s.b, s.residual, s.seed, 10)
        net, inputs = one.net(depth, biases=True)
        found = bp.certify(net, *inputs, **one.box(True), effort="bound", samples=10)
        counted = closed_form(one, slope)
        wrong.append(float(abs(Fraction(found.upper) - counted) / counted) if counted else float(found.upper))
    note = f"L = 1, ..., {upto}; the number of paths and factors is the same argument at every depth"
    return Evidence("the formula with L left open", "the bound from the graph at each depth", max(wrong) <= 1e-9, max(wrong),
                    upto, upto, note)  # fmt: skip


def question(s, open_depth=False):
    here = f"L is left open (the numbers below are for L = {s.L})" if open_depth else f"Here L = {s.L}"
    kind = "residual layers" if s.residual else "layers"
    return (
        f"A network of L {kind} with K = {s.K} units each and the activation {OPS[s.f].text}, every weight between "
        f"-{spelled(s.w)} and {spelled(s.w)}, with a linear output f. How large can the derivative of f with respect to w⁽¹⁾₁₁ be, the "
        f"weight from input 1 to unit 1 of the first layer? {here} and x_1 = {s.x[0]:g}."
    )


def graph_words(s):
    w, b, f = spelled(s.w), spelled(s.b), OPS[s.f].text
    return Paragraph(
        (
            "The network is captured as it is written, and its backward pass is read over intervals. Each weight is the "
            f"interval [-{w}, {w}], each bias [-{b}, {b}]; {f}′ is one function with its own exact range.",
        )
    )


def share(certificate):
    """How much of the bound was found, in percent."""
    return 100 * float(certificate.lower) / float(certificate.upper) if certificate.upper else 100.0


def attained(s, free, held):
    said = f"reached to {share(free):.4g} % by the best weights that were found"
    if free.is_tight:
        said = "attained exactly: the witness below the proof gives the bound, to the last digit"
    alone = (
        f"not attained by anything that was found: the best value is {float(held.lower):.6g}, {share(held):.4g} % of it"
    )
    if held.is_tight:
        alone = "attained exactly even so"
    b = spelled(s.b)
    return (
        Paragraph(
            (
                f"With biases between -{b} and {b} the bound is {said}. Equality needs every unit on every path where "
                f"{OPS[s.f].text} is steepest, every weight at the edge of its box, and all paths of one sign; biases put "
                "the units there.",
            )
        ),
        Paragraph((f"Without biases it is {alone}.",)),
    )


def usually(s, held, own, with_biases):
    predicted = (
        ""
        if held.predicted is None
        else f" Mean-field theory, which takes K to be large, predicts {held.predicted:.3g}."
    )
    rate = own.rate("typical")
    per = (
        ""
        if rate is None
        else f" Per layer it shrinks by a factor of about {rate:.3g} (the worst case: {own.rate('upper'):.4g})."
    )
    plot = plot_over_depth(
        [own.series("upper", words="proved bound"), with_biases.series("lower", "points", "attained, with biases"),
         own.series("typical", words="typical (sampled)"), own.series("predicted", "points", "typical (mean-field theory)")],
        "Worst case and typical case over the depth.", "The bound and the typical size of the derivative over the depth")  # fmt: skip
    times = float(held.upper) / held.typical if held.typical else 0.0
    return (
        Paragraph((f"For weights drawn uniformly from the box the root mean square of the derivative is {held.typical:.3g} "
                   f"({held.samples:,} draws), {times:.3g} times below the bound.{predicted}{per}",)),
        plot,
    )  # fmt: skip


def remarks(s, factor):
    said = [
        "The published proof ends at (3/4)^L and leaves out the factor |x_1|/3: 3^(L-1) paths, not 3^L, lead from unit 1 "
        "of the first layer to the output, and the input multiplies them all. The rate is right, the constant is not stated."
    ]
    if factor >= 1:
        said.append(
            f"Here the factor per layer is {spelled(factor)}, not below 1: in the worst case the gradient does not vanish."
        )
    said.append(
        "A bound says what can happen at most. That the gradient of an ordinary start vanishes much faster is a second "
        "fact, measured above."
    )
    return tuple(said)


problem = bp.Exercise(
    work,
    title="The vanishing gradient",
    about="L layers of K sigmoid units, all weights in [-1, 1], a linear output. Show that the derivative of the output "
    "with respect to the weight w11 of the first layer vanishes at least like (3/4)^L for K = 3.",
    settings={"L": 5, "K": 3, "x": "ones", "activation": "sigmoid", "weight_bound": 1.0, "bias_bound": 0.5,
              "residual": False, "samples": 4000, "seed": 0, "open_depth": False},
)  # fmt: skip
