"""Write tests/golden_numpy.json: what the real MXNet 1.9.1 makes of each line of numpy_expressions.txt.

`python tests/reference/golden_numpy.py`, run by the Python of an environment with MXNet. A value is its
type, shape and numbers; an error, the names of its class and those above.
"""

import json
import warnings
from pathlib import Path

import numpy as onp

HERE = Path(__file__).parents[1]


def described(value):
    """A value as something that JSON can hold."""
    if hasattr(value, "asnumpy"):
        raw = value.asnumpy()
        return {
            "dtype": str(raw.dtype),
            "shape": list(raw.shape),
            "numbers": [repr(float(x)) for x in raw.ravel()],
        }
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    return repr(value)


def answers(names):
    """What every expression gives."""
    found = {}
    for line in (HERE / "numpy_expressions.txt").read_text().splitlines():
        try:
            found[line] = described(eval(line, dict(names)))
        except Exception as error:
            found[line] = {"error": [kind.__name__ for kind in type(error).__mro__]}
    return found


def main():
    onp.bool = bool  # this release of MXNet still asks for it
    warnings.simplefilter("ignore")
    import mxnet as mx
    from mxnet import np, npx

    npx.set_np()
    found = answers({"mx": mx, "np": np, "npx": npx, "onp": onp})
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items())
    (HERE / "golden_numpy.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
