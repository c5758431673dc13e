"""One seed, one stream; and the namespace through which all operators are seen."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

import difflib
import importlib
from functools import update_wrapper

__all__ = ["NAMES", "PLACES", "seen_by_ndarray", "submodule", "update_wrapper", "written"]


# --- The namespace --------------------------------------------------------------------------------

PLACES = ["minigluon.ndarray.ndarray", "minigluon.autograd"]  # where plain functions come from
NAMES = [
    "NDArray",
    "array",
    "zeros",
    "ones",
    "full",
    "empty",
    "arange",
    "waitall",
    "zeros_like",
    "ones_like",
]


def __getattr__(name):
    """Find `name` on first use and keep it: a submodule, a function, or an operator."""
    if name == "ndarray" or name.startswith("__"):
        return submodule(name)
    importlib.import_module("minigluon.ops").load()
    if name == "random":
        return submodule(name)
    from minigluon.op import operators

    if name in operators:
        op = operators[name]
        found = globals().get(op.name) or seen_by_ndarray(op)  # aliases share one function
        globals()[op.name] = found
    elif name in NAMES:
        found = getattr(importlib.import_module(PLACES[0]), name)
    else:
        close = difflib.get_close_matches(name, [*operators, *NAMES], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    globals()[name] = found  # the next look-up costs nothing
    return found


def submodule(name):
    """A module of this package; AttributeError for the dunder names that Python asks for."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__():
    importlib.import_module("minigluon.ops").load()
    from minigluon.op import operators

    return sorted({*globals(), *operators, *NAMES, "random"})


def seen_by_ndarray(op):
    """The function `mx.nd.f` of an operator."""
    from minigluon.ndarray.ndarray import ArgumentError
    from minigluon.op import bind, interpreters

    interpreter_of = interpreters.get

    def function(*args, **settings):
        out = None
        if settings or len(args) > op.most:
            settings.pop("name", None)
            out = settings.pop("out", None)
            args, settings = bind(op, args, settings)
        for a in args:
            if (interpret := interpreter_of(type(a))) is not None:
                y = interpret(op, args, settings)
                return y if out is None else written(out, y)
        given = ", ".join(type(a).__name__ for a in args) or "nothing"
        raise ArgumentError(
            f"{op.name}: Argument {op.arrays[0]} must have NDArray type, but got {given}"
        )

    update_wrapper(function, op.kernel).__module__ = __name__
    return function


def written(out, y):
    """`y` written into `out`; a list of results into a list of arrays."""
    from minigluon.autograd import assign

    if not isinstance(y, list):
        return assign(out, y)
    return [assign(o, part) for o, part in zip(out, y, strict=True)]
