"""Two stand-ins for arrays that a machine without a GPU, or a book without symbols, does not have."""

import numpy as np

from minigluon.op import Operand, interpreters


class Traced(Operand):
    """An operand like a Symbol: it can be computed with, but has no shape, type or numbers to read.

    A gradient rule that works on it can be traced.
    """

    def __init__(self, hidden):
        self._hidden = hidden

    def __bool__(self):
        raise TypeError("a rule asked whether an operand is true: it cannot be traced")

    def __array__(self, *_, **__):
        raise TypeError("a rule gave an operand to NumPy: it cannot be traced")


def trace(op, args, settings):
    """Interpret an operator on Traced operands."""
    out = op.kernel(*[a._hidden if isinstance(a, Traced) else a for a in args], **settings)
    return [Traced(o) for o in out[: op.visible]] if isinstance(out, tuple) else Traced(out)


interpreters[Traced] = trace


class Duck(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on another device: it speaks NumPy's protocols and refuses implicit conversion, as
    CuPy's arrays do."""

    def __init__(self, x):
        self.x = np.asarray(x)

    shape = property(lambda self: self.x.shape)
    dtype = property(lambda self: self.x.dtype)
    ndim = property(lambda self: self.x.ndim)
    size = property(lambda self: self.x.size)
    T = property(lambda self: Duck(self.x.T))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        member = getattr(self.x, name)
        if not callable(member):
            return member
        return lambda *args, **kwargs: wrap(member(*unwrap(args), **unwrap(kwargs)))

    def get(self):
        """The explicit way to the CPU, of which CuPy's arrays have one too."""
        return self.x

    def __len__(self):
        return len(self.x)

    def __bool__(self):  # allowed on a device as well, at the price of waiting for it
        return bool(self.x)

    def __getitem__(self, key):
        return wrap(self.x[unwrap(key)])

    def __setitem__(self, key, value):
        self.x[unwrap(key)] = unwrap(value)

    def __array__(self, *_, **__):
        raise TypeError("implicit conversion of an array on another device to NumPy")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return wrap(getattr(ufunc, method)(*unwrap(inputs), **unwrap(kwargs)))

    def __array_function__(self, func, types, args, kwargs):
        return wrap(func(*unwrap(args), **unwrap(kwargs)))


def unwrap(x):
    """`x` with the arrays inside taken out of their Ducks."""
    if isinstance(x, Duck):
        return x.x
    if isinstance(x, tuple | list):
        return type(x)(unwrap(part) for part in x)
    if isinstance(x, dict):
        return {k: unwrap(v) for k, v in x.items()}
    return x


def wrap(x):
    """`x` with each NumPy array inside as a Duck."""
    if isinstance(x, tuple | list):
        parts = [wrap(part) for part in x]
        return parts if isinstance(x, list) else tuple(parts)  # NumPy's named tuples as well
    return Duck(x) if isinstance(x, np.ndarray | np.generic) else x
