"""Metrics: values of MXNet 1.9.1, identities, what a reset forgets, and refusals."""

import json
import math
import pickle

import numpy as np
import pytest

import minigluon as mx
from minigluon import metric, nd, registry

from .reference import golden_metrics


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def batches(classes, sizes=(7, 3), column=False):
    """Labels and probabilities, the same numbers on every machine."""
    found = []
    for n in sizes:
        label = (np.arange(n) * 7 % 5 % classes).astype("float32")
        pred = softmax(np.sin(np.arange(n * classes) * 1.7 + n).reshape(n, classes) * 2)
        found.append((nd.array(label.reshape(-1, 1) if column else label), nd.array(pred)))
    return found


def numbers():
    x = [(np.sin(np.arange(n)), np.cos(np.arange(n) * 1.3) + np.sin(np.arange(n))) for n in (6, 4)]
    return [(nd.array(label), nd.array(pred)) for label, pred in x]


def values(made, pairs):
    """The value after each batch."""
    found = []
    for label, pred in pairs:
        made.update(label, pred)
        found.append(made.get()[1])
    return found


ORACLE = [  # metric, classes, its values after one and after two batches in MXNet 1.9.1
    (metric.Accuracy(), 3, [0.285714, 0.4]),
    (metric.Accuracy(), 2, [0.428571, 0.5]),
    (metric.TopKAccuracy(2), 4, [0.571429, 0.6]),
    (metric.TopKAccuracy(3), 4, [0.714286, 0.7]),
    (metric.CrossEntropy(), 3, [1.502065, 1.561339]),
    (metric.CrossEntropy(eps=0.1), 3, [1.015631, 1.017094]),
    (metric.NegativeLogLikelihood(), 3, [1.502065, 1.561339]),
    (metric.Perplexity(None), 3, [4.490953, 4.765196]),
    (metric.Perplexity(0), 3, [10.395858, 9.882703]),
    (metric.Perplexity(9), 3, [4.490953, 4.765196]),
    (metric.F1(), 2, [0.333333, 0.166667]),
    (metric.F1(average="micro"), 2, [0.333333, 0.285714]),
    (metric.MCC(), 2, [-0.091287, -0.045644]),
    (metric.MCC(average="micro"), 2, [-0.091287, 0.0]),
    (metric.PCC(), 2, [-0.091287, 0.0]),
    (metric.PCC(), 4, [0.264706, 0.123091]),
    (metric.Loss(), 3, [0.333333, 0.333333]),
    (metric.MAE(), None, [0.715904, 0.714242]),
    (metric.MSE(), None, [0.584337, 0.583768]),
    (metric.RMSE(), None, [0.764419, 0.764047]),
    (metric.PearsonCorrelation(), None, [0.394913, 0.264667]),
    (metric.PearsonCorrelation(average="micro"), None, [0.394913, 0.327009]),
]


@pytest.mark.parametrize(("made", "classes", "wanted"), ORACLE)
def test_values_of_mxnet(made, classes, wanted):
    made.reset()
    pairs = numbers() if classes is None else batches(classes)
    np.testing.assert_allclose(values(made, pairs), wanted, atol=2e-6)
    assert made.get_global() == made.get()
    assert math.isclose(made.get()[1], made._value(made.sum_metric, made.num_inst))


@pytest.mark.parametrize(("made", "classes", "_"), ORACLE)
def test_resets(made, classes, _):
    made.reset()
    first, second = numbers() if classes is None else batches(classes)
    alone = values(made, [second])[0]
    made.reset()
    both = values(made, [first, second])[1]
    made.reset()
    values(made, [first])
    made.reset_local()
    assert math.isnan(made.get()[1]) and not math.isnan(made.get_global()[1])
    assert np.isclose(values(made, [second])[0], alone, rtol=1e-12, equal_nan=True)
    assert math.isclose(made.get_global()[1], both, rel_tol=1e-12)
    made.reset()
    assert math.isnan(made.get()[1]) and math.isnan(made.get_global()[1])


@pytest.mark.parametrize(("made", "classes", "_"), ORACLE)
def test_shapes_and_sources(made, classes, _):
    """Columns of labels, NumPy arrays, lists of one, half precision: the same value."""
    made.reset()
    if classes is None or isinstance(made, metric.Loss):
        return
    wanted = values(made, batches(classes))
    for change in [
        lambda label, pred: (label.reshape(-1, 1), pred),
        lambda label, pred: (label.asnumpy(), pred.asnumpy()),
        lambda label, pred: ([label], [pred]),
        lambda label, pred: (label.astype("int32"), pred.astype("float64")),
        lambda label, pred: (label.astype("uint8"), pred.astype("float16")),
    ]:
        made.reset()
        found = values(made, [change(*pair) for pair in batches(classes)])
        np.testing.assert_allclose(found, wanted, rtol=5e-3)


@pytest.mark.parametrize("kind", [metric.MAE, metric.MSE, metric.RMSE])
def test_vectors_are_columns(kind):
    ((label, pred), _), made = numbers(), kind()
    wanted = values(made, [(label, pred)])[0]
    for pair in [(label.reshape(-1, 1), pred), (label, pred.reshape(-1, 1))]:
        made.reset()
        assert values(made, [pair])[0] == wanted
    made.reset()
    bytes_ = nd.array([1, 5]).astype("uint8"), nd.array([2, 3]).astype("uint8")
    assert values(made, [bytes_])[0] in (1.5, 2.5, 2.5**0.5)  # nothing wraps around


def test_accuracy():
    acc = metric.Accuracy
    scores = nd.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert values(acc(), [(nd.array([0, 1, 1]), scores)]) == [2 / 3]
    assert values(acc(), [(nd.array([0, 1, 1]), nd.array([0, 1, 0]))]) == [2 / 3]
    assert values(acc(axis=0), [([nd.array([0, 1, 1])], [scores.T])]) == [2 / 3]
    assert values(acc(), [(nd.array([0.5, 1]), scores[:2])]) == [1]  # numbers are cut off
    assert values(acc(), [([0, 1], [0, 1])]) == [1]
    image = nd.array(np.eye(3)[[[0, 1], [2, 2]]]).transpose((0, 2, 1))
    assert values(acc(), [(nd.array([[0, 1], [2, 0]]), image)]) == [0.75]
    assert values(acc(axis=-1), [(nd.array([[0, 1], [2, 0]]), image.transpose((0, 2, 1)))]) == [
        0.75
    ]
    assert math.isnan(values(acc(), [([], [])])[0])


def test_a_wrong_pair_changes_nothing():
    made = metric.Accuracy()
    with pytest.raises(ValueError):
        made.update([nd.ones((2,)), nd.ones((2,))], [nd.ones((2,)), nd.ones((3, 2))])
    assert made.num_inst == 0


def test_top_k():
    pred = nd.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    for label, wanted in [([1, 1], 1), ([0, 2], 0), ([2, 2], 0.5)]:
        assert values(metric.TopKAccuracy(2), [(nd.array(label), pred)]) == [wanted]
    assert values(metric.TopKAccuracy(9), [(nd.array([0, 1]), pred)]) == [1]
    assert values(metric.TopKAccuracy(2), [(nd.array([0, 1]), nd.array([0, 2]))]) == [0.5]
    assert metric.TopKAccuracy(3).name == "top_k_accuracy_3"


def test_perplexity():
    p = nd.full((2, 3, 5), 0.2)
    label = nd.array([[0, 1, 2], [3, 4, 0]])
    assert np.isclose(values(metric.Perplexity(None), [(label, p)])[0], 5)
    middle = values(metric.Perplexity(0, axis=1), [(label, p.transpose((0, 2, 1)))])[0]
    assert np.isclose(middle, 5)
    outside = metric.Perplexity(-1)
    assert np.isclose(values(outside, [(nd.array([-1, 1]), p[0, :2])])[0], 5)
    assert outside.num_inst == 1
    assert math.isnan(values(metric.Perplexity(0), [(nd.array([0]), nd.array([[0, 1]]))])[0])
    zero = values(metric.Perplexity(None), [(nd.array([0]), nd.array([[0, 1]]))])[0]
    assert np.isclose(zero, 1e10)  # the least probability counted


def test_a_probability_of_zero():
    pair = nd.array([0]), nd.array([[0, 1]])
    assert np.isclose(values(metric.CrossEntropy(), [pair])[0], -math.log(1e-12))
    assert np.isclose(values(metric.CrossEntropy(eps=0.01), [pair])[0], -math.log(0.01))


NEVER = nd.array([0, 0]), nd.array([[1, 0], [1, 0]])


def test_degenerate_tables():
    assert values(metric.F1(), [NEVER]) == values(metric.MCC(), [NEVER]) == [0]
    assert math.isnan(values(metric.PCC(), [NEVER])[0])
    assert math.isnan(values(metric.PearsonCorrelation(), [(nd.ones((2,)), nd.arange(2))])[0])
    assert values(metric.F1(), [(nd.array([-1, 1]), nd.array([[0, 1], [0, 1]]))]) == [2 / 3]


def test_binary_counts():
    f1 = metric.F1(average="micro")
    f1.update(nd.array([1, 1, 0, 0]), nd.array([[0, 1], [1, 0], [1, 0], [1, 0]]))
    counts = f1.metrics
    assert (counts.precision, counts.recall, counts.total_examples) == (1, 0.5, 4)
    assert (counts.true_positives, counts.false_negatives, counts.true_negatives) == (1, 1, 2)
    f1.reset()
    assert f1.metrics.total_examples == 0 and f1.metrics.recall == 0


def test_lists_are_one_table():
    two = batches(2)
    together = [[label for label, _ in two], [pred for _, pred in two]]
    micro = values(metric.F1(average="micro"), two)[-1]
    assert np.isclose(values(metric.F1(), [together])[0], micro)
    pcc = metric.PCC()
    assert np.isclose(values(pcc, [together])[0], values(metric.PCC(), two)[-1])
    assert pcc.num_inst == 1


def test_pooled_correlation_is_that_of_the_whole():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000) + 1e4  # far from 0, where sums of squares would cancel
    y = x + rng.normal(size=1000)
    made = metric.PearsonCorrelation(average="micro")
    for part in np.split(np.arange(1000), [1, 7, 500]):
        made.update(x[part], y[part])
    assert np.isclose(made.get()[1], np.corrcoef(x, y)[0, 1], rtol=1e-12)


def test_classes_may_turn_up_late():
    pcc, whole = metric.PCC(), metric.PCC()
    rng = np.random.default_rng(0)
    label, pred = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    order = np.argsort(np.maximum(label, pred))
    for part in np.split(order, 5):
        pcc.update(label[part], pred[part])
    whole.update(label, pred)
    assert np.isclose(pcc.get()[1], whole.get()[1], rtol=1e-12)


def test_custom():
    def total(label, pred):
        assert isinstance(label, np.ndarray)
        return float(np.abs(label - pred).sum())

    pair = nd.array([1, 2]), nd.array([2, 4])
    for made in [metric.create(total), metric.np(total), metric.CustomMetric(total)]:
        assert made.name == "total" and values(made, [pair, pair]) == [3, 3]
    shares = metric.np(lambda label, pred: (3.0, 4), name="mine")
    assert shares.name == "mine" and values(shares, [pair, pair]) == [0.75, 0.75]
    assert metric.np(lambda label, pred: 0).name == "custom(<lambda>)"
    extra = metric.CustomMetric(total, allow_extra_outputs=True)
    assert values(extra, [([pair[0]], [pair[1], pair[1]])]) == [3]
    with pytest.raises(ValueError, match="labels 1 does not match shape of predictions 2"):
        metric.CustomMetric(total).update([pair[0]], [pair[1], pair[1]])
    with pytest.raises(NotImplementedError):
        extra.get_config()


def test_np_is_the_function_and_numpy_stays_out():
    assert callable(mx.metric.np) and not hasattr(mx.metric.np, "ndarray")


def test_composite():
    made = metric.create(["acc", metric.CrossEntropy(), lambda label, pred: 1.0])
    made.add("mse")
    assert [m.name for m in made.metrics][:2] == ["accuracy", "cross-entropy"]
    made.metrics.pop()
    label, pred = batches(3)[0]
    made.update(label, pred)
    names, found = made.get()
    assert names == ["accuracy", "cross-entropy", "custom(<lambda>)"] and found[2] == 1
    assert made.get_name_value() == list(zip(names, found)) == made.get_global_name_value()
    assert str(made) == f"EvalMetric: {dict(zip(names, found))}"
    made.reset_local()
    assert np.isnan(made.get()[1]).all() and made.get_global()[1] == found
    made.reset()
    assert np.isnan(made.get_global()[1]).all()
    assert metric.create("composite").get() == ([], [])
    assert made.get_metric(1).name == "cross-entropy"
    with pytest.raises(ValueError, match="out of range 0 and 3"):
        made.get_metric(3)


def test_a_composite_leaves_what_its_parts_have_counted():
    acc = metric.Accuracy()
    acc.update(*batches(3)[0])
    assert metric.CompositeEvalMetric([acc]).get()[1] == [acc.get()[1]]


def test_names_choose():
    acc = metric.Accuracy(output_names=["out"], label_names=["truth"])
    labels = {"truth": nd.array([0, 1]), "other": nd.array([1, 1])}
    preds = {"out": nd.array([0, 1]), "more": nd.array([0, 0])}
    acc.update_dict(labels, preds)
    assert acc.get()[1] == 1
    both = metric.CompositeEvalMetric(["acc", acc])
    both.reset()
    both.update_dict(labels=labels, preds=preds)
    assert both.get()[1] == [0.5, 1]
    chosen = metric.CompositeEvalMetric(["acc"], output_names=["out"], label_names=["truth"])
    chosen.update_dict(labels, preds)
    assert chosen.get()[1] == [1]
    with pytest.raises(KeyError):
        acc.update_dict({"other": nd.array([0])}, preds)


@pytest.mark.parametrize("name", sorted(registry.get_registry(metric.EvalMetric)))
def test_create_by_name_and_from_config(name):
    needed = {"custommetric": {"feval": max}, "perplexity": {"ignore_label": 0}}
    needed |= dict.fromkeys(("topkaccuracy", "top_k_acc", "top_k_accuracy"), {"top_k": 3})
    made = metric.create(name.upper(), **needed.get(name, {}))
    if name == "custommetric":
        return
    again = metric.create(made.get_config())
    assert type(again) is type(made) and again.name == made.name
    assert again.get_config() == made.get_config()
    value = pickle.loads(pickle.dumps(made)).get()[1]
    assert value == [] or math.isnan(value)


def test_configuration():
    made = metric.F1(average="micro", output_names=["o"])
    assert made.get_config() == {
        "metric": "F1",
        "name": "f1",
        "output_names": ["o"],
        "label_names": None,
        "average": "micro",
    }
    assert metric.create(made.get_config()).average == "micro"
    assert metric.create('{"metric": "acc", "axis": 2}').axis == 2
    assert metric.create('["acc", {"axis": 2}]').axis == 2
    assert metric.create(metric=metric.Accuracy, axis=2).axis == 2
    top = metric.create(metric.TopKAccuracy(3).get_config())
    assert top.name == "top_k_accuracy_3"


def test_a_metric_of_ones_own():
    @metric.register
    @metric.alias("pairs_seen")
    class Seen(metric.EvalMetric):
        def __init__(self, name="seen"):
            super().__init__(name)

        def update(self, labels, preds):
            self.sum_metric += 2
            self.num_inst += 1

        def get(self):
            name, value = super().get()
            return [name, "twice"], [value, 2 * value]

    try:
        made = metric.create("pairs_seen")
        made.update(None, None)
        assert made.get_global() == made.get() == (["seen", "twice"], [2, 4])
        assert metric.create([made, "acc"]).get()[0] == ["seen", "twice", "accuracy"]
        assert str(made) == "EvalMetric: {'seen': 2.0, 'twice': 4.0}"
    finally:
        for name in ("seen", "pairs_seen"):
            del registry.known[metric.EvalMetric][name]


def test_a_metric_that_only_says_its_pairs_is_asked_for_them_when_training():
    class Pairs(metric.EvalMetric):
        def get(self):
            return ("a", "b"), (1.0, 2.0)  # tuples: not a list of names

        def get_name_value(self):
            return list(zip(*self.get()))

    assert Pairs("pairs").get_global_name_value() == [("a", 1.0), ("b", 2.0)]


def test_check_label_shapes():
    a, b = nd.ones((2, 3)), nd.ones((2,))
    assert metric.check_label_shapes(a, b) == (a, b)
    assert metric.check_label_shapes(a, b, wrap=True) == ([a], [b])
    with pytest.raises(ValueError, match=r"labels \(2, 3\) does not match .* \(2,\)"):
        metric.check_label_shapes(a, b, shape=True)


TWO = nd.ones((2, 2))
WRONG = [
    (lambda: metric.create("acuracy"), AssertionError, "not registered.*known are acc"),
    (lambda: metric.create(3), AssertionError, "must be of string type"),
    (lambda: metric.create(metric.MSE(), 1), AssertionError, "already an instance"),
    (lambda: metric.create("perplexity"), TypeError, "ignore_label"),
    (lambda: metric.TopKAccuracy(), AssertionError, "use Accuracy"),
    (lambda: metric.F1(average="x"), ValueError, "'macro' or 'micro'"),
    (lambda: metric.EvalMetric("x").update(1, 2), NotImplementedError, "update"),
    (lambda: metric.Accuracy().update([TWO], [TWO, TWO]), ValueError, "labels 1 .* predictions 2"),
    (lambda: metric.Accuracy().update(nd.ones((3,)), TWO), ValueError, "labels 3 .* predictions 2"),
    (lambda: metric.Accuracy().update(None, TWO), TypeError, "len"),
    (lambda: metric.TopKAccuracy(2).update(TWO, nd.ones((2, 2, 2))), AssertionError, "2 dims"),
    (lambda: metric.F1().update(nd.arange(3), nd.ones((3, 2))), ValueError, "binary"),
    (lambda: metric.MCC().update(nd.ones((2,)), nd.ones((2,))), ValueError, r"\(n, 2\)"),
    (lambda: metric.CrossEntropy().update(nd.array([7, 0]), TWO), IndexError, "label 7"),
    (lambda: metric.CrossEntropy().update(nd.array([-1, 0]), TWO), IndexError, "label -1"),
    (lambda: metric.CrossEntropy().update(nd.ones((3,)), TWO), ValueError, "labels 3"),
    (lambda: metric.CrossEntropy().update(TWO, TWO), AssertionError, "4 labels"),
    (lambda: metric.Perplexity(None).update([nd.ones((3,))], [TWO]), AssertionError, "do not fit"),
    (lambda: metric.MSE().update(nd.ones((3,)), TWO), ValueError, "labels 3"),
    (lambda: metric.PearsonCorrelation().update(nd.ones((2,)), TWO), ValueError, r"\(2,\)"),
]


@pytest.mark.parametrize(("call", "error", "says"), WRONG)
def test_refusals(call, error, says):
    with pytest.raises(error, match=says):
        call()


GOLDEN = json.loads(golden_metrics.HERE.read_text())
OURS = {  # where MXNet forgets to count: PearsonCorrelation(average='micro').get_global() is 0 there
    ("PearsonCorrelation", "micro"),
}


@pytest.mark.parametrize("i", range(len(GOLDEN)))
def test_golden(i):
    """The values of MXNet 1.9.1 after each batch: local, and since the last reset."""
    name, settings, data = golden_metrics.CASES[i]
    found = golden_metrics.values(metric, nd.array, name, settings, data)
    if (name, settings.get("average")) in OURS:
        found, wanted = found[:2], GOLDEN[i][:2]
    else:
        wanted = GOLDEN[i]
    found, wanted = (np.array(v, "float64") for v in (found, wanted))
    np.testing.assert_allclose(found, wanted, atol=3e-6, err_msg=f"{name} {settings} {data}")


def test_a_function_of_numpy_gives_a_number_of_python():
    metric = mx.metric.np(lambda label, pred: (label == pred).mean())
    metric.update([mx.nd.ones(2)], [mx.nd.ones(2)])
    assert type(metric.get()[1]) is float
