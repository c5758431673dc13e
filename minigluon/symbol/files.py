"""A graph is a program that is data: it can be run on arrays, stored as JSON, and read by MXNet."""

# Written from chapters/21_graphs.ipynb: edit the chapter, then run `minigluon export`.

import importlib
import json
import re

from minigluon import ops
from minigluon.base import MXNetError
from minigluon.ndarray.utils import replace_file
from minigluon.op import operators
from minigluon.symbol.symbol import (
    INFIX,
    TYPE_CODES,
    Node,
    Symbol,
    in_order,
    parsed,
    require_choices,
    require_limits,
    states_of,
    text,
)

__all__ = [
    "BETWEEN",
    "CANONICAL",
    "CASTS",
    "INNER",
    "LAWS",
    "NUMBERS",
    "ONLY_THERE",
    "READ",
    "READERS",
    "Symbol",
    "VERSION",
    "WITH_NUMBER",
    "as_json",
    "debug_lines",
    "debug_str",
    "entry_of",
    "fromjson",
    "listed",
    "load",
    "load_json",
    "named_after",
    "read_call",
    "read_node",
    "read_variable",
    "save",
    "spelled",
    "split_read",
    "split_settings",
    "tojson",
    "without_casts",
    "written_name",
]


# --- In a file ------------------------------------------------------------------------------------

VERSION = 10901
LAWS = ("uniform", "normal", "exponential", "gamma", "poisson", "negative_binomial", "randint")
LAWS += ("generalized_negative_binomial",)
BETWEEN = {
    "add": "elemwise_add",
    "subtract": "elemwise_sub",
    "multiply": "elemwise_mul",
    "divide": "elemwise_div",
} | {
    name: hints[0]
    for name, hints in INFIX.items()
    if name not in ("add", "subtract", "multiply", "divide", "negative")
}
WITH_NUMBER = {  # operator -> its names with a number at the right, at the left
    name: tuple(re.sub(r"(?<!_)scalar$", "_scalar", hint) for hint in hints[1:])
    for name, hints in INFIX.items()
}
CANONICAL = {  # names that MXNet writes for others
    "stop_gradient": "BlockGrad",
    "cast": "Cast",
    "concat": "Concat",
    "ElementWiseSum": "add_n",
    "flatten": "Flatten",
    "pad": "Pad",
    "reshape": "Reshape",
    "split": "SliceChannel",
    "swapaxes": "SwapAxis",
    "Softmax": "SoftmaxOutput",
    "identity": "_copy",
    "flip": "reverse",
    "sum_axis": "sum",
    "max_axis": "max",
    "min_axis": "min",
    "broadcast_axes": "broadcast_axis",
    "broadcast_plus": "broadcast_add",
    "broadcast_minus": "broadcast_sub",
    "crop": "slice",
    "cumsum": "_np_cumsum",
    "split_v2": "_split_v2",
    "choose_element_0index": "pick",
    "contrib_box_non_maximum_suppression": "_contrib_box_nms",
    "contrib_adamw_update": "_adamw_update",
    "contrib_mp_adamw_update": "_mp_adamw_update",
    **dict.fromkeys(("ctc_loss", "contrib_ctc_loss", "contrib_CTCLoss"), "CTCLoss"),
    **{f"random_{law}": f"_random_{law}" for law in LAWS},
    **{f"{law}_like": f"_random_{law}_like" for law in LAWS},
}
INNER = ("linalg_", "contrib_", "image_", "random_pdf_", "sample_", "shuffle", "sparse_retain")
INNER += ("ravel_multi_index", "unravel_index")  # names that have a `_` before them in a file


def written_name(node):
    """The name of a node's operator in a file, and its settings there."""
    if node.op.name in ("_foreach", "_while_loop", "_cond"):
        if node.op.stored is None:
            raise MXNetError(
                f"{node.name}: a loop that leaves a part of its data or a loop variable unused "
                "cannot be written to a "
                "file: let the body return it, or do without it"
            )
        return node.op.name, node.op.stored[0]
    numbers = [not isinstance(a, tuple) and a is not None for a in node.inputs]
    settings = {key: text(value) for key, value in node.settings.items()}
    if True in numbers:
        side = 0 if numbers.index(True) else 1
        if node.op.name not in WITH_NUMBER:
            raise MXNetError(
                f"{node.name}: {node.op.name} with a number among its arrays has no name in "
                "MXNet's files"
            )
        return WITH_NUMBER[node.op.name][side], {"scalar": str(node.inputs[1 - side])}
    if node.called == node.op.name and node.op.name in BETWEEN:
        return BETWEEN[node.op.name], settings
    if node.op.name == "split_v2":
        settings = split_settings(node.settings)
    if node.op.most > len(node.op.arrays):
        settings["num_args"] = str(len(node.inputs))
    if node.called in CANONICAL:
        return CANONICAL[node.called], settings
    return f"_{node.called}" if node.called.startswith(INNER) else node.called, settings


def split_settings(settings):
    """The settings of `split_v2` as MXNet keeps them."""
    where = settings["indices_or_sections"]
    equal = isinstance(where, int)
    return {
        "indices": "[]" if equal else str([0, *where]),
        "sections": str(where if equal else 0),
        "axis": str(settings.get("axis", 0)),
        "squeeze_axis": str(settings.get("squeeze_axis", False)),
    }


def spelled(entries):
    """The same graph, with operators that MXNet knows where one has a `spelling`."""
    if not any(hasattr(node.op, "spelling") for node in in_order(entries)):
        return entries
    made = {}

    def renewed(a):
        return made.get(a, a) if type(a) is tuple else a

    for node in in_order(entries):
        inputs = [renewed(a) for a in node.inputs]
        if hasattr(node.op, "spelling"):
            arrays = [Symbol([a]) for a in inputs]
            found = node.op.spelling(*arrays, **{**node.op.defaults, **node.settings})
            made[node, 0] = named_after(node, found._entries[0], {a[0] for a in inputs})
        elif inputs != node.inputs:
            new = Node(node.name, node.op, inputs, node.settings, node.attrs, node.called)
            made.update({(node, i): (new, i) for i in range(len(node.outputs))})
    return [renewed(e) for e in entries]


def named_after(node, entry, known):
    """`entry`, whose new nodes, those behind `known`, get the name of `node`,
    with that of their operator but for the last.
    """
    stack = [entry[0]]
    while stack:
        new = stack.pop()
        new.name = node.name if new is entry[0] else f"{node.name}_{new.op.name}"
        new.attrs = dict(node.attrs)
        stack += [a[0] for a in new.inputs if type(a) is tuple and a[0] not in known]
    return entry


CASTS = "amp_cast", "amp_multicast"


def without_casts(entries):
    """The same graph, whose nodes read what went into casts instead of what came out of them."""
    source, kept = {}, {}
    for node in in_order(entries):
        inputs = [source.get(a, a) for a in node.inputs]
        if inputs == node.inputs:
            new = node
        else:
            new = Node(node.name, node.op, inputs, node.settings, node.attrs, node.called)
        is_cast = node.op is not None and node.op.name in CASTS
        for i in range(len(node.outputs)):
            kept[node, i] = new, i
            source[node, i] = inputs[i] if is_cast else (new, i)
    return [kept[e] for e in entries]


def tojson(self, remove_amp_cast=True):
    """The graph as MXNet's JSON, a text."""
    entries = spelled(without_casts(self._entries) if remove_amp_cast else self._entries)
    nodes = in_order(entries)
    number = {node: i for i, node in enumerate(nodes)}
    starts = [0]
    for node in nodes:
        starts.append(starts[-1] + len(node.outputs))
    return json.dumps(
        {
            "nodes": [as_json(node, number) for node in nodes],
            "arg_nodes": [i for i, node in enumerate(nodes) if node.op is None],
            "node_row_ptr": starts,
            "heads": [[number[node], i, 0] for node, i in entries],
            "attrs": {"mxnet_version": ["int", VERSION]},
        },
        indent=2,
        ensure_ascii=False,  # MXNet reads no \u escapes
    )


def as_json(node, number):
    """A node as it stands in the file; `number` tells which one each node is."""
    name, settings = ("null", {}) if node.op is None else written_name(node)
    attrs = dict(sorted({**settings, **node.attrs}.items()))
    inputs = [[number[a[0]], a[1], 0] for a in node.inputs if type(a) is tuple]
    found = {"op": name, "name": node.name, "inputs": inputs}
    found |= {"attrs": attrs} if attrs else {}
    if getattr(node.op, "stored", None):
        found["subgraphs"] = [json.loads(graph.tojson()) for graph in node.op.stored[1]]
    return found


def save(self, fname, remove_amp_cast=True):
    """Write the graph as JSON; the file is complete or not there, MXNetError if it cannot be written."""
    graph = self.tojson(remove_amp_cast).encode()
    try:
        replace_file(fname, [graph])
    except OSError as error:
        raise MXNetError(f"cannot write {fname}: {error.strerror or error}") from error


def debug_str(self):
    """The graph in lines, as MXNet prints it: each call with its inputs and its settings."""
    nodes = in_order(self._entries)
    changed = {variable for node in nodes for variable in states_of(node)}
    lines = ["Symbol Outputs:"]
    lines += [f"\toutput[{i}]={node.name}({k})" for i, (node, k) in enumerate(self._entries)]
    for node in nodes:
        lines += [f"Variable:{node.name}"] if node.op is None else debug_lines(node, changed)
    return "\n".join(lines) + "\n"


def debug_lines(node, changed):
    """The lines of one call; `changed` are the variables that operators change by themselves."""
    # a loop's settings are programs
    called, settings = (node.op.name, {}) if hasattr(node.op, "stored") else written_name(node)
    lines = ["-" * 20, f"Op:{called}, Name={node.name}", "Inputs:"]
    for i, (source, k) in enumerate(a for a in node.inputs if type(a) is tuple):
        version = f" version={int(source in changed)}" if source.op is None else ""
        lines.append(f"\targ[{i}]={source.name}({k}){version}")
    attrs = [f"\t{key}={value}" for key, value in sorted(settings.items())]
    return lines + (["Attrs:", *attrs] if attrs else [])


Symbol.tojson, Symbol.save, Symbol.debug_str = tojson, save, debug_str


READ = {"_copy": "identity", "_np_cumsum": "cumsum", "_split_v2": "split_v2"}
READ |= {CANONICAL[name]: name for name in ("contrib_adamw_update", "contrib_mp_adamw_update")}
READ |= {written: name for name, written in BETWEEN.items()}
NUMBERS = {
    written: (name, side)
    for name, both in reversed(WITH_NUMBER.items())
    for side, written in enumerate(both)
}
READERS = {}  # operator -> function(name, inputs, texts) that makes its node, or a graph in its place
ONLY_THERE = {"num_args", "cudnn_tune", "cudnn_off", "workspace", "cudnn_algo_verbose", "ctx"}


def load(fname):
    """The graph in a JSON file; MXNetError if it cannot be read or holds none."""
    if not isinstance(fname, str):
        raise TypeError("fname need to be string")
    try:
        with open(fname, encoding="utf-8") as file:
            graph = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise MXNetError(f"cannot read {fname}: {error}") from error
    return load_json(graph)


def load_json(json_str):
    """The graph in a JSON text; MXNetError where it is not one."""
    if not isinstance(json_str, str):
        raise TypeError("json_str required to be string")
    try:
        graph = json.loads(json_str)
    except (ValueError, RecursionError) as error:
        raise MXNetError(f"load_json: this is no JSON: {error}") from None
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
        raise MXNetError("load_json: a graph is an object with a list of nodes")
    ops.load()
    nodes = []
    for i, record in enumerate(graph["nodes"]):
        nodes.append(read_node(record, i, nodes))
    heads = [entry_of(head, nodes, "heads") for head in listed(graph, "heads", "the graph")]
    if not heads:
        raise MXNetError("load_json: the graph has no heads")
    return Symbol(heads)


fromjson = load_json
Symbol.__reduce__ = lambda self: (load_json, (self.tojson(remove_amp_cast=False),))


def listed(record, key, where):
    """The list `record[key]`, empty if absent."""
    found = record.get(key, [])
    if not isinstance(found, list):
        raise MXNetError(f"load_json: {key} of {where} is no list")
    return found


def entry_of(found, nodes, where):
    """The pair (node, output) that `[number, output, version]` stands for."""
    good = isinstance(found, list) and len(found) >= 2 and all(type(n) is int for n in found[:2])
    if not good or not 0 <= found[0] < len(nodes):
        raise MXNetError(f"load_json: {found!r} in {where} names no node that stands before it")
    node = nodes[found[0]]
    inside = type(node) is Symbol  # what a reader has put in the place of a node
    outputs = node._entries if inside else [(node, i) for i in range(len(node.outputs))]
    if not 0 <= found[1] < len(outputs):
        raise MXNetError(
            f"load_json: {where} wants output {found[1]} of {node.name}, which has {len(outputs)}"
        )
    return outputs[found[1]]


def read_node(record, number, nodes):
    """The node that a record stands for, or a graph; `nodes` are those before it."""
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("op"), str)
        or not isinstance(record.get("name"), str)
    ):
        raise MXNetError(f"load_json: node {number} has no op and name")
    where = f"node {record['name']!r}"
    texts = {}
    for key in ("param", "attr", "attrs"):  # three ages of the format
        if not isinstance(record.get(key, {}), dict):
            raise MXNetError(f"load_json: {key} of {where} is no object")
        texts |= {k: str(v) for k, v in record.get(key, {}).items()}
    inputs = [entry_of(found, nodes, where) for found in listed(record, "inputs", where)]
    if record["op"] == "null":
        return read_variable(record["name"], texts)
    if record.get("subgraphs") and record["op"] not in READERS:
        for reads in ("control_flow", "joined"):  # loops; products and what follows them
            importlib.import_module(f"minigluon.symbol.{reads}")
    if record.get("subgraphs") and record["op"] in READERS:
        graphs = [load_json(json.dumps(g)) for g in listed(record, "subgraphs", where)]
        return READERS[record["op"]](record["name"], inputs, texts, graphs)
    return read_call(record["op"], record["name"], inputs, texts)


def read_variable(name, texts):
    """The node of a variable; MXNetError if its shape or its type is none."""
    where, shape = f"load_json: node {name!r}:", parsed(texts.get("__shape__", "()"))
    sizes = shape if isinstance(shape, list | tuple) else [shape]
    if not all(type(n) is int for n in sizes):
        raise MXNetError(f"{where} __shape__ is {texts['__shape__']!r}, which is no shape")
    kind = texts.get("__dtype__", "0")
    if not (
        kind in TYPE_CODES or (kind.isdecimal() and len(kind) < 3 and int(kind) < len(TYPE_CODES))
    ):
        raise MXNetError(f"{where} __dtype__ is {kind!r}, which is no type")
    return Node(name, attrs=texts)


def read_call(called, name, inputs, texts):
    """The node of a call."""
    if called in READERS:
        return READERS[called](name, inputs, texts)
    side = None
    if called in NUMBERS:
        called, side = NUMBERS[called]
    own = READ.get(called, called)
    if own not in operators and own.startswith("_") and own[1:] in operators:
        own = own[1:]  # as `written_name` adds it
    if own.startswith("_np_"):  # operators of `mx.np` are made when somebody needs them
        importlib.import_module("minigluon.symbol.numpy")
    if own not in operators:
        raise MXNetError(
            f"load_json: node {name!r} has the operator {called!r}, which is not known here"
        )
    op = operators[own]
    settings = {
        k: parsed(v)
        for k, v in texts.items()
        if k in op.known or (side is not None and k == "scalar")
    }
    attrs = {k: v for k, v in texts.items() if k.startswith("__") and k.endswith("__")}
    extra = texts.keys() - settings.keys() - attrs.keys() - ONLY_THERE
    if own == "split_v2":
        settings, extra = split_read(texts), extra - {"indices", "sections"}
    if extra:
        raise MXNetError(
            f"load_json: node {name!r}: {op.name} has no setting {', '.join(sorted(extra))}"
        )
    if side is not None:
        scalar = settings.pop("scalar", None)
        if len(inputs) != 1 or not isinstance(scalar, int | float):
            raise MXNetError(f"load_json: node {name!r} needs one array and a number, `scalar`")
        inputs = [*inputs, scalar] if side == 0 else [scalar, *inputs]
    if not len(op.required) <= len(inputs) <= op.most:
        raise MXNetError(f"load_json: node {name!r}: {op.name} does not take {len(inputs)} arrays")
    missing = [s for s in op.settings if s not in op.defaults and s not in settings]
    if missing:
        raise MXNetError(f"load_json: node {name!r}: {op.name} needs {', '.join(missing)}")
    try:
        require_choices(op, settings)
        require_limits(op, settings, None)
        return Node(name, op, inputs, settings, attrs, own if called in READ else called)
    except (MXNetError, TypeError, ValueError) as error:
        raise MXNetError(f"load_json: node {name!r}: {error}") from None


def split_read(texts):
    """The settings of `split_v2` from MXNet's."""
    sections, indices = parsed(texts.get("sections", "0")), parsed(texts.get("indices", "[]"))
    settings = {k: parsed(texts[k]) for k in ("axis", "squeeze_axis") if k in texts}
    return {"indices_or_sections": sections or tuple(indices)[1:], **settings}
