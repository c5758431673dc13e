"""A loop says what happens in which order; handlers say what happens: so one loop serves every experiment."""

# Written from chapters/89_estimator.ipynb: edit the chapter, then run `minigluon export`.

import math
import operator
import os
import re
import time
import warnings
from pathlib import Path

from minigluon.gluon.hybrid import traced
from minigluon.metric import CompositeEvalMetric, EvalMetric, Loss

__all__ = [
    "BatchBegin",
    "BatchEnd",
    "CheckpointHandler",
    "Counting",
    "EarlyStoppingHandler",
    "EpochBegin",
    "EpochEnd",
    "EventHandler",
    "GradientUpdateHandler",
    "LoggingHandler",
    "MetricHandler",
    "StoppingHandler",
    "TrainBegin",
    "TrainEnd",
    "ValidationHandler",
    "direction",
    "metrics_of",
    "worst",
]


# --- Events ---------------------------------------------------------------------------------------


class EventHandler:
    """What an estimator tells of its loop; those of smaller `priority` are told first."""


class TrainBegin(EventHandler):
    """Hears of the beginning of training."""

    def train_begin(self, estimator, *args, **kwargs):
        pass


class TrainEnd(EventHandler):
    """Hears of the end of training."""

    def train_end(self, estimator, *args, **kwargs):
        pass


class EpochBegin(EventHandler):
    """Hears of the beginning of each epoch."""

    def epoch_begin(self, estimator, *args, **kwargs):
        pass


class EpochEnd(EventHandler):
    """Hears of the end of each epoch; training ends if it answers True."""

    def epoch_end(self, estimator, *args, **kwargs):
        return False


class BatchBegin(EventHandler):
    """Hears of each `batch` before it is used."""

    def batch_begin(self, estimator, *args, **kwargs):
        pass


class BatchEnd(EventHandler):
    """Hears of each `batch` with its `pred`, `label` and `loss`; the epoch ends if it answers True."""

    def batch_end(self, estimator, *args, **kwargs):
        return False


# --- The handlers of every loop -------------------------------------------------------------------


class GradientUpdateHandler(BatchEnd):
    """Takes the trainer's step after each batch, before anything else happens."""

    def __init__(self, priority=-2000):
        self.priority = priority

    def batch_end(self, estimator, *args, **kwargs):
        """Step by the mean over the samples of all devices."""
        loss = kwargs["loss"]
        loss = loss if isinstance(loss, list) else [loss]
        estimator.trainer.step(sum(one.shape[0] for one in loss))


class MetricHandler(EpochBegin, BatchEnd):
    """Resets metrics at the beginning of an epoch and updates them after each batch."""

    def __init__(self, metrics, priority=-1000):
        self.metrics, self.priority = metrics_of(metrics), priority

    def epoch_begin(self, estimator, *args, **kwargs):
        """Forget the last epoch."""
        for metric in self.metrics:
            metric.reset()

    def batch_end(self, estimator, *args, **kwargs):
        """A metric of losses is given the loss, any other labels and predictions."""
        for metric in self.metrics:
            if isinstance(metric, Loss):
                metric.update(0, kwargs["loss"])
            else:
                metric.update(kwargs["label"], kwargs["pred"])


def metrics_of(metrics):
    """A list of metrics, whatever they came in: None, one, a list, or a CompositeEvalMetric."""
    if isinstance(metrics, CompositeEvalMetric):
        return list(metrics.metrics)
    if isinstance(metrics, EvalMetric):
        return [metrics]
    found = [] if metrics is None else list(metrics)
    if not all(isinstance(m, EvalMetric) for m in found):
        raise ValueError(f"metrics are objects of mx.metric.EvalMetric, not {metrics!r}")
    return found


class Counting(TrainBegin, BatchEnd, EpochEnd):
    """Counts batches and epochs; `batch_done` and `epoch_done` are called before each is counted."""

    current_batch = current_epoch = 0

    def train_begin(self, estimator, *args, **kwargs):
        """Begin to count."""
        self.current_batch = self.current_epoch = 0

    def batch_end(self, estimator, *args, **kwargs):
        """Count a batch."""
        self.batch_done(estimator)
        self.current_batch += 1

    def epoch_end(self, estimator, *args, **kwargs):
        """Count an epoch."""
        self.epoch_done(estimator)
        self.current_epoch += 1


class StoppingHandler(TrainBegin, BatchEnd, EpochEnd):
    """Ends training after the epochs or batches that `fit` was asked for."""

    def __init__(self, max_epoch=None, max_batch=None):
        self.max_epoch, self.max_batch = max_epoch, max_batch
        self.current_batch, self.current_epoch, self.stop_training = 0, 0, False

    def train_begin(self, estimator, *args, **kwargs):
        """Ask the estimator how long to train, since a resumed run has less to do."""
        self.max_epoch, self.max_batch = estimator.max_epoch, estimator.max_batch
        self.current_batch, self.current_epoch, self.stop_training = 0, 0, False

    def batch_end(self, estimator, *args, **kwargs):
        """Whether that was the last batch."""
        self.current_batch += 1
        self.stop_training |= self.current_batch == self.max_batch
        return self.stop_training

    def epoch_end(self, estimator, *args, **kwargs):
        """Whether that was the last epoch."""
        self.current_epoch += 1
        self.stop_training |= self.current_epoch == self.max_epoch
        return self.stop_training


class ValidationHandler(Counting):
    """Calls `eval_fn(val_data=…)` after every `batch_period` batches and every `epoch_period` epochs."""

    def __init__(
        self,
        val_data,
        eval_fn,
        epoch_period=1,
        batch_period=None,
        priority=-1000,
        event_handlers=None,
    ):
        self.val_data, self.eval_fn, self.event_handlers = val_data, eval_fn, event_handlers
        self.epoch_period, self.batch_period, self.priority = epoch_period, batch_period, priority

    def _validate(self, estimator):
        settings = {"batch_axis": estimator.batch_axis, "event_handlers": self.event_handlers}
        self.eval_fn(val_data=self.val_data, **settings)

    def batch_done(self, estimator):
        """Validate if it is time."""
        if self.batch_period and (self.current_batch + 1) % self.batch_period == 0:
            self._validate(estimator)

    def epoch_done(self, estimator):
        """Validate if it is time."""
        if self.epoch_period and (self.current_epoch + 1) % self.epoch_period == 0:
            self._validate(estimator)


# --- Logging --------------------------------------------------------------------------------------


class LoggingHandler(TrainBegin, TrainEnd, EpochBegin, EpochEnd, BatchBegin, BatchEnd):
    """Logs times and `metrics`, every epoch or every `log_interval` batches, to `estimator.logger`."""

    def __init__(self, log_interval="epoch", metrics=None, priority=math.inf):
        if log_interval != "epoch" and not isinstance(log_interval, int):
            raise ValueError(f"log_interval is a whole number or 'epoch', not {log_interval!r}")
        self.metrics, self.log_interval, self.priority = metrics_of(metrics), log_interval, priority
        self.batch_index = self.current_epoch = self.processed_samples = 0
        self.log_interval_time = 0

    def _values(self):
        return ", ".join(f"{name}: {value:.4f}" for name, value in (m.get() for m in self.metrics))

    def train_begin(self, estimator, *args, **kwargs):
        """Log the optimizer and how much there is to do."""
        self.train_start = time.time()
        trainer = estimator.trainer
        estimator.logger.info(
            "Training begin: using optimizer %s with current learning rate %.4f ",
            type(trainer.optimizer).__name__,
            trainer.learning_rate,
        )
        many, unit = estimator.max_epoch, "epochs"
        if not many:
            many, unit = estimator.max_batch, "batches"
        estimator.logger.info("Train for %d %s.", many, unit)
        self.batch_index = self.current_epoch = self.processed_samples = 0
        self.log_interval_time = 0

    def train_end(self, estimator, *args, **kwargs):
        """Log how long it took and what came out."""
        took = time.time() - self.train_start
        begin = f"Train finished using total {took:.0f}s with {self.current_epoch} epochs. "
        estimator.logger.info(begin + self._values())

    def epoch_begin(self, estimator, *args, **kwargs):
        """Log that an epoch of training or of validation begins."""
        self.epoch_start = time.time()
        if any("training" in metric.name for metric in self.metrics):
            rate = estimator.trainer.learning_rate
            text = f"[Epoch {self.current_epoch}] Begin, current learning rate: {rate:.4f}"
        else:
            text = "Validation Begin"
        estimator.logger.info(text)

    def epoch_end(self, estimator, *args, **kwargs):
        """Log the epoch's time and metrics."""
        took = time.time() - self.epoch_start
        begin = f"[Epoch {self.current_epoch}] Finished in {took:.3f}s, "
        estimator.logger.info((begin + self._values()).rstrip(", "))
        self.current_epoch += 1
        self.batch_index = self.processed_samples = 0
        self.log_interval_time = 0

    # --- Logging ----------------------------------------------------------------------------------

    def batch_begin(self, estimator, *args, **kwargs):
        """Start the clock."""
        self.batch_start = time.time()

    def batch_end(self, estimator, *args, **kwargs):
        """Log every `log_interval` batches."""
        if self.log_interval == "epoch":
            return
        self.log_interval_time += time.time() - self.batch_start
        self.processed_samples += kwargs["batch"][0].shape[0]
        if self.batch_index % self.log_interval == 0:
            where = f"[Epoch {self.current_epoch}][Batch {self.batch_index}]"
            spent = (
                f"[Samples {self.processed_samples}] time/interval: {self.log_interval_time:.3f}s "
            )
            estimator.logger.info(where + spent + self._values())
            self.log_interval_time = 0
        self.batch_index += 1


# --- Better or not --------------------------------------------------------------------------------


def direction(who, mode, monitor):
    """The comparison that says that one value of the metric `monitor` is better than another."""
    if mode not in ("auto", "min", "max"):
        text = f"{who}: mode {mode!r} is unknown, it is 'auto', 'min' or 'max'; 'auto' is taken"
        warnings.warn(text, RuntimeWarning, stacklevel=4)
        mode = "auto"
    if mode != "auto":
        return operator.gt if mode == "max" else operator.lt
    name = monitor.get()[0]
    larger = any(word in name.lower() for word in ("acc", "f1"))
    sign, mode = ("larger", "max") if larger else ("smaller", "min")
    text = f"{who} takes a {sign} {name!r} for better: mode={mode!r} says so without a warning"
    warnings.warn(text, stacklevel=4)
    return operator.gt if larger else operator.lt


def worst(better):
    """The value that any other is better than."""
    return -math.inf if better is operator.gt else math.inf


class EarlyStoppingHandler(TrainBegin, EpochEnd, TrainEnd):
    """Ends training after `patience` epochs in which the metric `monitor` did not get better.

    Better means by more than `min_delta`, and at first better than `baseline` if there is one.
    """

    def __init__(self, monitor, min_delta=0, patience=0, mode="auto", baseline=None):
        if not isinstance(monitor, EvalMetric):
            raise ValueError(
                "monitor is one of the metrics estimator.train_metrics and estimator.val_metrics, "
                f"not {monitor!r}"
            )
        self.monitor, self.patience, self.baseline = monitor, patience, baseline
        self.monitor_op = direction("EarlyStoppingHandler", mode, monitor)
        self.min_delta = min_delta if self.monitor_op is operator.gt else -min_delta
        self.wait = self.stopped_epoch = self.current_epoch = 0
        self.stop_training = False

    def train_begin(self, estimator, *args, **kwargs):
        """Begin to wait."""
        self.wait = self.stopped_epoch = self.current_epoch = 0
        self.stop_training = False
        self.best = worst(self.monitor_op) if self.baseline is None else self.baseline

    def epoch_end(self, estimator, *args, **kwargs):
        """Whether it is time to stop."""
        name, value = self.monitor.get()
        if math.isnan(value):
            warnings.warn(
                f"{name} has no value: no handler updates it", RuntimeWarning, stacklevel=2
            )
        elif self.monitor_op(value - self.min_delta, self.best):
            self.best, self.wait = value, 0
        else:
            self.wait += 1
            if self.wait >= self.patience:
                self.stopped_epoch, self.stop_training = self.current_epoch, True
        self.current_epoch += 1
        return self.stop_training

    def train_end(self, estimator, *args, **kwargs):
        """Log why training ended, if it was because of this handler."""
        if self.stop_training:
            text = "[Epoch %d] EarlyStoppingHandler: %s does not get better"
            estimator.logger.info(text, self.stopped_epoch, self.monitor.get()[0])


# --- Checkpoints ----------------------------------------------------------------------------------


class CheckpointHandler(Counting):
    """Writes parameters and trainer states to `model_dir` after every so many epochs or batches.

    Keeps the newest `max_checkpoints`, and with `save_best` the one in which the metric `monitor` was
    best. With `resume_from_checkpoint` training goes on from the newest one that is there. Raises
    ValueError if that one is beyond what `fit` is asked for.
    """

    def __init__(
        self,
        model_dir,
        model_prefix="model",
        monitor=None,
        verbose=0,
        save_best=False,
        mode="auto",
        epoch_period=1,
        batch_period=None,
        max_checkpoints=5,
        resume_from_checkpoint=False,
    ):
        if save_best and not isinstance(monitor, EvalMetric):
            raise ValueError(
                "save_best needs a monitor: one of the metrics estimator.train_metrics and "
                "estimator.val_metrics"
            )
        self.model_dir, self.model_prefix = model_dir, model_prefix
        self.monitor, self.verbose, self.save_best = monitor, verbose, save_best
        self.epoch_period, self.batch_period = epoch_period, batch_period
        self.max_checkpoints, self.saved_checkpoints = max_checkpoints, []
        self.resume_from_checkpoint = resume_from_checkpoint
        self.trained_epoch = self.trained_batch = -1
        if save_best:
            self.monitor_op = direction("CheckpointHandler", mode, monitor)
            self.best = worst(self.monitor_op)
        os.makedirs(model_dir, exist_ok=True)

    def train_begin(self, estimator, *args, **kwargs):
        """Begin to count, or load the newest checkpoint and ask for so much less."""
        super().train_begin(estimator)
        if self.save_best:
            self.best = worst(self.monitor_op)
        if self.resume_from_checkpoint:
            self._resume(estimator)

    def batch_done(self, estimator):
        """Write the graph after the first batch, and a checkpoint if it is time."""
        if self.current_batch == 0:
            self._save_symbol(estimator)
        if self.batch_period and (self.current_batch + 1) % self.batch_period == 0:
            self._save(estimator)

    # --- Checkpoints ------------------------------------------------------------------------------

    def epoch_done(self, estimator):
        """Write a checkpoint if it is time."""
        if self.epoch_period and (self.current_epoch + 1) % self.epoch_period == 0:
            self._save(estimator)

    def _log(self, estimator, text):
        if self.verbose > 0:
            estimator.logger.info(f"[Epoch {self.current_epoch}] CheckpointHandler: {text}")

    def _save_symbol(self, estimator):
        """Write the graph of a hybridized network."""
        path = Path(self.model_dir) / f"{self.model_prefix}-symbol.json"
        found = traced(estimator.net)
        if found:
            found[0].save(str(path))
        else:
            text = "the network's graph is not written to %s: hybridize the network to have it"
            estimator.logger.info(text, path)

    def _save(self, estimator):
        """Write a checkpoint, forget the oldest, and keep it if it is the best."""
        epoch, batch = self.current_epoch, self.current_batch
        if self.resume_from_checkpoint:
            epoch += self.trained_epoch + 1
            batch += self.trained_batch + (0 if estimator.max_epoch else 1)
        name = f"{self.model_prefix}-epoch{epoch}batch{batch}"
        self._log(
            estimator, f"{self.current_batch + 1} batches, writing {name} to {self.model_dir}"
        )
        self._write(estimator, name)
        self.saved_checkpoints.append(name)
        if len(self.saved_checkpoints) > self.max_checkpoints:
            oldest = Path(self.model_dir) / self.saved_checkpoints.pop(0)
            for ending in ("params", "states"):
                Path(f"{oldest}.{ending}").unlink(missing_ok=True)
        if self.save_best:
            self._keep_if_best(estimator)

    def _keep_if_best(self, estimator):
        """Write the checkpoint `…-best` if the metric has got better."""
        name, value = self.monitor.get()
        if math.isnan(value):
            warnings.warn(
                f"{name} has no value: no handler updates it", RuntimeWarning, stacklevel=2
            )
        elif self.monitor_op(value, self.best):
            best = f"{self.model_prefix}-best"
            self._log(estimator, f"{name} from {self.best:.5f} to {value:.5f}, writing {best}")
            self.best = value
            self._write(estimator, best)
        else:
            self._log(estimator, f"{name} is not better than {self.best:.5f}")

    def _write(self, estimator, name):
        path = str(Path(self.model_dir) / name)
        estimator.net.save_parameters(path + ".params")
        estimator.trainer.save_states(path + ".states")

    def _resume(self, estimator):
        """Load the newest checkpoint, if there is one, and ask for so much less."""
        by_epoch = bool(estimator.max_epoch)
        if (
            bool(self.batch_period)
            and bool(self.epoch_period)
            or by_epoch != bool(self.epoch_period)
        ):
            unit, other = ("epoch", "batch") if by_epoch else ("batch", "epoch")
            raise AssertionError(
                f"a run counted in {unit}s resumes from checkpoints counted in {unit}s: "
                f"set {unit}_period, and {other}_period=None"
            )
        many, unit = (
            (estimator.max_epoch, "epochs") if by_epoch else (estimator.max_batch, "batches")
        )
        newest = self._newest(by_epoch)
        if newest is None:
            text = "CheckpointHandler: no checkpoint found, training from the beginning for %d %s"
            estimator.logger.info(text, many, unit)
            return
        path, self.trained_epoch, self.trained_batch = newest
        left = many - (self.trained_epoch if by_epoch else self.trained_batch) - 1
        if left <= 0:
            raise ValueError(
                f"{path.name} has been trained for the {many} {unit} already: ask for more, or set "
                "resume_from_checkpoint=False to train from the beginning"
            )
        estimator.net.load_parameters(f"{path}.params", ctx=estimator.context)
        estimator.trainer.load_states(f"{path}.states")
        if by_epoch:
            estimator.max_epoch = left
        else:
            estimator.max_batch = left
        text = "CheckpointHandler: resumed from epoch %d batch %d, training for %d %s more"
        estimator.logger.info(text, self.trained_epoch, self.trained_batch, left, unit)

    def _newest(self, by_epoch):
        """Path (without ending), epoch and batch of the newest whole checkpoint; None without one."""
        named = re.compile(re.escape(self.model_prefix) + r"-epoch(\d+)batch(\d+)\.params")
        found = []
        for path in Path(self.model_dir).iterdir():
            match = named.fullmatch(path.name)
            if match and path.with_suffix(".states").exists():
                epoch, batch = map(int, match.groups())
                found.append(((epoch, batch) if by_epoch else (batch, epoch), path, epoch, batch))
        return (max(found)[1].with_suffix(""), *max(found)[2:]) if found else None
