"""A graph is drawn by giving each node a layer: one more than the latest of its inputs."""

# Written from chapters/35_pictures.ipynb: edit the chapter, then run `minigluon export`.

import html
import math

from minigluon.base import MXNetError
from minigluon.symbol.files import written_name
from minigluon.symbol.inference import Facts, given
from minigluon.symbol.symbol import Symbol, in_order, text

__all__ = [
    "COLORS",
    "GAP",
    "HEAD",
    "HEIGHT",
    "STYLE",
    "TOLD",
    "WEIGHTS",
    "WIDTH",
    "across",
    "attributes_text",
    "box",
    "cells",
    "color_of",
    "columns",
    "curve",
    "inputs_of",
    "is_input",
    "is_weight",
    "kind_of",
    "label_of",
    "line",
    "parameters_of",
    "plot_network",
    "print_summary",
    "require_symbol",
    "rows_of",
    "shape_text",
    "shapes_from",
    "svg",
    "table",
    "tree",
]


# --- Which nodes are shown ------------------------------------------------------------------------

WEIGHTS = ("_weight", "_bias", "_beta", "_gamma", "_moving_var", "_moving_mean", "_running_var")
WEIGHTS += ("_running_mean", "_parameters", "_alpha")


def require_symbol(symbol):
    """TypeError for what is no Symbol."""
    if not isinstance(symbol, Symbol):
        raise TypeError(f"symbol must be Symbol, not {type(symbol).__name__}")


def is_weight(node):
    """Whether a node is a parameter, to judge by its name."""
    return node.op is None and node.name.endswith(WEIGHTS)


def inputs_of(node, hidden=()):
    """The entries that a call reads, without hidden nodes."""
    return [a for a in node.inputs if type(a) is tuple and a[0] not in hidden]


def shapes_from(symbol, shape):
    """{entry: shape} of a graph, where `shape` tells those of some variables; empty without it."""
    if shape is None:
        return {}
    given(symbol, (), shape, "shape")  # MXNetError for names that are none of its variables
    facts = Facts({k: tuple(v) for k, v in shape.items()}, {})
    for node in in_order(symbol._entries):
        facts.visit(node)
    return facts.shapes


# --- Summary as text ------------------------------------------------------------------------------


def print_summary(symbol, shape=None, line_length=120, positions=(0.44, 0.64, 0.74, 1.0)):
    """Print a table of the calls of a graph: name and operator, output shape, parameters, inputs.

    shape: {name of a variable: shape}; without it shapes and counts are unknown. `positions` are
    the right ends of the columns, as parts of `line_length` or in characters.
    """
    require_symbol(symbol)
    ends = [int(line_length * p) if positions[-1] <= 1 else int(p) for p in positions]
    shapes, total = shapes_from(symbol, shape), 0
    calls = [n for n in in_order(symbol._entries) if n.op is not None or is_input(n, shape)]
    lines = ["_" * line_length, columns(HEAD, ends), "=" * line_length]
    for node in calls:
        count = parameters_of(node, shapes, shape)
        total += count
        names = [a[0].name for a in inputs_of(node) if a[0].op is not None or is_input(a[0], shape)]
        out = "x".join(map(str, (shapes.get((node, 0)) or ())[1:]))
        first = [f"{node.name}({kind_of(node)})", out, count, names[0] if names else ""]
        lines += [columns(first, ends), *[columns(["", "", "", n], ends) for n in names[1:]]]
        lines.append(("=" if node is calls[-1] else "_") * line_length)
    print("\n".join([*lines, f"Total params: {total}", "_" * line_length]))


HEAD = ("Layer (type)", "Output Shape", "Param #", "Previous Layer")


def kind_of(node):
    """What MXNet calls a node's operator, if it knows it; a variable is of the kind null."""
    if node.op is None:
        return "null"
    try:
        return written_name(node)[0]
    except MXNetError:
        return node.called


def columns(fields, ends):
    """A line whose fields end at these columns."""
    line = ""
    for field, end in zip(fields, ends):
        line = f"{line}{field}"[:end].ljust(end)
    return line


def is_input(node, shape):
    """Whether a variable is data: named in `shape`, or called so, or else no parameter and no label."""
    if node.op is not None:
        return False
    return node.name in (shape or ()) or not (is_weight(node) or node.name.endswith("label"))


def parameters_of(node, shapes, shape):
    """How many numbers the parameters of a call have, its states left out; 0 where that is not known."""
    states = getattr(node.op, "states", ()) if node.op else ()
    arrays = node.op.arrays if node.op and node.op.most == len(node.op.arrays) else [""] * 999
    return sum(
        math.prod(shapes.get(a) or (0,))
        for a, array in zip(node.inputs, arrays)
        if type(a) is tuple and is_weight(a[0]) and array not in states
    )


# --- With graphviz --------------------------------------------------------------------------------

COLORS = {
    "Convolution": "#fb8072",
    "Deconvolution": "#fb8072",
    "FullyConnected": "#fb8072",
    "BatchNorm": "#bebada",
    "Activation": "#ffffb3",
    "LeakyReLU": "#ffffb3",
    "Pooling": "#80b1d3",
    "concat": "#fdb462",
    "Flatten": "#fdb462",
    "reshape": "#fdb462",
    "softmax": "#b3de69",
    "SoftmaxOutput": "#b3de69",
}
TOLD = {  # the settings that a box shows
    "Convolution": ("kernel", "stride", "num_filter"),
    "Deconvolution": ("kernel", "stride", "num_filter"),
    "FullyConnected": ("num_hidden",),
    "Activation": ("act_type",),
    "LeakyReLU": ("act_type",),
    "Pooling": ("pool_type", "kernel", "stride"),
}


def label_of(node):
    """What stands in the box of a node."""
    if node.op is None:
        return node.name
    told = [text(node.settings[k]) for k in TOLD.get(node.op.name, ()) if k in node.settings]
    return node.called + ("\n" + ", ".join(told) if told else "")


def color_of(node):
    """The colour of the box of a node."""
    return "#8dd3c7" if node.op is None else COLORS.get(node.op.name, "#fccde5")


def plot_network(
    symbol,
    title="plot",
    save_format="pdf",
    shape=None,
    dtype=None,
    node_attrs=None,
    hide_weights=True,
):
    """The graph as a `graphviz.Digraph`; arrows carry shapes where `shape` tells those of the variables.

    ImportError without the package graphviz.
    """
    require_symbol(symbol)
    try:
        from graphviz import Digraph
    except ImportError:
        raise ImportError("plot_network needs graphviz: pip install graphviz") from None
    shapes, nodes = shapes_from(symbol, shape), in_order(symbol._entries)
    hidden = {n for n in nodes if hide_weights and is_weight(n)}
    style = {"shape": "box", "fixedsize": "false", "style": "filled", **(node_attrs or {})}
    dot = Digraph(name=title, format=save_format)
    for node in nodes:
        if node not in hidden:
            dot.node(node.name, label_of(node), {**style, "fillcolor": color_of(node)})
        for a in inputs_of(node, hidden):
            size = "x".join(map(str, (shapes.get(a) or ())[1:]))
            dot.edge(node.name, a[0].name, dir="back", arrowtail="open", label=size)
    return dot


# --- A drawing without it -------------------------------------------------------------------------

WIDTH, HEIGHT, GAP = 130, 34, 24  # of a box, and between boxes, in pixels


def rows_of(nodes, hidden):
    """The rows of a drawing, each a list of nodes: below all that they read, near the mean of it."""
    row, place, rows = {}, {}, []
    for node in nodes:
        row[node] = 1 + max((row[a[0]] for a in inputs_of(node, hidden)), default=-1)
        rows += [[] for _ in range(row[node] + 1 - len(rows))]
        rows[row[node]].append(node)
    for members in rows:
        for node in members:
            above = [place[a[0]] for a in inputs_of(node, hidden)]
            place[node] = sum(above) / len(above) if above else 0
        members.sort(key=place.get)
        for i, node in enumerate(members):
            place[node] = i - (len(members) - 1) / 2
    return rows, place


def svg(symbol, limit=80):
    """The graph as an SVG drawing; None if it has more than `limit` nodes that are shown."""
    nodes = in_order(symbol._entries)
    hidden = {n for n in nodes if is_weight(n)}
    nodes = [n for n in nodes if n not in hidden]
    if len(nodes) > limit:
        return None
    rows, place = rows_of(nodes, hidden)
    widest = max(len(members) for members in rows)
    width, height = widest * (WIDTH + GAP), len(rows) * (HEIGHT + GAP)
    x = {n: width / 2 + place[n] * (WIDTH + GAP) for n in nodes}
    y = {n: GAP / 2 + r * (HEIGHT + GAP) for r, members in enumerate(rows) for n in members}
    lines = [line(a[0], n, x, y) for n in nodes for a in inputs_of(n, hidden)]
    boxes = [box(n, x[n], y[n]) for n in nodes]
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = 'font-family="sans-serif" font-size="11" text-anchor="middle"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>'
    return "".join([start, *lines, *boxes, "</svg>"])


def line(a, b, x, y):
    """From below the box of `a` to above that of `b`, past the boxes that stand in the way."""
    begin, end, between = y[a] + HEIGHT, y[b], [n for n in y if y[a] < y[n] < y[b]]
    way, at = f"M{x[a]:g} {begin:g}", x[a]
    if any(abs(x[n] - across(a, b, y[n], x, y)) < WIDTH / 2 for n in between):
        at = max(x[n] for n in between) + WIDTH / 2 + GAP / 3  # right of them all
        way += curve(x[a], begin, at, begin + GAP) + f"V{end - GAP:g}"
        begin = end - GAP
    return f'<path d="{way}{curve(at, begin, x[b], end)}" fill="none" stroke="#888"/>'


def across(a, b, height, x, y):
    """Where the straight line between two nodes is at a height."""
    return x[a] + (x[b] - x[a]) * (height - y[a]) / (y[b] - y[a])


def curve(x0, y0, x1, y1):
    """From one point to another below it, downwards at both ends."""
    bend = min(y1 - y0, GAP)
    return f"C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}"


def box(node, x, y):
    """A box with the name of the operator and of the node."""
    place = f'x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}"'
    first, *more = [html.escape(part) for part in label_of(node).split("\n")]
    name = html.escape(node.name if len(node.name) < 22 else f"…{node.name[-20:]}")
    first = f"{first} {' '.join(more)}".strip()
    body = f'<text x="{x:g}" y="{y + (14 if node.op else 21):g}">{first}</text>'
    if node.op is not None:
        body += f'<text x="{x:g}" y="{y + 27:g}" fill="#666" font-size="9">{name}</text>'
    full = html.escape(f"{node.name}: {attributes_text(node)}")
    color = color_of(node)
    return f'<g><title>{full}</title><rect {place} rx="5" fill="{color}" stroke="#666"/>{body}</g>'


def attributes_text(node):
    """The settings of a node in a line."""
    settings = ", ".join(f"{k}={text(v)}" for k, v in node.settings.items())
    return f"{node.called}({settings})" if node.op else "variable"


# --- Tables for blocks ----------------------------------------------------------------------------


def table(block):
    """A block as an HTML table: each block of the tree, what it says of itself, and its parameters."""
    rows = "".join(cells(*row) for row in tree(block))
    shapes = [p.shape or (0,) for p in block.collect_params().values()]
    count = sum(math.prod(shape) for shape in shapes)
    more = " so far, some sizes are unknown" if any(0 in shape for shape in shapes) else ""
    name = html.escape(block.name)
    return (
        f"<div>{STYLE}<table class='gluon'><caption>{name}: {count:,} parameters{more}</caption>"
        "<thead><tr><th></th><th>block</th><th>parameters</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


STYLE = (  # pages differ in what they do to cells: JupyterLab moves texts to the right
    "<style>table.gluon td, table.gluon th "
    "{text-align: left !important; vertical-align: top; padding: 0.1em 1em}</style>"
)


def tree(block, name="", depth=0):
    """(depth, name, block) of a tree of blocks, the root first."""
    yield depth, name, block
    for key, child in block._children.items():
        yield from tree(child, key, depth + 1)


def cells(depth, name, block):
    """The row of a block, its name indented by its depth."""
    own = block._reg_params.items()
    told = "<br>".join(html.escape(f"{n} {shape_text(p.shape)}") for n, p in own)
    label = repr(block) if not block._children else type(block).__name__
    told = "&#8195;" * depth + html.escape(name), html.escape(label), told  # an em a level
    return f"<tr>{''.join(f'<td>{t}</td>' for t in told)}</tr>"


def shape_text(shape):
    """A shape, with ? for sizes that are not known yet."""
    return "?" if shape is None else "×".join(str(n) if n > 0 else "?" for n in shape) or "1"
