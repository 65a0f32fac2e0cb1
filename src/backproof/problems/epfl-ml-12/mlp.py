"""A network with one hidden layer on the points of the regression: is it better than the straight line?"""

import torch
from torch import nn

import backproof as bp
from backproof.document.blocks import Callout, Paragraph, Plot, Section, Series, Table
from backproof.document.math import Num
from backproof.studies.prepare import prepare
from backproof.studies.search.held_out import fit_many, leave_out, whole_fit
from backproof.studies.search.least_squares import line_answer, points

x = [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59, 2.167, 7.042, 10.791, 5.313, 7.997, 3.1]
y = [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53, 1.221, 2.827, 3.465, 1.65, 2.904, 1.3]

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}
STARTS = OTHER_STARTS = 4


def network(hidden, activation, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, 1))


def standard(x):
    return (x - x.mean()) / x.std(correction=0)


def regression(x, y, epochs, seed, search):
    return bp.Problem(
        network,
        standard(x).unsqueeze(1),
        y.unsqueeze(1),
        title="One hidden layer",
        loss="mse",
        optimizer=(torch.optim.Adam, {"lr": 0.05}),
        steps=epochs,
        settings={"hidden": 2, "activation": "relu", "seed": seed, "weight_decay": 1e-3},
        search=search,
    )


def space(hidden, activation, epochs, seed):
    return {
        "hidden": [2, 4, 8] if hidden == "any" else [hidden],
        "activation": ["sigmoid", "relu"] if activation == "any" else [activation],
        "optimizer": ["adam", "sgd"],
        "lr": (0.01, 0.3, "log"),
        "weight_decay": (1e-5, 0.03, "log"),
        "steps": (max(1, epochs // 3), max(2, epochs)),
        "seed": list(range(seed, seed + STARTS)),
    }


def check(hidden, activation, trials, epochs, seed):
    if hidden != "any" and (isinstance(hidden, bool) or not isinstance(hidden, int) or not 1 <= hidden <= 64):
        raise bp.InputError(f'hidden is a whole number from 1 to 64, or "any" to search it, not {hidden!r}')
    if activation != "any" and activation not in ACTIVATIONS:
        raise bp.InputError(f'activation is one of {", ".join(ACTIVATIONS)}, or "any", not {activation!r}')
    if not (1 <= trials <= 500 and 1 <= epochs <= 5_000):
        raise bp.InputError(f"trials = {trials} and epochs = {epochs}: up to 500 trials and 5,000 epochs")
    if not 0 <= seed < 2**31 - STARTS - OTHER_STARTS:
        raise bp.InputError(f"seed must be a whole number from 0 on, not {seed}")


def work(x, y, hidden, activation, trials, epochs, seed):
    check(hidden, activation, trials, epochs, seed)
    xs, ys = points(x, y, fewest=4, most=60)
    line, straight = line_answer(xs, ys)
    problem = regression(xs, ys, epochs, seed, space(hidden, activation, epochs, seed))
    found = bp.search(problem, trials=trials, seed=seed, train_below=line.mse)
    again = repeated(problem, found.best, seed)
    answers = {
        "best": {("epochs" if k == "steps" else k): v for k, v in found.best.items()},
        "train_mse": found.train,
        "loo_mse": found.value,
        "nested_mse": found.nested,
        "other_starts": again,
        "beats_line": {"train": found.train < line.mse, "loo": found.value < line.loo_mse},
    }
    blocks = (
        Section("The line to beat", straight.blocks, "given", "line"),
        *found.answer().blocks,
        Section("Is it better than the line?", (*verdict(found, line, again), figure(problem, found, xs, ys, line))),
    )
    remarks = (
        "The inputs are standardised, (x - mean) / standard deviation over all points: the first layer then starts with "
        "its units inside the data. A point that is left out still takes part in these two numbers, its y in nothing.",
    )
    found_answer = bp.Answer(answers, blocks, found.evidence, (*remarks, *found.remarks))
    return found_answer + bp.Answer(straight.answers, (), straight.evidence)


def repeated(problem, best, seed):
    """Leave-one-out with the chosen settings from other random starts, which the choice has not seen."""
    losses = []
    for other in range(seed + STARTS, seed + STARTS + OTHER_STARTS):
        program = prepare(problem, {**best, "seed": other}).program
        losses.append(float(fit_many(program, leave_out(len(problem.targets))).test.mean()))
    return {"mean": sum(losses) / len(losses), "low": min(losses), "high": max(losses)}


def verdict(found, line, again):
    rows = [
        ("on the points it was trained on", Num(found.train), Num(line.mse)),
        ("each point left out once; the network's settings were chosen by it", Num(found.value), Num(line.loo_mse)),
    ]
    if found.nested is not None:
        rows.append(("the same, the choice made anew without the point (nested)", Num(found.nested), Num(line.loo_mse)))
    rows.append((f"the same from {OTHER_STARTS} other random starts, mean", Num(again["mean"]), Num(line.loo_mse)))
    table = Table((("mean squared error",), ("network",), ("line",)), tuple(rows), "", (1, 2))
    trained = (
        "fits the points it was trained on better than" if found.train < line.mse else "does not even fit as well as"
    )
    honest = again["mean"] if found.nested is None else max(found.nested, again["mean"])
    if found.value >= line.loo_mse:
        left = "On points left out it is worse than the line, although its settings were chosen by just that figure"
    elif honest >= line.loo_mse:
        left = (
            "On points left out it looks better than the line, but that is the figure it was chosen by; "
            "judged without that advantage it is not"
        )
    else:
        left = "On points left out it is better too, also when the choice is made without them and from other starts"
    return (
        Paragraph(("A network that may bend can follow the noise of a few points; so two figures are compared.",)),
        table,
        Callout("note", (f"The network {trained} the line. {left}.",), "The verdict"),
    )


def figure(problem, found, xs, ys, line):
    """The points, the line, and the network with two hidden units (else the chosen one)."""
    done = [t for t in found.trials if t.value is not None]
    two = [t for t in done if t.settings["hidden"] == 2] or done
    best = min(two, key=lambda t: t.value).settings
    program = prepare(problem, best).program
    net = network(best["hidden"], best["activation"], best["seed"]).double()
    net.load_state_dict({n: t[0] for n, t in whole_fit(program).parameters.items()})
    grid = torch.linspace(float(xs.min()), float(xs.max()), 101, dtype=torch.float64)
    with torch.no_grad():
        curve = net(((grid - xs.mean()) / xs.std(correction=0)).unsqueeze(1)).squeeze(1)
    name = f"network with {best['hidden']} hidden units ({best['activation']})"
    return Plot(
        (
            Series("points", tuple(xs.tolist()), tuple(ys.tolist()), "points"),
            Series("line", tuple(grid.tolist()), tuple(line.at(v) for v in grid.tolist())),
            Series(name, tuple(grid.tolist()), tuple(curve.tolist())),
        ),
        "x",
        "y",
        ("The points, the least-squares line and the trained network.",),
        f"{len(xs)} points, the line {line.slope:.4g} x + {line.intercept:.4g}, and the {name}",
    )


problem = bp.Exercise(
    work,
    title="A network with one hidden layer, and the line it has to beat",
    about="Fit the points with one hidden layer, sigmoid or ReLU, and find good settings by a search. The straight line is "
    "the measure: is the network better on the points it was trained on, and on points that it has not seen?",
    settings={"x": x, "y": y, "hidden": "any", "activation": "any", "trials": 30, "epochs": 300, "seed": 0},
)
