"""Programs that say `import mxnet` run unchanged: Python asks finders for modules, and one of them can answer with ours."""

# Written from chapters/98_mxnet.ipynb: edit the chapter, then run `minigluon export`.

import warnings

from minigluon.module.base_module import described, joined
from minigluon.module.module import groups_of, require_names

__all__ = [
    "check_input_names",
    "check_names_match",
    "merge_multi_context",
    "parse_data_desc",
    "prepare_group2ctxs",
]


# --- Names in other places ------------------------------------------------------------------------


def check_input_names(symbol, names, typename, throw):
    """ValueError, or a warning, for names that are no arguments of a graph."""
    require_names(symbol, names, f"{typename}_names", throw)


def check_names_match(data_names, data_shapes, name, throw):
    """ValueError, or a warning, if the shapes are not of these names."""
    given = [shape[0] for shape in data_shapes]
    if sorted(given) != sorted(data_names):
        told = f"{name}_shapes are of {given}, {name}_names are {list(data_names)}: give them one by one"
        if throw:
            raise ValueError(told)
        warnings.warn(told, stacklevel=3)


def parse_data_desc(data_names, label_names, data_shapes, label_shapes):
    """Descriptions of data and labels, from pairs of name and shape;
    ValueError if data has other names.
    """
    data, labels = described(data_shapes), described(label_shapes)
    check_names_match(data_names, data or [], "data", True)
    check_names_match(label_names, labels or [], "label", False)
    return data, labels


def prepare_group2ctxs(group2ctxs, ctx_len):
    """For each of so many devices {ctx_group: device}, or None."""
    if isinstance(group2ctxs, list):
        assert len(group2ctxs) == ctx_len, f"{len(group2ctxs)} groups for {ctx_len} devices"
    return [groups_of(group2ctxs, number) for number in range(ctx_len)]


def merge_multi_context(outputs, major_axis):
    """Of each output's parts one array, on the first part's device;
    the first part where the axis is below 0.
    """
    return [
        parts[0] if axis < 0 else joined([a.as_in_context(parts[0].context) for a in parts], axis)
        for parts, axis in zip(outputs, major_axis)
    ]
