"""Random numbers that pass gradients on, the functions of layers, and graphs of calls that are taken apart when shapes are known."""

# Written from chapters/24c_numpy_networks.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import math
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as onp

import minigluon.operator as custom
from minigluon import autograd, numpy, numpy_extension
from minigluon.base import MXNetError
from minigluon.numpy.multiarray import ARITHMETIC, as_np, ndarray
from minigluon.op import interpreters, operator
from minigluon.ops.random import generators
from minigluon.symbol.symbol import Node, Symbol, compose, recorded

# --- Symbols of this kind -------------------------------------------------------------------------


def slotted(x, found):
    """Arguments with a slot for each symbol, which goes into the list `found`."""
    if isinstance(x, Symbol):
        found.append(x)
        return {"slot": len(found) - 1}
    if isinstance(x, slice):
        return {"slice": [slotted(part, found) for part in (x.start, x.stop, x.step)]}
    if x is Ellipsis:
        return {"slice": []}
    if isinstance(x, dict):
        return {"dict": [[k, slotted(v, found)] for k, v in x.items()]}
    if isinstance(x, onp.dtype | type):
        return onp.dtype(x).name
    return type(x)(slotted(part, found) for part in x) if type(x) in (list, tuple) else x


def filled(x, arrays):
    """Arguments in which arrays stand in the slots."""
    if isinstance(x, dict):
        (key, value), *_ = x.items()
        if key == "slot":
            return arrays[value]
        if key == "slice":
            return slice(*filled(value, arrays)) if value else Ellipsis
        return {k: filled(v, arrays) for k, v in value}
    return type(x)(filled(part, arrays) for part in x) if type(x) in (list, tuple) else x


def function_called(name):
    """A function of `mx.np` by its name, a method by `.name`, an operator by `op.name`."""
    space, _, own = name.rpartition(".")
    if name[0] == ".":
        return getattr(ndarray, own)
    if space == "op":
        return numpy.multiarray.operators[own]
    if space.startswith("npx"):
        home = importlib.import_module("minigluon.numpy_extension")
        return getattr(home.random if space == "npx.random" else home, own)
    home = importlib.import_module(f"minigluon.numpy{space and '.' + space}")
    return getattr(home, own)


@operator(same_dtype=False)
def _np_call(*arrays, function, form, count=1):
    """A call of a function of `mx.np`, the arrays in the slots of the arguments `form`."""
    out = called(function, form, as_np(custom.wrapped(arrays)), count)
    return custom.unwrapped(out)


def called(function, form, arrays, count):
    """The list of results; ValueError if there are not as many as the graph was told."""
    args, kwargs = filled(form, arrays)
    out = function_called(function)(*args, **kwargs)
    out = list(out) if isinstance(out, list | tuple) else [out]
    if len(out) != count:
        raise ValueError(
            f"{function} gives {len(out)} results, which a graph cannot know beforehand: call it "
            "outside of hybrid_forward, or do not hybridize"
        )
    return [
        o if isinstance(o, ndarray) else numpy.array(o, dtype=onp.asarray(o).dtype) for o in out
    ]


_np_call.outputs = lambda n, count=1, **_: count


@_np_call.vjp
def _(g, y, *arrays, function, form, count=1):
    heads = list(g) if isinstance(g, tuple | list) else [g]
    settings = {"function": function, "form": form, "count": count}
    shares = _np_pull(*heads, *arrays, **settings)
    return list(shares) if len(arrays) > 1 else [shares]


@operator(same_dtype=False)
def _np_pull(*both, function, form, count=1):
    """The gradients of such a call, for the gradients of its results, which come first."""
    both = as_np(custom.wrapped(both))
    heads, arrays = both[:count], both[count:]
    for a in arrays:
        a.attach_grad()
    with autograd.record():
        out = called(function, form, arrays, count)
    tracked = [(o, h) for o, h in zip(out, heads) if o._node is not None]
    if tracked:
        autograd.backward(*map(list, zip(*tracked)))
    return custom.unwrapped([a.grad for a in arrays])


_np_pull.outputs = lambda n, count=1, **_: n - count


def expand(entries, outlines, function, form, count=1):
    """The entries that take the places of the outputs of a call, for inputs of known shapes."""
    kinds = [(outlines.shapes.get(e), outlines.types.get(e)) for e in entries]
    if None in [shape for shape, _ in kinds]:
        return None
    try:
        with onp.errstate(all="ignore"):
            call = kinds, entries, function, form, count
            trials = [trial(make, *call) for make in (lambda i, *kind: onp.zeros(*kind), various)]
    except (MXNetError, ValueError, IndexError, TypeError):
        return None  # what is wrong with it, the call itself will say
    (found, text), (_, other) = trials
    return found if text == other else None


def various(i, shape, dtype):
    """Numbers that differ from each other, and from one input `i` to the next;
    truth values that take turns.
    """
    numbers = onp.arange(i, i + math.prod(shape)).reshape(shape)
    found = numbers % 2 if onp.dtype(dtype).kind == "b" else numbers * 0.7 + 1
    return onp.asarray(found, dtype=dtype)


class MadeUp(ndarray):
    """An array of a trial, whose numbers nobody may look at:
    NumPy would work on them behind the tape's back.
    """

    __slots__ = ()

    def asnumpy(self):
        raise TypeError("the numbers of a trial are made up")


def made_up(a):
    """An array, or a list of them, as arrays of a trial."""
    if isinstance(a, list):
        return [made_up(one) for one in a]
    return MadeUp(a._data, a._ctx, a._node)


interpreters[MadeUp] = lambda op, args, settings: made_up(interpreters[ndarray](op, args, settings))


def trial(make, kinds, entries, function, form, count):
    """The entries that a call on made-up numbers notes, and all that was noted as a text."""
    raw = [make(i, shape, dtype) for i, (shape, dtype) in enumerate(kinds)]
    arrays = [made_up(a) for a in custom.wrapped(raw)]
    for a in arrays:
        a.attach_grad()
    with autograd.record(train_mode=autograd.is_training()):
        out = called(function, form, arrays, count)
    made, text = {a._node: Symbol([e]) for a, e in zip(arrays, entries)}, []
    return [noted(a, made, entries, text)._entries[0] for a in out], text


def noted(a, made, entries, text):
    """The recorded computation of an array as a Symbol; `made` holds those of notes."""
    if a._node is None:
        return fixed(a._data, entries, text)
    for note in recorded(a._node):
        if note in made:
            continue
        if not hasattr(note, "op"):
            made[note] = made[note.parents[0]][note.index]
            continue
        text.append((note.op.name, repr(note.settings)))
        pairs = zip(note.parents, note.args)
        inputs = [made[p] if p is not None else fixed(raw, entries, text) for p, raw in pairs]
        made[note] = compose(note.op, inputs, dict(note.settings))
    return made[a._node]


class Kept:
    """Numbers that belong to a program, told apart by what they are, not by how they print."""

    def __init__(self, raw):
        self.raw = raw


def fixed(raw, entries, text):
    """Numbers that no input has a part in, as a Symbol; a plain number as it is."""
    text.append(raw.tobytes() if hasattr(raw, "shape") else raw)
    if not hasattr(raw, "shape"):
        return raw
    return Symbol([(Node("constant", _np_kept, entries[:1], {"numbers": Kept(raw)}), 0)])


@operator(same_dtype=False, vjp=lambda g, y, *like, numbers: [None for _ in like])
def _np_kept(*like, numbers):
    """Numbers that are known beforehand, where the array `like` is."""
    return onp.asarray(numbers.raw, like=like[0]) if like else numbers.raw


_np_call.expand = expand


COUNTS = {"svd": 3, "slogdet": 2, "eigh": 2, "eig": 2, "qr": 2, "histogram": 2}
COUNTS |= {"lstsq": 4, "divmod": 2, "modf": 2, "frexp": 2}


def count_of(name, args, kwargs):
    """How many results a call has; None if it is one array."""
    own = name.rpartition(".")[2]
    if own.endswith("split"):
        cuts = args[1] if len(args) > 1 else kwargs["indices_or_sections"]
        return cuts if isinstance(cuts, int) else len(cuts) + 1
    if own in ("meshgrid", "broadcast_arrays"):
        return len(args)
    if own.startswith("atleast_"):
        return len(args) if len(args) > 1 else None
    if own == "unravel_index":
        return len(args[1] if len(args) > 1 else kwargs["shape"])
    if own == "unique":
        asked = [*args[1:4], *[kwargs[k] for k in kwargs if k.startswith("return_")]]
        told = [each for each in asked if each]
        return 1 + len(told) if told else None
    return 2 if own == "average" and kwargs.get("returned") else COUNTS.get(own)


def deferred(name, op=_np_call):
    """The function that writes down a call of the function `name`."""

    def function(*args, **kwargs):
        found = []
        kwargs.pop("out", None)
        form, count = slotted((args, kwargs), found), count_of(name, args, kwargs)
        made = compose(op, found, {"function": name, "form": form, "count": count or 1})
        parts = [_Symbol([entry]) for entry in made._entries]
        return parts if count else parts[0]

    function.__name__ = function.__qualname__ = name.lstrip(".")
    return function


class _Symbol(Symbol):
    """A symbol that is called as an array of `mx.np` is."""

    __slots__ = ()
    __hash__ = Symbol.__hash__
    T = property(deferred(".transpose"))

    def __getitem__(self, key):
        if len(self) > 1:
            return _Symbol(super().__getitem__(key)._entries)
        return deferred(".__getitem__")(self, key)

    def __iter__(self):
        return (_Symbol([entry]) for entry in self._entries)

    def as_np_ndarray(self):
        """The symbol itself."""
        return self

    def as_nd_ndarray(self):
        """The same symbol, called as an array of `mx.nd` is."""
        return Symbol(self._entries)

    @staticmethod
    def _instead(op, args, settings):
        """Arithmetic of an operator, which casts, is a call as well; None for all others."""
        several = len([a for a in args if isinstance(a, Symbol)]) > 1
        if several and op.same_dtype and op.kernel.__module__ == ARITHMETIC:
            return deferred(f"op.{op.name}")(*args, **settings)
        return None


METHODS = """
add radd sub rsub mul rmul truediv rtruediv mod rmod pow rpow matmul rmatmul floordiv rfloordiv and rand or ror xor
rxor neg abs invert eq ne lt le gt ge
"""
NAMED = """
sum mean prod max min argmax argmin all any var std cumsum dot repeat squeeze swapaxes take argsort sort copy round
reshape transpose astype flatten ravel clip split tile flip expand_dims
"""
for name in [f"__{n}__" for n in METHODS.split()] + NAMED.split():
    setattr(_Symbol, name, deferred(f".{name}"))


interpreters[_Symbol] = compose


def namespace(part):
    """The functions of a part of `mx.np`, for symbols."""
    module = importlib.import_module(f"minigluon.numpy{part and '.' + part}")
    names = [n for n in dir(module) if n[0] != "_" and callable(getattr(module, n))]
    return {n: deferred(f"{part}.{n}" if part else n) for n in names}


def __getattr__(name):
    """A function that writes a call down, or a name of `mx.np` that is none."""
    if name == "linalg":
        return SimpleNamespace(**namespace(name))
    if name == "random":
        return SimpleNamespace(**{n: law_of(n) for n in dir(numpy.random)})
    found = getattr(numpy, name)
    return deferred(name) if callable(found) and not isinstance(found, type) else found


def __dir__():
    return dir(numpy)


def drawn(law):
    """The symbol of numbers of a law, which are drawn anew in each run."""

    def function(first=0.0, second=1.0, size=None, dtype="float32", **_):
        draw = getattr(importlib.import_module("minigluon.symbol.random"), law)
        shape = (size,) if isinstance(size, int) else tuple(size or (1,))
        made = _Symbol(draw(first, second, shape=shape, dtype=dtype or "float32")._entries)
        return made if size is not None and size != () else made.reshape(())

    function.__name__ = law
    return function


@operator(same_dtype=False)
def _np_draw(*arrays, function, form, count=1, rng=None):
    """A call that draws random numbers: from the program's streams, or from one of its own, `rng`."""
    with own_stream(rng):
        return custom.unwrapped(called(function, form, as_np(custom.wrapped(arrays)), count))


@contextmanager
def own_stream(rng):
    """A `with` block that draws from the stream `rng`, a number, and leaves all others as they are."""
    if not isinstance(rng, int):
        yield
        return
    kept = dict(generators)
    generators.clear()
    generators[None] = rng
    try:
        yield
    finally:
        generators.clear()
        generators.update(kept)


ARITHMETICAL = "normal uniform exponential gumbel logistic lognormal rayleigh weibull pareto power"


def law_of(name):
    """The function of `F.np.random`: a law of symbols is arithmetic on standard numbers,
    with gradients.
    """

    def function(*args, **kwargs):
        kwargs.pop("out", None)
        if not numpy.random.plain(*args, *kwargs.values()) and name in ARITHMETICAL.split():
            return getattr(numpy.random, name)(*args, **kwargs)
        number = drawn(name) if name in ("normal", "uniform") else drawn_anew(name)
        return number(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    return function


def drawn_anew(name):
    """The function that writes down a call of `mx.np.random`."""
    return deferred(f"random.{name}", _np_draw)


LAWS = "bernoulli", "normal_n", "uniform_n"


class Extension:
    """`F.npx`: operators ask their symbols; functions in Python are written down as calls."""

    nonzero = staticmethod(deferred("npx.nonzero"))
    random = SimpleNamespace(**{n: deferred(f"npx.random.{n}", _np_draw) for n in LAWS})

    def reshape(self, a, newshape, reverse=False, order="C"):
        """The numbers in another shape, by codes; to leave out axes is to know their sizes."""
        if -3 in (newshape if isinstance(newshape, tuple | list) else (newshape,)):
            return deferred("npx.reshape")(a, newshape, reverse, order)
        return numpy_extension.reshape(a, newshape, reverse, order)

    def __getattr__(self, name):
        return getattr(numpy_extension, name)


npx = Extension()
