"""When nobody says which frame of a recording is which letter, sum over all the ways it could have been."""

# Written from chapters/51_ctc.ipynb: edit the chapter, then run `minigluon export`.

from minigluon import autograd
from minigluon.autograd import grad, record

__all__ = ["derived", "inputs_of", "outputs_of"]


# --- Derivatives of any order ---------------------------------------------------------------------


def outputs_of(order, n, m):
    """How many outputs the derivative of this order has: a function of n arrays to m has order 0."""
    return m if order == 0 else inputs_of(order - 1, n, m)


def inputs_of(order, n, m):
    """How many arrays the derivative of this order takes: heads for what is below, and its arrays."""
    return n if order == 0 else outputs_of(order - 1, n, m) + inputs_of(order - 1, n, m)


def derived(f, order, arrays, n, m):
    """The derivative of `f` of this order, at NDArrays: the tape of the tape."""
    if order == 0:
        return f(*arrays)
    k = outputs_of(order - 1, n, m)
    heads, arrays = arrays[:k], arrays[k:]
    with record(autograd.state.training):
        y = derived(f, order - 1, arrays, n, m)
    return grad(list(y), list(arrays), list(heads), create_graph=True)
