"""Whatever happens, at any moment: on the disk there is a whole model, the old one or the new one."""

# Written from chapters/73_checkpoints.ipynb, chapters/89a_chains_of_modules.ipynb: edit the chapter, then run `minigluon export`.

import logging
import warnings
from collections import namedtuple

import numpy as np

from minigluon import symbol as sym
from minigluon.context import cpu
from minigluon.gluon.trainer import create_kvstore, create_sparse_kvstore
from minigluon.initializer import Uniform
from minigluon.io import DataIter, NDArrayIter, ResizeIter
from minigluon.ndarray import utils
from minigluon.ndarray.ndarray import NDArray, zeros

__all__ = [
    "BatchEndParam",
    "FeedForward",
    "from_one",
    "load_checkpoint",
    "load_params",
    "save_checkpoint",
]


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


# --- Chains of modules ----------------------------------------------------------------------------


class FeedForward:
    """A graph trained on arrays or iterators; `kwargs` are the optimizer's. Deprecated: use `Module`."""

    def __init__(
        self,
        symbol,
        ctx=None,
        num_epoch=None,
        epoch_size=None,
        optimizer="sgd",
        initializer=Uniform(0.01),  # noqa: B008
        numpy_batch_size=128,
        arg_params=None,
        aux_params=None,
        allow_extra_params=False,
        begin_epoch=0,
        **kwargs,
    ):
        warnings.warn(
            "mxnet.model.FeedForward has been deprecated. Please use mxnet.mod.Module instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        self.symbol, self.ctx = symbol, cpu() if ctx is None else ctx
        self.num_epoch, self.epoch_size, self.begin_epoch = num_epoch, epoch_size, begin_epoch
        self.optimizer, self.initializer, self.kwargs = optimizer, initializer, dict(kwargs)
        self.numpy_batch_size, self.allow_extra_params = numpy_batch_size, allow_extra_params
        self.arg_params, self.aux_params = arg_params, aux_params

    def _iterator(self, X, y, training):
        """An iterator over arrays; an iterator stays what it is."""
        if isinstance(X, DataIter):
            return X
        if not isinstance(X, np.ndarray | NDArray):
            raise TypeError("X must be DataIter, NDArray or numpy.ndarray")
        if y is None and training:
            raise ValueError("y must be specified when X is numpy.ndarray")
        y = np.zeros(X.shape[0]) if y is None else y
        size = min(X.shape[0], self.numpy_batch_size)
        last = "roll_over" if training else "pad"
        return NDArrayIter(X, y, size, shuffle=training, last_batch_handle=last)

    def _module(self, data, labels):
        """A module for the data and labels that an iterator describes."""
        from minigluon.module.module import Module

        names, targets = ([d[0] for d in described] for described in (data, labels))
        return Module(self.symbol, names, targets, context=self.ctx)

    # --- Chains of modules ------------------------------------------------------------------------

    def _tell_epoch(self, logger):
        """What is logged after an epoch: its time, and before it whether the data begin anew."""

        def tell(epoch, metric, seconds):
            if self.epoch_size is None:
                logger.info("Epoch[%d] Resetting Data Iterator", epoch)
            logger.info("Epoch[%d] Time cost=%.3f", epoch, seconds)

        return tell

    def fit(
        self,
        X,
        y=None,
        eval_data=None,
        eval_metric="acc",
        epoch_end_callback=None,
        batch_end_callback=None,
        kvstore="local",
        logger=None,
        work_load_list=None,
        monitor=None,
        eval_end_callback=None,
        eval_batch_end_callback=None,
    ):
        """Train on X and y, or on an iterator; `eval_data` is an iterator or a pair of arrays."""
        from minigluon.callback import LogValidationMetricsCallback

        train = self._iterator(X, y, True)
        if isinstance(eval_data, list | tuple):
            eval_data = self._iterator(*eval_data, False)
        if self.epoch_size is not None:
            train = ResizeIter(train, self.epoch_size, reset_internal=False)
        module = self._module(train.provide_data, train.provide_label)
        module.logger, module._tell_epoch = logger or logging, self._tell_epoch(logger or logging)
        module._tell_score = lambda *_: None  # its callback does
        module.logger.info("Start training with %s", module._context)
        module.fit(
            train,
            eval_data,
            eval_metric,
            epoch_end_callback,
            from_one(batch_end_callback),
            kvstore,
            self.optimizer,
            self.kwargs,
            eval_end_callback or LogValidationMetricsCallback(),
            eval_batch_end_callback,
            self.initializer,
            self.arg_params,
            self.aux_params,
            allow_missing=True,
            begin_epoch=self.begin_epoch,
            num_epoch=self.num_epoch,
            monitor=monitor,
        )
        self.arg_params, self.aux_params = module.get_params()

    # Outputs and scores.

    def _ready(self, data, labels=()):
        """A module with the parameters, bound to the shapes of an iterator,
        and of those `labels` that the graph has.
        """
        shapes = {d[0]: d[1] for d in data.provide_data}
        names = self.symbol.list_arguments()
        inferred = dict(zip(names, self.symbol.infer_shape(**shapes)[0]))
        missing = {n: inferred[n] for n in names if n not in shapes and n not in self.arg_params}
        labels = [d for d in labels or () if d[0] in missing]
        blank = {n: zeros(missing[n]) for n in missing.keys() - {d[0] for d in labels}}
        module = self._module(data.provide_data, labels)
        module.bind(data.provide_data, labels or None, for_training=False)
        module.set_params({**self.arg_params, **blank}, self.aux_params or {}, allow_extra=True)
        return module

    def predict(self, X, num_batch=None, return_data=False, reset=True):
        """The outputs on X as NumPy arrays; with `return_data` also data and labels."""
        data = self._iterator(X, None, False)
        module = self._ready(data)
        if reset:
            data.reset()
        found = []
        for outputs, _, batch in module.iter_predict(data, num_batch, reset=False):
            keep = batch.data[0].shape[0] - (batch.pad or 0)
            parts = [outputs, batch.data, batch.label or []]
            found.append([[a.asnumpy()[:keep] for a in part] for part in parts])
        whole = [[np.concatenate(a) for a in zip(*part)] for part in zip(*found)]
        whole = [part[0] if len(part) == 1 else part for part in whole]
        return tuple(whole) if return_data else whole[0]

    def score(self, X, eval_metric="acc", num_batch=None, batch_end_callback=None, reset=True):
        """The value of a metric on an iterator."""
        data = self._iterator(X, None, False)
        settings = {"batch_end_callback": batch_end_callback, "reset": reset}
        module = self._ready(data, data.provide_label)
        return module.score(data, eval_metric, num_batch, **settings)[0][1]

    # Files, and all in one call.

    def save(self, prefix, epoch=None, remove_amp_cast=True):
        """Write a checkpoint, by default of the last epoch."""
        epoch = self.num_epoch if epoch is None else epoch
        save_checkpoint(
            prefix, epoch, self.symbol, self.arg_params, self.aux_params, remove_amp_cast
        )

    @staticmethod
    def load(prefix, epoch, ctx=None, **kwargs):
        """A model from a checkpoint."""
        symbol, learnt, states = load_checkpoint(prefix, epoch)
        given = {"arg_params": learnt, "aux_params": states, "begin_epoch": epoch}
        return FeedForward(symbol, ctx=ctx, **given, **kwargs)

    @staticmethod
    def create(
        symbol,
        X,
        y=None,
        ctx=None,
        num_epoch=None,
        epoch_size=None,
        optimizer="sgd",
        initializer=Uniform(0.01),  # noqa: B008
        eval_data=None,
        eval_metric="acc",
        epoch_end_callback=None,
        batch_end_callback=None,
        kvstore="local",
        logger=None,
        work_load_list=None,
        eval_end_callback=None,
        eval_batch_end_callback=None,
        **kwargs,
    ):
        """A model, trained."""
        model = FeedForward(symbol, ctx, num_epoch, epoch_size, optimizer, initializer, **kwargs)
        callbacks = epoch_end_callback, batch_end_callback
        after = {
            "eval_end_callback": eval_end_callback,
            "eval_batch_end_callback": eval_batch_end_callback,
        }
        model.fit(X, y, eval_data, eval_metric, *callbacks, kvstore, logger, **after)
        return model


def from_one(callbacks):
    """Callbacks after batches, for which the first batch has the number 1:
    so it was before there were modules.
    """
    listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    return [lambda p, f=f: f(p._replace(nbatch=p.nbatch + 1)) for f in listed if f]
