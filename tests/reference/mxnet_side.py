"""Run calls in the real MXNet: `python mxnet_side.py FOLDER FIRST`, where MXNet 1.9.1 is installed.

FOLDER/calls.json lists calls, of which those before number FIRST are left out; arrays lie beside it as
`.npy`. Each answer is added to FOLDER/answers.jsonl at once, so that it is known how far MXNet came if
a call aborts it, and arrays go to further `.npy` files. It imports nothing of this project.
"""

import json
import sys
from pathlib import Path

import numpy as np

np.bool = bool  # this release of MXNet still asks for it
import mxnet as mx

SPACES = {
    "linalg_": mx.nd.linalg,
    "contrib_": mx.nd.contrib,
    "random_": mx.nd.random,
    "image_": mx.nd.image,
}


def function(name):
    """The function of `mx.nd`, or of one of its namespaces; None if MXNet has none."""
    for prefix, space in SPACES.items():
        if name.startswith(prefix) and hasattr(space, name[len(prefix) :]):
            return getattr(space, name[len(prefix) :])
    for space in (mx.nd, mx.nd._internal):
        if hasattr(space, name):
            return getattr(space, name)
    return None


def tuples(settings):
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def answer(folder, number, call):
    """Outputs and gradients of one call, saved; what is to be known of them."""
    f = function(call["op"])
    if f is None:
        return {"missing": True}
    xs = [
        mx.nd.array(np.load(folder / a), dtype=np.load(folder / a).dtype)
        if isinstance(a, str)
        else a
        for a in call["arrays"]
    ]
    for i in call["differentiable"]:
        xs[i].attach_grad()
    with mx.autograd.record():
        out = f(*xs, **tuples(call["settings"]))
    outs = out if isinstance(out, (list, tuple)) else [out]
    for i, o in enumerate(outs):
        np.save(folder / f"{number}-out{i}.npy", o.asnumpy())
    if call["differentiable"]:
        heads = [mx.nd.array(weights(o.shape, i), dtype=o.dtype) for i, o in enumerate(outs)]
        mx.autograd.backward(list(outs), heads)
        for i in call["differentiable"]:
            np.save(folder / f"{number}-grad{i}.npy", xs[i].grad.asnumpy())
    return {"outputs": len(outs)}


def weights(shape, seed):
    """The head gradients, the same on both sides."""
    return np.random.RandomState(seed).uniform(-1, 1, shape)


def main():
    folder = Path(sys.argv[1])
    calls = json.loads((folder / "calls.json").read_text())
    with (folder / "answers.jsonl").open("a") as answers:
        for number in range(int(sys.argv[2]), len(calls)):
            try:
                found = answer(folder, number, calls[number])
            except Exception as error:
                lines = [line for line in str(error).splitlines() if line.strip()]
                found = {"error": f"{type(error).__name__}: {lines[-1] if lines else ''}"}
            print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
