"""One table of operators, seen through the eyes of one kind of array, and made when somebody looks."""

# Written from chapters/19_namespace.ipynb: edit the chapter, then run `minigluon export`.

import ast
import builtins
import difflib
import importlib
import inspect
import re
import sys
from contextlib import suppress
from functools import update_wrapper
from importlib.util import find_spec
from operator import add, mod, mul, sub, truediv
from pkgutil import iter_modules
from textwrap import indent
from types import FunctionType

import numpy

from minigluon import ops
from minigluon.base import MXNetError
from minigluon.op import bind, failure, interpreters, operators, signature

__all__ = [
    "ANSWER",
    "FACE",
    "FACE_OF_MANY",
    "INTERNAL",
    "NUMBERED",
    "NUMBERS",
    "NUMPY",
    "Namespace",
    "NullType",
    "ONE",
    "PLAIN",
    "REVERSIBLE",
    "SCALAR",
    "SEVERAL",
    "answer",
    "choosing",
    "chosen",
    "compiled_later",
    "first_call",
    "in_general",
    "of_many",
    "of_one_shape",
    "parsed",
    "placed",
    "python_number",
    "require_one_shape",
    "seen_by_ndarray",
    "told_in_words",
    "up_to_the_last",
    "with_numbers",
    "written",
    "written_of_few",
    "written_of_many",
    "written_out",
    "written_test",
]


# --- How an operator is seen ----------------------------------------------------------------------


def parsed(value):
    """A setting from its text: a number, a tuple, True, None, or the text itself."""
    if value.lower() in ("true", "false", "none", "inf", "-inf", "nan"):
        constants = {"true": True, "false": False, "none": None}
        return constants[value.lower()] if value.lower() in constants else float(value)
    if re.match(r"[-+.\d(\[]", value) and len(value) < 100_000:
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(re.sub(r"(?<=\d)L\b", "", value))  # Python 2 wrote 3L
    return value


class NullType:
    """What MXNet's functions have for a setting that was not given."""

    def __repr__(self):
        return "_Null"


_Null = NullType()


NUMBERS = frozenset({numpy.ndarray, *numpy.sctypeDict.values()})  # the types of NumPy's numbers


def python_number(value):
    """A number of NumPy's as Python's, a row of whole ones as a tuple; anything else as it is."""
    if isinstance(value, numpy.generic) or (type(value) is numpy.ndarray and value.ndim == 0):
        return value.item()
    row = type(value) is numpy.ndarray and value.ndim == 1 and value.dtype.kind in "iu"
    return tuple(value.tolist()) if row else value


def told_in_words(op, settings):
    """The settings of a call as MXNet reads them: texts read, NumPy's numbers as Python's;
    MXNetError for a text that is none.
    """
    found = {name: python_number(value) for name, value in settings.items() if value is not _Null}
    for name, value in [*found.items()]:
        usual = op.defaults.get(name)
        if type(value) is not str or type(usual) is str:
            continue
        found[name] = new = parsed(value)
        if new is value and type(usual) in (bool, int, float):
            raise MXNetError(
                f"{op.name}: Invalid Parameter format for {name} expect {type(usual).__name__} "
                f"but value={value!r}"
            )
    return found


def seen_by_ndarray(op):
    """The function `mx.nd.f` of an operator."""
    if hasattr(op, "revealing"):  # a setting decides how many outputs are shown
        one, more = (seen_by_ndarray(o) for o in op.revealing)
        function = lambda *a, **s: (more if s.get("output_mean_var") else one)(*a, **s)  # noqa: E731
        return update_wrapper(function, op.kernel)
    function = in_general(op)
    kinds = {p.kind for p in inspect.signature(op.plain).parameters.values()}
    plainly = max(kinds, default=0) <= inspect.Parameter.POSITIONAL_OR_KEYWORD
    if {"out", "name"}.isdisjoint([*op.arrays, *op.settings]) and (
        (plainly and op.required[:1] == op.arrays[:1] != []) or of_many(op)
    ):
        function = compiled_later(op, function)
    return update_wrapper(function, op.kernel)


def of_many(op):
    """Whether an operator takes any number of arrays, and no other ones."""
    return op.most == sys.maxsize and len(op.arrays) == 1


def in_general(op):
    """The function of an operator for every way to call it."""
    from minigluon.ndarray.ndarray import ArgumentError  # its package imports this module

    interpreter_of, most, known, names = interpreters.get, op.most, op.known, op.settings
    unlike = {str, NullType, *NUMBERS}  # types of settings to be read first

    def function(*args, **settings):
        if settings:
            if len(args) > most or not known.issuperset(settings):
                out, _ = settings.pop("out", None), settings.pop("name", None)
                args, settings = bind(op, args, settings)
                if out is not None:
                    return written(out, function(*args, **settings))
            if not unlike.isdisjoint(map(type, settings.values())):
                settings = told_in_words(op, settings)
        elif len(args) > most:
            if len(args) <= most + len(names):  # such as nd.stack(x, 1): as `bind`, 0.4 µs sooner
                args, settings = args[:most], dict(zip(names, args[most:]))
            else:
                args, settings = bind(op, args, settings)
        for a in args:
            if (interpret := interpreter_of(type(a))) is not None:
                return interpret(op, args, settings)
        if op.name in PLAIN and len(args) == 2 and all(isinstance(a, int | float) for a in args):
            return PLAIN[op.name](*args)
        if not args:
            raise MXNetError(f"{op.name} takes {signature(op)}: it was given no array")
        given = ", ".join(type(a).__name__ for a in args)
        raise ArgumentError(
            f"{op.name}: Argument {op.arrays[0]} must have NDArray type, but got {given}"
        )

    return function


FACE = """
def function({parameters}, *_extra, out=None, name=None, **_more):
    if out is not None:
        return written(out, function({names}, {arguments}*_extra, **_more))
    if type({first}) is NDArray and not (_extra or _more){complete}{usual}:
        try:
            if type({first}._data) is ndarray and {fits}interpreters[NDArray] is remember:
{answer}
            return interpreters[NDArray](_op, {asked}, dict({settings}))
        except MXNetError:
            if told_in_words(_op, _given := dict({settings})) == _given:
                raise
    return _general(*placed(_op, ({names},)), *_extra, **chosen(_op, dict({settings})), **_more)
"""
ANSWER = """
try:
    _out = _kernel({given})
except Exception as _error:
    raise failure(_error, _op, {data}, dict({settings})) from _error
if recorders and _state.recording:
    return noted(_op, _out, {arrays}, dict({settings}))
"""
ONE = """if type(_out) is not ndarray:
    return several(_op, _out, {first}._ctx.results)
_y = new(NDArray)
_y._data, _y._ctx, _y._node = _out, {first}._ctx.results, None
return _y
"""
SEVERAL = """_found = []
for _o in _out:
    _y = new(NDArray)
    _y._data, _y._ctx, _y._node = _o if type(_o) is ndarray else numbered(_o), {first}._ctx.results, None
    _found.append(_y)
return _found
"""


FACE_OF_MANY = """
def function(*_args, {parameters}out=None, name=None, **_more):
    if out is not None:
        return written(out, function(*_args, {arguments}**_more))
    if _args and type(_args[0]) is NDArray and not _more{complete}{usual}:
        _raw, _dtype = [], _args[0]._data.dtype
        for _a in _args:
            if type(_a) is not NDArray or type(_data := _a._data) is not ndarray{same}:
                break
            _raw.append(_data)
        else:
            try:
                if interpreters[NDArray] is remember:
{answer}
            except MXNetError:
                if told_in_words(_op, _given := dict({settings})) == _given:
                    raise
    return _general(*_args, **chosen(_op, dict({settings})), **_more)
"""


def compiled_later(op, function):
    """`function` of an operator, which is written out and compiled at the first call."""
    found = FunctionType(first_call.__code__, {**globals(), "_op": op, "_general": function})
    found.__globals__["_found"] = found
    return found


def first_call(*args, **settings):
    """The code of a function that is not yet compiled; its globals are those of `compiled_later`."""
    scope = globals()
    found, op = scope["_found"], scope["_op"]
    found.source, names = written_out(op)
    scope |= names
    exec(compile(found.source, f"<mx.nd.{op.name}>", "exec"), scope)
    new = scope["function"]
    found.__code__, found.__defaults__, found.__kwdefaults__ = (
        new.__code__,
        new.__defaults__,
        new.__kwdefaults__,
    )
    return found(*args, **settings)


def written_out(op):
    """An operator's function, written out for the usual call, on NDArrays of one type.

    Its text and names.
    """
    from minigluon.autograd import noted, recorders, remember, state  # it imports this module
    from minigluon.ndarray.ndarray import NDArray, new, numbered, several

    many = of_many(op)
    arrays = [] if many else op.arrays
    defaults = dict.fromkeys([*arrays, *op.settings], _Null)
    defaults |= dict.fromkeys(arrays[len(op.required) :]) | op.defaults
    blanks = {
        "parameters": ", ".join(f"{n}=defaults[{n!r}]" for n in [*arrays, *op.settings]),
        "complete": "".join(
            f" and {n} is not _Null" for n in [*arrays[1:], *op.settings] if defaults[n] is _Null
        ),
        "usual": "".join(f" and ({t})" for n in op.settings if (t := written_test(n, defaults[n]))),
        "settings": ", ".join(f"{s}={s}" for s in op.settings),
    }
    text = written_of_many(op, blanks) if many else written_of_few(op, blanks)
    used = {"NDArray": NDArray, "new": new, "several": several, "recorders": recorders}
    used |= {
        "numbered": numbered,
        "remember": remember,
        "noted": noted,
        "_state": state,  # some operators have an array of the name `state`
        "failure": failure,
        "defaults": defaults,
        "ndarray": numpy.ndarray,
        "NUMBERS": NUMBERS,
    }
    usual = {f"_usual_{name}": value for name, value in op.defaults.items()}
    return text, used | usual | {"_kernel": op.plain}


def written_of_few(op, blanks):
    """The text of the function of an operator whose arrays have names."""
    first, *others = op.arrays
    optional = {*op.arrays[len(op.required) :]}

    def of_each(names, text, or_none="({0} is None or {1})"):
        return [
            or_none.format(n, text.format(n)) if n in optional else text.format(n) for n in names
        ]

    same = f" and {{0}}._data.dtype is {first}._data.dtype" if op.same_dtype else ""
    fits = of_each(others, f"type({{0}}) is NDArray{same}")
    data = ", ".join(of_each(op.arrays, "{}._data", "(None if {0} is None else {1})"))
    names = ", ".join(op.arrays)
    blanks |= {
        "first": first,
        "fits": "".join(f"{condition} and " for condition in fits),
        "given": ", ".join([data, *op.settings]),
        "data": f"[{data}]",
        "names": names,
        "arguments": "".join(f"{s}, " for s in op.settings),
        "arrays": up_to_the_last(op.arrays, len(op.required)),
        "asked": f"placed(_op, ({names},))" if optional else f"({names},)",
    }
    return FACE.format(**blanks, answer=answer(op, blanks, 16))


def answer(op, blanks, width):
    """The text that calls the kernel and makes NDArrays of what it gave,
    `width` columns from the left.
    """
    count = len(op.outputs) if isinstance(op.outputs, list) else op.outputs
    several = isinstance(count, int) and count > 1 and op.visible is None
    text = ANSWER + (SEVERAL if several else ONE)
    return indent(text.format(**blanks).strip(), " " * width)


def written_of_many(op, blanks):
    """The text of the function of an operator of any number of arrays."""
    told = [s for s in op.settings if s != "num_args"]  # which nobody tells, but files of graphs
    settings = "".join(f"{s}={s}, " for s in told)
    blanks |= {
        "parameters": blanks["parameters"] + ", " * bool(op.settings),
        "first": "_args[0]",
        "same": " or _data.dtype is not _dtype" if op.same_dtype else "",
        "usual": blanks["usual"] + " and num_args is None" * ("num_args" in op.settings),
        "given": f"*_raw, {settings}",
        "data": "_raw",
        "arguments": "".join(f"{s}={s}, " for s in op.settings),
        "arrays": "_args",
    }
    return FACE_OF_MANY.format(**blanks, answer=answer(op, blanks, 20))


def written_test(name, default):
    """The text of a test that a setting needs no reading; the likeliest case is asked for first."""
    if type(default) is bool:
        return f"{name} is True or {name} is False"
    if type(default) is str:
        return ""
    if default is _Null:
        likely = ""
    elif default is None:
        likely = f"{name} is None or "
    else:
        likely = f"{name} is _usual_{name} or type({name}) is {type(default).__name__} or "
    return f"{likely}type({name}) not in NUMBERS"


def up_to_the_last(arrays, required):
    """The text of a tuple of `arrays`, without those at the end that were not given,
    which may miss from number `required` on.
    """
    text = f"({', '.join(arrays[:required])},)"
    for i, last in enumerate(arrays[required:], required + 1):
        text = f"({', '.join(arrays[:i])},) if {last} is not None else {text}"
    return f"({text})"


def placed(op, arrays):
    """The arrays of a call up to the last that was given; None for one that is missing before it."""
    count, required = len(arrays), len(op.required)
    while count and (
        arrays[count - 1] is _Null or (arrays[count - 1] is None and count > required)
    ):
        count -= 1
    return [None if a is _Null else a for a in arrays[:count]]


def chosen(op, settings):
    """The settings of a call that are not left as they are by default."""
    default = op.defaults.get
    return {name: s for name, s in settings.items() if s is not default(name, _Null)}


def of_one_shape(name, function):
    """The function of two arrays under a name that promises one shape: it refuses to broadcast."""

    def strict(*args, **settings):
        arrays = [*args, *(settings[n] for n in ("lhs", "rhs") if n in settings)][:2]
        shapes = [a.shape for a in arrays if hasattr(a, "shape")]
        if len({*shapes}) > 1:
            raise MXNetError(
                f"{name}: lhs has shape {shapes[0]} and rhs {shapes[1]}: they must be equal; "
                f"broadcast_{name.removeprefix('elemwise_')} repeats what is missing"
            )
        if name == "elemwise_mul" and len(args) == 2:
            kinds = [getattr(a, "stype", "default") for a in args]
            if kinds[0] == "default" != kinds[1]:  # as sparse as the product with the sparse first
                args = args[::-1]
        return function(*args, **settings)

    strict.__name__ = strict.__qualname__ = name
    strict.__doc__ = function.__doc__
    return strict


def choosing(where):
    """The function `where` of arrays of one shape: only a condition may be shorter, one number a row."""
    from minigluon.ndarray.ndarray import NDArray  # its package imports this module

    def strict(*args, **settings):
        if len(args) == 3 and type(args[0]) is type(args[1]) is type(args[2]) is NDArray:
            a, b, c = args
            if a._data.shape == b._data.shape == c._data.shape:  # nearly always, and soon known
                return where(a, b, c, **settings)
        given = dict(zip(("condition", "x", "y"), args)) | settings
        require_one_shape(*[getattr(given.get(n), "shape", None) for n in ("condition", "x", "y")])
        return where(*args, **settings)

    return update_wrapper(strict, where)


def require_one_shape(condition, x, y):
    """Refuse shapes that `where` would have to broadcast; None is the shape of what has none yet."""
    if None not in (condition, x, y) and (x != y or condition not in (x, x[:1])):
        raise MXNetError(
            f"where: condition has shape {condition}, x {x} and y {y}: give x and y of one shape, and a "
            "condition of that shape or of one axis, its first"
        )


PLAIN = {  # of two numbers these functions make a number
    "add": add,
    "subtract": sub,
    "multiply": mul,
    "divide": truediv,
    "modulo": mod,
    "power": pow,
    "maximum": max,
    "minimum": min,
    "equal": lambda a, b: int(a == b),
    "not_equal": lambda a, b: int(a != b),
    "greater": lambda a, b: int(a > b),
    "greater_equal": lambda a, b: int(a >= b),
    "lesser": lambda a, b: int(a < b),
    "lesser_equal": lambda a, b: int(a <= b),
    "logical_and": lambda a, b: int(bool(a) and bool(b)),
    "logical_or": lambda a, b: int(bool(a) or bool(b)),
    "logical_xor": lambda a, b: int(bool(a) != bool(b)),
}


def written(out, y):
    """`y` written into `out`; a list of results into a list of arrays."""
    from minigluon.autograd import assign

    if not isinstance(y, list) and not isinstance(out, list | tuple):
        return assign(out, y)
    arrays, parts = (a if isinstance(a, list | tuple) else [a] for a in (out, y))
    if len(arrays) != len(parts):
        raise MXNetError(
            f"out has {len(arrays)} arrays for {len(parts)} outputs: give one for each"
        )
    for array, part in zip(arrays, parts):
        assign(array, part)
    return out


# --- Namespaces -----------------------------------------------------------------------------------

NUMPY = {"np": "minigluon.numpy", "npx": "minigluon.numpy_extension"}


class Namespace:
    """The attributes of module `name`: every operator, as `seen(op)` makes it, and some plain functions.

    With a `prefix` it shows the operators whose names begin so, without the prefix. `places` tells for
    each module which of its names are shown: {module: names}, or {module: {shown: its own name}}.
    """

    def __init__(self, name, seen, prefix="", places=None):
        self.name, self.seen, self.prefix, self.kept = name, seen, prefix, {}
        self.home = {
            n: (module, names[n] if isinstance(names, dict) else n)
            for module, names in (places or {}).items()
            for n in names
        }

    def find(self, name):
        """What the module shows as `name`, made on first use and kept: its `__getattr__`."""
        module = sys.modules[self.name]
        if name in self.kept:
            return self.kept[name]
        if name in NUMPY and not self.prefix:  # `F.np` in hybrid_forward
            return importlib.import_module(NUMPY[name])
        if name == "__all__":  # `from mx.nd import *` asks for it
            return self.public()
        if name.startswith("__") or (name not in operators and self.has_part(name)):
            return self.part(name)
        ops.load()
        if self.prefix + name in operators:
            op = operators[self.prefix + name]
            own = op.name.removeprefix(self.prefix)  # aliases share one function
            found = vars(module).get(own) or self.seen(op)
            found.__module__, found.__name__, found.__qualname__ = self.name, own, own
            self.keep(module, own, found)
            if self.seen is seen_by_ndarray and name.startswith("elemwise_"):
                found = of_one_shape(name, found)
            elif self.seen is seen_by_ndarray and name == "where":
                found = choosing(found)
        elif name in self.home:
            found = self.placed(name)
        else:
            raise AttributeError(self.unknown(name))
        self.keep(module, name, found)
        return found

    def keep(self, module, name, found):
        """Let the next look-up cost nothing; but a module with code
        of its own needs Python's `slice` and `sum`.
        """
        if hasattr(builtins, name) and not hasattr(module, "__path__"):
            self.kept[name] = found
        else:
            setattr(module, name, found)

    # --- Namespaces -------------------------------------------------------------------------------

    def placed(self, name):
        """A plain function, from the module where it is written."""
        module, own = self.home[name]
        return getattr(importlib.import_module(module), own)

    def has_part(self, name):
        """Whether the module is a package with a submodule of this name."""
        return (
            hasattr(sys.modules[self.name], "__path__")
            and find_spec(f"{self.name}.{name}") is not None
        )

    def part(self, name):
        """A submodule; AttributeError for the dunder names that Python asks for."""
        if name.startswith("__"):
            raise AttributeError(f"module {self.name!r} has no attribute {name!r}")
        return importlib.import_module(f"{self.name}.{name}")

    def shown(self):
        """The names of the operators and functions that the module shows."""
        ops.load()
        named = {n.removeprefix(self.prefix) for n in operators if n.startswith(self.prefix)}
        return named | self.home.keys()

    def fill(self):
        """Put all that the module shows into it, for programs that read its `__dict__`."""
        module = sys.modules[self.name]
        for name in self.shown():
            if hasattr(module, "__path__") or not hasattr(builtins, name):
                setattr(module, name, self.find(name))

    def names(self):
        """All that is there, sorted: the module's `__dir__`."""
        return sorted(self.shown() | vars(sys.modules[self.name]).keys())

    def public(self):
        """What `from module import *` brings, submodules too: the module's `__all__`."""
        parts = iter_modules(getattr(sys.modules[self.name], "__path__", ()))
        return sorted(n for n in self.shown() | {p.name for p in parts} if n[0] != "_")

    def unknown(self, name):
        """The message for a name that nothing has."""
        close = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"module {self.name!r} has no attribute {name!r}{hint}"


REVERSIBLE = {"minus": "subtract", "div": "divide", "mod": "modulo", "power": "power"}
NUMBERED = {
    "plus": "add",
    "mul": "multiply",
    "hypot": "hypot",
    **REVERSIBLE,
    **{name: name for name in PLAIN},
}
# name -> operator, from the left
SCALAR = {f"_{name}_scalar": (own, False) for name, own in NUMBERED.items()}
SCALAR |= {f"_r{name}_scalar": (own, True) for name, own in REVERSIBLE.items()}
INTERNAL = {"_copyto": "identity", "_split_v2": "split_v2", "_grad_add": "add"}
INTERNAL |= {"_add": "add", "_sub": "subtract", "_adamw_update": "contrib_adamw_update"}
INTERNAL |= {"_mp_adamw_update": "contrib_mp_adamw_update", "_CrossDeviceCopy": "identity"}
INTERNAL |= {f"_{name.title()}": own for name, own in NUMBERED.items()}  # of two arrays: _Plus, …
# the names of the first years: _PlusScalar, _RMinusScalar, …
for old, (own, left) in [*SCALAR.items()]:
    side, name = ("R", old[2:]) if left else ("", old[1:])
    SCALAR[f"_{side}{name.title().replace('_', '')}"] = own, left


def with_numbers(find):
    """`find` of a namespace, and MXNet's internal names for operators
    with a number among their arrays.
    """

    def look(name):
        if name not in SCALAR:
            if name.startswith("_random_pdf_"):
                name = name[1:]
            return find(INTERNAL.get(name, name))
        own, from_left = SCALAR[name]

        def call(data, scalar=1.0, is_int=True, name=None, out=None):
            scalar = parsed(scalar) if isinstance(scalar, str) else scalar
            args = (scalar, data) if from_left else (data, scalar)
            if hasattr(data, "list_outputs"):  # a symbol, whose call may have a name
                return operators[own](*args, name=name)
            y = operators[own](*args)
            return y if out is None else written(out, y)

        call.__name__ = call.__qualname__ = name
        call.__doc__ = f"`{own}` of an array and a number{', the number first' * from_left}."
        return call

    return look
