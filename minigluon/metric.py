"""A metric counts over batches what a loss cannot: how often the network is right."""

# Written from chapters/72_metric.ipynb: edit the chapter, then run `minigluon export`.

import math
from functools import reduce

import numpy

from minigluon import registry
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import BadValue
from minigluon.ops.reduce import places

__all__ = [
    "Accuracy",
    "Averaged",
    "Binary",
    "BinaryCounts",
    "Caffe",
    "CompositeEvalMetric",
    "CrossEntropy",
    "CustomMetric",
    "EvalMetric",
    "F1",
    "Loss",
    "MAE",
    "MCC",
    "MSE",
    "NegativeLogLikelihood",
    "PCC",
    "PearsonCorrelation",
    "Perplexity",
    "Pooled",
    "RMSE",
    "TopKAccuracy",
    "Torch",
    "alias",
    "among",
    "as_list",
    "as_numpy",
    "check_label_shapes",
    "column",
    "confusion",
    "correlation",
    "create",
    "joined",
    "name_value",
    "np",
    "only",
    "pairs",
    "probability_of",
    "register",
    "registered",
    "seen",
]


# --- The base class -------------------------------------------------------------------------------


class EvalMetric:
    """The base class of metrics: a sum, a count, and their quotient.

    Subclasses override `update` and add to `sum_metric` and `num_inst`. Those that also add to
    `global_sum_metric` and `global_num_inst` say so by `has_global_stats=True`.
    """

    def __init__(self, name, output_names=None, label_names=None, **kwargs):
        self.name, self.output_names, self.label_names = str(name), output_names, label_names
        self._has_global_stats = kwargs.pop("has_global_stats", False)
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

    # --- The base class ---------------------------------------------------------------------------

    def _count(self, total, number):
        """Add to the sums and to the counts."""
        self.sum_metric += total
        self.num_inst += number
        self.global_sum_metric += total
        self.global_num_inst += number

    def _value(self, total, number):
        """What a sum and a count mean; nan if nothing has been counted."""
        return total / number if number else math.nan

    def get(self):
        """Name and value; nan if nothing has been counted."""
        return self.name, self._value(self.sum_metric, self.num_inst)

    def get_global(self):
        """Name and value since the last `reset`."""
        if not self._has_global_stats:
            return self.get()
        return self.name, self._value(self.global_sum_metric, self.global_num_inst)

    def get_name_value(self):
        """A list of pairs of name and value."""
        return name_value(*self.get())

    def get_global_name_value(self):
        """A list of pairs of name and value since the last `reset`."""
        return name_value(*self.get_global()) if self._has_global_stats else self.get_name_value()

    def get_config(self):
        """What `create` needs to make the metric again."""
        names = {"output_names": self.output_names, "label_names": self.label_names}
        return {"metric": type(self).__name__, "name": self.name, **names, **self._kwargs}

    def update_dict(self, label, pred):
        """Take in dictionaries of labels and predictions; the metric's names choose among them."""
        self.update(among(label, self.label_names), among(pred, self.output_names))

    def __str__(self):
        return f"EvalMetric: {dict(self.get_name_value())}"


def name_value(names, values):
    """Pairs of name and value, from one of each or a list of each."""
    names, values = (x if isinstance(x, list) else [x] for x in (names, values))
    return list(zip(names, values))


def among(arrays, names):
    """The arrays of those names, or all."""
    return list(arrays.values()) if names is None else [arrays[name] for name in names]


register = registry.get_register_func(EvalMetric, "metric")
alias = registry.get_alias_func(EvalMetric, "metric")
registered = registry.get_create_func(EvalMetric, "metric")


def create(metric, *args, **kwargs):
    """A metric from a name such as 'acc', a function of label and prediction, or a list of these.

    A metric is returned as it is. AssertionError for an unknown name.
    """
    if isinstance(metric, list | tuple):
        return CompositeEvalMetric([create(m, *args, **kwargs) for m in metric])
    if callable(metric) and not isinstance(metric, type):
        return CustomMetric(metric, *args, **kwargs)
    return registered(metric, *args, **kwargs)


# --- Pairs of arrays ------------------------------------------------------------------------------


def check_label_shapes(labels, preds, wrap=False, shape=False):
    """Both, if their lengths agree, or with `shape` their shapes; else ValueError.

    With `wrap` arrays become lists of one.
    """
    sizes = (labels.shape, preds.shape) if shape else (len(labels), len(preds))
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"Shape of labels {sizes[0]} does not match shape of predictions {sizes[1]}"
        )
    return (as_list(labels), as_list(preds)) if wrap else (labels, preds)


def as_list(x):
    """A list of arrays from one of them or several."""
    return list(x) if isinstance(x, list | tuple) else [x]


def as_numpy(x):
    """A NumPy array from an array of ours or anything like one."""
    return x.asnumpy() if isinstance(x, NDArray) else numpy.asarray(x)


def seen(x):
    """The same to read alone, without a copy where there is a way."""
    data = getattr(x, "_data", None)
    if type(data) is not numpy.ndarray or data.dtype.kind == "V":
        return as_numpy(x)
    view = data.view()
    view.flags.writeable = False
    return view


def pairs(labels, preds):
    """Pairs of label and prediction as NumPy arrays; ValueError for lists of different lengths."""
    labels, preds = check_label_shapes(labels, preds, wrap=True)
    return [(seen(label), seen(pred)) for label, pred in zip(labels, preds)]


class Averaged(EvalMetric):
    """A metric that is a mean: subclasses measure a sum and a count of a pair of NumPy arrays."""

    def __init__(self, name, output_names=None, label_names=None, **kwargs):
        super().__init__(name, output_names, label_names, has_global_stats=True, **kwargs)

    def update(self, labels, preds):
        """Take in the labels and predictions of a batch, arrays or lists of them."""
        measured = [self._measure(label, pred) for label, pred in pairs(labels, preds)]
        for total, number in measured:
            self._count(total, number)


# --- Accuracy -------------------------------------------------------------------------------------


@register
@alias("acc")
class Accuracy(Averaged):
    """The share of samples whose class is right.

    preds: classes in the shape of the labels, or scores with one more axis, `axis`.
    """

    def __init__(self, axis=1, name="accuracy", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names, axis=axis)
        self.axis = axis

    def _measure(self, label, pred):
        if pred.shape != label.shape:
            if not -pred.ndim <= self.axis < pred.ndim:
                told = f"predictions of shape {pred.shape} for labels of shape {label.shape}"
                raise BadValue(f"{self.name}: {told} have no axis {self.axis} of scores")
            pred = places("argmax", pred, self.axis)
        label, pred = check_label_shapes(label.ravel(), pred.ravel())
        return int((numpy.trunc(label) == numpy.trunc(pred)).sum()), label.size


@register
@alias("top_k_accuracy", "top_k_acc")
class TopKAccuracy(Averaged):
    """The share of samples whose class is among the `top_k` largest scores of shape (n, classes)."""

    def __init__(self, top_k=1, name="top_k_accuracy", output_names=None, label_names=None):
        assert top_k > 1, "Please use Accuracy if top_k is no more than 1"
        super().__init__(name, output_names, label_names, top_k=top_k)
        self._kwargs["name"] = name  # for get_config
        self.name, self.top_k = f"{name}_{top_k}", top_k

    def _measure(self, label, pred):
        assert pred.ndim <= 2, f"Predictions should be no more than 2 dims, not {pred.ndim}"
        label, pred = check_label_shapes(label.reshape(-1, 1).astype("int32"), pred)
        k = min(self.top_k, pred.shape[-1])
        best = (
            numpy.argpartition(pred.astype("float32"), -k)[:, -k:]
            if pred.ndim == 2
            else pred.reshape(-1, 1).astype("int32")
        )
        return int((best == label).any(1).sum()), len(label)


# --- Probabilities --------------------------------------------------------------------------------


def probability_of(label, pred):
    """The probability of each label, (n,), from whole numbers (n,) and probabilities (n, classes)."""
    label = label.ravel().astype("int64")
    assert pred.ndim == 2 and len(label) == len(pred), (
        f"{len(label)} labels want probabilities of shape ({len(label)}, classes), not {pred.shape}"
    )
    wrong = label[(label < 0) | (label >= pred.shape[1])]
    if wrong.size:
        raise IndexError(f"label {wrong[0]} is out of bounds for {pred.shape[1]} classes")
    return pred[numpy.arange(len(label)), label].astype("float64")


@register
@alias("ce")
class CrossEntropy(Averaged):
    """The mean of -ln(p + eps) over samples; p is the probability of the label."""

    def __init__(self, eps=1e-12, name="cross-entropy", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names, eps=eps)
        self.eps = eps

    def _measure(self, label, pred):
        label = label.ravel()
        assert len(label) == len(pred), f"{len(label)} labels do not fit {len(pred)} predictions"
        return float(-numpy.log(probability_of(label, pred) + self.eps).sum()), label.size


@register
@alias("nll_loss")
class NegativeLogLikelihood(CrossEntropy):
    """The mean of -ln(p + eps) over samples: the cross entropy by another name."""

    def __init__(self, eps=1e-12, name="nll-loss", output_names=None, label_names=None):
        super().__init__(eps, name, output_names, label_names)


@register
class Perplexity(Averaged):
    """exp of the mean of -ln p over labels other than `ignore_label` (None: over all).

    preds: probabilities with one axis more than the labels, `axis`.
    """

    def __init__(
        self, ignore_label, axis=-1, name="perplexity", output_names=None, label_names=None
    ):
        super().__init__(name, output_names, label_names, ignore_label=ignore_label, axis=axis)
        self.ignore_label, self.axis = ignore_label, axis

    def _measure(self, label, pred):
        assert label.size * pred.shape[self.axis] == pred.size, (
            f"Perplexity: labels of shape {label.shape} do not fit probabilities of shape {pred.shape}"
        )
        pred = numpy.moveaxis(pred, self.axis, -1).reshape(label.size, pred.shape[self.axis])
        label = label.ravel().astype("int64")
        if self.ignore_label is not None and not (counted := label != self.ignore_label).all():
            label, pred = label[counted], pred[counted]
        p = probability_of(label, pred)
        return float(-numpy.log(numpy.maximum(1e-10, p)).sum()), label.size

    def _value(self, total, number):
        return math.exp(total / number) if number else math.nan


# --- Distances ------------------------------------------------------------------------------------


def column(x):
    """An array as float64, a vector (n,) as a column (n, 1)."""
    return x.astype("float64").reshape(-1, 1) if x.ndim == 1 else x.astype("float64")


@register
class MAE(Averaged):
    """The mean over batches of the mean absolute difference."""

    def __init__(self, name="mae", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names)

    def _measure(self, label, pred):
        return float(self._distance(column(label) - column(pred))), 1

    def _distance(self, difference):
        return numpy.abs(difference).mean()


@register
class MSE(MAE):
    """The mean over batches of the mean squared difference."""

    def __init__(self, name="mse", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names)

    def _distance(self, difference):
        return (difference**2).mean()


@register
class RMSE(MAE):
    """The mean over batches of the root of the mean squared difference."""

    def __init__(self, name="rmse", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names)

    def _distance(self, difference):
        return numpy.sqrt((difference**2).mean())


# --- What can be merged but not averaged ----------------------------------------------------------


class Pooled(EvalMetric):
    """A metric that is a score of parts that can be merged; the subclass says how.

    `average` 'micro' scores all parts merged, 'macro' takes the mean of the parts' scores.
    """

    def __init__(self, name, output_names, label_names, **kwargs):
        self.average = kwargs.get("average", "micro")
        if self.average not in ("macro", "micro"):
            raise ValueError(f"{name}: average is 'macro' or 'micro', not {self.average!r}")
        super().__init__(name, output_names, label_names, has_global_stats=True, **kwargs)

    def reset(self):
        """Begin anew."""
        self._all = None
        super().reset()

    def reset_local(self):
        """Begin the local part anew, as at the start of a stretch of batches."""
        self._part = None
        super().reset_local()

    def _merge(self, old, new):
        return new if old is None else old + new

    # --- What can be merged but not averaged ------------------------------------------------------

    def update(self, labels, preds):
        """Take in the labels and predictions of a batch, arrays or lists of them."""
        parts = self._parts(labels, preds)
        if self.average == "macro":
            for part in parts:
                self._count(self._score(part), 1)
        elif parts:
            self._pool(reduce(self._merge, parts))

    def _parts(self, labels, preds):
        return [self._part_of(label, pred) for label, pred in pairs(labels, preds)]

    def _pool(self, part):
        """Merge `part`, and keep the sums such that sum / count is the score."""
        self._count(0, self._weight(part))
        self._part, self._all = self._merge(self._part, part), self._merge(self._all, part)
        self.sum_metric = self._score(self._part) * self.num_inst
        self.global_sum_metric = self._score(self._all) * self.global_num_inst

    def _weight(self, part):
        return 1


# --- Tables of two classes ------------------------------------------------------------------------


def confusion(label, pred, classes):
    """The table (classes, classes) of how often class `row` was answered by class `column`."""
    cells = label.astype("int64") * classes + pred.astype("int64")
    return numpy.bincount(cells, minlength=classes**2).reshape(classes, classes)


def correlation(table):
    """The correlation of truth and answer in a table (K, K); nan if one of them never varies."""
    table = table.astype("float64")
    n, x, y = table.sum(), table.sum(1), table.sum(0)
    variances = (x * (n - x)).sum() * (y * (n - y)).sum()
    return (
        float((n * table.diagonal() - x * y).sum() / math.sqrt(variances))
        if variances
        else math.nan
    )


class BinaryCounts:
    """The four counts of a table [[tn, fp], [fn, tp]], and what is made of them."""

    def __init__(self, table):
        self.table = table
        (self.true_negatives, self.false_positives), last = table.tolist()
        self.false_negatives, self.true_positives = last
        self.total_examples = int(table.sum())

    def _share(self, *others):
        total = self.true_positives + sum(others)
        return self.true_positives / total if total else 0.0

    precision = property(lambda self: self._share(self.false_positives))
    recall = property(lambda self: self._share(self.false_negatives))
    fscore = property(lambda self: self._share((self.false_positives + self.false_negatives) / 2))

    @property
    def matthewscc(self):
        """Matthews' correlation coefficient; 0 where it is not defined."""
        r = correlation(self.table)
        return 0.0 if math.isnan(r) else r


class Binary(Pooled):
    """A score of the table of two classes; all arrays of an update make one table."""

    metrics = property(
        lambda self: BinaryCounts(numpy.zeros((2, 2), int) if self._part is None else self._part)
    )

    def _parts(self, labels, preds):
        return [sum(super()._parts(labels, preds), start=numpy.zeros((2, 2), int))]

    def _part_of(self, label, pred):
        if pred.ndim < 2:
            raise ValueError(f"{self.name}: scores have the shape (n, 2), not {pred.shape}")
        label, pred = check_label_shapes(label.ravel(), places("argmax", pred, 1).ravel())
        if len(numpy.unique(label)) > 2:
            raise ValueError(f"{self.name} currently only supports binary classification.")
        return confusion(label.astype("int64") == 1, pred == 1, 2)

    def _weight(self, part):
        return int(part.sum())


@register
class F1(Binary):
    """2tp / (2tp + fp + fn): the harmonic mean of precision and recall of class 1.

    labels 0 or 1; preds: scores of shape (n, 2).
    """

    def __init__(self, name="f1", output_names=None, label_names=None, average="macro"):
        super().__init__(name, output_names, label_names, average=average)

    def _score(self, part):
        return BinaryCounts(part).fscore


@register
class MCC(Binary):
    """Matthews' correlation coefficient of two classes, from -1 to 1; 0 is as good as chance.

    labels 0 or 1; preds: scores of shape (n, 2).
    """

    def __init__(self, name="mcc", output_names=None, label_names=None, average="macro"):
        super().__init__(name, output_names, label_names, average=average)

    def _score(self, part):
        return BinaryCounts(part).matthewscc


# --- Correlations ---------------------------------------------------------------------------------


@register
class PCC(Pooled):
    """The correlation of truth and answer for any number of classes (Gorodkin, 2004)."""

    def __init__(self, name="pcc", output_names=None, label_names=None, has_global_stats=True):
        super().__init__(name, output_names, label_names)
        self._has_global_stats = has_global_stats

    def _part_of(self, label, pred):
        if pred.shape != label.shape:
            pred = places("argmax", pred, 1)
        label, pred = check_label_shapes(label.ravel(), pred.ravel())
        return confusion(label, pred, 1 + int(max(label.max(initial=0), pred.max(initial=0))))

    def _merge(self, old, new):
        if old is None:
            return new
        classes = max(len(old), len(new))
        return sum(numpy.pad(table, (0, classes - len(table))) for table in (old, new))

    def _score(self, part):
        return correlation(part)


@register
@alias("pearsonr")
class PearsonCorrelation(Pooled):
    """The correlation of labels and predictions, two arrays of the same shape."""

    def __init__(self, name="pearsonr", output_names=None, label_names=None, average="macro"):
        super().__init__(name, output_names, label_names, average=average)

    def _part_of(self, label, pred):
        check_label_shapes(label, pred, shape=True)
        z = numpy.stack([label.ravel(), pred.ravel()]).astype("float64")
        mean = z.mean(1)
        away = z - mean[:, None]
        return z.shape[1], mean, away @ away.T

    def _merge(self, old, new):
        if old is None:
            return new
        (n_a, mean_a, scatter_a), (n_b, mean_b, scatter_b) = old, new
        n, delta = n_a + n_b, mean_b - mean_a
        scatter = scatter_a + scatter_b + numpy.outer(delta, delta) * (n_a * n_b / n)
        return n, mean_a + delta * (n_b / n), scatter

    def _score(self, part):
        (xx, xy), (_, yy) = part[2].tolist()
        return xy / math.sqrt(xx * yy) if xx * yy else math.nan


# --- Losses and functions of one's own ------------------------------------------------------------


@register
class Loss(EvalMetric):
    """The mean of all elements of the predictions, which are losses; labels do not matter."""

    def __init__(self, name="loss", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names, has_global_stats=True)

    def update(self, _, preds):
        """Take in losses, an array or a list of them."""
        for pred in [as_numpy(pred) for pred in as_list(preds)]:
            self._count(float(pred.sum()), pred.size)


@register
class Torch(Loss):
    """`Loss` by another name, for criteria of Torch."""

    def __init__(self, name="torch", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names)


@register
class Caffe(Loss):
    """`Loss` by another name, for criteria of Caffe."""

    def __init__(self, name="caffe", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names)


@register
class CustomMetric(EvalMetric):
    """The mean of `feval(label, pred)` over pairs of NumPy arrays, or of a sum and count it returns.

    With `allow_extra_outputs` there may be more predictions than labels.
    """

    def __init__(
        self, feval, name=None, allow_extra_outputs=False, output_names=None, label_names=None
    ):
        if name is None:
            name = getattr(feval, "__name__", type(feval).__name__)
            name = f"custom({name})" if "<" in name else name
        super().__init__(name, output_names, label_names, has_global_stats=True)
        self._feval, self._allow_extra_outputs = feval, allow_extra_outputs

    def update(self, labels, preds):
        """Take in the labels and predictions of a batch, arrays or lists of them."""
        labels, preds = as_list(labels), as_list(preds)
        if not self._allow_extra_outputs:
            check_label_shapes(labels, preds)
        for label, pred in zip(labels, preds):
            found = self._feval(as_numpy(label), as_numpy(pred))
            pair = found if isinstance(found, tuple) else (found, 1)
            # as Python prints it
            self._count(*[n.item() if hasattr(n, "item") else n for n in pair])

    def get_config(self):
        """NotImplementedError: a function cannot be written down."""
        raise NotImplementedError("CustomMetric cannot be serialized: it holds a function")


def np(numpy_feval, name=None, allow_extra_outputs=False):
    """A metric of a function of label and prediction, two NumPy arrays; it is called by its name."""
    return CustomMetric(numpy_feval, name, allow_extra_outputs)


# --- Several metrics as one -----------------------------------------------------------------------


@register
@alias("composite")
class CompositeEvalMetric(EvalMetric):
    """Several metrics that take in the same batches; names and values are lists."""

    metrics = ()

    def __init__(self, metrics=None, name="composite", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names, has_global_stats=True)
        self.metrics = [create(metric) for metric in metrics or ()]

    def add(self, metric):
        """Add a metric, or what `create` makes one of."""
        self.metrics.append(create(metric))

    def get_metric(self, index):
        """The metric of that number; ValueError if there is none."""
        if not -len(self.metrics) <= index < len(self.metrics):
            raise ValueError(f"Metric index {index} is out of range 0 and {len(self.metrics)}")
        return self.metrics[index]

    def update(self, labels, preds):
        """Take in the labels and predictions of a batch, arrays or lists of them."""
        for metric in self.metrics:
            metric.update(labels, preds)

    def update_dict(self, labels, preds):
        """Take in dictionaries of labels and predictions; names choose among them."""
        labels, preds = only(labels, self.label_names), only(preds, self.output_names)
        for metric in self.metrics:
            metric.update_dict(labels, preds)

    # --- Several metrics as one -------------------------------------------------------------------

    def reset(self):
        """Begin anew."""
        super().reset()
        for metric in self.metrics:
            metric.reset()

    def reset_local(self):
        """Begin the local part anew, as at the start of a stretch of batches."""
        super().reset_local()
        for metric in self.metrics:
            metric.reset_local()

    def get(self):
        """Lists of names and values."""
        return joined(metric.get_name_value() for metric in self.metrics)

    def get_global(self):
        """Lists of names and values since the last `reset`."""
        return joined(metric.get_global_name_value() for metric in self.metrics)

    def get_config(self):
        """What `create` needs to make the metric again."""
        return {**super().get_config(), "metrics": [m.get_config() for m in self.metrics]}


def only(arrays, names):
    """The part of a dictionary that has those names, or all of it."""
    return arrays if names is None else {k: v for k, v in arrays.items() if k in names}


def joined(results):
    """A list of all names and a list of all values."""
    both = [pair for found in results for pair in found]
    return [name for name, _ in both], [value for _, value in both]
