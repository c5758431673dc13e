"""Write expressions down, here or in MXNet: `python symbol_side.py FOLDER [mxnet]`.

FOLDER/expressions.json is a list of Python expressions over `S` (mx.sym) and the variables x, w, z;
FOLDER/graphs.json becomes {expression: [name, arguments, outputs, JSON text]}, or the error's type.
With FOLDER/arrays.json, {variable: nested list}, each graph of FOLDER/run.json, {key: JSON text}, is loaded and
run, and FOLDER/results.json becomes {key: outputs as nested lists}, or the error's type.
"""

import json
import sys
from pathlib import Path

import numpy as np

if sys.argv[2:] == ["mxnet"]:
    np.bool = bool  # this release of MXNet still asks for it
    import mxnet as mx
else:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import minigluon as mx


def described(expression, names):
    try:
        s = eval(expression, dict(names))
        return [s.name, s.list_arguments(), s.list_outputs(), s.tojson()]
    except Exception as error:
        return type(error).__name__


def ran(text, arrays):
    try:
        s = mx.sym.load_json(text)
        given = {k: mx.nd.array(v) for k, v in arrays.items() if k in s.list_arguments()}
        return [np.asarray(o.asnumpy(), "float64").tolist() for o in s.eval(ctx=mx.cpu(), **given)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main():
    folder = Path(sys.argv[1])
    names = {"S": mx.sym, **{n: mx.sym.var(n) for n in "xwz"}}
    expressions = json.loads((folder / "expressions.json").read_text())
    found = {e: described(e, names) for e in expressions}
    (folder / "graphs.json").write_text(json.dumps(found))
    arrays = json.loads((folder / "arrays.json").read_text())
    texts = json.loads((folder / "run.json").read_text())
    (folder / "results.json").write_text(json.dumps({k: ran(t, arrays) for k, t in texts.items()}))


if __name__ == "__main__":
    main()
