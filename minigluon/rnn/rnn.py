"""A cell that is given symbols instead of arrays writes down one step; unrolled, it writes down the whole sentence."""

# Written from chapters/89b_symbolic_cells.ipynb: edit the chapter, then run `minigluon export`.

import warnings

from minigluon import symbol as sym
from minigluon.model import load_checkpoint, save_checkpoint

__all__ = ["do_rnn_checkpoint", "each", "load_rnn_checkpoint", "rnn_unroll", "save_rnn_checkpoint"]


# --- Recurrent networks as graphs -----------------------------------------------------------------


def each(cells):
    """A cell, or a list of them, as a list."""
    return cells if isinstance(cells, list | tuple) else [cells]


def rnn_unroll(cell, length, inputs=None, begin_state=None, input_prefix="", layout="NTC"):
    """`cell.unroll`, with inputs that are made here if there are none,
    under names that begin with `input_prefix`. Deprecated.
    """
    warnings.warn("rnn_unroll is deprecated. Please call cell.unroll directly.", stacklevel=2)
    if inputs is None:
        inputs = [sym.var(f"{input_prefix}t{i}_data") for i in range(length)]
    return cell.unroll(length, inputs, begin_state, layout)


def save_rnn_checkpoint(cells, prefix, epoch, symbol, arg_params, aux_params):
    """Write a checkpoint with unpacked weights."""
    for cell in each(cells):
        arg_params = cell.unpack_weights(arg_params)
    save_checkpoint(prefix, epoch, symbol, arg_params, aux_params)


def load_rnn_checkpoint(cells, prefix, epoch):
    """Graph, parameters and states of a checkpoint, with the weights packed for the cells."""
    symbol, learnt, states = load_checkpoint(prefix, epoch)
    for cell in each(cells):
        learnt = cell.pack_weights(learnt)
    return symbol, learnt, states


def do_rnn_checkpoint(cells, prefix, period=1):
    """A callback that writes such a checkpoint after every `period` epochs."""
    period = int(max(1, period))

    def note(iter_no, sym=None, arg=None, aux=None):
        if (iter_no + 1) % period == 0:
            save_rnn_checkpoint(cells, prefix, iter_no + 1, sym, arg, aux)

    return note
