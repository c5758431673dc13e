"""A hybridized program knows which calls follow one another; those that work number by number become one kernel."""

# Written from chapters/96c_fused_kernels.ipynb: edit the chapter, then run `minigluon export`.

from functools import wraps

import numpy as np

from minigluon.context import brought
from minigluon.cores import matmul
from minigluon.kernels import STORED, Kernels, dense, width
from minigluon.symbol.hybrid import Writer, elsewhere

__all__ = [
    "ACTIVATIONS",
    "Chain",
    "EXPRESSIONS",
    "FusedWriter",
    "chain_of",
    "chains",
    "expression",
    "size_of",
    "text_of",
    "with_chains",
]


# --- Code: expressions ----------------------------------------------------------------------------

EXPRESSIONS = {
    "add": "({0} + {1})",
    "subtract": "({0} - {1})",
    "multiply": "({0} * {1})",
    "divide": "({0} / {1})",
    "negative": "(-{0})",
    "maximum": "({0} > {1} || {0} != {0} ? {0} : {1})",
    "minimum": "({0} < {1} || {0} != {0} ? {0} : {1})",
    "greater": "({0} > {1} ? 1.f : 0.f)",
    "lesser": "({0} < {1} ? 1.f : 0.f)",
    "exp": "expf({0})",
    "log": "logf({0})",
    "expm1": "expm1f({0})",
    "log1p": "log1pf({0})",
    "sqrt": "sqrtf({0})",
    "square": "({0} * {0})",
    "sin": "sinf({0})",
    "cos": "cosf({0})",
    "tanh": "tanhf({0})",
    "abs": "fabsf({0})",
    "above": "({1} > 0.f ? {0} : 0.f)",
    "relu": "({0} > 0.f || {0} != {0} ? {0} : 0.f)",
    "sigmoid": "(1.f / (1.f + expf(-{0})))",
}
ACTIVATIONS = ("relu", "sigmoid", "tanh")


def expression(node):
    """The C expression of a call; None if there is none."""
    if node.op.name == "Activation" and node.settings.get("act_type") in ACTIVATIONS:
        return EXPRESSIONS[node.settings["act_type"]]
    return None if node.settings else EXPRESSIONS.get(node.op.name)


# --- Code: runs -----------------------------------------------------------------------------------


class FusedWriter(Writer):
    """Writes a program in which runs of elementwise calls are one call each."""

    def joins(self, node):
        """None: a run holds whatever can be held."""
        return ()

    def fits(self, node, run):
        """Whether a call can join a run."""
        shape, kind = (
            known.get((node, 0)) for known in (self.outlines.shapes, self.outlines.types)
        )
        if (
            expression(node) is None
            or shape is None
            or str(kind) not in STORED
            or not self.real(node)
        ):
            return False
        entries = [a for a in node.inputs if type(a) is tuple]
        numbers = [a for a in node.inputs if type(a) is not tuple]
        plain = all(type(n) in (int, float) and np.isfinite(n) for n in numbers)
        same = entries and all(self.outlines.shapes.get(a) == shape for a in entries)
        first = run[0] if run else node
        alike = self.outlines.shapes[first, 0] == shape and self.outlines.types[first, 0] == kind
        return bool(plain and same and alike and np.prod(shape))

    def line(self, node):
        """A call; what is made out of nothing, by NumPy, is sent to where the first array is."""
        text = super().line(node)
        if any(type(a) is tuple for a in node.inputs) or node in self.outlines.counts:
            return text
        (name, _, call), like = text.partition(" = "), self.names[self.inputs[0]]
        return f"{name} = {self.bound('brought', brought)}(lambda: {call}, {like})"

    def product(self, node):
        """The name of the function that multiplies, whatever the size."""
        return self.bound("matmul", matmul)

    # --- Code: runs -------------------------------------------------------------------------------

    def runs(self):
        """The calls in their order, in lists: those of a run together, the others alone."""
        found, open_run = [], []
        for node in self.order:
            if open_run and self.fits(node, open_run):
                open_run.append(node)
                continue
            open_run = [node] if self.fits(node, []) else []
            found.append(open_run or [node])
        return found

    def chain(self, run):
        """The line of a run: `y, z = chain(a, b)`."""
        made = {node: f"v{i}" for i, node in enumerate(run)}
        inputs = list(dict.fromkeys(a for n in run for a in n.inputs if self.enters(a, run)))
        outputs = [n for n in run if self.goes_on(n, run)]
        names = {a: f"a{i}" for i, a in enumerate(inputs)}

        def term(a):
            return f"{float(a)!r}f" if type(a) is not tuple else names.get(a) or made[a[0]]

        lines = tuple(
            f"const float {made[n]} = {expression(n).format(*map(term, n.inputs))};" for n in run
        )
        kind = STORED[str(self.outlines.types[run[0], 0])]
        kernel = chain_of(kind, lines, len(inputs), tuple(made[n] for n in outputs))
        call, given = self.bound("chain", kernel), ", ".join(self.value(a) for a in inputs)
        for node in run:
            self.names[node] = self.free_name(node.name)
        return [f"{', '.join(self.names[n] for n in outputs)}, = {call}({given})"]


# --- Code: the kernel's text ----------------------------------------------------------------------


class Chain(Kernels):
    """A kernel made of expressions, called with arrays: returns a tuple of new ones."""

    where = "a fused program"

    def __init__(self, kind, lines, inputs, outputs):
        self.kind, self.outputs, self.loaded = kind, len(outputs), {}
        self.text = text_of(kind, lines, inputs, outputs)
        self.names = ["chain<1>", f"chain<{16 // size_of(kind)}>"]

    def code(self):
        """The text to compile."""
        from minigluon.cuda_on_cpu import inline_headers, kernels_folder

        return inline_headers(self.text, kernels_folder())

    def run(self, *arrays):
        """The outputs of the chain."""
        arrays = [dense(a) for a in arrays]
        made = [np.empty_like(arrays[0]) for _ in range(self.outputs)]
        size = arrays[0].size
        v = width(self.kind, size, *arrays, *made)
        grid = (min(-(-size // (256 * v)), 132 * 16),)
        self(f"chain<{v}>", grid, (256,), *arrays, *made, np.int64(size))
        return tuple(made)


def size_of(kind):
    """Bytes of a number."""
    return 4 if kind == "float" else 2


def text_of(kind, lines, inputs, outputs):
    """The source of a chain."""
    parameters = [f"const {kind}* __restrict__ x{i}" for i in range(inputs)]
    parameters += [f"{kind}* __restrict__ y{i}" for i in range(len(outputs))]
    pack = f"Pack<{kind}, V>"
    loads = [f"const {pack} p{i} = ((const {pack}*)x{i})[i];" for i in range(inputs)]
    loads += [f"{pack} q{i};" for i in range(len(outputs))]
    inner = [f"const float a{i} = mg_float(p{i}.at[j]);" for i in range(inputs)]
    inner += [*lines, *[f"q{i}.at[j] = mg_to<{kind}>({name});" for i, name in enumerate(outputs)]]
    stores = [f"(({pack}*)y{i})[i] = q{i};" for i in range(len(outputs))]
    indented = lambda part, depth: "\n".join(" " * depth + line for line in part)
    return f"""#include "mg.cuh"

template <int V>
__global__ void chain({", ".join(parameters)}, long long n) {{
    const long long packs = n / V;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < packs;
         i += gridDim.x * (long long)blockDim.x) {{
{indented(loads, 8)}
#pragma unroll
        for (int j = 0; j < V; ++j) {{
{indented(inner, 12)}
        }}
{indented(stores, 8)}
    }}
}}
"""


chains = {}  # what a chain is made of -> its function: equal runs share a kernel


def chain_of(*parts):
    """The function of a chain, one for equal chains."""
    if parts not in chains:
        chains[parts] = Chain(*parts).run
    return chains[parts]


# --- Code: two programs ---------------------------------------------------------------------------


def with_chains(writer, function):
    """The program `function`, and for arrays on a GPU one with chains."""
    if hasattr(writer, "fits"):  # it is such a writer itself
        return function

    @wraps(function)
    def program(*arrays, **into):
        if not arrays or type(arrays[0]) is np.ndarray:
            return function(*arrays, **into)
        if "there" not in program.made:
            fused = FusedWriter(writer.name, writer.inputs, writer.outputs, writer.outlines)
            fused.placing, fused.own = writer.placing, writer.own
            program.made["there"] = fused.function()
        there = program.made["there"]
        given = {there.places[i]: into.get(p) for i, p in program.places.items()}
        return there(*arrays, **given)

    program.made = {}
    return program


elsewhere.append(with_chains)
