"""A loop over an array, a loop until a condition fails and a choice, written as functions of functions."""

# Written from chapters/19_control_flow.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.ndarray.ndarray import ArgumentError, zeros
from minigluon.op import Operand
from minigluon.ops.pieces import concat, split, stack

__all__ = [
    "as_python",
    "cond",
    "filled",
    "flatten",
    "foreach",
    "regroup",
    "slices",
    "stacked",
    "updated",
    "while_loop",
]


# --- Nested lists ---------------------------------------------------------------------------------


def flatten(nested, what):
    """The arrays in nested lists, in order, and the form of the lists, with None for each array."""
    if isinstance(nested, Operand):
        return [nested], None
    if not isinstance(nested, list | tuple):
        raise ArgumentError(
            f"{what} must be an array or a nested list of arrays, but got {nested!r} of type "
            f"{type(nested).__name__}"
        )
    parts = [flatten(part, what) for part in nested]
    return [a for arrays, _ in parts for a in arrays], [form for _, form in parts]


def regroup(arrays, form):
    """Undo `flatten`, from an iterator of arrays."""
    return next(arrays) if form is None else [regroup(arrays, part) for part in form]


def stacked(outputs, what, rows=0):
    """The outputs of several steps, stacked along a new first axis, filled with zeros up to `rows`.

    Raises ValueError if the steps have not equally many.
    """
    if not outputs:
        return []
    steps, forms = zip(*(flatten(out, what) for out in outputs))
    if len({len(arrays) for arrays in steps}) > 1:
        numbers = ", ".join(str(len(arrays)) for arrays in steps)
        raise ValueError(f"{what}: each step must give equally many arrays, but got {numbers}")
    columns = [filled(stack(*column), rows) for column in zip(*steps)]
    return regroup(iter(columns), forms[-1])


def filled(array, rows):
    """`array` with zeros below, up to `rows` rows."""
    missing = rows - array.shape[0]
    if missing <= 0:
        return array
    return concat(array, zeros((missing, *array.shape[1:]), array.context, array.dtype), dim=0)


# --- A loop over an array -------------------------------------------------------------------------


def slices(array):
    """The slices of an array along its first axis, by one operation."""
    n = array.shape[0]
    if n == 0:
        return []
    parts = split(array, num_outputs=n, axis=0, squeeze_axis=array.ndim > 1)
    return parts if n > 1 else [parts]


def foreach(body, data, init_states):
    """Run `out, states = body(slice, states)` for each slice of `data` along axis 0.

    Returns the outputs of all steps, stacked, and the last states. `data`, `init_states` and the
    outputs are arrays or nested lists of arrays; the first array of `data` tells how many steps.
    Data without slices gives [] and `init_states`.
    """
    arrays, form = flatten(data, "data")
    flatten(init_states, "init_states")
    lengths = [a.shape[0] for a in arrays]
    if not lengths or min(lengths) < lengths[0]:
        raise IndexError(
            f"data must hold arrays as long as the first, but their lengths are {lengths}"
        )
    outputs, states = [], init_states
    for parts in zip(*map(slices, arrays)):
        out, states = body(regroup(iter(parts), form), states)
        outputs.append(out)
    return stacked(outputs, "the output of body"), states


# --- A loop until a condition fails ---------------------------------------------------------------


def as_python(value, kind, what):
    """A number or a truth from an array of size 1 or from a Python object; else ValueError."""
    if hasattr(value, "asscalar"):
        value = value.asscalar()
    if callable(value):
        raise ValueError(f"{what} is a function: call it, and give its result")
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"cannot take {what}, {value!r}, as {kind.__name__}") from None


def while_loop(cond, func, loop_vars, max_iterations=None):
    """Run `out, loop_vars = func(*loop_vars)` while `cond(*loop_vars)` holds,
    `max_iterations` times at most.

    Returns the outputs, stacked and filled with zeros up to `max_iterations` rows, and the last
    variables. Without a single step the outputs are []. An output of None is as good as [].
    """
    if max_iterations is None:
        raise ValueError("max_iterations should be specified: it is the length of the outputs")
    most = as_python(max_iterations, int, "max_iterations")
    if len(loop_vars) == 0:
        raise ValueError("loop_vars should contain at least one element")
    alone = isinstance(loop_vars, Operand)
    variables, outputs = [loop_vars] if alone else loop_vars, []
    while len(outputs) < most and as_python(cond(*variables), bool, "the result of cond"):
        out, new = func(*variables)
        variables = updated(variables, new)
        outputs.append([] if out is None else out)
    what = "the step output of func"
    return stacked(outputs, what, most), variables[0] if alone else variables


def updated(old, new):
    """The new variables as a list, as many as before."""
    new = list(new) if isinstance(new, list | tuple) else [] if new is None else [new]
    if len(new) != len(old):
        raise ValueError(
            "The length of loop_vars should be consistent during the loop: func got "
            f"{len(old)} and gave {len(new)}"
        )
    return new


# --- A choice -------------------------------------------------------------------------------------


def cond(pred, then_func, else_func):
    """`then_func()` if `pred`, an array of size 1, is not 0, else `else_func()`."""
    return then_func() if as_python(pred, bool, "pred") else else_func()
