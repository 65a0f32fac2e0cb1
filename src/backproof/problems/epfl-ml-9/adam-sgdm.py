"""Adam and SGD with momentum: what they keep, and where a constant gradient takes them."""

import backproof as bp

RULES = {
    "sgdm": ("sgd", {"lr": "lr", "momentum": "beta"}),
    "adam": ("adam", {"lr": "lr", "beta1": "beta1", "beta2": "beta2", "eps": 0}),
}
OTHERS = {
    "sgd": ("sgd", {"lr": "lr"}),
    "nesterov": ("sgd", {"lr": "lr", "momentum": "beta", "nesterov": True}),
    "adamw": ("adamw", {"lr": "lr", "beta1": "beta1", "beta2": "beta2", "eps": 0}),
    "adagrad": ("adagrad", {"lr": "lr", "eps": 0}),
    "rmsprop": ("rmsprop", {"lr": "lr", "alpha": "beta2", "eps": 0}),
    "adadelta": ("adadelta", {"lr": "lr", "rho": "beta2"}),
    "adamax": ("adamax", {"lr": "lr", "beta1": "beta1", "beta2": "beta2", "eps": 0}),
    "nadam": ("nadam", {"lr": "lr", "beta1": "beta1", "beta2": "beta2", "eps": 0}),
    "sparseadam": ("sparseadam", {"lr": "lr", "beta1": "beta1", "beta2": "beta2"}),
    "rprop": ("rprop", {"lr": "lr"}),
    "asgd": ("asgd", {"lr": "lr"}),
}


def work(c, t, lr, beta, beta1, beta2, optimizers):
    values = {"c": c, "t": t, "lr": lr, "beta": beta, "beta1": beta1, "beta2": beta2}
    paths = bp.constant_gradient(chosen(optimizers), values)
    remarks = (
        "The sheet's printed algorithm lets t run from 0; as corrected later, with t + 1 in its place, t counts the updates "
        "made, as it does here. It calls the m of SGDM an exponential moving average. What comes of both is computed above.",
        "Under a constant gradient Adam moves by lr in every update, whatever c is: the sign of the gradient counts, not "
        "its size. SGDM's path is proportional to c.",
    )
    return bp.kept_by_all() + paths + bp.Answer(remarks=remarks)


def chosen(names):
    """Adam and SGDM, and those of the others that are asked for by name, or all of them."""
    asked = [n.strip() for n in str(names).split(",") if n.strip()]
    if "all" in asked:
        return RULES | OTHERS
    unknown = [n for n in asked if n not in RULES | OTHERS]
    if unknown:
        raise bp.InputError(f"there is no optimizer '{unknown[0]}' here; known: all, {', '.join(RULES | OTHERS)}")
    return RULES | {n: OTHERS[n] for n in asked if n in OTHERS}


problem = bp.Exercise(
    work,
    title="Adam and SGD with momentum",
    about="How many values do SGD with momentum and Adam keep per parameter? What are m, v, the corrected m and v, and w "
    "after t updates when the gradient is a constant c > 0 (eps = 0, w = 0 at the start), and how does each depend on c? "
    "SGDM is m = beta m + g, w = w - lr m. Other optimizers can be named too.",
    settings={
        "c": "c", "t": "t", "lr": "lr", "beta": "beta", "beta1": "beta1", "beta2": "beta2", "optimizers": "sgdm, adam",
    },
)  # fmt: skip
