"""A network that has learnt needs few of its bits: numbers become whole steps of a range, and products of steps are exact."""

# Written from chapters/89d_eight_bits.ipynb: edit the chapter, then run `minigluon export`.

from functools import partial

from minigluon.namespace import parsed
from minigluon.op import operators
from minigluon.symbol.files import READERS
from minigluon.symbol.symbol import Symbol, in_order, substituted

__all__ = ["read_joined"]


# --- Eight bits -----------------------------------------------------------------------------------


def read_joined(name, inputs, texts, graphs, all_bytes=False):
    """The graph that a node of joined ones holds, with its arrays;
    `all_bytes`: not only data and a summand may be bytes.

    inputs: an array for each variable of the graph, then the bounds of each that is made of bytes.
    """
    settings = {key: parsed(value) for key, value in texts.items()}
    variables = [node for node in in_order(graphs[0]._entries) if node.op is None]
    arrays, bounds = inputs[: len(variables)], inputs[len(variables) :]
    pairs = len(bounds) // 2
    whole = range(pairs) if all_bytes else (0, len(arrays) - 1)[:pairs]
    for k, i in enumerate(whole):
        parts = (Symbol([entry]) for entry in (arrays[i], *bounds[2 * k : 2 * k + 2]))
        made = operators["contrib_dequantize"](*parts, name=f"{name}_{variables[i].name}")
        arrays[i] = made._entries[0]
    found = Symbol(substituted(graphs[0]._entries, dict(zip(variables, arrays))))
    if not settings.get("quantized") or settings.get("enable_float_output"):
        return found
    bounds = {key: settings.get(key) for key in ("min_calib_range", "max_calib_range")}
    return operators["contrib_quantize_v2"](found, out_type="auto", name=name, **bounds)


READERS["_sg_mkldnn_conv"] = read_joined
READERS["_sg_mkldnn_fully_connected"] = partial(read_joined, all_bytes=True)
