"""Whatever happens, at any moment: on the disk there is a whole model, the old one or the new one."""

# Written from chapters/73_checkpoints.ipynb: edit the chapter, then run `minigluon export`.

import logging
from collections import namedtuple

from minigluon import symbol as sym
from minigluon.context import cpu
from minigluon.gluon.trainer import create_kvstore, create_sparse_kvstore
from minigluon.ndarray import utils

__all__ = ["BatchEndParam", "load_checkpoint", "load_params", "save_checkpoint"]


# --- Checkpoints of symbols -----------------------------------------------------------------------

BatchEndParam = namedtuple("BatchEndParams", ["epoch", "nbatch", "eval_metric", "locals"])
_create_kvstore, _create_sparse_kvstore = create_kvstore, create_sparse_kvstore


def save_checkpoint(prefix, epoch, symbol, arg_params, aux_params, remove_amp_cast=True):
    """Write `prefix-symbol.json`, if there is a symbol, and `prefix-0001.params` for epoch 1.

    Each file is written whole or not at all.
    """
    if symbol is not None:
        symbol.save(f"{prefix}-symbol.json", remove_amp_cast=remove_amp_cast)
    arrays = {f"arg:{name}": a.as_in_context(cpu()) for name, a in arg_params.items()}
    arrays |= {f"aux:{name}": a.as_in_context(cpu()) for name, a in aux_params.items()}
    path = f"{prefix}-{epoch:04d}.params"
    utils.save(path, arrays)
    logging.info('Saved checkpoint to "%s"', path)


def load_params(prefix, epoch):
    """The arrays of a checkpoint, two dictionaries: the learnt ones, and the running statistics."""
    found = {"arg": {}, "aux": {}}
    path = f"{prefix}-{epoch:04d}.params"
    arrays = utils.load(path)
    if not arrays:
        logging.warning("Params file '%s' is empty", path)
        return {}, {}
    for full, a in arrays.items():
        kind, name = full.split(":", 1)
        if kind in found:
            found[kind][name] = a
    return found["arg"], found["aux"]


def load_checkpoint(prefix, epoch):
    """The symbol and the two dictionaries of arrays of a checkpoint."""
    return sym.load(f"{prefix}-symbol.json"), *load_params(prefix, epoch)
