"""Run the table of operators here and in the real MXNet 1.9.1, and print where they agree.

`MXNET_PYTHON=/path/to/python python tests/reference/compare.py [WORD ...]`: rows whose name contains
one of the words, by default all. Each row is run in float32 on its own arrays and on random ones of the
same shapes; values, shapes, types and gradients are compared.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import minigluon as mx
from minigluon import autograd
from minigluon.ndarray.ndarray import place
from minigluon.op import operators
from tests.cases import ROWS, elementwise, special
from tests.reference.exceptions import EXCEPTIONS

SIDE = Path(__file__).with_name("mxnet_side.py")


# operators whose whole-numbered labels or lengths MXNet wants in the
# type of the data; here any type will do
UNIFORM = ("SoftmaxOutput", "SVMOutput", "softmax_cross_entropy", "CTCLoss")


def variants(row, seeds):
    """The arrays of a row in single precision, as they are and stirred."""
    plain = [single(a, row.op in UNIFORM) for a in row.arrays]
    yield plain
    for seed in range(seeds):
        rng = np.random.RandomState(seed)
        yield [
            a * rng.uniform(0.8, 1.2, a.shape).astype(a.dtype)
            if isinstance(a, np.ndarray) and a.dtype.kind == "f" and i in row.differentiable
            else a
            for i, a in enumerate(plain)
        ]


def single(a, uniform=False):
    """Double precision and booleans as float32, which every operator of MXNet takes; or all types."""
    wide = isinstance(a, np.ndarray) and (uniform or a.dtype in ("float64", "bool"))
    return a.astype("float32") if wide else a


def jsonable(value):
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def ask(calls, python):
    """What MXNet answers to `calls`, [(row, arrays)]: [(answer, outputs, gradients)]."""
    with tempfile.TemporaryDirectory() as name:
        folder, listed = Path(name), []
        for number, (row, arrays) in enumerate(calls):
            files = []
            for i, a in enumerate(arrays):
                if isinstance(a, np.ndarray):
                    np.save(folder / f"{number}-in{i}.npy", a)
                    a = f"{number}-in{i}.npy"
                files.append(a)
            settings = {
                k: np.dtype(v).name if isinstance(v, type | np.dtype) else v
                for k, v in row.settings.items()
            }
            listed.append(
                {
                    "op": row.op,
                    "arrays": files,
                    "settings": jsonable(settings),
                    "differentiable": list(row.differentiable),
                }
            )
        (folder / "calls.json").write_text(json.dumps(listed, default=repr))
        answers = run(folder, len(calls), python)
        return [
            (
                answer,
                [np.load(folder / f"{n}-out{i}.npy") for i in range(answer.get("outputs", 0))],
                {
                    i: np.load(folder / f"{n}-grad{i}.npy")
                    for i in row.differentiable
                    if "outputs" in answer
                },
            )
            for n, (answer, (row, _)) in enumerate(zip(answers, calls))
        ]


def run(folder, count, python):
    """The answers to all calls of a folder; MXNet is started anew after each call that aborts it.

    A call may abort because an earlier one has spoilt MXNet's memory: it is asked again first.
    """
    listed, answers = folder / "answers.jsonl", []
    while len(answers) < count:
        command = [python, str(SIDE), str(folder), str(len(answers))]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = listed.read_text().splitlines() if listed.exists() else []
        alone = len(lines) == len(answers)  # none has been answered in this run
        if not listed.exists():  # it did not come so far as to ask MXNet anything
            raise RuntimeError(f"{python} cannot run MXNet: {done.stderr[-500:]}")
        answers = [json.loads(line) for line in lines]
        if done.returncode and alone:  # a signal, or MXNet's own report of one
            answers.append({"error": "MXNet aborts"})
            listed.write_text("".join(json.dumps(a) + "\n" for a in answers))
    return answers


def ours(row, arrays):
    """Outputs and gradients of the same call here."""
    xs = [place(np.array(a), None) if isinstance(a, np.ndarray) else a for a in arrays]
    for i in row.differentiable:
        xs[i].attach_grad()
    with autograd.record():
        out = operators[row.op](*xs, **row.settings)
    outs = list(out) if isinstance(out, list | tuple) else [out]
    if row.differentiable:
        heads = [
            mx.nd.array(np.random.RandomState(i).uniform(-1, 1, o.shape), dtype=o.dtype)
            for i, o in enumerate(outs)
        ]
        autograd.backward(outs, heads)
    return [np.asarray(o) for o in outs], {i: xs[i].grad.asnumpy() for i in row.differentiable}


def difference(found, wanted, what):
    """What distinguishes two arrays, in a few words; '' if nothing does."""
    if found.shape != wanted.shape:
        return f"{what}: shape {found.shape}, MXNet {wanted.shape}"
    if found.dtype != wanted.dtype:
        return f"{what}: {found.dtype}, MXNet {wanted.dtype}"
    if not np.allclose(found, wanted, rtol=1e-4, atol=1e-5, equal_nan=True):
        return f"{what}: {np.ravel(found)[:4]}, MXNet {np.ravel(wanted)[:4]}"
    return ""


def verdict(row, arrays, answered):
    """'agree', 'not in MXNet', or what differs."""
    answer, outputs, gradients = answered
    if "missing" in answer:
        return "not in MXNet"
    if "error" in answer:
        return f"MXNet raises {answer['error'][:120]}"
    outs, grads = ours(row, arrays)
    if len(outs) != len(outputs):
        return f"{len(outs)} outputs, MXNet {len(outputs)}"
    pairs = [(o, w, f"output {i}") for i, (o, w) in enumerate(zip(outs, outputs))]
    pairs += [(grads[i], w, f"gradient {i}") for i, w in gradients.items()]
    return next(filter(None, (difference(*pair) for pair in pairs)), "agree")


def compare(python, words=(), seeds=2):
    """{row id: verdict} of all rows whose id contains one of `words`."""
    mx.nd.relu  # loads the catalogue
    rows = [r for r in ROWS if not words or any(w in r.id for w in words)]
    calls = [(row, arrays) for row in rows for arrays in variants(row, seeds)]
    found = {}
    for (row, arrays), answered in zip(calls, ask(calls, python)):
        one = verdict(row, arrays, answered)
        if found.get(row.id, "agree") == "agree":
            found[row.id] = one
    return found


# --- At the edges ---------------------------------------------------------------------------------

NUMBERS = {  # all of them, or all pairs, go through each operator on single numbers
    "float32": [np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 3e38, -3e38, 1e-40, 2.5, 100, -100, 7, -3],
    "int32": [0, 1, 2, 3, 5, 7, 20, 100, -1, -2, -7, -100],
    "uint8": [0, 1, 2, 3, 5, 7, 20, 100, 200, 255],
}


def at_the_edges(row, kind):
    """The row with special numbers in the place of its arrays, and no gradients."""
    numbers = np.array(NUMBERS[kind], kind)
    count = sum(isinstance(a, np.ndarray) for a in row.arrays)
    grids = iter(np.meshgrid(numbers, numbers) if count == 2 else [numbers] * count)
    arrays = tuple(next(grids).copy() if isinstance(a, np.ndarray) else a for a in row.arrays)
    return replace(row, arrays=arrays, differentiable=())


def compare_edges(python, kind):
    """{row id: verdict} of the operators on single numbers; what MXNet raises, ours may compute."""
    mx.nd.relu
    rows = [at_the_edges(row, kind) for row in elementwise.ROWS + special.ROWS]
    with np.errstate(all="ignore"):
        return {
            row.id: verdict(row, row.arrays, answered)
            for row, answered in zip(rows, ask([(row, row.arrays) for row in rows], python))
        }


def main():
    python = os.environ.get("MXNET_PYTHON")
    if not python:
        sys.exit("set MXNET_PYTHON to the Python of an environment with MXNet 1.9.1")
    found = compare(python, sys.argv[1:])
    for name, one in found.items():
        print(f"{name:40s} {one}" + (f" ({EXCEPTIONS[name]})" if name in EXCEPTIONS else ""))
    agree = sum(one == "agree" for one in found.values())
    alone = sum(one == "not in MXNet" for one in found.values())
    differ = [n for n, one in found.items() if one not in ("agree", "not in MXNet")]
    known = [n for n in differ if n in EXCEPTIONS]
    print(
        f"{len(found)} rows: {agree} agree, {alone} are helpers that MXNet does not have, "
        f"{len(known)} differ for a reason, {len(differ) - len(known)} differ"
    )
    sys.exit(len(differ) > len(known))


if __name__ == "__main__":
    main()
