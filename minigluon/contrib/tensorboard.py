"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.notebook.callback import needed

__all__ = ["LogMetricsCallback"]


# --- Curves ---------------------------------------------------------------------------------------


class LogMetricsCallback:
    """Called with a BatchEndParam, writes each value of the metric at its epoch, under `prefix-name`."""

    def __init__(self, logging_dir, prefix=None):
        library = needed("tensorboardX", "LogMetricsCallback")
        self.prefix, self.summary_writer = prefix, library.SummaryWriter(logging_dir)

    def __call__(self, param):
        """Write the metric's values, if there is a metric."""
        for name, value in param.eval_metric.get_name_value() if param.eval_metric else ():
            tag = name if self.prefix is None else f"{self.prefix}-{name}"
            self.summary_writer.add_scalar(tag, value, global_step=param.epoch)
