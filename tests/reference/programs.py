"""Write random programs of array operators, run each here and in the real MXNet 1.9.1, and compare.

`MXNET_PYTHON=/path/to/python python tests/reference/programs.py [FIRST [COUNT]]`: the programs of the
seeds FIRST … FIRST + COUNT - 1. A program is a list of lines of Python that both packages run as they
stand; after each line its value, or the kind of error, is noted, and at the end every array and every
gradient. A program with a seed is always the same.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SIDE = "--side"  # run as MXNet's side: it imports nothing of this project


# --- Running a program, on either side ----------------------------------------------------------------


def start(mx, program):
    """The names that a program begins with: the package, NumPy and its arrays."""
    names = {"mx": mx, "nd": mx.nd, "np": np}
    for name, (dtype, shape, seed) in program["arrays"].items():
        names[name] = mx.nd.array(numbers(dtype, shape, seed), dtype=dtype)
    return names


def numbers(dtype, shape, seed):
    """Multiples of a quarter, which add and multiply without rounding; or small whole numbers."""
    drawn = np.random.RandomState(seed).randint(-7, 8, shape)
    if np.dtype(dtype).kind == "f":
        return (drawn / 4).astype(dtype)
    return (abs(drawn) % 5 if dtype == "uint8" else drawn).astype(dtype)


def run_line(line, names):
    """Run one line: the kinds of error that it raised, the most special first, or ''."""
    try:
        exec(line, names)
        names["nd"].waitall()  # MXNet may find an error late
    except Exception as error:
        return " ".join(kind.__name__ for kind in type(error).__mro__)
    return ""


def run(mx, program):
    """What each line raised, and the arrays at the end {name: NumPy array}."""
    names, raised = start(mx, program), []
    for name in program["marked"]:
        names[name].attach_grad()
    with mx.autograd.record() if program["marked"] else mx.autograd.pause():
        for line in program["lines"]:
            raised.append(run_line(line, names))
    arrays = {n: a for n, a in names.items() if isinstance(a, mx.nd.NDArray)}
    found = {n: a.asnumpy() for n, a in arrays.items()}
    if program["marked"]:
        heads = [names[n] for n in program["heads"]]
        weights = [mx.nd.array(weight(h.shape, i), dtype=h.dtype) for i, h in enumerate(heads)]
        mx.autograd.backward(heads, weights)
        found.update({f"{n}.grad": names[n].grad.asnumpy() for n in program["marked"]})
    return raised, found


def weight(shape, seed):
    """The gradients of the heads, the same on both sides."""
    return np.random.RandomState(seed).uniform(-1, 1, shape)


def side(folder, first):
    """Run the programs of a folder from number `first` in MXNet; note each answer at once."""
    np.bool = bool  # this release of MXNet still asks for it
    import mxnet

    programs = json.loads((folder / "programs.json").read_text())
    with (folder / "answers.jsonl").open("a") as answers:
        for number in range(first, len(programs)):
            signal.alarm(20)  # MXNet may wait for ever: then it ends here
            try:
                raised, found = run(mxnet, programs[number])
                np.savez(folder / f"{number}.npz", **found)
                answer = {"raised": raised}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(answer), file=answers, flush=True)


def ask(programs, python):
    """What MXNet answers: [(raised, arrays) or a text]; it is started anew where a program aborts it."""
    with tempfile.TemporaryDirectory() as name:
        folder, answers = Path(name), []
        (folder / "programs.json").write_text(json.dumps(programs))
        listed = folder / "answers.jsonl"
        while len(answers) < len(programs):
            command = [python, __file__, SIDE, str(folder), str(len(answers))]
            done = subprocess.run(command, capture_output=True, text=True)
            if not listed.exists():
                raise RuntimeError(f"{python} cannot run MXNet: {done.stderr[-500:]}")
            answers = [json.loads(line) for line in listed.read_text().splitlines()]
            if len(answers) < len(programs):
                answers.append({"error": "MXNet aborts"})
                with listed.open("a") as more:
                    print(json.dumps(answers[-1]), file=more)
        return [
            (a["raised"], dict(np.load(folder / f"{i}.npz"))) if "raised" in a else a["error"]
            for i, a in enumerate(answers)
        ]


# --- Writing a program --------------------------------------------------------------------------------


class Writer:
    """Writes one program line by line; it runs each line here, so as to know the shapes."""

    def __init__(self, seed):
        import minigluon as mx

        self.mx, self.random = mx, np.random.RandomState(seed)
        self.recorded = self.random.rand() < 0.4
        dtype = "float32" if self.recorded else self.one(["float32"] * 3 + list(OTHERS))
        shape = self.shape()
        shapes = [shape, self.fitting(shape), self.shape()]
        self.program = {
            "seed": seed,
            "arrays": {
                f"x{i}": (dtype, s, int(self.random.randint(10**6))) for i, s in enumerate(shapes)
            },
            "marked": ["x0", "x1"] if self.recorded else [],
            "lines": [],
            "heads": [],
        }
        self.names = start(mx, self.program)
        self.exact = set(
            self.program["arrays"]
        )  # of multiples of a quarter, not of rounded numbers
        self.pool = list(self.exact)

    def one(self, of):
        return of[self.random.randint(len(of))]

    def maybe(self, chance=0.5):
        return self.random.rand() < chance

    def whole(self, low, high):
        """A whole number from `low` up to `high`, without it."""
        return int(self.random.randint(low, high))

    def shape(self):
        return tuple(int(n) for n in self.random.randint(1, 5, self.one([1, 2, 2, 3, 3, 4])))

    def fitting(self, shape):
        """A shape of as many axes that broadcasts with `shape`."""
        return tuple(1 if self.maybe(0.3) else n for n in shape)

    def pick(self, axes=None, exact=False, kind=None):
        """The name of an array to go on with, the latest more often; None if there is none such."""
        fit = [
            n
            for n in sorted(self.pool)
            if (axes is None or self.names[n].ndim in axes)
            and (not exact or n in self.exact)
            and (kind is None or np.dtype(self.names[n].dtype).kind in kind)
            and 0 < self.names[n].size < 2000
        ]
        return self.one(fit) if fit else None

    def axis(self, x):
        n = self.names[x].ndim
        return self.whole(-n, n)

    def write(self, steps):
        """A program of so many steps."""
        choices = [t for t in TEMPLATES if not (self.recorded and t in IN_PLACE)]
        for _ in range(steps * 10):
            if len(self.program["lines"]) >= steps:
                break
            template = self.one(choices)
            made = template(self)
            if made:
                self.add(made, template in INEXACT, template in IN_PLACE)
        self.finish()
        return self.program

    def add(self, expression, rounds, statement):
        """Add a line that computes `expression`, or that writes in place if it is a statement."""
        name = f"y{len(self.program['lines'])}"
        line = expression if statement else f"{name} = {expression}"
        scope = self.mx.autograd.record if self.recorded else self.mx.autograd.pause
        with scope():
            raised = run_line(line, self.names)
        if raised and self.maybe(0.7):
            return
        self.program["lines"].append(line)
        made = self.names.get(name)
        if isinstance(made, self.mx.nd.NDArray):
            if not np.isfinite(made.asnumpy().astype("float64")).all() or big(made):
                self.program["lines"].pop()
                del self.names[name]
                return
            self.pool.append(name)
            used = set(re.findall(r"\b[xy]\d+\b", expression))
            if not rounds and used <= self.exact and float(abs(made.asnumpy()).max()) < 1000:
                self.exact.add(name)

    def finish(self):
        """Choose what to differentiate."""
        if self.recorded:
            nodes = [n for n in self.pool if n[0] == "y" and self.names[n]._node is not None]
            self.program["heads"] = nodes[-2:]
            if not nodes:
                self.program["marked"] = []


def big(a):
    return a.size == 0 or float(abs(a.asnumpy().astype("float64")).max()) > 1e4


OTHERS = ("float64", "int32", "int64", "uint8", "int8", "float16")
TEMPLATES, INEXACT, IN_PLACE = [], set(), set()


def step(*kinds):
    """Register a template: a function of the writer that gives an expression, or None."""

    def register(template):
        TEMPLATES.append(template)
        for kind in kinds:
            kind.add(template)
        return template

    return register


SMOOTH = "exp sigmoid tanh sin cos arctan softsign erf expm1 cbrt arcsinh sinh relu square abs"
SMOOTH = (
    SMOOTH + " negative radians degrees hard_sigmoid identity gamma_of log_of sqrt_of"
).split()


@step(INEXACT)
def smooth(w):
    x, f = w.pick(kind="f"), w.one(SMOOTH)
    if f.endswith("_of"):
        f = {"gamma_of": "gammaln", "log_of": w.one(["log", "log1p", "log2", "log10"])}.get(
            f, w.one(["sqrt", "rsqrt", "reciprocal", "rcbrt"])
        )
        return x and f"nd.{f}(nd.abs({x}) + 1)"
    return x and f"nd.{f}({x})"


@step()
def steps_of_staircase(w):
    x, f = (
        w.pick(exact=True, kind="f"),
        w.one(["floor", "ceil", "round", "rint", "trunc", "fix", "sign", "abs", "relu"]),
    )
    return x and (f"nd.{f}({x})" if w.maybe() else f"{x}.{f}()")


@step()
def clip(w):
    x = w.pick(exact=True)
    return x and w.one(
        [f"{x}.clip(-1, 1)", f"nd.clip({x}, 0, 2)", f"nd.clip({x}, a_min=-1, a_max=1)"]
    )


@step()
def with_scalar(w):
    x, s = w.pick(), w.one(["2", "0.5", "3", "-1", "1.5", "0"])
    o = w.one(["+", "-", "*"])
    return x and (f"{x} {o} {s}" if w.maybe() else f"{s} {o} {x}")


@step(INEXACT)
def divided(w):
    x, s = w.pick(), w.one(["2", "3", "-4", "0.5"])
    s = s if x and np.dtype(w.names[x].dtype).kind == "f" else "3"
    return x and w.one([f"{x} / {s}", f"{s} / (nd.abs({x}) + 1)", f"(nd.abs({x}) + 1) ** {s}"])


@step()
def remainder(w):
    x = w.pick(exact=True)
    return x and w.one([f"{x} % 2", f"{x} % -3", f"5 % (nd.abs({x}) + 1)"])


@step()
def compared(w):
    x, o = w.pick(exact=True), w.one(["<", ">", "<=", ">=", "==", "!="])
    return x and f"{x} {o} {w.one(['0', '1', '0.25', x])}"


def pair(w, exact=False):
    """Two arrays whose shapes broadcast."""
    x, y = w.pick(exact=exact), w.pick(exact=exact)
    if not x:
        return None
    a, b = w.names[x], w.names[y]
    if a.ndim == b.ndim and all(n == m or 1 in (n, m) for n, m in zip(a.shape, b.shape)):
        return x, y
    return x, w.one([f"{x}.sum(axis={w.axis(x)}, keepdims=True)", x, f"{x}.slice_axis(0, 0, 1)"])


@step()
def two(w):
    p, o = pair(w), w.one(["+", "-", "*"])
    return p and w.one([f"{p[0]} {o} {p[1]}", f"nd.broadcast_{NAMED[o]}({p[0]}, {p[1]})"])


NAMED = {"+": "add", "-": "sub", "*": "mul"}
CHOICES = (
    "maximum minimum broadcast_maximum broadcast_lesser broadcast_greater_equal equal not_equal"
)
CHOICES = (
    CHOICES + " broadcast_logical_and broadcast_logical_xor logical_or modulo lesser"
).split()


@step()
def chosen(w):
    p, f = pair(w, exact=True), w.one(CHOICES)
    return p and f"nd.{f}({p[0]}, {p[1]})"


@step(INEXACT)
def quotients(w):
    p = pair(w)
    return p and w.one(
        [
            f"{p[0]} / (nd.abs({p[1]}) + 1)",
            f"nd.broadcast_power(nd.abs({p[0]}) + 0.5, {p[1]})",
            f"nd.broadcast_hypot({p[0]}, {p[1]})",
        ]
    )


@step(INEXACT)
def reduced(w):
    x, f = w.pick(), w.one(["sum", "mean", "prod", "nansum", "nanprod", "max", "min"])
    if not x:
        return None
    settings = w.one(
        [
            "",
            f"axis={w.axis(x)}",
            f"axis={w.axis(x)}, keepdims=True",
            f"axis=({w.axis(x)},)",
            f"axis=(0, {w.axis(x)})",
            f"axis={w.axis(x)}, exclude=True",
            "axis=()",
            f"{w.axis(x)}",
            f"{w.axis(x)}, True",
        ]
    )
    if w.maybe():
        return f"nd.{f}({x}{', ' * bool(settings)}{settings})"
    return f"{x}.{f}({settings})"


MODES = ["instance", "channel", "spatial"]


@step(INEXACT)
def lengths(w):
    x = w.pick(kind="f")
    return x and w.one(
        [
            f"nd.norm({x} + 3)",
            f"nd.norm({x} + 3, axis={w.axis(x)}, ord={w.one([1, 2])})",
            f"nd.cumsum({x}, axis={w.axis(x) % w.names[x].ndim})",
            f"nd.softmax({x}, axis={w.axis(x)})",
            f"nd.log_softmax({x}, axis={w.axis(x)}, temperature=2)",
            f"{x}.softmax()",
            f"nd.softmin({x}, {w.axis(x)})",
            f"nd.L2Normalization({x} + 3, mode='{w.one(MODES[: 3 if w.names[x].ndim > 2 else 1])}')"
            if w.names[x].ndim > 1
            else None,
            f"nd.smooth_l1({x}, scalar=2)",
        ]
    )


@step()
def extremes(w):
    x, f = w.pick(exact=True), w.one(["argmax", "argmin"])
    return x and w.one(
        [
            f"nd.{f}({x}, axis={w.axis(x)})",
            f"{x}.{f}({w.axis(x)}, True)",
            f"{x}.{f}()",
            f"nd.argmax_channel({x})",
        ]
    )


def codes(w, shape):
    """Codes of `reshape` that fit `shape`, mostly."""
    left, out, inferred = list(shape), [], False
    while left:
        n = left.pop(0)
        code = w.whole(0, 7)
        if code == 0 and left:
            out.append(-3)
            left.pop(0)
        elif code == 1 and not inferred:
            out.append(-1)
            inferred = True
        elif code == 2:
            halves = (n // 2, 2) if n % 2 == 0 else (1, n)
            out += [-4, *w.one([halves, (1, n), (-1, halves[1])])]
        elif code == 3:
            out.append(-2)
            break
        elif code == 4:
            out.append(n)
        else:
            out.append(0)
    return tuple(out)


@step()
def reshaped(w):
    x = w.pick()
    if not x:
        return None
    a = w.names[x]
    code = codes(w, a.shape)
    backwards = codes(w, a.shape[::-1])[::-1]
    return w.one(
        [
            f"{x}.reshape({code})",
            f"nd.reshape({x}, {code})",
            f"{x}.reshape({', '.join(map(str, code))})",
            f"nd.reshape({x}, shape={code})",
            f"nd.reshape({x}, shape={backwards}, reverse=True)" if -4 not in backwards else None,
            f"{x}.reshape((-1, {a.shape[-1]}))",
            f"{x}.reshape((-1, {w.whole(2, 5)}))",
            f"nd.reshape_like({x}, {x}.reshape((-1,)))",
            f"{x}.flatten()",
        ]
    )


@step()
def turned(w):
    x = w.pick()
    if not x:
        return None
    n = w.names[x].ndim
    order = tuple(int(i) for i in w.random.permutation(n))
    a, b = w.axis(x), w.axis(x)
    return w.one(
        [
            f"{x}.T",
            f"nd.transpose({x}, {order})",
            f"{x}.transpose({order})",
            f"{x}.transpose()",
            f"nd.swapaxes({x}, {abs(a) % n}, {abs(b) % n})",
            f"{x}.expand_dims({a})",
            f"nd.expand_dims({x}, axis={b})",
            f"{x}.expand_dims(0).squeeze()",
            f"nd.squeeze({x}, axis={a})",
            f"nd.flip({x}, axis={a % n})",
            f"nd.reverse({x}, axis=({a % n}, {b % n}))" if a % n != b % n else None,
            f"nd.moveaxis({x}, {a}, {b})",
        ]
    )


@step()
def repeated(w):
    x = w.pick()
    if not x:
        return None
    return w.one(
        [
            f"nd.tile({x}, {w.one([2, (2,), (1, 2), (2, 1, 3), (2, 1, 1, 1, 2)])})".replace(
                f"({x}, 2)", f"({x}, (2,))"
            ),
            f"{x}.tile(reps=(2, 2))",
            f"nd.repeat({x}, {w.whole(1, 4)}, {w.axis(x)})",
            f"{x}.repeat(2)",
            f"{x}.repeat(repeats=2, axis={w.axis(x)})",
            f"{x}.sum(axis={w.axis(x)}, keepdims=True).broadcast_like({x})",
            f"nd.broadcast_axis({x}.max(axis=0, keepdims=True), axis=0, size={w.whole(1, 4)})",
            f"{x}.slice_axis(0, 0, 1).broadcast_to({(w.whole(1, 4), *w.names[x].shape[1:])})",
        ]
    )


@step()
def joined(w):
    x = w.pick()
    if not x:
        return None
    axis, n = w.axis(x), w.names[x].shape[0]
    return w.one(
        [
            f"nd.concat({x}, {x} * 2, dim={axis})",
            f"nd.concat({x}, {x})",
            f"nd.concatenate([{x}, {x} + 1], axis={axis % w.names[x].ndim})",
            f"nd.stack({x}, {x} - 1, axis={axis})",
            f"nd.stack({x}, {x})",
            f"nd.split({x}, num_outputs={n}, axis=0)[0]" if n > 1 else None,
            f"nd.split({x}, {n}, 0, True)[-1]" if n > 1 and w.names[x].ndim > 1 else None,
            f"nd.split_v2({x}, {n}, axis=0)[0]" if n > 1 else None,
            f"nd.split_v2({x}, (1,), axis=0)[1]" if n > 1 else None,
            f"nd.add_n({x}, {x}, {x})",
        ]
    )


@step()
def sliced(w):
    x = w.pick()
    if not x:
        return None
    shape = w.names[x].shape
    axis = w.axis(x)
    n = shape[axis]
    first = w.whole(0, n)
    last = w.whole(first + 1, n + 1)
    begin = tuple(w.whole(0, m) for m in shape)
    end = tuple(w.whole(b + 1, m + 1) for b, m in zip(begin, shape))
    return w.one(
        [
            f"nd.slice_axis({x}, {axis}, {first}, {last})",
            f"{x}.slice_axis(axis={axis}, begin={first - n}, end=None)",
            f"nd.slice({x}, {begin}, {end})",
            f"{x}.slice(begin={begin}, end={end})",
            f"nd.slice({x}, begin={(None, *begin[1:])}, end={(None, *end[1:])})",
            f"nd.slice({x}, begin=(None,), end=(None,), step=({w.one([-1, 2, -2])},))",
            f"nd.slice_like({x}, {x}.slice_axis({axis}, {first}, {last}))",
            f"nd.slice_like({x}, {x}.slice_axis(0, 0, 1), axes=(0,))",
        ]
    )


def key(w, shape, lowest=None):
    """A random index of an array of `shape`, as text; numbers from `lowest`, by default negative too.

    To write to a negative place beside a list, MXNet writes beside the array.
    """
    parts, axes = [], w.whole(1, len(shape) + 1)
    fancy = 0
    size = w.whole(1, 4)
    for n in shape[:axes]:
        kind = w.whole(0, 9)
        if kind < 3:
            parts.append(str(w.whole(-n if lowest is None else lowest, n)))
        elif kind < 7 or fancy > 1:
            ends = [w.one(["", str(w.whole(-n, n + 1))]) for _ in range(2)]
            parts.append(":".join(ends + w.one([[], [], ["2"], ["-1"], ["-2"]])))
        else:
            fancy += 1
            places = [w.whole(-n if lowest is None else lowest, n) for _ in range(size)]
            parts.append(
                w.one(
                    [
                        f"{places}",
                        f"np.array({places})",
                        f"nd.array({places}, dtype='int32')",
                        f"nd.array({[abs(p) % n for p in places]})",
                    ]
                )
            )
    if w.maybe(0.15):
        parts.insert(w.whole(0, len(parts) + 1), "None")
    if w.maybe(0.2):
        parts.append("...")
    return ", ".join(parts)


@step()
def read(w):
    x = w.pick()
    return x and f"{x}[{key(w, w.names[x].shape)}]"


@step(IN_PLACE)
def wrote(w):
    x = w.pick(exact=True)
    if not x:
        return None
    place = f"{x}[{key(w, w.names[x].shape, 0)}]"
    try:
        shape = eval(place, w.names).shape
    except Exception:
        return None
    values = [w.one(["2", "-1.5", "0"]), f"nd.ones({shape}, dtype={x}.dtype)", f"np.ones({shape})"]
    return None if 0 in shape else f"{place} = {w.one(values)}"


@step(IN_PLACE)
def changed(w):
    x = w.pick(exact=True)
    o = w.one(["+=", "-=", "*="])
    return x and w.one([f"{x} {o} 2", f"{x} {o} {x}", f"{x}[:] = {x} * 2", f"{x}[:] = 3"])


@step()
def taken(w):
    x = w.pick()
    if not x:
        return None
    shape = w.names[x].shape
    axis, mode = w.axis(x), w.one(["clip", "wrap"])
    places = [w.whole(-6, 7) for _ in range(3)]
    rows = [w.whole(0, shape[0]) for _ in range(3)]
    per_row = np.random.RandomState(w.whole(0, 9)).randint(-5, 6, shape[:-1]).tolist()
    chosen = [
        f"nd.take({x}, nd.array({places}), axis={axis}, mode='{mode}')",
        f"{x}.take(nd.array([{rows}]), 0)",
        f"nd.gather_nd({x}, nd.array([{rows}]))",
        f"nd.where(nd.array({w.random.randint(0, 2, shape).tolist()}), {x}, {x} * 2)",
        f"nd.one_hot(nd.array({places}), {w.whole(1, 6)})",
        f"nd.one_hot(nd.array({places}), 4, 2, -1)",
    ]
    if len(shape) > 1:
        chosen += [
            f"nd.pick({x}, nd.array({per_row}), mode='{mode}')",
            f"{x}.pick(nd.array({per_row}), keepdims=True)",
            f"nd.scatter_nd({x}.slice_axis(0, 0, 1), nd.array([[{w.whole(0, 4)}]]),"
            f" {(4, *shape[1:])})",
        ]
    if len(shape) == 2:
        chosen.append(f"nd.Embedding(nd.array({rows}), {x}, {shape[0]}, {shape[1]})")
    return w.one(chosen)


@step()
def ordered(w):
    x = w.pick(exact=True, kind="f")
    if not x:
        return None
    axis = w.axis(x)
    k, up = w.whole(1, w.names[x].shape[axis] + 1), w.one(["True", "False"])
    return w.one(
        [
            f"nd.sort({x}, axis={axis}, is_ascend={up})",
            f"{x}.topk(axis={axis}, k={k}, ret_typ='value', is_ascend={up})",
            f"nd.topk({x}, {axis}, {k}, 'mask')",
            f"nd.topk({x}, axis={axis}, k={k}, ret_typ='both')[0]",
            f"nd.sort({x}, axis=None)",
        ]
    )


@step()
def sequences(w):
    x = w.pick(axes=(2, 3, 4))
    if not x:
        return None
    steps, batch = w.names[x].shape[:2]
    lengths = [w.whole(1, steps + 1) for _ in range(batch)]
    given = f"{x}, nd.array({lengths}, dtype={x}.dtype), True"
    return w.one(
        [
            f"nd.SequenceMask({given}, {w.one([0, 2])})",
            f"nd.SequenceLast({given})",
            f"nd.SequenceReverse({given})" if w.names[x].ndim > 2 else None,
        ]
    )


@step()
def pictures(w):
    x = w.pick(axes=(4,), kind="f")
    if not x:
        return None
    wide = (0, 0, 0, 0, *(w.whole(0, 2) for _ in range(4)))
    mode = w.one(["constant", "edge"])
    return w.one(
        [
            f"nd.pad({x}, '{mode}', {wide}, 2)",
            f"nd.pad({x}, mode='{mode}', pad_width={wide})",
            f"nd.tile({x}, (1, 4, 1, 1)).depth_to_space(2)",
            f"nd.tile({x}, (1, 1, 2, 2)).space_to_depth(2)",
            f"nd.UpSampling({x}, scale=2, sample_type='nearest')",
            f"nd.Pooling({x}, kernel=(1, 1), pool_type='max')",
        ]
    )


@step()
def matrices(w):
    x = w.pick(axes=(2,), kind="f")
    if not x:
        return None
    n, m = w.names[x].shape
    return w.one(
        [
            f"nd.diag({x})",
            f"nd.diag({x}, k={w.whole(-n + 1, m)})",
            f"nd.dot({x}, {x}.T)",
            f"nd.dot({x}, {x}, transpose_b=True)",
            f"nd.dot({x}, {x}, True)",
            f"nd.FullyConnected({x}, nd.ones(({3}, {m}), dtype={x}.dtype), num_hidden=3,"
            " no_bias=True)",
            f"nd.batch_dot({x}.expand_dims(0), {x}.expand_dims(0), transpose_b=True)",
            f"nd.khatri_rao({x}, {x}[:, :])" if not w.recorded else None,
        ]
    )


@step()
def cast(w):
    x = w.pick(exact=True)
    dtype = w.one(["float32", "float64", "int32", "float16"])
    if not x or w.recorded:
        return None
    return w.one([f"{x}.astype('{dtype}')", f"nd.cast({x}, '{dtype}')", f"{x}.copy()"])


@step()
def filled(w):
    x = w.pick()
    return x and w.one(
        [
            f"nd.zeros_like({x})",
            f"nd.ones_like({x}) * 2",
            f"{x}.zeros_like()",
            f"nd.shape_array({x})",
        ]
    )


# --- Comparing ----------------------------------------------------------------------------------------


def program(seed):
    """The program of a seed."""
    writer = Writer(seed)
    return writer.write(writer.whole(2, 9))


def verdict(program, answer):
    """'agree', or the first line that differs and how."""
    import minigluon as mx

    if isinstance(answer, str):
        return f"MXNet: {answer}"
    (raised, found), (theirs, wanted) = run(mx, program), answer
    for line, ours, there in zip(program["lines"], raised, theirs):
        name, kind = line.split(" = ")[0], there.split(" ")[0]
        if kind not in ours.split(" "):
            return (
                f"{line}: {ours.split(' ')[0] or 'nothing'} is raised, in MXNet {kind or 'nothing'}"
            )
        if kind:
            wanted.pop(name, None)  # MXNet may find the error late
        both = name in found and name in wanted
        if both and (differs := difference(found[name], wanted[name])):
            return f"{line}: {differs}"
    if missing := wanted.keys() - found.keys():
        return f"no array: {sorted(missing)}"
    for name in wanted:
        if differs := difference(found[name], wanted[name]):
            return f"{name} at the end: {differs}"
    return "agree"


def difference(found, wanted):
    """What distinguishes two arrays, in a few words; '' if nothing does."""
    if found.shape != wanted.shape:
        return f"shape {found.shape}, in MXNet {wanted.shape}"
    if found.dtype != wanted.dtype:
        return f"{found.dtype}, in MXNet {wanted.dtype}"
    half = found.dtype == "float16"
    scale = float(np.abs(wanted.astype("float64")).max(initial=1)) if wanted.size else 1
    near = {"rtol": 1e-2 if half else 1e-4, "atol": (1e-2 if half else 1e-5) * scale}
    if np.allclose(found.astype("float64"), wanted.astype("float64"), equal_nan=True, **near):
        return ""
    places = ~np.isclose(found.astype("float64"), wanted.astype("float64"), equal_nan=True, **near)
    return f"{found[places][:3]}, in MXNet {wanted[places][:3]}"


def compare(python, first=0, count=300):
    """{seed: verdict} of so many programs."""
    programs = [program(seed) for seed in range(first, first + count)]
    return {p["seed"]: verdict(p, a) for p, a in zip(programs, ask(programs, python))}


def reason(one):
    """Why a difference is none of ours; '' if it is not known."""
    from tests.reference.exceptions import PROGRAMS

    return next((why for pattern, why in PROGRAMS.items() if re.search(pattern, one)), "")


def main():
    python = os.environ.get("MXNET_PYTHON")
    if not python:
        sys.exit("set MXNET_PYTHON to the Python of an environment with MXNet 1.9.1")
    found = compare(python, *map(int, sys.argv[1:]))
    for seed, one in found.items():
        print(f"{seed:6d} {one}" + (f" ({reason(one)})" if reason(one) else ""))
    differ = [one for one in found.values() if one != "agree"]
    known = [one for one in differ if reason(one)]
    print(
        f"{len(found)} programs: {len(found) - len(differ)} agree, {len(known)} differ for a reason, "
        f"{len(differ) - len(known)} differ"
    )
    sys.exit(len(differ) > len(known))


if __name__ == "__main__":
    if SIDE in sys.argv:
        side(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.path.insert(0, str(Path(__file__).parents[2]))
        main()
