"""Steps of a textbook's derivation that no program runs: a normalisation by its own mean and variance as one step.

They are records outside of the table: :mod:`backproof.studies.derivation.textbook` puts them into its view of a network.
"""

from __future__ import annotations

from .base import Op

__all__ = ["PULLBACK", "SCALE", "SCALE_GRAD", "STANDARDISE", "STANDARDISE_GRAD"]


def _op(name: str, operands: tuple[str, ...], doc: str) -> Op:
    return Op(name, "normalisation", operands, lambda shapes, attrs: shapes[0], attrs={"dim": (), "eps": 0.0}, doc=doc)


STANDARDISE = _op("standardise", ("x", "mean", "var"), "(x - μ)/√(σ² + ε), where μ and σ² are x's own.")
STANDARDISE_GRAD = _op("standardise_grad", ("delta", "x_hat", "var"), "What goes back through it.")
SCALE = _op("rms_standardise", ("x", "scale"), "x r, where r = 1/√(mean x² + ε) is x's own.")
SCALE_GRAD = _op("rms_standardise_grad", ("delta", "x_hat", "scale"), "What goes back through it.")
PULLBACK = Op(
    "pullback", "pullback", ("delta", "*xs"), lambda shapes, attrs: tuple(attrs["shape"]),
    attrs={"operation": "", "operand": 0, "shape": ()}, doc="The transposed Jacobian of an operation times its error signal.",
)  # fmt: skip
