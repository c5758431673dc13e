"""The same operators, seen by an array that keeps NumPy's shapes: a sum has no axes, a comparison is true or false."""

# Written from chapters/24_numpy.ipynb: edit the chapter, then run `minigluon export`.

import functools
import importlib
import inspect
import threading

from minigluon.ndarray.ndarray import zero_is_a_size

__all__ = [
    "Scope",
    "Switch",
    "UNTOUCHED",
    "as_asked",
    "is_np_array",
    "is_np_shape",
    "new_array",
    "np_array",
    "np_shape",
    "reset_np",
    "scope",
    "set_np",
    "set_np_shape",
    "use_np",
    "use_np_array",
    "use_np_shape",
]


# --- Switches -------------------------------------------------------------------------------------


class Scope(threading.local):
    """Whether this thread has asked for NumPy's shapes, and for arrays of `mx.np`."""

    shape = array = False


scope = Scope()


def is_np_array():
    """Whether new arrays are those of `mx.np`."""
    return scope.array


def is_np_shape():
    """Whether shapes are read as NumPy reads them: 0 is a size, -1 is unknown."""
    return scope.shape


zero_is_a_size.append(is_np_shape)


def as_asked(x):
    """An array that was made by the package itself, as the kind that the program asks for."""
    return x.as_np_ndarray() if scope.array else x


def new_array(data, **settings):
    """`mx.np.array`, which keeps NumPy's types, where the program asks for it, else `mx.nd.array`."""
    part = "numpy.multiarray" if scope.array else "ndarray.ndarray"
    return importlib.import_module(f"minigluon.{part}").array(data, **settings)


def set_np_shape(active):
    """Switch NumPy's reading of shapes on or off; return what it was."""
    before, scope.shape = scope.shape, bool(active)
    return before


def set_np(shape=True, array=True):
    """From now on make arrays of `mx.np`; ValueError for them without NumPy's shapes."""
    if array and not shape:
        raise ValueError("NumPy's arrays without NumPy's shapes: set_np(shape=True, array=True)")
    scope.shape, scope.array = bool(shape), bool(array)


def reset_np():
    """Back to the arrays of `mx.nd`."""
    set_np(shape=False, array=False)


UNTOUCHED = {"__new__", "__setattr__", "__getattr__", "__getattribute__", "__delattr__", "__repr__"}


class Switch:
    """A `with` block, or a decorator of functions and classes, in which switches stand otherwise."""

    def __init__(self, **values):
        self.values = values

    def __enter__(self):
        self.before = {name: getattr(scope, name) for name in self.values}
        vars(scope).update(self.values)
        return self

    def __exit__(self, *_):
        vars(scope).update(self.before)

    def __call__(self, target):
        """A function that runs with these switches, or a class all of whose methods
        and properties do.
        """
        if inspect.isclass(target):
            for name in {*dir(target)} - UNTOUCHED:
                if (made := self.inside(inspect.getattr_static(target, name))) is not None:
                    setattr(target, name, made)
            return target

        @functools.wraps(target)
        def inside(*args, **kwargs):
            with Switch(**self.values):
                return target(*args, **kwargs)

        return inside

    def inside(self, member):
        """A member of a class that runs with these switches; None for one that does not run."""
        if inspect.isfunction(member):
            return self(member)
        if isinstance(member, staticmethod | classmethod) and inspect.isfunction(member.__func__):
            return type(member)(self(member.__func__))
        if type(member) is property:
            parts = member.fget, member.fset, member.fdel
            return property(*(f and self(f) for f in parts), doc=member.__doc__)
        return None


def np_shape(active=True):
    """A `with` block in which shapes are read as NumPy reads them."""
    return Switch(shape=bool(active))


def np_array(active=True):
    """A `with` block in which new arrays are those of `mx.np`."""
    return Switch(array=bool(active))


def use_np_shape(func):
    """A function or class that runs with NumPy's shapes."""
    return Switch(shape=True)(func)


def use_np_array(func):
    """A function or class that makes arrays of `mx.np`."""
    return Switch(array=True)(func)


def use_np(func):
    """A function or class that runs with NumPy's shapes and arrays."""
    return Switch(shape=True, array=True)(func)
