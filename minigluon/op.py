"""An operator is a function on arrays that does not know what an array is."""

# Written from chapters/01_operators.ipynb: edit the chapter, then run `minigluon export`.

import inspect
import re
import sys
from functools import partial, update_wrapper

from minigluon.base import MXNetError, refuse

__all__ = [
    "BadIndex",
    "BadType",
    "BadValue",
    "KINDS",
    "Operand",
    "attach",
    "bind",
    "called_arrays",
    "describe",
    "failure",
    "interpreters",
    "into",
    "living_apart",
    "operator",
    "operators",
    "read_signature",
    "signature",
    "summary",
]


# --- The dispatcher -------------------------------------------------------------------------------

interpreters = {}  # type of array -> function(op, args, settings) that carries out a call
operators = {}  # name -> operator


class Operand:
    """What every array-like type can do; the catalogue's chapters give it its methods."""

    __slots__ = ()


def operator(kernel=None, *, vjp=None, aliases=(), same_dtype=True, listed=True):
    """Make an operator of `kernel(arrays..., /, settings...)`, a function on raw arrays.

    `vjp` is a tuple with one rule per array, or one function that returns all gradients; a rule
    is called as `rule(g, y, *arrays, **settings)` and written with operators. `aliases` are further
    names. `same_dtype=False` is for operators whose arrays may differ in type, such as indices;
    `listed=False` for those made on the fly, which no namespace shows.
    """
    if kernel is None:
        return partial(operator, vjp=vjp, aliases=aliases, same_dtype=same_dtype, listed=listed)
    interpreter_of = interpreters.get
    most, known, names = 0, frozenset(), ()

    def op(*args, **settings):
        if settings:
            if len(args) > most or not known.issuperset(settings):
                if "out" in settings:
                    return into(settings.pop("out"), op(*args, **settings))
                args, settings = bind(op, args, settings)
        elif len(args) > most:
            if len(args) == most + 1 and names:  # such as x.sum(1): as `bind`, 0.4 µs sooner
                args, settings = args[:most], {names[0]: args[most]}
            elif len(args) <= most + len(names):
                args, settings = args[:most], dict(zip(names, args[most:]))
            else:
                args, settings = bind(op, args, settings)
        for a in args:
            if (interpret := interpreter_of(type(a))) is not None:
                return interpret(op, args, settings)
        return op.kernel(*args, **settings)

    update_wrapper(op, kernel)
    op.plain = op.kernel = kernel  # NumPy's arrays always get the plain one
    op.rules, op.name, op.infer = vjp, kernel.__name__, None
    op.aliases, op.same_dtype, op.visible = aliases, same_dtype, None
    op.inputs, op.outputs = None, None  # which arrays, how many outputs: known before a call
    op.starts = False  # whether gradients begin here even if nothing comes from above, as at a loss
    op.choices = {}  # setting -> what it may be: a graph refuses others when it is written
    read_signature(op)
    most, known, names = op.most, op.known, op.settings
    op.vjp = partial(attach, op, "rules")  # @multiply.vjp
    op.shapes = partial(attach, op, "infer")  # @FullyConnected.shapes
    for name in (op.name, *aliases) if listed else ():
        operators[name] = op
    return op


def into(out, y):
    """`y`, written into the array `out` if there is one: `x.sum(out=s)`, `np.argmax(x)`;
    several arrays into a list of arrays.
    """
    if out is None:
        return y
    for o, part in zip(*([a] if not isinstance(a, list | tuple) else a for a in (out, y))):
        o[...] = part
    return out


def attach(op, attribute, function):
    """Set an attribute of `op`, as a decorator."""
    setattr(op, attribute, function)
    return function


# --- Arrays before the slash, settings after ------------------------------------------------------


def read_signature(op):
    """Note which of a kernel's parameters are arrays, and the defaults of its settings."""
    arrays, settings = [], []
    for p in inspect.signature(op.kernel).parameters.values():
        (arrays if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) else settings).append(p)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in arrays)
    op.arrays = [p.name for p in arrays]
    op.required = [
        p.name for p in arrays if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
    ]
    op.settings = [p.name for p in settings]
    op.defaults = {p.name: p.default for p in settings if p.default is not p.empty}
    op.known = frozenset(op.settings)
    op.most = sys.maxsize if variadic else len(arrays)  # of arrays in a call


def bind(op, args, settings):
    """Move arrays given by keyword and settings given by position to where they belong."""
    if len(args) > op.most:
        extra, args = args[op.most :], args[: op.most]
        if len(extra) > len(op.settings) or not settings.keys().isdisjoint(
            op.settings[: len(extra)]
        ):
            raise MXNetError(f"{op.name} takes {signature(op)}: too many positional arguments")
        settings = {**dict(zip(op.settings, extra)), **settings}
    if op.most < sys.maxsize and not settings.keys().isdisjoint(op.arrays):
        settings = dict(settings)
        args += tuple(settings.pop(name, None) for name in op.arrays[len(args) :])
        while args and args[-1] is None and len(args) > len(op.required):
            args = args[:-1]
    if op.most == sys.maxsize:
        settings = dict(settings)
        args += tuple(settings.pop(name) for name in called_arrays(op, settings))
    unknown = settings.keys() - op.known
    if unknown:
        for a in args:  # some kinds of array take more, such as the name of a node
            more = getattr(interpreters.get(type(a)), "more", None)
            unknown = {n for n in unknown if more is None or (n not in more and n[:2] != "__")}
    if unknown:
        told = f"{op.name} takes {signature(op)}: it has no argument {', '.join(sorted(unknown))}"
        if op.settings or op.most == sys.maxsize:
            raise MXNetError(told)
        refuse(told, "leaves it out")  # MXNet's operators without settings take any, unread
        settings = {name: value for name, value in settings.items() if name not in unknown}
    return args, settings


def called_arrays(op, settings):
    """The keywords that are arrays of an operator of any number: its own names, or `arg0`, `arg1` …"""
    order = [*op.arrays, *(op.inputs(**settings) if op.inputs else ())]
    found = [
        n for n in settings if n not in op.known and (n in order or re.fullmatch(r"arg\d+", n))
    ]
    return sorted(found, key=lambda n: order.index(n) if n in order else len(order))


def signature(op):
    """The signature of an operator as its reader would write it."""
    return f"{op.name}{inspect.signature(op.kernel)}"


# --- Errors that name the call --------------------------------------------------------------------


def describe(op, args, settings):
    """The call as a reader would write it, with types and shapes in place of numbers."""
    names = op.arrays if op.most < sys.maxsize else [f"{op.arrays[0]}{i}" for i in range(len(args))]
    arrays = [f"{name}: {summary(a)}" for name, a in zip(names, args) if a is not None]
    given = [
        f"{k}={v!r}" for k, v in settings.items() if k not in op.defaults or v is not op.defaults[k]
    ]
    return f"{op.name}({', '.join(arrays + given)})"


def summary(a):
    """An array as `float32[2, 3]`, anything else as it prints."""
    return f"{a.dtype}{list(a.shape)}" if hasattr(a, "shape") else repr(a)


class BadType(MXNetError, TypeError):
    """A call with something of a wrong type: the error of MXNet and that of Python in one."""


class BadValue(MXNetError, ValueError):
    """A call with a value that does not fit."""


class BadIndex(MXNetError, IndexError):
    """A call with an index out of range."""


KINDS = {TypeError: BadType, ValueError: BadValue, IndexError: BadIndex}


def failure(error, op, args, settings):
    """The error to raise when a kernel has raised `error`: what was called, what came, what to do.

    It is an MXNetError, and of Python's kind as well: MXNet raises now the one, now the other.
    """
    if isinstance(error, MXNetError):
        return type(error)(f"in {describe(op, args, settings)}: {error}")
    if isinstance(error, TypeError) and (apart := living_apart(args)):
        return BadType(f"in {describe(op, args, settings)}: {apart}")
    if isinstance(error, TypeError | ValueError | IndexError | OverflowError | AttributeError):
        advice = inspect.getdoc(op) or ""
        kind = next((KINDS[k] for k in KINDS if isinstance(error, k)), MXNetError)
        return kind(f"in {describe(op, args, settings)}: {error}\n{op.name}: {advice}")
    error.add_note(f"in {describe(op, args, settings)}")
    return error


def living_apart(args):
    """What to say of arrays of which some are in RAM and some on a GPU; None if there are none."""
    where = [
        "the CPU" if hasattr(a, "ctypes") else "a GPU" if hasattr(a, "get") else None for a in args
    ]
    if not {"the CPU", "a GPU"} <= {*where}:
        return None
    told = ", ".join(f"number {i} on {at}" for i, at in enumerate(where, 1) if at)
    return f"all arrays of a call live on one context; here {told}. Bring them there: as_in_context"
