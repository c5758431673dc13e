"""The estimator: the loop is the plain loop, and its handlers do what they say, when they should."""

import os

import numpy as np
import pytest

import minigluon as mx
from minigluon import gluon
from minigluon.gluon import nn
from minigluon.gluon.contrib.estimator import (
    BatchBegin,
    BatchEnd,
    BatchProcessor,
    CheckpointHandler,
    EarlyStoppingHandler,
    EpochBegin,
    EpochEnd,
    Estimator,
    GradientUpdateHandler,
    LoggingHandler,
    MetricHandler,
    StoppingHandler,
    TrainBegin,
    TrainEnd,
    ValidationHandler,
)

X = np.random.RandomState(0).normal(size=(40, 5)).astype("float32")
Y = (X.sum(1) > 0).astype("float32")
SOFTMAX = gluon.loss.SoftmaxCrossEntropyLoss()
pytestmark = pytest.mark.filterwarnings("ignore:no trainer given")


def loader():
    return gluon.data.DataLoader(gluon.data.ArrayDataset(X, Y), batch_size=10)


def estimator(hybrid=False, **settings):
    net = nn.HybridSequential()
    net.add(nn.Dense(2))
    net.initialize(mx.init.One())
    if hybrid:
        net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    settings.setdefault("train_metrics", mx.metric.Accuracy())
    return Estimator(net, SOFTMAX, trainer=trainer, **settings)


def weights(found):
    return [p.data().asnumpy() for p in found.net.collect_params().values()]


def test_the_log_of_a_run(capsys):
    found = estimator()
    found.fit(loader(), val_data=loader(), epochs=2)
    lines = capsys.readouterr().out.splitlines()
    kinds = [line.split(",")[0].split(" in ")[0] for line in lines]
    assert kinds == [
        "Training begin: using optimizer SGD with current learning rate 0.1000 ",
        "Train for 2 epochs.",
        "[Epoch 0] Begin",
        "Validation Begin",
        "[Epoch 0] Finished",
        "[Epoch 0] Finished",
        "[Epoch 1] Begin",
        "Validation Begin",
        "[Epoch 0] Finished",
        "[Epoch 1] Finished",
        "Train finished using total 0s with 2 epochs. training accuracy: "
        f"{found.train_metrics[0].get()[1]:.4f}",
    ]
    assert "validation accuracy: " in lines[4] and "training accuracy: " in lines[5]


def test_a_log_of_batches(capsys):
    found = estimator()
    own = LoggingHandler(log_interval=2, metrics=found.train_metrics)
    found.fit(loader(), epochs=1, event_handlers=own)
    lines = [line for line in capsys.readouterr().out.splitlines() if "[Batch" in line]
    assert [line.split(" time")[0] for line in lines] == [
        "[Epoch 0][Batch 0][Samples 10]",
        "[Epoch 0][Batch 2][Samples 30]",
    ]
    with pytest.raises(ValueError, match="log_interval is a whole number or 'epoch'"):
        LoggingHandler(log_interval="batch")


class Recorder(TrainBegin, TrainEnd, EpochBegin, EpochEnd, BatchBegin, BatchEnd):
    def __init__(self):
        self.seen = []

    def train_begin(self, estimator, *args, **kwargs):
        self.seen.append("train_begin")

    def train_end(self, estimator, *args, **kwargs):
        self.seen.append("train_end")

    def epoch_begin(self, estimator, *args, **kwargs):
        self.seen.append("epoch_begin")

    def epoch_end(self, estimator, *args, **kwargs):
        self.seen.append("epoch_end")

    def batch_begin(self, estimator, *args, **kwargs):
        assert {*kwargs} == {"batch"}

    def batch_end(self, estimator, *args, **kwargs):
        assert {*kwargs} == {"batch", "pred", "label", "loss"}
        assert all(isinstance(kwargs[k], list) for k in ("pred", "label", "loss"))
        self.seen.append("batch_end")


def test_events_come_in_order():
    recorder = Recorder()
    estimator().fit(loader(), batches=6, event_handlers=[recorder])
    epoch = ["epoch_begin", *["batch_end"] * 4, "epoch_end"]
    half = ["epoch_begin", *["batch_end"] * 2, "epoch_end"]
    assert recorder.seen == ["train_begin", *epoch, *half, "train_end"]


def test_priorities_order_the_handlers():
    found = estimator()
    handlers = [
        LoggingHandler(metrics=found.train_metrics),
        ValidationHandler(loader(), found.evaluate),
        MetricHandler(found.train_metrics),
        GradientUpdateHandler(),
    ]
    assert [h.priority for h in handlers] == [float("inf"), -1000, -1000, -2000]
    steps = []

    class Before(BatchEnd):
        priority = -3000

        def batch_end(self, estimator, *args, **kwargs):
            steps.append(weights(estimator)[0].copy())

    class After(Before):
        priority = -1

    found.fit(loader(), batches=1, event_handlers=[After(), Before()])
    assert (steps[0] == 1).all() and (steps[1] != 1).any()


def test_is_the_plain_loop():
    plain, handled = estimator(), estimator()
    for _ in range(3):
        for x, y in loader():
            with mx.autograd.record():
                loss = SOFTMAX(plain.net(x), y)
            loss.backward()
            plain.trainer.step(10)
    handled.fit(loader(), epochs=3)
    assert all((a == b).all() for a, b in zip(weights(plain), weights(handled)))


def test_two_contexts_train_like_one():
    one, two = estimator(), None
    net = nn.Dense(2)
    net.initialize(mx.init.One(), ctx=[mx.cpu(0), mx.cpu(1)])
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    two = Estimator(net, SOFTMAX, trainer=trainer, context=[mx.cpu(0), mx.cpu(1)])
    one.fit(loader(), epochs=2)
    two.fit(loader(), epochs=2)
    for a, b in zip(
        weights(one), [p.data(mx.cpu(0)).asnumpy() for p in net.collect_params().values()]
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_metrics_are_chosen_and_named():
    found = Estimator(nn.Dense(2), SOFTMAX)
    assert [m.name for m in found.train_metrics + found.val_metrics] == [
        "training accuracy",
        "training softmaxcrossentropyloss",
        "validation accuracy",
        "validation softmaxcrossentropyloss",
    ]
    regression = Estimator(nn.Dense(1), gluon.loss.L2Loss(), val_loss=gluon.loss.L1Loss())
    assert [m.name for m in regression.train_metrics + regression.val_metrics] == [
        "training l2loss",
        "validation l1loss",
    ]


def test_evaluates_another_network():
    net = nn.Dense(2)
    net.initialize(mx.init.Zero())
    found = estimator(val_net=net, val_metrics=[mx.metric.Accuracy(), mx.metric.Loss("loss")])
    assert found.evaluate(loader()) is None
    assert found.val_metrics[1].get() == ("validation loss", pytest.approx(np.log(2)))


def test_validation_by_batches():
    found, calls = estimator(), []
    handler = ValidationHandler(
        "data",
        lambda **settings: calls.append(settings["val_data"]),
        epoch_period=3,
        batch_period=3,
    )
    found.fit(loader(), epochs=3, event_handlers=handler)
    assert calls == ["data"] * 5  # 12 batches, 3 epochs


def test_stopping_handler_counts():
    handler = StoppingHandler()
    estimator().fit(loader(), batches=5, event_handlers=handler)
    assert (handler.current_batch, handler.current_epoch, handler.stop_training) == (5, 2, True)


@pytest.mark.parametrize(
    "settings, epochs, stopped",
    [
        ({"patience": 0, "baseline": 2.0}, 1, 0),
        ({"patience": 2, "baseline": 2.0}, 2, 1),
        ({"patience": 9, "baseline": 2.0}, 5, 0),
    ],
)
def test_stops_early(settings, epochs, stopped):
    found = estimator()
    handler = EarlyStoppingHandler(found.train_metrics[0], mode="max", **settings)
    found.fit(loader(), epochs=5, event_handlers=handler)
    assert handler.current_epoch == epochs and handler.stopped_epoch == stopped


def test_direction_is_guessed_aloud():
    with pytest.warns(UserWarning, match="larger 'accuracy'"):
        assert EarlyStoppingHandler(mx.metric.Accuracy()).monitor_op(2, 1)
    with pytest.warns(UserWarning, match="smaller 'mse'"):
        assert EarlyStoppingHandler(mx.metric.MSE(), min_delta=0.1).min_delta == -0.1
    with pytest.warns(RuntimeWarning, match="mode 'up' is unknown"), pytest.warns(UserWarning):
        EarlyStoppingHandler(mx.metric.MSE(), mode="up")


def test_checkpoints_by_epochs(tmp_path):
    found = estimator(hybrid=True)
    handler = CheckpointHandler(
        tmp_path, "m", found.train_metrics[0], save_best=True, mode="max", max_checkpoints=2
    )
    found.fit(loader(), epochs=4, event_handlers=handler)
    stems = ["m-best", "m-epoch2batch12", "m-epoch3batch16"]
    wanted = [f"{s}.{e}" for s in stems for e in ("params", "states")] + ["m-symbol.json"]
    assert sorted(os.listdir(tmp_path)) == sorted(wanted)
    assert handler.saved_checkpoints == stems[1:]
    net = gluon.SymbolBlock.imports(str(tmp_path / "m-symbol.json"), ["data"])
    assert net is not None


def test_resumed_equals_uninterrupted(tmp_path):
    whole = estimator()
    whole.fit(loader(), epochs=6)
    names = []
    for epochs in (2, 4, 6):
        part = estimator()
        handler = CheckpointHandler(tmp_path, resume_from_checkpoint=True)
        part.fit(loader(), epochs=epochs, event_handlers=handler)
        names += handler.saved_checkpoints
    assert [n.split("batch")[0] for n in names] == [f"model-epoch{i}" for i in range(6)]
    assert all((a == b).all() for a, b in zip(weights(whole), weights(part)))


def test_resumes_by_batches(tmp_path):
    first = CheckpointHandler(tmp_path, batch_period=2, epoch_period=None)
    estimator().fit(loader(), batches=7, event_handlers=first)
    assert first.saved_checkpoints == [
        "model-epoch0batch1",
        "model-epoch0batch3",
        "model-epoch1batch5",
    ]
    again = CheckpointHandler(
        tmp_path, batch_period=2, epoch_period=None, resume_from_checkpoint=True
    )
    found = estimator()
    found.fit(loader(), batches=13, event_handlers=again)
    assert found.max_batch == 7 and again.current_batch == 7
    assert again.saved_checkpoints == [
        "model-epoch2batch7",
        "model-epoch2batch9",
        "model-epoch3batch11",
    ]


def test_a_checkpoint_without_states_is_not_resumed(tmp_path):
    first = CheckpointHandler(tmp_path)
    estimator().fit(loader(), epochs=2, event_handlers=first)
    (tmp_path / f"{first.saved_checkpoints[1]}.states").unlink()
    again = CheckpointHandler(tmp_path, resume_from_checkpoint=True)
    estimator().fit(loader(), epochs=2, event_handlers=again)
    assert again.trained_epoch == 0


def test_what_cannot_be_resumed(tmp_path):
    estimator().fit(loader(), epochs=2, event_handlers=CheckpointHandler(tmp_path))
    with pytest.raises(ValueError, match="trained for the 2 epochs already"):
        again = CheckpointHandler(tmp_path, resume_from_checkpoint=True)
        estimator().fit(loader(), epochs=2, event_handlers=again)
    with pytest.raises(AssertionError, match="set epoch_period, and batch_period=None"):
        both = CheckpointHandler(tmp_path, batch_period=1, resume_from_checkpoint=True)
        estimator().fit(loader(), epochs=3, event_handlers=both)


def test_a_processor_of_our_own():
    class Half(BatchProcessor):
        def fit_batch(self, estimator, train_batch, batch_axis=0):
            return super().fit_batch(estimator, [part[:5] for part in train_batch], batch_axis)

    sizes = []

    class Sizes(BatchEnd):
        def batch_end(self, estimator, *args, **kwargs):
            sizes.append(kwargs["loss"][0].shape[0])

    estimator(batch_processor=Half()).fit(loader(), batches=2, event_handlers=Sizes())
    assert sizes == [5, 5]


FAULTS = {
    "loss": (lambda: Estimator(nn.Dense(2), abs), "loss is a gluon.loss.Loss"),
    "metric": (lambda: estimator(train_metrics=[3]), "metrics are objects"),
    "trainer": (
        lambda: Estimator(nn.Dense(2), SOFTMAX, trainer="sgd"),
        "trainer is a gluon.Trainer",
    ),
    "context": (lambda: estimator(context="cpu"), "context is mx.cpu"),
    "processor": (lambda: estimator(batch_processor=3), "fit_batch and evaluate_batch"),
    "neither": (lambda: estimator().fit(loader()), "give one, not epochs=None"),
    "both": (lambda: estimator().fit(loader(), epochs=1, batches=2), "give one, not epochs=1"),
    "data": (lambda: estimator().fit([1], epochs=1), "DataLoader, not list"),
    "evaluate": (lambda: estimator().evaluate(3), "DataLoader, not int"),
    "handler": (lambda: estimator().fit(loader(), epochs=1, event_handlers=[3]), "EventHandlers"),
    "monitor": (lambda: EarlyStoppingHandler("accuracy"), "monitor is one of the metrics"),
    "best": (lambda: CheckpointHandler(".", save_best=True), "save_best needs a monitor"),
    "stranger": (
        lambda: estimator().fit(
            loader(), epochs=1, event_handlers=LoggingHandler(metrics=mx.metric.Accuracy())
        ),
        "a metric that is not the estimator's",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refuses(name):
    call, says = FAULTS[name]
    with pytest.raises(ValueError, match=says):
        call()


def test_an_initializer_for_an_initialized_network():
    net = nn.Dense(2)
    net.initialize()
    with pytest.warns(UserWarning, match="initialized already"):
        Estimator(net, SOFTMAX, initializer=mx.init.Zero())
