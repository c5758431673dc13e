"""Gradients that are too small for float16 survive if the loss is multiplied by a power of two, and divided out again at the end."""

# Written from chapters/74_half_precision.ipynb: edit the chapter, then run `minigluon export`.

from contextlib import contextmanager

from minigluon import ops
from minigluon.contrib.amp.loss_scaler import LossScaler
from minigluon.gluon.block import HybridBlock
from minigluon.gluon.hybrid import SymbolBlock, fill
from minigluon.gluon.trainer import Trainer
from minigluon.ndarray.ndarray import real_dtype
from minigluon.op import operators
from minigluon.optimizer import Optimizer
from minigluon.symbol.files import written_name
from minigluon.symbol.inference import type_of_call
from minigluon.symbol.symbol import Node, Symbol, in_order

__all__ = [
    "CODES",
    "Caster",
    "HIGH",
    "LEADS",
    "LOW",
    "SOMETIMES",
    "convert_bucketing_module",
    "convert_hybrid_block",
    "convert_model",
    "convert_symbol",
    "init",
    "init_trainer",
    "late_lists",
    "list_conditional_fp32_ops",
    "list_fp32_ops",
    "list_loss_output_functions",
    "list_lp16_fp32_ops",
    "list_lp16_ops",
    "list_widest_type_cast",
    "low_type",
    "require_lists",
    "scale_loss",
    "stored",
    "trained",
    "unscale",
]


# --- Beside a trainer -----------------------------------------------------------------------------

_amp_initialized = False  # attention asks for it: what is least in float16 is more than in float32


def init(
    target_dtype="float16", target_precision_ops=None, conditional_fp32_ops=None, fp32_ops=None
):
    """Switch mixed precision on: here that means loss scaling alone.

    MXNet also casts the arrays of products to `target_dtype`. NumPy computes slower in float16 than
    in float32, so here a network computes in the type that `net.cast` gives it.
    `convert_hybrid_block` casts a finished one.
    """
    global _amp_initialized
    low_type(target_dtype)
    _amp_initialized = True


def init_trainer(optimizer_or_trainer):
    """Give a trainer a loss scaler; AssertionError before `init`."""
    assert _amp_initialized, "AMP not initialized, did you forget to call amp.init()?"
    trainer = trained(optimizer_or_trainer)
    trainer._amp_loss_scaler, trainer._amp_original_scale = LossScaler(), trainer._scale


def trained(trainer):
    """A trainer; TypeError for anything else."""
    if isinstance(trainer, Optimizer):
        raise TypeError("AMP is currently only compatible with Gluon Trainer")
    if not isinstance(trainer, Trainer):
        raise TypeError(f"want a Gluon Trainer, not {type(trainer).__name__}")
    return trainer


@contextmanager
def scale_loss(loss, optimizer_or_trainer):
    """A `with` block for the backward pass of the scaled loss, an array or a list;
    `step` divides again.
    """
    trainer = optimizer_or_trainer
    scaler = getattr(trainer, "_amp_loss_scaler", None)
    assert scaler is not None, (
        "Loss scaler is not initialized, did you forget to call amp.init_trainer()?"
    )
    trainer._scale = trainer._amp_original_scale / scaler.loss_scale
    several = isinstance(loss, list | tuple)
    yield [part * scaler.loss_scale for part in loss] if several else loss * scaler.loss_scale


def unscale(optimizer_or_trainer):
    """Divide the gradients now, for who wants to look at them or clip them before `step`."""
    trainer = trained(optimizer_or_trainer)
    for p in trainer._params:
        if p.grad_req != "null":
            for g in p.list_grad():
                g[:] = g * trainer._scale
    trainer._scale = 1.0


# --- Casting a graph ------------------------------------------------------------------------------

LOW = {  # products: most of the time, and long sums inside
    "float16": ["Convolution", "Deconvolution", "FullyConnected", "RNN"],
    "bfloat16": ["Convolution", "FullyConnected"],
}
HIGH = [  # what leaves the range, or adds many numbers
    *("arccos", "arccosh", "arcsin", "arctanh", "cosh", "erfinv", "exp", "expm1", "gamma", "gammaln"),
    *("hypot", "log", "log10", "log1p", "log2", "power", "rcbrt", "reciprocal", "rsqrt", "sinh", "square", "tan"),
    *("argsort", "cumsum", "khatri_rao", "mean", "moments", "nanprod", "nansum", "norm", "prod", "sum", "topk"),
    *("CTCLoss", "Custom", "GroupNorm", "InstanceNorm", "L2Normalization", "LRN", "LayerNorm", "LinearRegressionOutput"),
    *("LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput", "SoftmaxActivation", "SoftmaxOutput"),
    *("log_softmax", "make_loss", "smooth_l1", "softmax", "softmax_cross_entropy", "softmin"),
]  # fmt: skip
SOMETIMES = [("Activation", "act_type", ["softrelu"]), ("LeakyReLU", "act_type", ["elu", "selu"])]
LEADS = {  # operators whose first array alone has the type of the result
    *("BatchNorm", "Crop", "Embedding", "LeakyReLU", "SequenceLast", "SequenceMask", "SequenceReverse"),
    *("broadcast_like", "contrib_BatchNormWithReLU", "contrib_SyncBatchNorm", "gather_nd", "pick"),
    *("reshape_like", "slice_like", "take"),
}  # fmt: skip
CODES = {"float32": "0", "float16": "2", "bfloat16": "12"}  # of types, in attributes


def low_type(target_dtype):
    """The name of a type of two bytes; AssertionError for another."""
    name = getattr(target_dtype, "__name__", str(target_dtype))
    assert name in LOW, (
        f"AMP currently supports only float16 or bfloat16 as a target_dtype, not {name}"
    )
    return name


def list_lp16_ops(target_dtype):
    """The operators whose arrays become `target_dtype`."""
    return [*LOW[low_type(target_dtype)]]


def list_fp32_ops(target_dtype):
    """The operators whose arrays become float32."""
    return [*HIGH] if low_type(target_dtype) == "float16" else [*HIGH, "Deconvolution", "RNN"]


def list_conditional_fp32_ops(target_dtype):
    """Triples (operator, setting, values): with those its arrays become float32."""
    return [*SOMETIMES] if low_type(target_dtype) else []


def list_lp16_fp32_ops(target_dtype):
    """The operators that take what comes."""
    told = {*list_lp16_ops(target_dtype), *list_fp32_ops(target_dtype), *(n for n, *_ in SOMETIMES)}
    ops.load()
    return sorted(name for name, op in operators.items() if not {name, op.name} & told)


def list_widest_type_cast(target_dtype):
    """Those among them that take several arrays, which become float32 if one of them is."""
    several = (name for name in list_lp16_fp32_ops(target_dtype) if operators[name].most > 1)
    return [name for name in several if operators[name].same_dtype]


def require_lists(kind, low, high, sometimes):
    """The three lists, a missing one as it is by default;
    AssertionError for what is none, or in two of them.
    """
    low, high = low or list_lp16_ops(kind), high or list_fp32_ops(kind)
    sometimes = list_conditional_fp32_ops(kind) if sometimes is None else sometimes
    for name, own in (("target_dtype_ops", low), ("fp32_ops", high)):
        assert isinstance(own, list), f"{name} should be a list of strs, not {own!r}"
    named = [name for name, *_ in sometimes]
    twice = {*low} & {*high} | {*low} & {*named} | {*high} & {*named}
    assert not twice, f"Ops cannot be in two or more lists. Common ops: {', '.join(sorted(twice))}"
    ops.load()
    known = operators.keys() | {"Custom"}
    unknown = [n for n in (*low, *high, *named) if n not in known and n.lstrip("_") not in known]
    assert not unknown, f"Op {', '.join(unknown)} is no operator: amp.list_lp16_fp32_ops has them"
    return low, high, sometimes


class Caster:
    """Writes a graph anew, with casts; it knows the types of its edges, which are `kind`, float32,
    or seldom others.

    wants: what says of a node whether its arrays are to be of `kind`, of float32, or None.
    """

    def __init__(self, kind, wants, params, offline):
        self.kind, self.wants, self.params, self.offline = kind, wants, params, offline
        # old edge -> new; (new, type) -> new; new -> type
        self.made, self.casts, self.types = {}, {}, {}

    def cast(self, entry, dtype):
        """An edge as numbers of a type: itself, or with one cast for all who ask; other types stay."""
        if self.types[entry] not in {self.kind, "float32"} - {dtype}:
            return entry
        if (entry, dtype) not in self.casts:
            node, i = entry
            name = f"{node.name if node.op is None else node.outputs[i]}_amp_cast_{dtype}"
            found = operators["amp_cast"](Symbol([entry]), dtype=dtype, name=name)._entries[0]
            self.casts[entry, dtype], self.types[found] = found, dtype
        return self.casts[entry, dtype]

    def variable(self, node):
        """Write a variable; parameters are told their type, and those of products alone are low
        from the start.
        """
        kind = self.kind if node.name in self.offline else "float32"
        own = {"__dtype__": CODES[kind]} if node.name in self.params else {}
        self.made[node, 0] = Node(node.name, attrs=node.attrs | own), 0
        self.types[self.made[node, 0]] = kind

    def call(self, node):
        """Write a call, its arrays cast to what it wants, or else to what they have in common."""
        inputs = [self.made[a] if type(a) is tuple else a for a in node.inputs]
        arrays = [i for i, a in enumerate(inputs) if type(a) is tuple]
        wanted = self.wants(node)
        if wanted is None:
            arrays = arrays[: 1 if node.op.name in LEADS else None]
            wanted = (
                "float32" if "float32" in {self.types[inputs[i]] for i in arrays} else self.kind
            )
        for i in arrays:
            inputs[i] = self.cast(inputs[i], wanted)
        new = Node(node.name, node.op, inputs, node.settings, dict(node.attrs), node.called)
        types = [real_dtype(self.types[inputs[i]]) for i in arrays]
        found = type_of_call(new, types) or real_dtype(None)
        for i in range(len(node.outputs)):
            self.made[node, i] = new, i
            self.types[new, i] = found.name


def convert_symbol(
    sym,
    target_dtype="float16",
    target_dtype_ops=None,
    fp32_ops=None,
    conditional_fp32_ops=None,
    excluded_sym_names=None,
    data_names=None,
    cast_optional_params=False,
):
    """The graph with casts: low numbers for products, float32 for what grows or sums,
    and for the outputs.

    excluded_sym_names: nodes that stay in float32. data_names: the inputs that are no parameters.
    """
    assert isinstance(sym, Symbol), (
        f"First argument to convert_symbol should be Symbol, not {sym!r}"
    )
    kind, excluded = low_type(target_dtype), excluded_sym_names or []
    assert isinstance(excluded, list), "excluded_sym_names should be a list of strs"
    low, high, sometimes = require_lists(kind, target_dtype_ops, fp32_ops, conditional_fp32_ops)

    def wants(node):
        names = {node.op.name, node.called, written_name(node)[0]}
        if node.name in excluded or names & {*high} or hasattr(node.op, "stored"):
            return "float32"
        if names & {*low}:
            return kind
        settings = {**node.op.defaults, **node.settings}
        grows = any(n in names and settings.get(key) in values for n, key, values in sometimes)
        mixed = not node.op.same_dtype and node.op.name not in LEADS
        return "float32" if grows or mixed else None

    nodes = in_order(sym._entries)
    typed = [n for n, found in sym.attr_dict().items() if "__dtype__" in found]
    params = {*sym.list_inputs()} - {*data_names} if data_names is not None else {*typed}
    reads = {node: wants(node) for node in nodes if node.op}
    others = {
        a[0].name
        for n, dtype in reads.items()
        if dtype != kind
        for a in n.inputs
        if type(a) is tuple
    }
    own = {a[0].name for n in reads for a in n.inputs if type(a) is tuple and a[0].op is None}
    caster = Caster(
        kind, reads.get, params, (own & params) - others if cast_optional_params else ()
    )
    for node in nodes:
        caster.variable(node) if node.op is None else caster.call(node)
    return Symbol([caster.cast(caster.made[entry], "float32") for entry in sym._entries])


def stored(graph, arrays):
    """Arrays in the types that the graph's variables say."""
    kinds = {name: found.get("__dtype__") for name, found in graph.attr_dict().items()}
    names = {code: name for name, code in CODES.items() if code != CODES["float32"]}
    return {n: a.astype(names[kinds[n]]) if kinds.get(n) in names else a for n, a in arrays.items()}


def convert_model(
    sym,
    arg_params,
    aux_params,
    target_dtype="float16",
    target_dtype_ops=None,
    fp32_ops=None,
    conditional_fp32_ops=None,
    excluded_sym_names=None,
    cast_optional_params=False,
):
    """`convert_symbol` of a graph with its parameters: the graph, and both kinds of parameters."""
    for name, given in (("arg_params", arg_params), ("aux_params", aux_params)):
        assert isinstance(given, dict), f"{name} should be a dict of name to NDArray, not {given!r}"
    assert isinstance(sym, Symbol), f"First argument to convert_model should be Symbol, not {sym!r}"
    data = [name for name in sym.list_inputs() if name not in arg_params | aux_params]
    lists = target_dtype_ops, fp32_ops, conditional_fp32_ops, excluded_sym_names
    made = convert_symbol(sym, target_dtype, *lists, data, cast_optional_params)
    return made, stored(made, arg_params), stored(made, aux_params)


def convert_hybrid_block(
    block,
    target_dtype="float16",
    target_dtype_ops=None,
    fp32_ops=None,
    conditional_fp32_ops=None,
    excluded_sym_names=None,
    ctx=None,
    cast_optional_params=False,
):
    """`convert_symbol` of a block that has run hybridized:
    a block with its parameters, on `ctx` or where they are.

    Written by `export`, it keeps its casts only with `remove_amp_cast=False`.
    """
    assert isinstance(block, HybridBlock), f"block input should be a HybridBlock, not {block!r}"
    if not block._cached_graph:
        raise RuntimeError(
            "Please first call block.hybridize() and then run forward with this block once"
        )
    inputs, sym = block._cached_graph
    params = [p for p in block.collect_params().values() if p.name in {*sym.list_inputs()}]
    arrays = {p.name: p.data(p.list_ctx()[0]) for p in params}
    lists = target_dtype_ops, fp32_ops, conditional_fp32_ops, excluded_sym_names
    made, arrays, _ = convert_model(sym, arrays, {}, target_dtype, *lists, cast_optional_params)
    small = SymbolBlock(made, inputs)
    fill(small, arrays, "the block", ctx or (params[0].list_ctx() if params else None))
    return small


def convert_bucketing_module(
    bucketing_mod,
    target_dtype="float16",
    target_dtype_ops=None,
    fp32_ops=None,
    conditional_fp32_ops=None,
    excluded_sym_names=None,
    cast_optional_params=False,
):
    """`convert_symbol` of every graph of a `BucketingModule` with parameters:
    another one, not bound yet.
    """
    assert hasattr(bucketing_mod, "_sym_gen"), "module should be instance of bucketing module"
    assert bucketing_mod._buckets, "Bucketing Module should not be empty: bind it first"
    low_type(target_dtype)
    learnt, states = bucketing_mod.get_params()
    lists = target_dtype_ops, fp32_ops, conditional_fp32_ops, excluded_sym_names

    def cast(key):
        module = bucketing_mod._made(key)
        data = [n for n in module.symbol.list_inputs() if n not in learnt | states]
        graph = convert_symbol(module.symbol, target_dtype, *lists, data, cast_optional_params)
        return graph, module.data_names, module.label_names

    key = bucketing_mod._default_bucket_key
    params = [stored(cast(key)[0], arrays) for arrays in (learnt, states)]
    return type(bucketing_mod).load_dict({}, cast, key, *params, **bucketing_mod._settings)


def list_loss_output_functions(target_dtype):
    """The operators that are an output and its loss in one."""
    return [n for n in list_fp32_ops(target_dtype) if n.endswith("Output") and n != "SVMOutput"]


def late_lists(kind):
    """The `__getattr__` of a module with the lists of a type, such as FP16_FUNCS for float16."""
    low = {"float16": "FP16", "bfloat16": "BF16"}[kind]
    made = {
        f"{low}_FUNCS": list_lp16_ops,
        f"{low}_FP32_FUNCS": list_lp16_fp32_ops,
        "FP32_FUNCS": list_fp32_ops,
        "CONDITIONAL_FP32_FUNCS": list_conditional_fp32_ops,
        "WIDEST_TYPE_CASTS": list_widest_type_cast,
        "LOSS_OUTPUT_FUNCTIONS": list_loss_output_functions,
    }

    def find(name):
        if name not in made:
            raise AttributeError(f"there is no list {name!r}; there are {', '.join(made)}")
        return made[name](kind)

    return find
