"""Write the network down first, give it memory second, run it third: the older half of MXNet, on the same graphs and optimizers."""

# Written from chapters/89_module.ipynb: edit the chapter, then run `minigluon export`.

import logging
import time

from minigluon import metric as metrics
from minigluon.context import cpu
from minigluon.initializer import Uniform
from minigluon.io.io import DataBatch, DataDesc
from minigluon.model import BatchEndParam
from minigluon.ndarray import utils
from minigluon.ndarray.ndarray import NDArray, array
from minigluon.op import operators

__all__ = [
    "BaseModule",
    "LEFT_OPEN",
    "as_list",
    "described",
    "joined",
    "left_open",
    "without_padding",
]


# --- What every module can do ---------------------------------------------------------------------


def described(shapes):
    """A list of DataDesc, from descriptions or pairs of name and shape; None stays None."""
    if not shapes:
        return None
    return [s if isinstance(s, DataDesc) else DataDesc(*s) for s in shapes]


def joined(arrays, axis=0):
    """One array of several, along an axis."""
    return arrays[0] if len(arrays) == 1 else operators["concat"](*arrays, dim=axis)


def without_padding(arrays, pad):
    """The outputs of a batch without the rows that only fill it up."""
    return [a[: a.shape[0] - (pad or 0)].copy() for a in arrays]


def as_list(value):
    """A list of one thing, several, or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


class BaseModule:
    """A network with memory and an optimizer: subclasses say how it is bound, run and updated."""

    def __init__(self, logger=logging):
        self.logger = logger
        self.binded = self.for_training = self.inputs_need_grad = False
        self.params_initialized = self.optimizer_initialized = False
        self._symbol = None

    symbol = property(lambda self: self._symbol, doc="The graph.")

    def forward_backward(self, data_batch):
        """Run a batch forwards, in training, and backwards."""
        self.forward(data_batch, is_train=True)
        self.backward()

    def prepare(self, data_batch, sparse_row_id_fn=None):
        """Get ready for the next batch."""

    def get_states(self, merge_multi_context=True):
        """The states that are carried from batch to batch: none here."""
        return []

    def install_monitor(self, mon):
        """Let a monitor hear of every operator's output."""
        raise NotImplementedError(f"{type(self).__name__} cannot be monitored")

    def score(
        self,
        eval_data,
        eval_metric,
        num_batch=None,
        batch_end_callback=None,
        score_end_callback=None,
        reset=True,
        epoch=0,
        sparse_row_id_fn=None,
    ):
        """Measure a metric on at most `num_batch` batches: a list of (name, value)."""
        self._require_ready()
        eval_metric = metrics.create(eval_metric)
        eval_metric.reset()
        seen = 0
        for seen, batch in enumerate(self._batches(eval_data, num_batch, reset), 1):
            self.prepare(batch, sparse_row_id_fn)
            self.forward(batch, is_train=False)
            self.update_metric(eval_metric, batch.label)
            for callback in as_list(batch_end_callback):
                callback(BatchEndParam(epoch, seen - 1, eval_metric, locals()))
        for callback in as_list(score_end_callback):
            callback(BatchEndParam(epoch, seen, eval_metric, locals()))
        return eval_metric.get_name_value()

    # --- What every module can do -----------------------------------------------------------------

    def iter_predict(self, eval_data, num_batch=None, reset=True, sparse_row_id_fn=None):
        """For each batch its outputs without padding, its number, and the batch."""
        self._require_ready()
        for i, batch in enumerate(self._batches(eval_data, num_batch, reset)):
            self.prepare(batch, sparse_row_id_fn)
            self.forward(batch, is_train=False)
            yield without_padding(self.get_outputs(), batch.pad), i, batch

    def predict(
        self,
        eval_data,
        num_batch=None,
        merge_batches=True,
        reset=True,
        always_output_list=False,
        sparse_row_id_fn=None,
    ):
        """The outputs for an iterator, or for an array that is one batch.

        One array if the graph has one output; a list if it has several, with `always_output_list`, or a
        list for each batch without `merge_batches`.
        """
        if not hasattr(eval_data, "provide_data"):
            return self._predict_array(eval_data)
        found = [o for o, _, _ in self.iter_predict(eval_data, num_batch, reset, sparse_row_id_fn)]
        if not merge_batches or not found:
            return found
        merged = [joined(list(parts)) for parts in zip(*found)]
        return merged[0] if len(merged) == 1 and not always_output_list else merged

    def _predict_array(self, data):
        """The outputs for one array."""
        data = data if isinstance(data, NDArray) else array(data)
        self._require_ready()
        self.forward(DataBatch([data]), is_train=False)
        return self.get_outputs()[0]

    def _batches(self, data, num_batch, reset):
        """The first batches of an iterator."""
        if reset:
            data.reset()
        for i, batch in enumerate(data):
            if i == num_batch:
                return
            yield batch

    def _require_ready(self):
        assert self.binded and self.params_initialized, (
            f"{type(self).__name__}: call bind and init_params (or fit) first"
        )

    def save_params(self, fname):
        """Write the parameters to a file, `arg:` and `aux:` before their names."""
        learnt, states = self.get_params()
        arrays = {f"arg:{k}": a.as_in_context(cpu()) for k, a in learnt.items()}
        utils.save(fname, arrays | {f"aux:{k}": a.as_in_context(cpu()) for k, a in states.items()})

    def load_params(self, fname):
        """Read the parameters from such a file."""
        found = {"arg": {}, "aux": {}}
        for full, a in utils.load(fname).items():
            kind, _, name = full.partition(":")
            if kind not in found:
                raise ValueError(
                    f"{fname}: {full!r} is neither arg: nor aux:, no file of parameters"
                )
            found[kind][name] = a
        self.set_params(found["arg"], found["aux"])

    def set_params(
        self, arg_params, aux_params, allow_missing=False, force_init=True, allow_extra=False
    ):
        """Write arrays into the parameters of their names."""
        settings = {"allow_missing": allow_missing, "force_init": force_init}
        self.init_params(None, arg_params, aux_params, allow_extra=allow_extra, **settings)

    def fit(
        self,
        train_data,
        eval_data=None,
        eval_metric="acc",
        epoch_end_callback=None,
        batch_end_callback=None,
        kvstore="local",
        optimizer="sgd",
        optimizer_params=(("learning_rate", 0.01),),
        eval_end_callback=None,
        eval_batch_end_callback=None,
        initializer=Uniform(0.01),  # noqa: B008
        arg_params=None,
        aux_params=None,
        allow_missing=False,
        force_rebind=False,
        force_init=False,
        begin_epoch=0,
        num_epoch=None,
        validation_metric=None,
        monitor=None,
        sparse_row_id_fn=None,
    ):
        """Train on the batches of an iterator from epoch `begin_epoch` to `num_epoch`.

        Callbacks, one or a list, are called after batches with a BatchEndParam and after epochs with the
        epoch, the symbol and the two dictionaries of parameters.
        """
        assert num_epoch is not None, "fit: please specify number of epochs, num_epoch"
        descriptions = train_data.provide_data, train_data.provide_label
        self.bind(*descriptions, for_training=True, force_rebind=force_rebind)
        if monitor is not None:
            self.install_monitor(monitor)
        self.init_params(initializer, arg_params, aux_params, allow_missing, force_init)
        self.init_optimizer(kvstore, optimizer, optimizer_params)
        eval_metric = metrics.create(eval_metric)
        for epoch in range(begin_epoch, num_epoch):
            begin = time.time()
            self._epoch(
                train_data, epoch, eval_metric, batch_end_callback, monitor, sparse_row_id_fn
            )
            self._tell_epoch(epoch, eval_metric, time.time() - begin)
            learnt, states = self.get_params()
            self.set_params(learnt, states)  # the same on every device
            for callback in as_list(epoch_end_callback):
                callback(epoch, self.symbol, learnt, states)
            if eval_data is not None:
                measure = eval_metric if validation_metric is None else validation_metric
                self._validate(
                    eval_data, measure, eval_batch_end_callback, eval_end_callback, epoch
                )
            train_data.reset()

    def _tell_epoch(self, epoch, metric, seconds):
        """Log what an epoch has brought."""
        for name, value in metric.get_global_name_value():
            self.logger.info("Epoch[%d] Train-%s=%f", epoch, name, value)
        self.logger.info("Epoch[%d] Time cost=%.3f", epoch, seconds)

    def _tell_score(self, epoch, name, value):
        """Log what a metric has measured on held-out data."""
        self.logger.info("Epoch[%d] Validation-%s=%f", epoch, name, value)

    def _epoch(self, train_data, epoch, eval_metric, callbacks, monitor, sparse_row_id_fn):
        """One pass over the data."""
        eval_metric.reset()
        for number, batch in enumerate(train_data):
            if monitor is not None:
                monitor.tic()
            self.prepare(batch, sparse_row_id_fn)
            self.forward_backward(batch)
            self.update()
            self.update_metric(eval_metric, batch.label)
            if monitor is not None:
                monitor.toc_print()
            for callback in as_list(callbacks):
                callback(BatchEndParam(epoch, number, eval_metric, locals()))

    def _validate(self, eval_data, metric, batch_end_callback, score_end_callback, epoch):
        """Measure a metric on held-out data, and log it."""
        callbacks = {
            "batch_end_callback": batch_end_callback,
            "score_end_callback": score_end_callback,
        }
        for name, value in self.score(eval_data, metric, epoch=epoch, **callbacks):
            self._tell_score(epoch, name, value)


def left_open(name):
    """A method that stands for one of a subclass."""

    def method(self, *args, **kwargs):
        raise NotImplementedError(
            f"{type(self).__name__} has no {name}: a module that is made of BaseModule says it"
        )

    method.__name__ = name
    return method


LEFT_OPEN = (
    "bind init_params get_params init_optimizer forward backward get_outputs get_input_grads"
)
for name in f"{LEFT_OPEN} update update_metric set_states".split():
    setattr(BaseModule, name, left_open(name))
