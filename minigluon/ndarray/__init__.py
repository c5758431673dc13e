"""One seed, one stream; and the namespace through which all operators are seen."""

# Written from chapters/15_random.ipynb: edit the chapter, then run `minigluon export`.

import difflib
import importlib
from functools import update_wrapper

__all__ = ["NAMES", "PLACES", "difflib", "importlib", "seen_by_ndarray", "update_wrapper"]


# --- The namespace --------------------------------------------------------------------------------

PLACES = ["minigluon.ndarray.ndarray", "minigluon.autograd"]  # where plain functions come from
NAMES = "NDArray array zeros ones full empty arange waitall zeros_like ones_like".split()


def __getattr__(name):
    """Find `name` on first use and keep it: a submodule, a function, or an operator."""
    if name in ("random", "ndarray"):
        return importlib.import_module(f"{__name__}.{name}")
    importlib.import_module("minigluon.ops").load()
    from minigluon.op import operators

    if name in operators:
        found = seen_by_ndarray(operators[name])
    elif name in NAMES:
        found = getattr(importlib.import_module(PLACES[0]), name)
    else:
        close = difflib.get_close_matches(name, [*operators, *NAMES], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    globals()[name] = found  # the next look-up costs nothing
    return found


def __dir__():
    importlib.import_module("minigluon.ops").load()
    from minigluon.op import operators

    return sorted({*globals(), *operators, *NAMES, "random"})


def seen_by_ndarray(op):
    """The function `mx.nd.f` of an operator."""
    from minigluon.autograd import assign
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
                return y if out is None else assign(out, y)
        given = ", ".join(type(a).__name__ for a in args) or "nothing"
        raise ArgumentError(
            f"{op.name}: argument {op.arrays[0]} must be an NDArray, but got {given}"
        )

    update_wrapper(function, op.kernel).__module__ = __name__
    return function
