"""Whatever happens, at any moment: on the disk there is a whole model, the old one or the new one."""

# Written from chapters/73_checkpoints.ipynb: edit the chapter, then run `minigluon export`.

import logging
import math
import time

from minigluon.model import save_checkpoint

__all__ = [
    "LogValidationMetricsCallback",
    "ProgressBar",
    "Speedometer",
    "do_checkpoint",
    "log_train_metric",
    "module_checkpoint",
]


# --- Callbacks ------------------------------------------------------------------------------------


def module_checkpoint(mod, prefix, period=1, save_optimizer_states=False):
    """After every `period` epochs, `mod.save_checkpoint(prefix, epoch, save_optimizer_states)`."""
    period = int(max(1, period))

    def at_end(iter_no, sym=None, arg=None, aux=None):
        if (iter_no + 1) % period == 0:
            mod.save_checkpoint(prefix, iter_no + 1, save_optimizer_states)

    return at_end


def do_checkpoint(prefix, period=1):
    """After every `period` epochs, `save_checkpoint(prefix, epoch, symbol, arguments, auxiliaries)`."""
    period = int(max(1, period))

    def at_end(iter_no, sym, arg, aux):
        if (iter_no + 1) % period == 0:
            save_checkpoint(prefix, iter_no + 1, sym, arg, aux)

    return at_end


def log_train_metric(period, auto_reset=False):
    """Every `period` batches log the metric, and with `auto_reset` begin its local part anew."""

    def after_batch(param):
        if param.nbatch % period == 0 and param.eval_metric is not None:
            for name, value in param.eval_metric.get_name_value():
                logging.info(
                    "Iter[%d] Batch[%d] Train-%s=%f", param.epoch, param.nbatch, name, value
                )
            if auto_reset:
                param.eval_metric.reset_local()

    return after_batch


class Speedometer:
    """Logs samples a second and the metric every `frequent` batches of `batch_size` samples."""

    def __init__(self, batch_size, frequent=50, auto_reset=True):
        self.batch_size, self.frequent, self.auto_reset = batch_size, frequent, auto_reset
        self.init, self.tic, self.last_count = False, 0, 0

    def __call__(self, param):
        """Count a batch, and log if it is time."""
        count = param.nbatch
        if self.last_count > count:
            self.init = False  # a new epoch
        self.last_count = count
        if not self.init:
            self.init, self.tic = True, time.time()
        elif count % self.frequent == 0:
            took = time.time() - self.tic
            speed = self.frequent * self.batch_size / took if took else math.inf
            self._log(param, count, speed)
            self.tic = time.time()

    def _log(self, param, count, speed):
        if param.eval_metric is None:
            logging.info("Iter[%d] Batch [%d]\tSpeed: %.2f samples/sec", param.epoch, count, speed)
            return
        found = param.eval_metric.get_name_value()
        if self.auto_reset:
            param.eval_metric.reset_local()
        begin = count - self.frequent if self.auto_reset else 0
        text = "Epoch[%d] Batch [%d-%d]\tSpeed: %.2f samples/sec" + "\t%s=%f" * len(found)
        logging.info(text, param.epoch, begin, count, speed, *sum(found, ()))


class ProgressBar:
    """Logs a bar of `length` characters: which share of `total` batches is done."""

    def __init__(self, total, length=80):
        self.bar_len, self.total = length, total

    def __call__(self, param):
        """Log the bar."""
        share = param.nbatch / float(self.total)
        filled = int(round(self.bar_len * share))
        bar = "=" * filled + "-" * (self.bar_len - filled)
        logging.info("[%s] %s%s\r", bar, math.ceil(100.0 * share), "%")


class LogValidationMetricsCallback:
    """Logs the metric at the end of an epoch."""

    def __call__(self, param):
        """Log each name and value."""
        if param.eval_metric:
            for name, value in param.eval_metric.get_name_value():
                logging.info("Epoch[%d] Validation-%s=%f", param.epoch, name, value)
