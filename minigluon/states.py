"""Weights are half of a training run; the velocities, counts and schedules of the optimizer are the other half."""

# Written from chapters/70w_states.ipynb: edit the chapter, then run `minigluon export`.

import json

import numpy as np

from minigluon.base import MXNetError
from minigluon.context import Context
from minigluon.ndarray.ndarray import NDArray, array
from minigluon.ndarray.utils import file_chunks, load_frombuffer, path_of, replace_file

__all__ = [
    "LEFT_OUT",
    "branch",
    "dump_states",
    "filled_dict",
    "filled_object",
    "fitting_optimizer",
    "from_tree",
    "load_states",
    "read_states",
    "require_same_classes",
    "save_states",
    "take_states",
    "to_tree",
]


# --- A tree without arrays ------------------------------------------------------------------------

LEFT_OUT = ("param_dict", "sym", "sym_info")  # of the network, not of the optimizer


def to_tree(x, arrays):
    """What JSON can hold of `x`; its arrays are appended to the list `arrays`."""
    if isinstance(x, NDArray):
        arrays.append(x)
        return {"array": len(arrays) - 1}
    if isinstance(x, np.ndarray):
        return {"numpy": to_tree(array(x, dtype=x.dtype), arrays)}
    if isinstance(x, np.generic):
        return x.item()
    if x is None or isinstance(x, bool | int | float | str):
        return x
    if isinstance(x, Context):
        return {"context": [x.device_type, x.device_id]}
    return branch(x, lambda y: to_tree(y, arrays))


def branch(x, tree):
    """The same for what has parts."""
    if isinstance(x, list):
        return [tree(y) for y in x]
    if isinstance(x, tuple):
        return {"tuple": [tree(y) for y in x]}
    if isinstance(x, dict):
        return {"dict": [[tree(key), tree(value)] for key, value in x.items()]}
    parts = {k: v for k, v in getattr(x, "__dict__", {}).items() if k not in LEFT_OUT}
    return {"object": type(x).__name__, "has": tree(parts)}


def from_tree(tree, arrays, like=None):
    """What `tree` says; objects and dictionaries are filled in `like`,
    which must have the same class.
    """
    if isinstance(tree, list):
        return [from_tree(part, arrays) for part in tree]
    if not isinstance(tree, dict):
        return tree
    (kind, content), *_ = tree.items()
    if kind == "array":
        return arrays[content]
    if kind == "numpy":
        return from_tree(content, arrays).asnumpy()
    if kind == "context":
        return Context(*content)
    if kind == "tuple":
        return tuple(from_tree(part, arrays) for part in content)
    if kind == "dict":
        return filled_dict(content, arrays, like)
    return filled_object(tree, arrays, like)


def filled_dict(pairs, arrays, like):
    """A dictionary; `like` itself if it is one, so that whoever shares it sees the change."""
    old = like if isinstance(like, dict) else {}
    new = {}
    for key, value in pairs:
        key = from_tree(key, arrays)
        new[key] = from_tree(value, arrays, old.get(key))
    old.clear()
    old.update(new)
    return old


def filled_object(tree, arrays, like):
    """`like` with the attributes of the tree; MXNetError, before any change, for another class."""
    require_same_classes(tree, like)
    for key, value in tree["has"]["dict"]:
        new = from_tree(value, arrays, getattr(like, key, None))
        vars(like)[key] = new
    return like


def require_same_classes(tree, like):
    """Refuse a tree whose objects are of other classes than those in `like`."""
    name, found = tree["object"], type(like).__name__
    if found != name:
        raise MXNetError(
            f"the file has the state of a {name}, here is a {found}: make the same object "
            "(optimizer, lr_scheduler) as when the file was written, then load"
        )
    for key, value in tree["has"]["dict"]:
        if isinstance(value, dict) and "object" in value:
            require_same_classes(value, getattr(like, key, None))


# --- The file -------------------------------------------------------------------------------------


def dump_states(updaters, dump_optimizer=True):
    """The states of `updaters`, one a device, as names and arrays for a file."""
    arrays = []
    tree = {"version": 1, "states": [to_tree(u.states, arrays) for u in updaters]}
    if dump_optimizer:
        tree["optimizer"] = to_tree(updaters[0].optimizer, arrays)
    text = np.frombuffer(json.dumps(tree).encode(), "u1")
    names = [str(i) for i in range(len(arrays))]
    return [*names, "json"], [*arrays, array(text, dtype="uint8")]


def save_states(fname, updaters, dump_optimizer=True):
    """Write what `updaters` and their optimizer remember: arrays and JSON, whole or not at all.

    OSError if the file cannot be written; what stood there before stays.
    """
    replace_file(path_of(fname), file_chunks(*dump_states(updaters, dump_optimizer)))


def read_states(data, name):
    """The tree and the arrays of a file of states; MXNetError for any other file."""
    if data[:1] == b"\x80" or data[:2] in (b"(d", b"(l", b"(i"):
        raise MXNetError(
            f"{name} is a pickle, as MXNet writes it. A pickle is a program that could do anything, so "
            "it is not loaded here. Load the parameters instead, and let the optimizer begin anew; or "
            "in MXNet, write the arrays of trainer._updaters[0].states by mx.nd.save"
        )
    try:
        arrays = load_frombuffer(data)
        tree = json.loads(arrays.pop("json").asnumpy().tobytes())
        return tree, [arrays[str(i)] for i in range(len(arrays))]
    except (MXNetError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise MXNetError(f"{name} is no file of an optimizer's states: {error}") from error


def load_states(fname, updaters, contexts=None):
    """Give `updaters` the states of a file, and their optimizer its numbers, if the file has them.

    `contexts[i]` is where the states of updater i shall lie. A file of fewer devices serves more: each
    gets a copy of the first. OSError if there is no such file, MXNetError if it is something else, and
    then nothing has changed.
    """
    path = path_of(fname)
    with open(path, "rb") as file:
        take_states(file.read(), path, updaters, contexts)


def take_states(data, name, updaters, contexts=None):
    """The same from the bytes of such a file, of which errors speak as `name`."""
    tree, arrays = read_states(data, name)
    saved, optimizer = tree["states"], tree.get("optimizer")
    fitting = fitting_optimizer(updaters[0].optimizer, optimizer)
    for i, updater in enumerate(updaters):
        mine = arrays if contexts is None else [a.as_in_context(contexts[i]) for a in arrays]
        part = saved[i] if len(saved) == len(updaters) else saved[0]
        updater.states = from_tree(part, mine if i == 0 else [a.copy() for a in mine])
        updater.states_synced = dict.fromkeys(updater.states, False)
        updater.optimizer = fitting


def fitting_optimizer(own, tree):
    """`own` with the numbers of the tree; if it is of another class, a new one of the right class."""
    if tree is None:
        return own
    if tree["object"] != type(own).__name__:
        try:
            own = own.create_optimizer(tree["object"])
        except ValueError as error:
            raise MXNetError(f"the file has the states of another optimizer: {error}") from error
    return from_tree(tree, [], own)
