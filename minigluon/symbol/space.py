"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import math
from functools import cache, update_wrapper

from minigluon import ops
from minigluon.namespace import Namespace
from minigluon.ndarray.ndarray import ArgumentError
from minigluon.op import Operand, operators
from minigluon.symbol.symbol import INFIX, Symbol, compose

__all__ = [
    "SymbolSpace",
    "arange",
    "cast_storage",
    "created",
    "either",
    "eye",
    "full",
    "histogram",
    "hypot",
    "linspace",
    "maximum",
    "minimum",
    "modulo",
    "naming",
    "ones",
    "pow",
    "power",
    "retain",
    "seen_by_symbol",
    "sized",
    "zeros",
]


# --- The face `mx.sym` ----------------------------------------------------------------------------


class SymbolSpace(Namespace):
    """The attributes of a module that shows every operator as a function on symbols."""

    def __init__(self, name, prefix="", places=None):
        super().__init__(name, None, prefix, places)

    def find(self, name):
        if name in self.home:
            return self.placed(name)
        if name in ("np", "npx") and not self.prefix:  # a later chapter's
            home = importlib.import_module("minigluon.symbol.numpy")
            return home if name == "np" else home.npx
        ops.load()
        if self.prefix + name in operators:
            return seen_by_symbol(operators[self.prefix + name], name, self.prefix)
        return super().find(name)


@cache
def seen_by_symbol(op, called, prefix=""):
    """The one function `mx.sym.called` of an operator."""

    def function(*args, name=None, attr=None, **settings):
        settings.pop("out", None)
        if op.name not in INFIX and any(isinstance(a, int | float) for a in args[: op.most]):
            number = next(a for a in args if isinstance(a, int | float))
            raise ArgumentError(
                f"{called}: Argument {op.arrays[0]} must be Symbol instances, but got {number}"
            )
        made = compose(op, args, settings, called, name, attr)
        made._entries[0][0].called = prefix + called if called != op.name else op.name
        return made

    update_wrapper(function, op.kernel)
    function.__name__ = function.__qualname__ = called
    return function


def naming(method):
    """A method of all arrays as one of symbols, which may be given the name of its node."""

    def call(self, *args, name=None, attr=None, **settings):
        made = method(self, *args, **settings)
        node = made._entries[0][0]
        if name is not None and node is not self._entries[0][0]:
            node.name, node.outputs = name, [o.replace(node.name, name, 1) for o in node.outputs]
        return made

    return update_wrapper(call, method)


ops.load()
for name, method in vars(Operand).copy().items():
    plain = name[0] != "_" and callable(method) and not hasattr(method, "kernel")
    if plain and name not in vars(Symbol):
        setattr(Symbol, name, naming(method))
    elif name in getattr(method, "aliases", ()):
        setattr(Symbol, name, seen_by_symbol(method, name))


def zeros(shape, dtype="float32", **kwargs):
    """Zeros of a shape."""
    return created("_zeros", {"shape": sized(shape), "dtype": dtype or "float32"}, kwargs)


def ones(shape, dtype="float32", **kwargs):
    """Ones of a shape."""
    return created("_ones", {"shape": sized(shape), "dtype": dtype or "float32"}, kwargs)


def created(name, settings, kwargs):
    """The Symbol of a call without arrays; `__notes__` among the arguments become attributes."""
    notes = {k: str(v) for k, v in kwargs.items() if k.startswith("__")}
    rest = {k: v for k, v in kwargs.items() if k not in notes and k != "ctx"}
    attr = {**(rest.pop("attr", None) or {}), **notes}
    return compose(operators[name], [], settings, attr=attr or None, **rest)


def full(shape, val, dtype="float32", **kwargs):
    """An array of one value."""
    settings = {"shape": sized(shape), "value": float(val), "dtype": dtype or "float32"}
    return compose(operators["_full"], [], settings, **kwargs)


def arange(start, stop=None, step=1.0, repeat=1, infer_range=False, name=None, dtype="float32"):
    """Evenly spaced numbers from `start` up to `stop`, each `repeat` times."""
    settings = {"start": start, "stop": stop, "step": step, "repeat": repeat}
    return compose(
        operators["_arange"], [], settings | {"infer_range": infer_range, "dtype": dtype}, name=name
    )


def linspace(start, stop, num, endpoint=True, name=None, dtype="float32"):
    """`num` numbers from `start` to `stop`, which is the last one unless `endpoint` is False."""
    settings = {"start": start, "stop": stop, "num": num, "endpoint": endpoint, "dtype": dtype}
    return compose(operators["_linspace"], [], settings, name=name)


def eye(N, M=0, k=0, dtype="float32", **kwargs):
    """A matrix of N rows and M columns (0: as many) with ones on its k-th diagonal."""
    return compose(operators["_eye"], [], {"N": N, "M": M, "k": k, "dtype": dtype}, **kwargs)


def sized(shape):
    """A shape as a tuple."""
    return (shape,) if isinstance(shape, int) else tuple(shape)


def either(name, plain):
    """The function of two symbols or numbers; of two numbers it is `plain`."""

    def function(left, right):
        if isinstance(left, Symbol) or isinstance(right, Symbol):
            return operators[name](left, right)
        return plain(left, right)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = operators[name].__doc__
    return function


ops.load()
maximum, minimum = either("maximum", max), either("minimum", min)
power = pow = either("power", pow)  # noqa: A001
modulo = either("modulo", lambda left, right: left % right)


def hypot(left, right):
    """The length of the hypotenuse, of symbols or numbers."""
    plain = not isinstance(left, Symbol) and not isinstance(right, Symbol)
    return math.hypot(left, right) if plain else operators["hypot"](left, right)


def histogram(a, bins=10, range=None, **kwargs):
    """Counts and edges: `bins` equal parts of `range`, or the edges as a Symbol."""
    if isinstance(bins, Symbol):
        return compose(operators["_histogram"], [a, bins], {}, **kwargs)
    if range is None:
        raise ValueError("null range is not supported in symbol mode")
    return compose(operators["_histogram"], [a], {"bin_cnt": bins, "range": range}, **kwargs)


def retain(data, indices, **kwargs):
    """`data` with 0 in all rows that `indices` does not name."""
    return compose(operators["sparse_retain"], [data, indices], {}, **kwargs)


def cast_storage(data, stype="default", **kwargs):
    """The same numbers: a graph computes with dense arrays, and casts what it hands over."""
    return compose(operators["identity"], [data], {}, **kwargs)
