"""Ask MXNet 1.9.1 for the results of the programs in corners.txt: `python golden_corners.py` writes corners.json."""

import json
import math
import sys
from pathlib import Path

HERE = Path(__file__).parent


def programs():
    """What all programs have in common, and {name: code}."""
    _, common, *parts = (HERE / "corners.txt").read_text().split("\n== ")
    named = (part.partition("\n") for part in parts)
    return common.partition("\n")[2], {title: code for title, _, code in named}


def result(mx, common, code):
    """What a program leaves in `r`, as JSON has it, or the class of its error."""
    scope = {"mx": mx, "__name__": "corners"}
    exec(common, scope)
    try:
        exec(code, scope)
    except Exception as error:
        return type(error)
    return plain(scope["r"])


def plain(r):
    """Lists for tuples, and texts for numbers that JSON does not have."""
    if isinstance(r, dict):
        return {k: plain(v) for k, v in r.items()}
    if isinstance(r, list | tuple):
        return [plain(v) for v in r]
    return repr(r) if isinstance(r, float) and not math.isfinite(r) else r


if __name__ == "__main__":
    import mxnet

    common, named = programs()
    found = {name: result(mxnet, common, code) for name, code in named.items()}
    text = {n: r if not isinstance(r, type) else {"error": r.__name__} for n, r in found.items()}
    (HERE / "corners.json" if len(sys.argv) < 2 else Path(sys.argv[1])).write_text(
        json.dumps(text, indent=0) + "\n"
    )
