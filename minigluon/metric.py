"""A metric counts over batches what a loss cannot: how often the network is right."""

# Written from chapters/72_metric.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.ndarray.ndarray import NDArray

__all__ = ["Accuracy", "EvalMetric", "as_numpy", "create", "paired", "register", "registry"]


# --- Metrics --------------------------------------------------------------------------------------


class EvalMetric:
    """The base class of metrics: a sum, a count, and their quotient.

    There are two pairs: one since `reset_local`, one since `reset` (`get_global`).
    """

    def __init__(self, name, output_names=None, label_names=None, **kwargs):
        self.name, self.output_names, self.label_names = str(name), output_names, label_names
        self._kwargs = kwargs
        self.reset()

    def update(self, labels, preds):
        """Take in the labels and predictions of a batch, arrays or lists of them."""
        raise NotImplementedError(f"{type(self).__name__} does not define update(labels, preds)")

    def reset(self):
        """Begin anew."""
        self.global_sum_metric, self.global_num_inst = 0.0, 0
        self.reset_local()

    def reset_local(self):
        """Begin the local pair anew, as at the start of a stretch of batches."""
        self.sum_metric, self.num_inst = 0.0, 0

    def _count(self, total, number):
        self.sum_metric += total
        self.num_inst += number
        self.global_sum_metric += total
        self.global_num_inst += number

    # --- Metrics ----------------------------------------------------------------------------------

    def get(self):
        """Name and value; nan if nothing has been counted."""
        return self.name, self.sum_metric / self.num_inst if self.num_inst else float("nan")

    def get_global(self):
        """Name and value since the last `reset`."""
        n = self.global_num_inst
        return self.name, self.global_sum_metric / n if n else float("nan")

    def get_name_value(self):
        """A list of pairs of name and value."""
        return [self.get()]

    def get_global_name_value(self):
        """A list of pairs of name and value since the last `reset`."""
        return [self.get_global()]

    def get_config(self):
        """What is needed to make the metric again."""
        names = {"output_names": self.output_names, "label_names": self.label_names}
        return {"metric": type(self).__name__, "name": self.name, **names, **self._kwargs}

    def update_dict(self, label, pred):
        """Take in dictionaries of labels and predictions; the metric's names choose among them."""
        preds = [pred[n] for n in self.output_names] if self.output_names else list(pred.values())
        labels = [label[n] for n in self.label_names] if self.label_names else list(label.values())
        self.update(labels, preds)

    def __str__(self):
        return f"EvalMetric: {dict(self.get_name_value())}"


registry = {}  # name -> class


def register(*names):
    """Class decorator: let `create` find the class by its name in small letters and by `names`."""

    def decorate(klass):
        registry.update(dict.fromkeys((klass.__name__.lower(), *names), klass))
        return klass

    return decorate


def create(metric, *args, **kwargs):
    """A metric by name, such as 'acc'; an object is returned as it is."""
    if isinstance(metric, EvalMetric):
        return metric
    if metric not in registry:
        raise ValueError(f"unknown metric {metric!r}; known are {', '.join(sorted(registry))}")
    return registry[metric](*args, **kwargs)


# --- Accuracy -------------------------------------------------------------------------------------


@register("acc")
class Accuracy(EvalMetric):
    """The share of samples whose class is right.

    labels: whole numbers; preds: classes of the same shape, or scores with one more axis, `axis`.
    """

    def __init__(self, axis=1, name="accuracy", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names, axis=axis)
        self.axis = axis

    def update(self, labels, preds):
        """Take in the labels and predictions of a batch, arrays or lists of them."""
        pairs = paired(labels, preds)
        counts = [self._right(as_numpy(label), as_numpy(pred)) for label, pred in pairs]
        for right, number in counts:
            self._count(right, number)

    def _right(self, label, pred):
        if pred.shape != label.shape:
            pred = pred.argmax(self.axis)
        if pred.size != label.size:
            raise ValueError(f"Accuracy: {label.size} labels, but {pred.size} predictions")
        if (label != np.floor(label)).any():
            raise ValueError(f"Accuracy: label {label[label != np.floor(label)][0]} is not a class")
        return int(
            (pred.ravel().astype("int64") == label.ravel().astype("int64")).sum()
        ), label.size


def paired(labels, preds):
    """Pairs of label and prediction; ValueError for lists of different lengths."""
    labels, preds = (x if isinstance(x, list | tuple) else [x] for x in (labels, preds))
    if len(labels) != len(preds):
        raise ValueError(
            f"Shape of labels {len(labels)} does not match shape of predictions {len(preds)}"
        )
    return list(zip(labels, preds))


def as_numpy(x):
    """A NumPy array from an array of ours or anything like one."""
    return x.asnumpy() if isinstance(x, NDArray) else np.asarray(x)
