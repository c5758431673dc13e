"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

import datetime
import importlib
import time
from collections import defaultdict

__all__ = [
    "LiveBokehChart",
    "LiveLearningCurve",
    "LiveTimeSeries",
    "PandasLogger",
    "args_wrapper",
    "needed",
    "taken",
]


# --- Curves ---------------------------------------------------------------------------------------


def needed(library, purpose):
    """A library that is installed apart; ImportError that says what for."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        first = library.partition(".")[0]
        raise ImportError(f"{purpose} needs {first}: pip install {first}") from error


def taken(param):
    """The values of a metric as a dict, and the metric begins anew."""
    if param.eval_metric is None:
        return {}
    found = dict(param.eval_metric.get_name_value())
    param.eval_metric.reset()
    return found


class PandasLogger:
    """Keeps a training's numbers in three tables:
    of batches, every `frequent` one, of evaluations, and of epochs.
    """

    def __init__(self, batch_size, frequent=50):
        table = needed("pandas", "PandasLogger").DataFrame
        self.batch_size, self.frequent = batch_size, frequent
        self._dataframes = {"train": table(), "eval": table(), "epoch": table()}
        self.last_time = time.time()
        self.start_time = self.last_epoch_time = datetime.datetime.now()

    train_df = property(lambda self: self._dataframes["train"], doc="The table of batches.")
    eval_df = property(lambda self: self._dataframes["eval"], doc="The table of evaluations.")
    epoch_df = property(lambda self: self._dataframes["epoch"], doc="The table of epochs.")
    all_dataframes = property(lambda self: self._dataframes, doc="All three by name.")

    def elapsed(self):
        """The time since the logger was made."""
        return datetime.datetime.now() - self.start_time

    def append_metrics(self, metrics, df_name):
        """Add a row to a table; names that it does not have yet become columns."""
        table = self._dataframes[df_name]
        for name in metrics.keys() - {*table.columns}:
            table[name] = None
        table.loc[len(table)] = metrics

    # --- Curves -----------------------------------------------------------------------------------

    def train_cb(self, param):
        """After a batch."""
        if param.nbatch % self.frequent == 0:
            self._process_batch(param, "train")

    def eval_cb(self, param):
        """After an evaluation."""
        self._process_batch(param, "eval")

    def _process_batch(self, param, df_name):
        now, took = time.time(), time.time() - self.last_time
        speed = self.frequent / took if took else float("inf")
        row = taken(param)
        row |= {"batches_per_sec": speed, "records_per_sec": speed * self.batch_size}
        row |= {"elapsed": self.elapsed(), "minibatch_count": param.nbatch, "epoch": param.epoch}
        self.append_metrics(row, df_name)
        self.last_time = now

    def epoch_cb(self, *_):
        """After an epoch."""
        now = datetime.datetime.now()
        row = {"elapsed": self.elapsed(), "epoch_time": now - self.last_epoch_time}
        self.append_metrics(row, "epoch")
        self.last_epoch_time = now

    def callback_args(self):
        """The keywords of `fit` that let it call this logger."""
        return {
            "batch_end_callback": self.train_cb,
            "eval_end_callback": self.eval_cb,
            "epoch_end_callback": self.epoch_cb,
        }


class LiveBokehChart:
    """A chart in a notebook that grows while a network is trained;
    subclasses make it and give it its points.
    """

    def __init__(self, pandas_logger, metric_name, display_freq=10, batch_size=None, frequent=50):
        self.bokeh = needed("bokeh.plotting", "a live chart")
        self.io = needed("bokeh.io", "a live chart")
        self.pandas_logger = pandas_logger
        self.metric_name, self.display_freq = metric_name, display_freq
        self.frequent, self.batch_size = frequent, batch_size
        self.last_update = time.time()
        self.io.output_notebook()
        self.handle = self.setup_chart()

    def setup_chart(self):
        """Make the chart, show it, and give back its handle."""
        raise NotImplementedError(f"{type(self).__name__} does not define setup_chart")

    def update_chart_data(self):
        """Give the chart its points."""
        raise NotImplementedError(f"{type(self).__name__} does not define update_chart_data")

    def interval_elapsed(self):
        """Whether it is time to draw."""
        return time.time() - self.last_update > self.display_freq

    def _push_render(self):
        """Send what has changed to the page."""
        self.io.push_notebook(handle=self.handle)
        self.last_update = time.time()

    def _do_update(self):
        self.update_chart_data()
        self._push_render()

    def batch_cb(self, param):
        """After a batch: draw, if it is time."""
        if self.interval_elapsed():
            self._do_update()

    def eval_cb(self, param):
        """After an evaluation: draw."""
        self._do_update()

    def callback_args(self):
        """The keywords of `fit` that let it call this chart."""
        return {"batch_end_callback": self.batch_cb, "eval_end_callback": self.eval_cb}


class LiveTimeSeries(LiveBokehChart):
    """A line of values over the time at which they came: `update_chart_data(value)`."""

    def __init__(self, **fig_params):
        self.start_time, self._settings = datetime.datetime.now(), fig_params
        super().__init__(None, None)

    def setup_chart(self):
        """An empty line."""
        names = {"x_axis_type": "datetime", "x_axis_label": "Elapsed time"}
        self.fig = self.bokeh.figure(**names, **self._settings)
        self.line = self.fig.line([], [])
        return self.bokeh.show(self.fig, notebook_handle=True)

    def elapsed(self):
        """The time since the chart was made."""
        return datetime.datetime.now() - self.start_time

    def update_chart_data(self, value):
        """Add a value and draw it."""
        self.line.data_source.stream({"x": [self.elapsed()], "y": [value]})
        self._push_render()


class LiveLearningCurve(LiveBokehChart):
    """The curves of a metric on batches, every `frequent` one, and on evaluations."""

    def __init__(self, metric_name, display_freq=10, frequent=50):
        self.start_time = datetime.datetime.now()
        self._data = {kind: {"elapsed": []} for kind in ("train", "eval")}
        super().__init__(None, metric_name, display_freq, frequent=frequent)

    def setup_chart(self):
        """Two empty lines."""
        names = {"x_axis_type": "datetime", "x_axis_label": "Training time"}
        self.fig = self.bokeh.figure(y_axis_label=self.metric_name, **names)
        looks = {"train": {"line_dash": "dotted"}, "eval": {"line_color": "green"}}
        self.lines = {
            kind: self.fig.line([], [], legend_label=kind, **look) for kind, look in looks.items()
        }
        return self.bokeh.show(self.fig, notebook_handle=True)

    def batch_cb(self, param):
        """After a batch: keep the metric, and draw, if it is time."""
        if param.nbatch % self.frequent == 0:
            self._keep(param, "train")
        super().batch_cb(param)

    def eval_cb(self, param):
        """After an evaluation: keep the metric and draw."""
        self._keep(param, "eval")
        super().eval_cb(param)

    def _keep(self, param, kind):
        row = taken(param) | {"elapsed": datetime.datetime.now() - self.start_time}
        for name, value in row.items():
            self._data[kind].setdefault(name, []).append(value)

    def update_chart_data(self):
        """Give the lines all points that have come."""
        for kind, line in self.lines.items():
            found = self._data[kind]
            line.data_source.data = {"x": found["elapsed"], "y": found.get(self.metric_name, [])}


def args_wrapper(*args):
    """The keywords of `fit` for several loggers and charts together."""
    found = defaultdict(list)
    for each in args:
        for name, call in each.callback_args().items():
            found[name].append(call)
    return dict(found)
