"""A Symbol is a value still to be computed: an expression that is remembered instead of evaluated."""

# Written from chapters/20_symbols.ipynb, chapters/35_pictures.ipynb: edit the chapter, then run `minigluon export`.

import importlib
from itertools import count

import numpy as np

from minigluon import attribute
from minigluon.base import MXNetError, NotImplementedForSymbol
from minigluon.name import current as current_manager
from minigluon.namespace import parsed, python_number
from minigluon.ndarray.ndarray import ArgumentError
from minigluon.op import Operand, bind, interpreters, operators, signature

__all__ = [
    "Group",
    "INFIX",
    "LIMITS",
    "NEEDED",
    "Node",
    "Symbol",
    "TYPE_CODES",
    "Variable",
    "attributes",
    "clock",
    "compose",
    "get_symbol",
    "hint_of",
    "in_order",
    "is_variable",
    "moved",
    "no_such",
    "output_names",
    "plain",
    "recorded",
    "refuse",
    "require_choices",
    "require_limits",
    "require_symbols",
    "states_of",
    "substituted",
    "text",
    "told",
    "var",
    "wanted",
    "within",
    "written_again",
]


# --- Nodes ----------------------------------------------------------------------------------------

clock = count()  # numbers nodes as they are made


class Node:
    """A call still to be made, `op(*inputs, **settings)`; a variable if `op` is None.

    Each input is a pair (node, number of its output), a number, or None. `attrs` are texts for
    others, `seen` is for who asks for its shapes again and again.
    """

    __slots__ = ("attrs", "called", "inputs", "name", "op", "outputs", "seen", "settings", "time")

    def __init__(self, name, op=None, inputs=(), settings=None, attrs=None, called=None):
        self.name, self.op, self.inputs = name, op, list(inputs)
        self.settings, self.attrs, self.seen = settings or {}, attrs or {}, {}
        self.called = called or (op and op.name)
        self.outputs, self.time = output_names(self), next(clock)

    def __reduce__(self):
        raise TypeError("a node is not pickled: pickle its Symbol")


def output_names(node):
    """What the outputs of a node are called: `x` of a variable, else `f_output` or `f_output0` …"""
    if node.op is None:
        return [node.name]
    found = node.op.outputs
    if callable(found):
        found = found(len(node.inputs), **{**node.op.defaults, **node.settings})
    found = node.op.visible or 1 if found is None else found
    if isinstance(found, int):
        found = ["output"] if found == 1 else [f"output{i}" for i in range(found)]
    return [f"{node.name}_{output}" for output in found]


def in_order(entries):
    """All nodes that `entries` need, each after its inputs: depth first, the first input first."""
    found, seen, stack = [], set(), [(node, False) for node, _ in reversed(entries)]
    while stack:
        node, visited = stack.pop()
        if visited:
            found.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a[0], False) for a in reversed(node.inputs) if type(a) is tuple)
    return found


# --- The Symbol -----------------------------------------------------------------------------------


class Symbol(Operand):
    """Values still to be computed: outputs of nodes, `_entries`, pairs (node, number of the output)."""

    __slots__ = ("__weakref__", "_entries")
    __array_priority__ = 1000.0
    __hash__ = object.__hash__

    def __init__(self, entries):
        self._entries = tuple(entries)

    @property
    def name(self):
        """The name of its node; None for a group of several."""
        nodes = {node for node, _ in self._entries}
        return nodes.pop().name if len(nodes) == 1 else None

    def __repr__(self):
        if self.name is None:
            return f"<{type(self).__name__} group [{', '.join(s.name for s in self)}]>"
        return f"<{type(self).__name__} {self.name}>"

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        return (Symbol([entry]) for entry in self._entries)

    def __getitem__(self, index):
        """Output number `index`, or the one that is called so, or a slice of them."""
        if isinstance(index, str):
            matches = [i for i, n in enumerate(self.list_outputs()) if n == index]
            if len(matches) != 1:
                problem = (
                    "There are multiple outputs with"
                    if matches
                    else "Cannot find output that matches"
                )
                raise ValueError(
                    f'{problem} name "{index}": there are {", ".join(self.list_outputs())}'
                )
            index = matches[0]
        if isinstance(index, slice):
            return Symbol(self._entries[index])
        if not isinstance(index, int):
            raise TypeError(
                f"Symbol only support integer index to fetch i-th output, not {index!r}: to take a part "
                "of the array itself, use slice_axis or slice"
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r} has {len(self)} outputs, there is no number {index}")
        return Symbol([self._entries[index]])

    # --- The Symbol -------------------------------------------------------------------------------

    def _variables(self):
        """The variables that are needed: (arguments, auxiliary states)."""
        nodes = in_order(self._entries)
        states = {n for node in nodes for n in states_of(node)}
        variables = [node for node in nodes if node.op is None]
        return [v for v in variables if v not in states], [v for v in variables if v in states]

    def list_arguments(self):
        """Names of the variables, in the order in which they are needed."""
        return [node.name for node in self._variables()[0]]

    def list_auxiliary_states(self):
        """Names of the variables that operators change by themselves."""
        return [node.name for node in self._variables()[1]]

    def list_inputs(self):
        """Names of all variables, arguments and auxiliary states."""
        return [node.name for node in in_order(self._entries) if node.op is None]

    def list_outputs(self):
        """Names of the outputs."""
        return [node.outputs[i] for node, i in self._entries]

    def get_internals(self):
        """The outputs of all nodes, in order, as one group."""
        nodes = in_order(self._entries)
        return Symbol([(node, i) for node in nodes for i in range(len(node.outputs))])

    def get_children(self):
        """What the nodes of this Symbol take as inputs, as one group; None for a variable."""
        nodes = dict.fromkeys(node for node, _ in self._entries)
        found = [a for node in nodes for a in node.inputs if type(a) is tuple]
        return Symbol(found) if found else None

    def _gen_atomic_symbol(self):
        """The operator of this Symbol with the same settings on new variables."""
        (node, _), *_ = self._entries
        return compose(node.op, [], dict(node.settings))

    def attr(self, key):
        """The attribute or setting `key` of its node as a text, also its `name`;
        None if there is none.
        """
        found = self.list_attr().get(key)
        return self.name if found is None and key == "name" else found

    def list_attr(self, recursive=False):
        """Attributes and settings of its node, as texts."""
        if recursive:
            raise DeprecationWarning("Symbol.list_attr with recursive=True: use attr_dict instead")
        return attributes(self._entries[0][0]) if self.name is not None else {}

    def attr_dict(self):
        """{name: attributes} of all nodes that have some."""
        found = {node.name: attributes(node) for node in in_order(self._entries)}
        return {name: attrs for name, attrs in found.items() if attrs}

    def _set_attr(self, **kwargs):
        """Give its node further attributes, which are texts."""
        for key, value in kwargs.items():
            if not isinstance(value, str):
                raise ValueError(f"Set Attr only accepts string values: {key}={value!r}")
            self._entries[0][0].attrs[attribute.hidden(key)] = value

    # --- Putting graphs together ------------------------------------------------------------------

    def __call__(self, *args, name=None, **kwargs):
        """The graph with Symbols in the place of its variables, by position or by name.

        `name` is that of the node of its output.
        """
        if args and kwargs:
            raise TypeError("Symbols come by position or by name, not in both ways in one call")
        variables = {node.name: node for node in in_order(self._entries) if node.op is None}
        given = {**dict(zip(variables, args)), **kwargs}
        if len(args) > len(variables) or not given.keys() <= variables.keys():
            raise MXNetError(
                f"{self!r} has the variables {', '.join(variables)}, not {', '.join(map(str, given))}"
            )
        if not all(isinstance(s, Symbol) and len(s) == 1 for s in given.values()):
            raise TypeError("Compose expect Symbol as arguments, each with one output")
        made = substituted(self._entries, {variables[k]: s._entries[0] for k, s in given.items()})
        if name is not None and len(made) == 1 and made[0][0].op is not None:
            made[0][0].name = name
            made[0][0].outputs = output_names(made[0][0])
        return Symbol(made)

    def __copy__(self):
        return Symbol(self._entries)

    def __deepcopy__(self, memo):
        return Symbol(substituted(self._entries, {}))

    # --- Tables for blocks ------------------------------------------------------------------------

    def _repr_svg_(self):
        """The graph as a drawing, for JupyterLab; None where there are too many boxes for one."""
        return importlib.import_module("minigluon.visualization").svg(self)


def states_of(node):
    """The variables among the inputs of a node that the operator changes by itself."""
    names = getattr(node.op, "states", ())
    pairs = zip(node.op.arrays, node.inputs) if names else ()
    return [a[0] for array, a in pairs if array in names and type(a) is tuple and a[0].op is None]


def text(value):
    """A setting as MXNet writes it: `(2, 3)`, `[2, 3]`, `True`, `float32`."""
    if isinstance(value, type | np.dtype):
        return np.dtype(value).name
    if isinstance(value, list | tuple):
        return str(type(value)(python_number(v) for v in value))
    return str(value)


def plain(value):
    """A setting as Python writes it: a text is read, NumPy's numbers become Python's."""
    if isinstance(value, str):
        return parsed(value)
    if isinstance(value, tuple | list):
        return type(value)(python_number(v) for v in value)
    return python_number(value)


def attributes(node):
    """Settings and attributes of a node as texts, MXNet's own ones under both of their forms."""
    found = {key: text(value) for key, value in node.settings.items()} | node.attrs
    for number in node.inputs if node.op and len(node.inputs) == 2 else ():
        if not isinstance(number, tuple) and number is not None:  # in `x * 2` MXNet has a setting
            found["scalar"] = str(number)
    for key in attribute.HIDDEN:
        if f"__{key}__" in found:
            found[key] = found[f"__{key}__"]
    return found


# --- Making symbols -------------------------------------------------------------------------------

TYPE_CODES = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]
TYPE_CODES += ["int16", "uint16", "uint32", "uint64", "bfloat16"]


def var(
    name,
    attr=None,
    shape=None,
    lr_mult=None,
    wd_mult=None,
    dtype=None,
    init=None,
    stype=None,
    **kwargs,
):
    """A variable: an input of the graph. Sizes of `shape` that are unknown are 0.

    Further attributes begin and end with double underscores.
    """
    if not isinstance(name, str):
        raise TypeError(f"Expect a string for variable `name`, not {name!r}")
    for key in kwargs:
        if not (key.startswith("__") and key.endswith("__")):
            raise ValueError(
                f"Attribute name={key} is not supported. Additional attributes must start and end "
                "with double underscores, e.g. __yourattr__"
            )
    if init is not None and not isinstance(init, str):
        init = init.dumps()
    known = {
        "shape": None if shape is None else text(tuple(np.atleast_1d(shape).tolist())),
        "lr_mult": lr_mult,
        "wd_mult": wd_mult,
        "dtype": None if dtype is None else TYPE_CODES.index(np.dtype(dtype).name),
        "init": init,
        "storage_type": None if stype is None else {"default": 0, "row_sparse": 1, "csr": 2}[stype],
    }
    for key, value in (attr or {}).items():
        if not isinstance(value, str):
            raise ValueError(f"Set Attr only accepts string values: {key}={value!r}")
    attrs = attribute.current().get(attr)
    attrs |= {f"__{key}__": str(value) for key, value in known.items() if value is not None}
    attrs |= {key: str(value) for key, value in kwargs.items()}
    return Symbol([(Node(name, attrs=attrs), 0)])


Variable = var


def Group(symbols, create_fn=Symbol):
    """Several Symbols as one that has all their outputs."""
    symbols = list(symbols)
    if not symbols or not all(isinstance(s, Symbol) for s in symbols):
        raise TypeError("Expected a list of symbols as input")
    return create_fn([entry for s in symbols for entry in s._entries])


INFIX = {  # operator -> what MXNet calls it: between arrays, with a number at the right, at the left
    "add": ("_plus", "_plusscalar", "_plusscalar"),
    "subtract": ("_minus", "_minusscalar", "_rminusscalar"),
    "multiply": ("_mul", "_mulscalar", "_mulscalar"),
    "divide": ("_div", "_divscalar", "_rdivscalar"),
    "modulo": ("_mod", "_modscalar", "_rmodscalar"),
    "power": ("_power", "_powerscalar", "_rpower_scalar"),
    "maximum": ("_maximum", "_maximumscalar", "_maximumscalar"),
    "minimum": ("_minimum", "_minimumscalar", "_minimumscalar"),
    "hypot": ("_hypot", "_hypotscalar", "_hypotscalar"),
    "equal": ("_equal", "_equal_scalar", "_equal_scalar"),
    "not_equal": ("_not_equal", "_not_equal_scalar", "_not_equal_scalar"),
    "greater": ("_greater", "_greater_scalar", "_lesser_scalar"),
    "greater_equal": ("_greater_equal", "_greater_equal_scalar", "_lesser_equal_scalar"),
    "lesser": ("_lesser", "_lesser_scalar", "_greater_scalar"),
    "lesser_equal": ("_lesser_equal", "_lesser_equal_scalar", "_greater_equal_scalar"),
}


def hint_of(op, args, called):
    """What the name of a call's node begins with."""
    if op.name in INFIX and called in (None, op.name):
        numbers = [not isinstance(a, Symbol) for a in args]
        return INFIX[op.name][numbers.index(True) and 1 or 2 if True in numbers else 0]
    return "_split_v2" if called == "split_v2" else (called or op.name).lower()


def compose(op, args, settings, called=None, name=None, attr=None):
    """The Symbol of a call. Arrays that are missing become variables, named after the call.

    Among the settings may stand `name`, `attr` and attributes such as `lr_mult`.
    """
    args, settings = bind(op, tuple(args), settings)
    kind = next((type(a) for a in args if isinstance(a, Symbol) and type(a) is not Symbol), Symbol)
    if kind is not Symbol and (made := kind._instead(op, args, settings)) is not None:
        return made
    if not settings.keys() <= op.known:
        notes = {k: settings[k] for k in settings if k not in op.known}
        settings = {k: v for k, v in settings.items() if k in op.known}
        name, attr = notes.pop("name", name), {**(notes.pop("attr", None) or {}), **(attr or {})}
        attr |= {key: str(value) for key, value in notes.items()}
    settings = {k: plain(v) for k, v in settings.items()}
    require_symbols(op, args)
    require_choices(op, settings)
    require_limits(op, settings, called)
    missing = [s for s in op.settings if s not in op.defaults and s not in settings]
    if missing:
        raise MXNetError(f"{op.name} takes {signature(op)}: {', '.join(missing)} is not given")
    name = current_manager().get(name, hint_of(op, args, called))
    attrs = {key: str(value) for key, value in attribute.current().get(attr).items()}
    inputs = [a._entries[0] if isinstance(a, Symbol) else plain(a) for a in args]
    states = getattr(op, "states", ())  # with their initializers, where the operator knows them
    initial = getattr(op, "initial", {}) | (states if isinstance(states, dict) else {})
    for i, array in enumerate(op.arrays if op.most == len(op.arrays) else wanted(op, settings)):
        if (i >= len(inputs) or inputs[i] is None) and array in wanted(op, settings):
            inputs += [None] * (i + 1 - len(inputs))
            notes = {key: text(value) for key, value in settings.items()} | attrs
            notes |= {"__init__": initial[array]} if array in initial else {}
            inputs[i] = (Node(f"{name}_{array}", attrs=notes), 0)
        elif array in initial and i < len(inputs) and is_variable(inputs[i]):
            inputs[i][0].attrs.setdefault("__init__", initial[array])  # one that was given, too
    node = Node(name, op, inputs, settings, attrs, called)
    return kind([(node, i) for i in range(len(node.outputs))])


def is_variable(a):
    """Whether an input of a call is a variable."""
    return type(a) is tuple and a[0].op is None


def wanted(op, settings):
    """Names of the arrays that a call needs: the required ones, or what the operator says."""
    return op.inputs(**{**op.defaults, **settings}) if op.inputs else op.required


def require_choices(op, settings):
    """Refuse settings that the operator cannot mean: the graph would fail much later.

    Those are none of its choices, or a text that is no number where the default is one.
    """
    for name, value in settings.items():
        if isinstance(value, str) and isinstance(op.defaults.get(name), int | float):
            raise MXNetError(f"{op.name}: {name} is {value!r}: it must be a number")
    for name in op.choices.keys() & settings.keys():
        if settings[name] not in op.choices[name]:
            given, choices = settings[name], ", ".join(map(repr, op.choices[name]))
            raise MXNetError(f"{op.name}: {name} is {given!r}: it must be one of {choices}")


# operator -> {setting: the least whole number, of a tuple each; bounds; or all that it may be}
LIMITS = {
    "Convolution": dict.fromkeys(("kernel", "stride", "dilate", "num_filter", "num_group"), 1),
    "Deconvolution": dict.fromkeys(("kernel", "stride", "dilate", "num_filter", "num_group"), 1),
    "Pooling": {"kernel": 1, "stride": 1},
    "FullyConnected": {"num_hidden": 1},
    "Embedding": {"input_dim": 1, "output_dim": 1},
    "UpSampling": {"scale": 1},
    "ROIPooling": {"pooled_size": 1},
    "RNN": {"state_size": 1, "num_layers": 1, "mode": {"gru", "lstm", "rnn_relu", "rnn_tanh"}},
    "pad": {"mode": {"constant", "edge", "reflect"}},
    "split": {"num_outputs": 1},
    "Dropout": {"p": (0, 1)},
}
NEEDED = {  # operator -> what a reader must say
    "Convolution": ("kernel", "num_filter"),
    "Deconvolution": ("kernel", "num_filter"),
    "Pooling": ("kernel",),
    "FullyConnected": ("num_hidden",),
    "Embedding": ("input_dim", "output_dim"),
}


def require_limits(op, settings, called):
    """Refuse sizes out of range, and in what is `called` by a reader sizes that are not given."""
    for name, limit in LIMITS.get(op.name, {}).items():
        given = settings.get(name)
        for value in given if isinstance(given, list | tuple) else [given]:
            if value is not None and not within(value, limit):
                raise MXNetError(f"{op.name}: {name} is {given!r}: it must be {told(limit)}")
    needed = NEEDED.get(op.name, ()) if called and not settings.get("global_pool") else ()
    for name in needed:
        if settings.get(name) in (None, ()):
            raise MXNetError(f"{op.name} takes {signature(op)}: {name} is not given")


def within(value, limit):
    """Whether a number, or a text, is within a limit."""
    if isinstance(limit, set):
        return value in limit
    low, high, kind = (limit, np.inf, int) if type(limit) is int else (*limit, int | float)
    return isinstance(value, kind | np.number) and low <= value <= high


def told(limit):
    """A limit in words."""
    if isinstance(limit, set):
        return f"one of {', '.join(map(repr, sorted(limit)))}"
    return (
        f"whole, and at least {limit}" if type(limit) is int else f"from {limit[0]} to {limit[1]}"
    )


def require_symbols(op, args):
    """Refuse what is neither a Symbol with one output nor a number."""
    for i, a in enumerate(args):
        array = op.arrays[min(i, len(op.arrays) - 1)]
        if isinstance(a, Symbol):
            if len(a) != 1:
                raise MXNetError(
                    f"{op.name}: argument {array} is {a!r} with {len(a)} outputs: pick one, as in s[0]"
                )
        elif a is not None and not isinstance(a, int | float | np.number):
            raise ArgumentError(
                f"{op.name}: Argument {array} must be Symbol instances, but got {type(a).__name__}"
            )


compose.more = {"name", "attr", *attribute.HIDDEN}  # what a call may say beyond its settings
interpreters[Symbol] = compose


# --- Putting graphs together ----------------------------------------------------------------------


def substituted(entries, replacement):
    """The same graph with variables replaced: {node of a variable: entry}."""
    made = dict(replacement)
    for node in in_order(entries):
        if node not in made:
            inputs = [moved(a, made) for a in node.inputs]
            new = Node(node.name, node.op, inputs, node.settings, dict(node.attrs), node.called)
            made[node] = (new, None)
    return [moved(entry, made) for entry in entries]


def moved(entry, made):
    """An input of a node, in the new graph."""
    if type(entry) is not tuple:
        return entry
    node, i = made[entry[0]]
    return (node, entry[1] if i is None else i)


# --- From a record to a graph ---------------------------------------------------------------------


def get_symbol(x):
    """The recorded computation of the NDArray `x` as a Symbol; its variables are called var0, var1, …

    `mx.autograd.get_symbol`. Raises MXNetError for what a backward pass has used up.
    """
    made, numbers = {}, count()

    def variable(source):
        if source not in made:
            made[source] = var(f"var{next(numbers)}")
        return made[source]

    for note in recorded(x._node):
        made[note] = written_again(note, made, variable)
    end = id(x) if x._node is None else x._node
    return made[end] if end in made else variable(end)


def recorded(note):
    """The notes of all calls that led to a note, oldest first."""
    found, stack = set(), [note]
    while stack:
        note = stack.pop()
        if note is not None and note.parents and note not in found:
            if note.used:
                raise MXNetError(
                    "get_symbol: a backward pass has used the record up: retain_graph=True"
                )
            found.add(note)
            stack += note.parents
    return sorted(found, key=lambda note: note.time)


def written_again(note, made, variable):
    """The Symbol of a recorded call, or of one output of it."""
    if not hasattr(note, "op"):
        return made[note.parents[0]][note.index]
    inputs = []
    for parent, raw in zip(note.parents, note.args):
        if parent is None:
            inputs.append(variable(id(raw)) if hasattr(raw, "shape") else raw)
        else:
            inputs.append(made[parent] if parent in made else variable(parent))
    inside = getattr(note.op, "inside", None)
    if inside is None:
        return compose(note.op, inputs, dict(note.settings))
    known = {node: made._entries[0] for (node, _), made in zip(inside[0], inputs)}
    return Symbol(substituted(inside[1], known))


# --- How it fails: what a Symbol refuses ----------------------------------------------------------


def refuse(name):
    """The method for something that only arrays can do."""

    def method(self, *_, **__):
        raise NotImplementedForSymbol(
            f"Function {name} is not implemented for Symbol and only available in NDArray: {self!r} "
            "stands for numbers that are not computed yet"
        )

    return method


for name in (
    ["asnumpy", "asscalar", "item", "tolist", "copyto", "as_in_context", "wait_to_read", "backward"]
    + [
        "attach_grad",
        "copy",
        "detach",
        "gradient",
        "__bool__",
        "__float__",
        "__int__",
        "__index__",
        "__setitem__",
    ]
    + ["__iadd__", "__isub__", "__imul__", "__itruediv__", "__imod__", "__ipow__"]
):
    setattr(Symbol, name, refuse(name))
Symbol.__neg__ = lambda self: operators["multiply"](self, -1.0)  # as MXNet writes it down
Symbol.astype = lambda self, dtype, copy=True: operators["cast"](self, dtype=dtype)
Symbol.as_nd_ndarray = lambda self: self
Symbol.as_np_ndarray = lambda self: importlib.import_module("minigluon.symbol.numpy")._Symbol(
    self._entries
)  # a later chapter's


def no_such(name):
    """The property for an attribute that only arrays have."""

    def get(self):
        raise AttributeError(
            f"'Symbol' object has no attribute '{name}': a graph is written before the first batch is "
            "seen. Use operators that do not ask, such as reshape(shape=(0, -1)), reshape_like or "
            "slice_like, or leave the block unhybridized"
        )

    return property(get)


for name in ("shape", "dtype", "size", "ndim", "context", "ctx", "grad", "T", "stype"):
    setattr(Symbol, name, no_such(name))
