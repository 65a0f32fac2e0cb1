"""Adam and SGD with momentum: what they keep, and where a constant gradient takes them."""

import backproof as bp

RULES = {
    "sgdm": ("sgd", {"lr": "lr", "momentum": "beta"}),
    "adam": ("adam", {"lr": "lr", "beta1": "beta1", "beta2": "beta2", "eps": 0}),
}


def work(c, t, lr, beta, beta1, beta2):
    values = {"c": c, "t": t, "lr": lr, "beta": beta, "beta1": beta1, "beta2": beta2}
    paths = bp.constant_gradient(RULES, values)
    sgdm, adam = paths.answers["limits"]["sgdm"]["m"], paths.answers["limits"]["adam"]["m"]
    remarks = (
        "The printed algorithm lets t run from 0 and divides by 1 - beta^t, which is 0 in the first update; with t + 1 in "
        "its place, as corrected later, t counts the updates made, as it does here.",
        f"The sheet calls the m of SGDM an exponential moving average. The mean of a constant gradient c is c; this m tends "
        f"to {sgdm}, that of Adam to {adam}. Without the factor 1 - beta it is a decaying sum, and the step is the longer for it.",
        "Under a constant gradient Adam moves by lr in every update, whatever c is: the sign of the gradient counts, not "
        "its size. SGDM's path is proportional to c.",
    )
    return bp.kept_by_all() + paths + bp.Answer(remarks=remarks)


problem = bp.Exercise(
    work,
    title="Adam and SGD with momentum",
    about="How many values do SGD with momentum and Adam keep per parameter? What are m, v, the corrected m and v, and w "
    "after t updates when the gradient is a constant c > 0 (eps = 0, w = 0 at the start), and how does each depend on c? "
    "SGDM is m = beta m + g, w = w - lr m.",
    settings={"c": "c", "t": "t", "lr": "lr", "beta": "beta", "beta1": "beta1", "beta2": "beta2"},
)
