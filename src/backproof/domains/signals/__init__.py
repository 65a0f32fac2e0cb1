"""The signals domain: E[x_p x_p'] of every node over random weights, forwards, and of its error signal, backwards.

Mean-field theory in the infinite-width form: what a linear map with independent weights puts out is Gaussian, with a
covariance that follows from the second moments of what goes in; in the backward pass the error signal is taken to be
independent of the values that it meets (Poole et al. 2016; Schoenholz et al. 2017; Yang 2019, Tensor Programs). A rule
takes an operation's fields to its result's field (``signals``) or an error signal's field to the operands' (``errors``):
the adjoint of an operation is read as one thing, because its steps are correlated. Parts whose maps share weights (a
recurrent layer, a block applied twice) are drawn as a whole (:mod:`.population`): all their calls are correlated.
"""

from ..base import Domain

__all__ = ["errors", "signals"]

signals = Domain("signals", "mean and E[x_p x_p'] between positions, over random weights")
errors = Domain("errors", "the same of the error signals")

from . import entrywise, maps, moves, norms  # noqa: E402, F401  the rules
