"""Bad input to layers: refused when made where that can be known, else at the first call, with the layer's path."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import gluon, nd
from minigluon.gluon import nn

CALLS = {  # what is wrong: a layer, the shape of its input, what the error says
    "rank": (lambda: nn.Conv2D(4, 3), (2, 3), "needs data with 4 axes"),
    "rank, known": (lambda: nn.Conv2D(4, 3, in_channels=3), (2, 3), "needs data with 4 axes"),
    "rank of a pool": (lambda: nn.MaxPool2D(2), (3, 5), "layout NCHW does not fit"),
    "groups": (lambda: nn.Conv2D(4, 3, groups=2), (1, 3, 5, 5), "num_group=2 must divide"),
    "kernel": (lambda: nn.Conv2D(4, 9), (1, 3, 5, 5), "is larger than"),
    "kernel with a border": (lambda: nn.Conv2D(4, 9, padding=1), (1, 3, 5, 5), "is larger than"),
    "kernel with gaps": (lambda: nn.Conv1D(4, 3, dilation=3), (1, 3, 5), "is larger than"),
    "kernel of a pool": (lambda: nn.AvgPool2D(9, 1, 1), (1, 3, 5, 5), "exceeds input"),
    "channels": (lambda: nn.Conv2DTranspose(3, 3, in_channels=2), (1, 3, 4, 4), "need a weight"),
    "units": (lambda: nn.Dense(3, in_units=4), (2, 5), "need a weight of shape"),
    "axis": (lambda: nn.BatchNorm(axis=5), (2, 3), "shape cannot be inferred"),
    "statistics": (lambda: nn.BatchNorm(in_channels=5), (2, 3), "gamma needs the shape"),
    "groups of channels": (lambda: nn.GroupNorm(2), (2, 3, 4), "divisible into num_groups=2"),
    "no places": (lambda: nn.InstanceNorm(), (3,), "shape cannot be inferred"),
    "features": (lambda: nn.LayerNorm(in_channels=3), (2, 4), "gamma needs the shape"),
    "mirror": (lambda: nn.ReflectionPad2D(3), (1, 1, 2, 2), "reflected border"),
}
MADE = {  # what is wrong: how to make it, the error, what it says
    "layout": (lambda: nn.Conv2D(4, 3, layout="HWC"), AssertionError, "NCHW"),
    "layout of a row": (lambda: nn.Conv1D(4, 3, layout="NCHW"), AssertionError, "NCW"),
    "layout of a pool": (lambda: nn.MaxPool2D(layout="CHW"), AssertionError, "NHWC"),
    "groups": (lambda: nn.Conv2D(4, 3, groups=3), mx.MXNetError, "num_group=3"),
    "channels": (lambda: nn.Conv2D(4, 3, groups=2, in_channels=3), mx.MXNetError, "num_group=2"),
    "numbers": (lambda: nn.Conv2D(4, (3, 3, 3)), AssertionError, "kernel_size"),
    "numbers of a pool": (lambda: nn.AvgPool3D((2, 2)), AssertionError, "pool_size"),
    "stride": (lambda: nn.Conv2D(4, 3, strides=0), mx.MXNetError, "stride"),
    "slope": (lambda: nn.LeakyReLU(-1), AssertionError, "Slope coefficient"),
    "activation": (lambda: nn.Activation("nope"), mx.MXNetError, "unknown activation 'nope'"),
    "activation of a layer": (lambda: nn.Dense(3, activation="Relu"), mx.MXNetError, "Relu"),
    "activation of a window": (lambda: nn.Conv1D(3, 3, activation="x"), mx.MXNetError, "'x'"),
    "function": (lambda: nn.Lambda(3), ValueError, "Unrecognized function"),
    "name": (lambda: nn.HybridLambda("no such"), AssertionError, "not found"),
}


def network(make):
    """A layer two blocks deep."""
    net, inner = nn.HybridSequential(prefix="net_"), nn.HybridSequential(prefix="net_body_")
    net.add(nn.HybridSequential(prefix="net_stem_"), inner)
    net._children["0"].add(nn.Activation("relu"))
    with inner.name_scope():
        inner.add(nn.Activation("relu"), make())
    net.initialize()
    return net


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("what", CALLS)
def test_refused_at_the_first_call(what, hybrid):
    make, shape, says = CALLS[what]
    net = network(make)
    net.hybridize(hybrid)
    before = [p.shape for p in net.collect_params().values()]
    with pytest.raises(mx.MXNetError) as caught:
        net(mx.nd.ones(shape))
    name = net[1][1].name
    assert says in str(caught.value) and name in str(caught.value)
    if not hybrid:
        assert str(caught.value).startswith(f"in layer 1.1 ({name}), ")
    if what in ("rank", "groups"):  # nothing has been learnt from it
        assert [p.shape for p in net.collect_params().values()] == before
        assert isinstance(caught.value, ValueError)  # as MXNet, where shapes were to be found


@pytest.mark.parametrize("what", MADE)
def test_refused_when_made(what):
    make, error, says = MADE[what]
    with pytest.raises(error, match=says):
        make()


def test_a_layer_by_itself():
    layer = nn.Dense(3, in_units=2)
    layer.initialize()
    with pytest.raises(mx.MXNetError, match=rf"in layer {layer.name}, in FullyConnected"):
        layer(mx.nd.ones((1, 5)))


def test_numpys_whole_numbers_are_sizes():
    two = np.int64(2)
    dense, conv = nn.Dense(two, in_units=np.int64(3)), nn.Conv2D(two, (two, 2), padding=np.int32(1))
    assert dense.weight.shape == (2, 3) and type(dense.weight.shape[0]) is int
    assert "kernel_size=(2, 2), stride=(1, 1), padding=(1, 1)" in repr(conv)
    assert repr(gluon.rnn.LSTM(np.int64(3), two)) == "LSTM(None -> 3, TNC, num_layers=2)"
    x = mx.nd.arange(6).reshape((two, -1))
    assert mx.nd.sum(x, axis=np.int32(1)).asnumpy().tolist() == [3, 12]
    s = mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=two, no_bias=np.bool_(True))
    assert s.infer_shape(x=(4, 3))[1] == [(4, 2)] and s.attr("num_hidden") == "2"
    dense.initialize()
    dense.hybridize()
    assert dense(x).shape == (2, 2)


class Own(nn.HybridSequential):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units


MISSPELT = [
    (lambda: nn.Dense(3, activaton="relu"), "Dense", "activaton", "did you mean 'activation'"),
    (lambda: nn.Conv2D(3, 3, stride=2), "Conv2D", "stride", "did you mean 'strides'"),
    (lambda: Own(3, prefixx="a_"), "Own", "prefixx", "did you mean 'prefix'"),
    (lambda: mx.optimizer.create("sgd", lr=0.1), "SGD", "lr", "learning_rate"),
    (lambda: mx.optimizer.Adam(beta_1=0.1), "Adam", "beta_1", "did you mean 'beta1'"),
    (lambda: gluon.loss.L2Loss(weigth=2), "L2Loss", "weigth", "did you mean 'weight'"),
]


@pytest.mark.parametrize(("call", "cls", "name", "says"), MISSPELT)
def test_an_argument_that_no_constructor_takes(call, cls, name, says):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'") as caught:
        call()
    assert cls in str(caught.value) and says in str(caught.value)


def test_labels_of_the_wrong_shape_say_what_would_be_right():
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for label in (nd.ones(5), nd.ones((4, 3))):
        with pytest.raises(mx.MXNetError, match=r"shape \(4,\) or \(4, 1\).*sparse_label=False"):
            loss(nd.ones((4, 3)), label)
    with pytest.raises(mx.MXNetError, match=r"has the shape \(3,\) or \(3, 1\), not \(2,\)"):
        nd.pick(nd.ones((3, 2)), nd.ones(2))
    net = nn.BatchNorm(axis=3)
    net.initialize()
    with pytest.raises(ValueError, match=r"axis=3 is no axis of data of shape \(2, 3\)"):
        net(nd.ones((2, 3)))
    loader = gluon.data.DataLoader([nd.ones(2), nd.ones(3)], batch_size=2)
    with pytest.raises(mx.MXNetError, match=r"\[\(2,\), \(3,\)\] cannot be stacked.*Pad"):
        next(iter(loader))
