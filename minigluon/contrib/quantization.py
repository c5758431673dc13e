"""A network that has learnt needs few of its bits: numbers become whole steps of a range, and products of steps are exact."""

# Written from chapters/89d_eight_bits.ipynb: edit the chapter, then run `minigluon export`.

import logging as log

import numpy as np

from minigluon.context import Context, cpu
from minigluon.gluon.hybrid import SymbolBlock
from minigluon.initializer import Zero
from minigluon.io.io import DataBatch, DataDesc, DataIter
from minigluon.module.base_module import described
from minigluon.ndarray.ndarray import NDArray, array
from minigluon.op import operators
from minigluon.symbol.files import written_name
from minigluon.symbol.symbol import Group, Node, Symbol, in_order, var

__all__ = [
    "Batches",
    "FLOATS",
    "HistogramCollector",
    "KEEPERS",
    "PRODUCTS",
    "RangeCollector",
    "WIDE",
    "Writer",
    "arrays_of",
    "block_of",
    "calib_graph",
    "can_be_bytes",
    "chosen",
    "collector_of",
    "grown",
    "histogram",
    "numbers_of",
    "observe",
    "quantize_graph",
    "quantize_model",
    "quantize_model_mkldnn",
    "quantize_net",
    "quantize_net_v2",
    "quantize_params",
    "quantize_symbol",
    "ranged",
    "reached",
    "require",
    "sources",
    "with_ranges",
]


# --- Eight bits -----------------------------------------------------------------------------------

PRODUCTS = {  # nodes that pay for themselves; their sums have 32 bits
    "Convolution": "contrib_quantized_conv",
    "FullyConnected": "contrib_quantized_fully_connected",
}
KEEPERS = {  # nodes that are taken along
    "Pooling": "contrib_quantized_pooling",
    "Activation": "contrib_quantized_act",
    "flatten": "contrib_quantized_flatten",
    "concat": "contrib_quantized_concat",
    "add": "contrib_quantized_elemwise_add",
    "multiply": "contrib_quantized_elemwise_mul",
    "BatchNorm": "contrib_quantized_batch_norm",
    "Embedding": "contrib_quantized_embedding",
}
WIDE = {*PRODUCTS, "add", "multiply"}  # whose results have 32 bits
FLOATS = {"BatchNorm": (1, 2, 3, 4), "Embedding": (0,)}  # inputs that stay floats


def can_be_bytes(node):
    """Whether a node has a form for bytes, with its settings."""
    name, settings = node.op.name if node.op else None, node.settings
    if name in ("add", "multiply"):  # of one shape, and not with a number
        whole = all(type(a) is tuple for a in node.inputs)
        return whole and (node.called == name or "elemwise" in node.called)
    if name == "Activation":
        return settings.get("act_type") == "relu"
    if name == "Pooling":
        return settings.get("pool_type", "max") in ("max", "avg")
    if name == "concat":
        return settings.get("dim", 1) != 0
    if name == "Convolution":
        return (settings.get("layout") or "NC").startswith("NC")
    if name == "BatchNorm":
        return not settings.get("output_mean_var")
    return name in PRODUCTS or name in KEEPERS


def chosen(nodes, excluded_names, excluded_ops, mode):
    """The nodes that will work on bytes."""
    able = {
        node
        for node in nodes
        if can_be_bytes(node)
        and node.name not in excluded_names
        and written_name(node)[0] not in excluded_ops
    }
    if mode == "full":
        return able
    musts = {node for node in able if node.op.name in PRODUCTS}
    after = {}
    for node in nodes:
        for before in sources(node):
            after.setdefault(before, []).append(node)
    behind = reached(musts, lambda node: after.get(node, ()), able)
    return musts | (behind & reached(musts, sources, able))


def sources(node):
    """The nodes of a node's inputs."""
    return [a[0] for a in node.inputs if type(a) is tuple]


def reached(starts, neighbours, within):
    """All nodes `within` that are reached from `starts` by steps within."""
    found, stack = set(), list(starts)
    while stack:
        for node in neighbours(stack.pop()):
            if node in within and node not in found:
                found.add(node)
                stack.append(node)
    return found


class Writer:
    """A graph written anew, in which the `chosen` nodes work on bytes;
    `offline` are parameters that come as bytes.
    """

    def __init__(self, chosen, offline, out_type):
        self.chosen, self.offline, self.out_type = chosen, offline, out_type
        self.floats, self.bytes = {}, {}  # (node, output) -> Symbol, or three of them

    def as_floats(self, entry):
        """An output of an old node as floats."""
        if entry not in self.floats:
            name = f"{entry[0].name}_dequantize"
            made = operators["contrib_dequantize"](*self.bytes[entry], name=name)
            self.floats[entry] = made
        return self.floats[entry]

    def as_bytes(self, entry):
        """An output of an old node as bytes, and the two bounds."""
        node, number = entry
        if entry not in self.bytes:
            if node.op is None and node.name in self.offline:
                name = f"{node.name}_quantize"
                made = var(name, dtype="int8"), var(f"{name}_min"), var(f"{name}_max")
            else:
                name = node.name if node.op is None else node.outputs[number]
                settings = {"out_type": self.out_type, "name": f"{name}_quantize"}
                made = operators["contrib_quantize_v2"](self.as_floats(entry), **settings)
            self.bytes[entry] = list(made)
        return self.bytes[entry]

    def write(self, node):
        """Write a node, in one of its forms."""
        if node in self.chosen:
            self.bytes[node, 0] = self.of_bytes(node)
            return
        inputs = [self.as_floats(a)._entries[0] if type(a) is tuple else a for a in node.inputs]
        new = Node(node.name, node.op, inputs, node.settings, dict(node.attrs), node.called)
        self.floats |= {(node, i): Symbol([(new, i)]) for i in range(len(node.outputs))}

    def of_bytes(self, node):
        """The outputs of a node that works on bytes: bytes, and two bounds."""
        stay = FLOATS.get(node.op.name, ())
        data, bounds = [], []
        for i, entry in enumerate(node.inputs):
            if i in stay:
                data.append(self.as_floats(entry))
            else:
                whole, *ends = self.as_bytes(entry)
                data.append(whole)
                bounds += ends
        op = operators[(PRODUCTS | KEEPERS)[node.op.name]]
        settings = {k: v for k, v in node.settings.items() if k in op.known}
        made = op(*data, *bounds, **settings, name=f"quantized_{node.name}")
        if node.op.name in WIDE:
            name = f"requantize_{node.name}"
            made = operators["contrib_requantize"](*made, out_type=self.out_type, name=name)
        return list(made)


def quantize_symbol(
    sym, excluded_names=(), excluded_ops=(), offline=(), out_type="int8", mode="smart"
):
    """The graph with bytes where they can be, and the names of the outputs whose ranges it would
    like to know.
    """
    nodes = in_order(sym._entries)
    work = Writer(chosen(nodes, excluded_names, excluded_ops, mode), {*offline}, out_type)
    for node in nodes:
        work.write(node)
    made = Group([work.as_floats(entry) for entry in sym._entries])
    return made, [name for name in map(ranged, in_order(made._entries)) if name]


def ranged(node):
    """The name of the old output whose range a node of bytes would like to know; None for others."""
    called = node.op.name if node.op else None
    if called == "contrib_quantize_v2":
        source, number = node.inputs[0]
        return source.outputs[number]
    before = {"contrib_requantize": "requantize_", "contrib_quantized_batch_norm": "quantized_"}
    return f"{node.name.removeprefix(before[called])}_output" if called in before else None


def with_ranges(sym, ranges):
    """The same graph with the ranges {name: (least, greatest)} written into it."""
    made = {}
    for node in in_order(sym._entries):
        inputs = [(made[a[0]], a[1]) if type(a) is tuple else a for a in node.inputs]
        settings = dict(node.settings)
        if ranged(node) in ranges:
            low, high = (float(np.ravel(v)[0]) for v in ranges[ranged(node)])
            settings |= {"min_calib_range": low, "max_calib_range": high}
        made[node] = Node(node.name, node.op, inputs, settings, dict(node.attrs), node.called)
    return Symbol([(made[node], i) for node, i in sym._entries])


class RangeCollector:
    """Keeps the least and the greatest number of each layer: `collect(name, array)`, `min_max_dict`."""

    def __init__(self, include_layer):
        self.include_layer, self.min_max_dict = include_layer, {}

    def collect(self, name, arr):
        """Hear of an array."""
        if name in self.include_layer:
            a = numbers_of(arr)
            low, high = self.min_max_dict.get(name, (np.inf, -np.inf))
            self.min_max_dict[name] = min(low, a.min()), max(high, a.max())

    def ranges(self, out_type):
        """{name: (least, greatest)}."""
        return self.min_max_dict


class HistogramCollector:
    """Keeps a histogram of each layer: `collect(name, array)`, `hist_dict`."""

    def __init__(self, include_layer, num_bins=8001):
        self.include_layer, self.num_bins, self.hist_dict = include_layer, num_bins, {}

    def collect(self, name, arr):
        """Hear of an array."""
        if name in self.include_layer:
            a = numbers_of(arr)
            known = self.hist_dict.get(name)
            self.hist_dict[name] = histogram(a, self.num_bins) if known is None else grown(known, a)

    def ranges(self, out_type):
        """{name: (least, greatest)}, by entropy."""
        found = {}
        for name, (hist, edges, low, _, _) in self.hist_dict.items():
            positive = low >= 0 and out_type in ("auto", "uint8")
            settings = {"num_quantized_bins": 511 if positive else 255}
            entropy = operators["contrib_calibrate_entropy"].kernel
            bound = float(
                entropy(hist.astype("float32"), edges.astype("float32"), **settings)[0][0]
            )
            found[name] = (0.0 if positive else -bound, bound)
        return found


def numbers_of(a):
    """An array as NumPy's."""
    return a.asnumpy() if isinstance(a, NDArray) else np.asarray(a)


def histogram(a, bins):
    """(counts, edges, least, greatest, bound) of numbers, in bins around zero."""
    bound = float(abs(a).max()) or 1.0
    return *np.histogram(a, bins, (-bound, bound)), a.min(), a.max(), bound


def grown(known, a):
    """A histogram with more numbers; it gets further bins at both ends if they lie beyond."""
    hist, edges, low, high, bound = known
    step, most = 2 * bound / len(hist), float(abs(a).max())
    more = int((most - bound) // step + 1) if most > bound else 0
    bound += more * step
    counts, wide = np.histogram(a, len(hist) + 2 * more, (-bound, bound))
    counts[more : len(counts) - more] += hist
    return counts, wide if more else edges, min(low, a.min()), max(high, a.max()), bound


def observe(sym, arg_params, aux_params, data, collector, names, ctx, most=None):
    """Run the graph on batches of examples, at most so many, and let a collector hear
    of the outputs in `names`.
    """
    inside = sym.get_internals()
    there = inside.list_outputs()
    wanted = Group([inside[there.index(name)] for name in names])
    given = {d.name: d.shape for d in described(data.provide_data)}
    shapes = {n: s for n, s in given.items() if n in wanted.list_inputs()}
    exe = wanted.simple_bind(ctx, grad_req="null", **shapes)
    exe.copy_params_from(arg_params, aux_params, allow_extra_params=True)
    seen = 0
    data.reset()
    for batch in data:
        inputs = {n: a for n, a in zip(given, batch.data) if n in shapes}
        for name, out in zip(names, exe.forward(is_train=False, **inputs)):
            collector.collect(name, out)
        seen += data.batch_size
        if most is not None and seen >= most:
            break
    return seen


def quantize_params(qsym, params):
    """The parameters that a graph of bytes asks for: bytes and bounds for those that it has as bytes."""
    found = {}
    for name in qsym.list_arguments():
        old = name.removesuffix("_quantize")
        if name in params:
            found[name] = params[name]
        elif name != old and old in params:
            a = params[old]
            parts = operators["contrib_quantize"](a, a.min(), a.max(), out_type="int8")
            found |= dict(zip((name, f"{name}_min", f"{name}_max"), parts))
    return found


def require(
    excluded_sym_names, excluded_op_names, quantized_dtype, quantize_mode, granularity, ctx
):
    """Lists of what stays as it is; ValueError for a setting that is none."""
    lists = []
    for name, given in (
        ("excluded_sym_names", excluded_sym_names),
        ("excluded_op_names", excluded_op_names),
    ):
        if given is not None and not isinstance(given, list):
            raise ValueError(f"{name} must be a list of names, not {type(given)}")
        lists.append(given or [])
    choices = {"quantized_dtype": ("int8", "uint8", "auto"), "quantize_mode": ("full", "smart")}
    choices["quantize_granularity"] = ("tensor-wise", "channel-wise")
    given = quantized_dtype, quantize_mode, granularity
    for (name, allowed), value in zip(choices.items(), given):
        if value not in allowed:
            raise ValueError(f"unknown {name} {value!r}: it is one of {', '.join(allowed)}")
    if not isinstance(ctx, Context):
        raise ValueError(f"currently only supports single ctx, while received {ctx}")
    return lists


def quantize_graph(
    sym,
    arg_params,
    aux_params,
    ctx=cpu(),  # noqa: B008
    excluded_sym_names=None,
    excluded_op_names=None,
    calib_mode="entropy",
    quantized_dtype="int8",
    quantize_mode="full",
    quantize_granularity="tensor-wise",
    LayerOutputCollector=None,
    logger=None,
):
    """(graph of bytes, its parameters, its states, a collector):
    the collector's `collect` is for `set_monitor_callback`.
    """
    settings = quantized_dtype, quantize_mode, quantize_granularity
    excluded = require(excluded_sym_names, excluded_op_names, *settings, ctx)
    made, names = quantize_symbol(sym, *excluded, arg_params, quantized_dtype, quantize_mode)
    collector = collector_of(calib_mode, names, LayerOutputCollector)
    return made, quantize_params(made, arg_params), aux_params, collector


def collector_of(calib_mode, names, own=None):
    """A collector for a mode; None for none, ValueError for an unknown one."""
    if calib_mode in (None, "none"):
        return None
    if calib_mode == "customize" and own is not None:
        own.include_layer = names
        return own
    kinds = {"naive": RangeCollector, "entropy": HistogramCollector}
    if calib_mode not in kinds:
        raise ValueError(
            f"unknown calibration mode {calib_mode}, expected none, naive, entropy, or customize with a "
            "LayerOutputCollector"
        )
    return kinds[calib_mode](names)


def calib_graph(
    qsym,
    arg_params,
    aux_params,
    collector,
    calib_mode="entropy",
    quantized_dtype="int8",
    logger=log,
):
    """(graph of bytes with the collector's ranges, its parameters, its states)."""
    if calib_mode in (None, "none"):
        raise ValueError("please set calibration mode to naive or entropy.")
    own = calib_mode == "customize"
    ranges = collector.min_max_dict if own else collector.ranges(quantized_dtype)
    made = with_ranges(qsym, ranges)
    return made, quantize_params(made, arg_params), aux_params


def quantize_model(
    sym,
    arg_params,
    aux_params,
    data_names=("data",),
    label_names=("softmax_label",),
    ctx=cpu(),  # noqa: B008
    excluded_sym_names=None,
    excluded_op_names=None,
    calib_mode="entropy",
    calib_data=None,
    num_calib_examples=None,
    quantized_dtype="int8",
    quantize_mode="smart",
    quantize_granularity="tensor-wise",
    logger=None,
):
    """(graph of bytes, its parameters, its states) of a trained model.

    `calib_mode` 'naive' and 'entropy' take ranges from the DataIter `calib_data`; with 'none' each
    batch has its own.
    """
    settings = quantized_dtype, quantize_mode, quantize_granularity
    excluded = require(excluded_sym_names, excluded_op_names, *settings, ctx)
    made, names = quantize_symbol(sym, *excluded, arg_params, quantized_dtype, quantize_mode)
    collector = collector_of(calib_mode, names)
    if collector is not None:
        if not isinstance(calib_data, DataIter):
            raise ValueError(
                f"calib_data must be of DataIter type when calib_mode={calib_mode}, "
                f"not {type(calib_data)}"
            )
        seen = observe(
            sym, arg_params, aux_params, calib_data, collector, names, ctx, num_calib_examples
        )
        if logger:
            logger.info("Collected layer outputs from FP32 model using %d examples", seen)
        made = with_ranges(made, collector.ranges(quantized_dtype))
    return made, quantize_params(made, arg_params), aux_params


def quantize_model_mkldnn(sym, arg_params, aux_params, *args, ctx=cpu(), **kwargs):  # noqa: B008
    """`quantize_model` for a CPU; ValueError for another device."""
    if ctx != cpu():
        raise ValueError(f"quantize_model_mkldnn only supports Intel cpu platform, not {ctx}")
    return quantize_model(sym, arg_params, aux_params, *args, ctx=ctx, **kwargs)


class Batches(DataIter):
    """An iterator of batches of what a loader gives: arrays, or lists whose last is the label."""

    def __init__(self, loader):
        try:
            first = next(iter(loader))
        except TypeError as error:
            raise TypeError(f"calib_data is not a valid iterator. {error}") from error
        self.loader = loader
        self.many = len(arrays_of(first)) - (len(arrays_of(first)) > 1)  # without the label
        data = arrays_of(first)[: self.many]
        super().__init__(len(data[0]))
        names = ["data"] if self.many == 1 else [f"data{i}" for i in range(self.many)]
        self.provide_data = [DataDesc(n, a.shape, a.dtype) for n, a in zip(names, data)]
        self.provide_label = []
        self.reset()

    def reset(self):
        """Begin anew."""
        self.batches = iter(self.loader)

    def next(self):
        """The next batch."""
        data = arrays_of(next(self.batches))[: self.many]
        return DataBatch([a if isinstance(a, NDArray) else array(a) for a in data], pad=0)


def arrays_of(batch):
    """The arrays of a batch in a list."""
    return list(batch) if isinstance(batch, list | tuple) else [batch]


def quantize_net_v2(
    network,
    quantized_dtype="auto",
    quantize_mode="full",
    quantize_granularity="tensor-wise",
    exclude_layers=None,
    exclude_layers_match=None,
    exclude_operators=None,
    calib_data=None,
    data_shapes=None,
    calib_mode="none",
    num_calib_examples=None,
    ctx=cpu(),  # noqa: B008
    LayerOutputCollector=None,
    logger=None,
):
    """A block of bytes that does what `network`, a trained HybridBlock, does.

    `calib_data` is a DataIter or a loader; without, `data_shapes` has a DataDesc an input. Layers
    in `exclude_layers`, with a text of `exclude_layers_match` in their names, or made by
    `exclude_operators` stay floats.
    """
    if calib_data is not None and not isinstance(calib_data, DataIter):
        calib_data = Batches(calib_data)
    inputs = described(data_shapes or (calib_data.provide_data if calib_data is not None else None))
    if not inputs:
        raise ValueError("data_shapes required")
    if calib_mode not in (None, "none") and calib_data is None:
        raise ValueError(f"calib_data must be provided when calib_mode={calib_mode}")
    names = [d.name for d in inputs]
    network(*[array(np.zeros(d.shape), ctx, d.dtype) for d in inputs])  # shapes that are deferred
    found = network(*[var(n) for n in names])
    sym = found if isinstance(found, Symbol) else Group(found)
    params = {p.name: p.data(ctx) for p in network.collect_params().values()}
    states = {n: params[n] for n in sym.list_auxiliary_states()}
    learnt = {n: params[n] for n in sym.list_arguments() if n in params}
    matching = [
        node.name
        for node in in_order(sym._entries)
        if any(text in node.name for text in exclude_layers_match or ())
    ]
    qsym, own, states, collector = quantize_graph(
        sym, learnt, states, ctx, [*(exclude_layers or ()), *matching], exclude_operators, calib_mode,
        quantized_dtype, quantize_mode, quantize_granularity, LayerOutputCollector, logger,
    )  # fmt: skip
    if collector is not None:
        wanted = collector.include_layer
        observe(sym, learnt, states, calib_data, collector, wanted, ctx, num_calib_examples)
        qsym, own, states = calib_graph(
            qsym, learnt, states, collector, calib_mode, quantized_dtype
        )
    return block_of(qsym, names, own | states, ctx)


def block_of(sym, names, params, ctx):
    """The block of a graph with these parameters, in their own types."""
    block = SymbolBlock(sym, [var(n) for n in names])
    for name, parameter in block.collect_params().items():
        parameter.dtype, parameter.shape, parameter.grad_req = (
            params[name].dtype, params[name].shape, "null"
        )  # fmt: skip
        parameter.initialize(Zero(), ctx)
        parameter.set_data(params[name])
    return block


def quantize_net(
    network,
    quantized_dtype="auto",
    quantize_mode="full",
    exclude_layers=None,
    exclude_layers_match=None,
    exclude_operators=None,
    calib_data=None,
    data_shapes=None,
    calib_mode="none",
    num_calib_examples=None,
    ctx=cpu(),  # noqa: B008
    logger=None,
):
    """`quantize_net_v2` with one range a tensor."""
    return quantize_net_v2(
        network, quantized_dtype, quantize_mode, "tensor-wise", exclude_layers, exclude_layers_match,
        exclude_operators, calib_data, data_shapes, calib_mode, num_calib_examples, ctx, None, logger,
    )  # fmt: skip
