"""A loop over an array, a loop until a condition fails and a choice, written as functions of functions."""

# Written from chapters/19_control_flow.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.op import operator

__all__ = ["contrib_isfinite", "contrib_isinf", "contrib_isnan"]


# --- What conditions ask --------------------------------------------------------------------------


@operator(vjp=(None,))
def contrib_isnan(data, /):
    """1 where `data` is not a number, else 0."""
    return np.isnan(data).astype(data.dtype)


@operator(vjp=(None,))
def contrib_isinf(data, /):
    """1 where `data` is infinite, of either sign, else 0."""
    return np.isinf(data).astype(data.dtype)


@operator(vjp=(None,))
def contrib_isfinite(data, /):
    """1 where `data` is neither infinite nor NaN, else 0."""
    return np.isfinite(data).astype(data.dtype)
