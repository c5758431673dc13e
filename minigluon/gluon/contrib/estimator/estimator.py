"""A loop says what happens in which order; handlers say what happens: so one loop serves every experiment."""

# Written from chapters/89_estimator.ipynb: edit the chapter, then run `minigluon export`.

import copy
import logging
import sys
import warnings

from minigluon.context import Context, gpu, num_gpus
from minigluon.gluon import loss as losses
from minigluon.gluon.contrib.estimator.batch_processor import BatchProcessor
from minigluon.gluon.contrib.estimator.event_handler import (
    BatchBegin,
    BatchEnd,
    EpochBegin,
    EpochEnd,
    EventHandler,
    GradientUpdateHandler,
    LoggingHandler,
    MetricHandler,
    StoppingHandler,
    TrainBegin,
    TrainEnd,
    ValidationHandler,
    metrics_of,
)
from minigluon.gluon.data import DataLoader
from minigluon.gluon.trainer import Trainer
from minigluon.metric import Accuracy, EvalMetric, Loss

__all__ = [
    "Estimator",
    "contexts",
    "handlers_of",
    "kind_of_loss",
    "kind_of_processor",
    "require_loader",
]


# --- The loop -------------------------------------------------------------------------------------


class Estimator:
    """Trains `net` to minimise `loss`, and evaluates it: `fit` and `evaluate`.

    `val_net` and `val_loss` are used in place of them for evaluation. Raises ValueError for arguments
    of the wrong kind.
    """

    def __init__(
        self,
        net,
        loss,
        train_metrics=None,
        val_metrics=None,
        initializer=None,
        trainer=None,
        context=None,
        val_net=None,
        val_loss=None,
        batch_processor=None,
    ):
        self.net, self.loss = net, kind_of_loss(loss)
        self._train_metrics, self._val_metrics = metrics_of(train_metrics), metrics_of(val_metrics)
        self.val_net = net if val_net is None else val_net
        self.val_loss = self.loss if val_loss is None else kind_of_loss(val_loss)
        self.logger = logging.Logger(name="Estimator", level=logging.INFO)
        self.logger.addHandler(logging.StreamHandler(sys.stdout))
        self.context = contexts(context)
        self._initialize(initializer)
        self.trainer = self._trainer(trainer)
        self.batch_processor = kind_of_processor(batch_processor)
        self.max_epoch = self.max_batch = None
        self.batch_axis = 0
        self._name_metrics()

    @property
    def train_metrics(self):
        """The metrics of training."""
        return self._train_metrics

    @property
    def val_metrics(self):
        """The metrics of validation."""
        return self._val_metrics

    # --- The loop ---------------------------------------------------------------------------------

    def _initialize(self, initializer):
        """Initialize a network that is not."""
        try:
            for p in self.net.collect_params().values():
                p.list_ctx()
        except RuntimeError:
            self.net.initialize(init=initializer, ctx=self.context)
            return
        if initializer is not None:
            warnings.warn(
                "the network is initialized already, so the initializer is not used; "
                "net.initialize(init, force_reinit=True) would replace its parameters",
                stacklevel=3,
            )

    def _trainer(self, trainer):
        """The trainer, by default SGD."""
        if trainer is None:
            warnings.warn("no trainer given: SGD with learning rate 0.001 is used", stacklevel=3)
            return Trainer(self.net.collect_params(), "sgd", {"learning_rate": 0.001})
        if not isinstance(trainer, Trainer):
            raise ValueError(f"trainer is a gluon.Trainer, not {trainer!r}")
        return trainer

    def _name_metrics(self):
        """Choose metrics that were not given, and call all of them after what they measure on."""
        if not self._train_metrics:
            if isinstance(self.loss, losses.SoftmaxCrossEntropyLoss):
                self._train_metrics.append(Accuracy())
            self._train_metrics.append(Loss(self.loss.name.rstrip("0123456789")))
        if not self._val_metrics:
            self._val_metrics = [copy.deepcopy(m) for m in self._train_metrics]
            for metric in self._val_metrics:
                if isinstance(metric, Loss):
                    metric.name = self.val_loss.name.rstrip("0123456789")
        for begin, metrics in (
            ("training", self._train_metrics),
            ("validation", self._val_metrics),
        ):
            for metric in metrics:
                if begin not in metric.name:
                    metric.name = f"{begin} {metric.name}"

    def evaluate(self, val_data, batch_axis=0, event_handlers=None):
        """Measure `val_metrics` on the batches of a DataLoader."""
        require_loader(val_data)
        self.batch_axis = batch_axis
        handlers = handlers_of(event_handlers)
        self._add_missing(handlers, MetricHandler, self.val_metrics)
        self._add_missing(handlers, LoggingHandler, self.val_metrics)
        events = self._events(handlers)
        events("epoch_begin", EpochBegin)
        for batch in val_data:
            events("batch_begin", BatchBegin, batch=batch)
            _, label, pred, loss = self.batch_processor.evaluate_batch(self, batch, batch_axis)
            events("batch_end", BatchEnd, batch=batch, pred=pred, label=label, loss=loss)
        events("epoch_end", EpochEnd)

    def fit(
        self,
        train_data,
        val_data=None,
        epochs=None,
        event_handlers=None,
        batches=None,
        batch_axis=0,
    ):
        """Train on the batches of a DataLoader, for so many `epochs` or so many `batches`.

        With `val_data` the network is evaluated after each epoch. Raises ValueError unless exactly
        one of `epochs` and `batches` is given.
        """
        require_loader(train_data)
        if (not epochs) == (not batches):
            raise ValueError(
                f"fit counts epochs or batches: give one, not {epochs=} and {batches=}"
            )
        self.max_epoch, self.max_batch, self.batch_axis = epochs, batches, batch_axis
        events = self._events(self._handlers(val_data, event_handlers))
        events("train_begin", TrainBegin)
        while True:
            events("epoch_begin", EpochBegin)
            for batch in train_data:
                events("batch_begin", BatchBegin, batch=batch)
                _, label, pred, loss = self.batch_processor.fit_batch(self, batch, batch_axis)
                if events("batch_end", BatchEnd, batch=batch, pred=pred, label=label, loss=loss):
                    break
            if events("epoch_end", EpochEnd):
                break
        events("train_end", TrainEnd)

    def _handlers(self, val_data, event_handlers):
        """The given handlers and those of every loop that are not among them."""
        handlers = handlers_of(event_handlers)
        own = len(handlers)
        handlers.append(StoppingHandler(self.max_epoch, self.max_batch))
        if not any(isinstance(h, GradientUpdateHandler) for h in handlers):
            handlers.append(GradientUpdateHandler())
        self._add_missing(handlers, MetricHandler, self.train_metrics)
        if val_data is not None and not any(isinstance(h, ValidationHandler) for h in handlers):
            handlers.append(ValidationHandler(val_data, self.evaluate))
        self._add_missing(handlers, LoggingHandler, self.train_metrics)
        if own:
            for handler in handlers:
                self._require_known_metrics(handler)
        return handlers

    def _add_missing(self, handlers, kind, metrics):
        """Add a handler of a kind unless there is one."""
        if not any(isinstance(h, kind) for h in handlers):
            handlers.append(kind(metrics=metrics))

    def _require_known_metrics(self, handler):
        """Refuse a metric that nobody updates."""
        known = self._train_metrics + self._val_metrics
        used = getattr(handler, "metrics", None) or [getattr(handler, "monitor", None)]
        for metric in used:
            if isinstance(metric, EvalMetric) and not any(metric is m for m in known):
                raise ValueError(
                    f"{type(handler).__name__} has a metric that is not the estimator's, {metric}: "
                    "take one of estimator.train_metrics and estimator.val_metrics"
                )

    def _events(self, handlers):
        """The function that tells the handlers of an event, those of smaller priority first."""
        ordered = sorted(handlers, key=lambda h: getattr(h, "priority", 0))

        def tell(event, kind, **what):
            answers = [getattr(h, event)(self, **what) for h in ordered if isinstance(h, kind)]
            return any(answers)

        return tell


def kind_of_loss(loss):
    """`loss`; ValueError if it is no gluon.loss.Loss."""
    if not isinstance(loss, losses.Loss):
        raise ValueError(f"loss is a gluon.loss.Loss, not {loss!r}")
    return loss


def kind_of_processor(processor):
    """`processor`, by default a BatchProcessor; ValueError if it cannot process batches."""
    processor = BatchProcessor() if processor is None else processor
    if not (hasattr(processor, "fit_batch") and hasattr(processor, "evaluate_batch")):
        raise ValueError(f"batch_processor has fit_batch and evaluate_batch; {processor!r} has not")
    return processor


def contexts(context):
    """A list of contexts, by default the first GPU or the CPU."""
    if context is None:
        return [gpu(0) if num_gpus() else Context("cpu")]
    found = context if isinstance(context, list) else [context]
    if not found or not all(isinstance(c, Context) for c in found):
        raise ValueError(
            f"context is mx.cpu(), or a list as [mx.gpu(0), mx.gpu(1)], not {context!r}"
        )
    return found


def require_loader(data):
    """Refuse what is no DataLoader."""
    if not isinstance(data, DataLoader):
        raise ValueError(f"an estimator takes a gluon.data.DataLoader, not {type(data).__name__}")


def handlers_of(handlers):
    """A new list of handlers; ValueError if there is something else among them."""
    found = handlers if isinstance(handlers, list | tuple) else [handlers]
    found = [] if handlers is None else list(found)
    if not all(isinstance(h, EventHandler) for h in found):
        raise ValueError(f"event_handlers are EventHandlers, not {found}")
    return found
