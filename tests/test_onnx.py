"""Networks as ONNX files: against the interpreter of the onnx package, and there and back."""

import sys

import numpy as np
import pytest

import minigluon as mx
from minigluon.gluon import nn, rnn

onnx = pytest.importorskip("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402

from minigluon.contrib.onnx import (  # noqa: E402
    export_model,
    get_model_metadata,
    import_model,
    import_to_gluon,
)


def sequence(*layers):
    net = nn.HybridSequential()
    net.add(*layers)
    return net


def numbers(*shape):
    return mx.nd.array(np.random.default_rng(0).normal(size=shape))


def exported(net, path, *xs, **settings):
    """The file of a network that has seen a batch, and its outputs."""
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    with mx.autograd.train_mode():
        net(*xs)
    y = net(*xs)
    params = {p.name: p.data() for p in net.collect_params().values()}
    names = ["data"] if len(xs) == 1 else [f"data{i}" for i in range(len(xs))]
    graph = net(*(mx.sym.var(n) for n in names))
    shapes = [x.shape for x in xs]
    assert export_model(graph, params, shapes, onnx_file_path=path, **settings) == path
    return y.asnumpy()


def run(path, *xs):
    names = [i.name for i in onnx.load(path).graph.input]
    return ReferenceEvaluator(path).run(None, {n: x.asnumpy() for n, x in zip(names, xs)})


NETS = {
    "lenet": (
        lambda: sequence(
            *(nn.Conv2D(6, 5, activation="tanh"), nn.MaxPool2D(2, 2), nn.Conv2D(8, 5, groups=2)),
            *(nn.MaxPool2D(2, 2), nn.Flatten(), nn.Dense(20, activation="sigmoid"), nn.Dense(10)),
        ),
        (2, 1, 28, 28),
    ),
    "perceptron": (
        lambda: sequence(
            *(nn.Dense(8, activation="relu"), nn.BatchNorm(), nn.Dropout(0.5), nn.LeakyReLU(0.1)),
            *(nn.PReLU(), nn.ELU(), nn.SELU(), nn.GELU(), nn.Swish(), nn.LayerNorm()),
            *(nn.Activation("softrelu"), nn.Activation("softsign"), nn.Dense(4, use_bias=False)),
        ),
        (3, 7),
    ),
    "rows": (lambda: sequence(nn.Dense(5, flatten=False), nn.Dense(6, flatten=False)), (2, 3, 7)),
    "windows": (
        lambda: sequence(
            *(nn.AvgPool2D(3, 2, 1), nn.AvgPool2D(2, 1, count_include_pad=False, padding=1)),
            *(nn.MaxPool2D(3, 2, 1), nn.Conv2DTranspose(3, 3, strides=2, padding=1)),
            *(nn.InstanceNorm(), nn.Conv2D(6, 3, dilation=2, padding=2), nn.GlobalAvgPool2D()),
        ),
        (2, 3, 17, 15),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_networks(name, tmp_path):
    made, shape = NETS[name]
    x, path = numbers(*shape), str(tmp_path / "net.onnx")
    want = exported(made(), path, x)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    np.testing.assert_allclose(run(path, x)[0], want, atol=1e-5)
    np.testing.assert_allclose(import_to_gluon(path)(x).asnumpy(), want, atol=1e-6)


class Pieces(nn.HybridBlock):
    def hybrid_forward(self, F, a, b):
        c = F.concat(F.transpose(a, axes=(0, 2, 1)), F.swapaxes(b, 1, 2), dim=2)
        c = F.slice_axis(c, axis=2, begin=1, end=None).expand_dims(1).squeeze(axis=1)
        left, right = F.split(F.reshape(c, shape=(0, -1)), num_outputs=2, axis=1)
        y = F.broadcast_add(left * 2 - 1, F.mean(right, axis=1, keepdims=True))
        y = F.square(F.clip(y / 3, a_min=-0.5, a_max=0.75)) + F.exp(-F.abs(y))
        y = F.log_softmax(y, axis=-1) + F.softmax(y, temperature=2.0) ** 2
        c = F.batch_dot(c, c, transpose_b=True)
        return F.broadcast_maximum(F.sum(c, axis=(1,)), F.max(y, axis=1, keepdims=True))


def test_operators_of_two_inputs(tmp_path):
    path = str(tmp_path / "net.onnx")
    xs = numbers(2, 3, 4), numbers(2, 4, 4)
    want = exported(Pieces(), path, *xs)
    np.testing.assert_allclose(run(path, *xs)[0], want, atol=1e-5)
    np.testing.assert_allclose(import_to_gluon(path)(*xs).asnumpy(), want, atol=1e-5)


LAYERS = {
    "LSTM": lambda: rnn.LSTM(4, 1),
    "GRU": lambda: rnn.GRU(4, 1),
    "tanh": lambda: rnn.RNN(4, 1, activation="tanh"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers(name, tmp_path):
    path, x = str(tmp_path / "net.onnx"), numbers(5, 2, 3)
    want = exported(LAYERS[name](), path, x)
    np.testing.assert_allclose(run(path, x)[0], want, atol=1e-5)
    longer = numbers(7, 3, 3)
    again = import_to_gluon(path)
    np.testing.assert_allclose(again(x).asnumpy(), want, atol=1e-6)
    assert again(longer).shape == (7, 3, 4)  # no size of the file is in it


def symbols(make, count):
    """A Symbol of as many variables, and their names."""
    names = ["a", "b", "c"][:count]
    return make(*(mx.sym.var(n) for n in names)), names


SIX, CUBE = (2, 6, 4, 4), (2, 3, 4)
PLACES = np.array([[0, 2, -1], [1, 5, 1]], "float32")
LENGTHS = np.array([3, 0, 2, 1], "float32")
ROWS = np.array([[0, 1, 1], [2, 0, 1]], "float32")
ANCHORS = np.array([[[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1], [0.3, 0.1, 0.4, 0.8]]], "float32")
FIVES = np.array([[5, 0, 5], [-5, 5, 5]], "float32")
S = mx.sym
OPERATORS = {
    **{n: (getattr(S, n), CUBE) for n in ("tanh", "sign", "sinh", "cosh", "arctan", "arcsinh")},
    **{n: (lambda a, n=n: getattr(S, n)(S.tanh(a)), CUBE) for n in ("arcsin", "arccos", "arctanh")},
    **{n: (lambda a, n=n: getattr(S, n)(2 + S.tanh(a)), CUBE) for n in ("log2", "arccosh")},
    **{
        n: (getattr(S, f"broadcast_{n}"), FIVES, FIVES[1:])
        for n in ("equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal")
    },
    **{
        n: (getattr(S, f"broadcast_{n}"), FIVES, FIVES[1:] - 5)
        for n in ("logical_and", "logical_or", "logical_xor")
    },
    "not": (S.logical_not, FIVES),
    "with numbers": (lambda a: (a > 0) + (a == -5) * 2 + (a <= 4) * 4 + (a >= 3) * 8, FIVES),
    "whole numbers": (lambda a: (a > 1) + a * 2, FIVES.astype("int32")),
    "power": (lambda a, b: S.broadcast_power(S.abs(a), b) + S.abs(b) ** S.abs(a), CUBE, CUBE),
    "extremes": (lambda a, b: S._internal._maximum(a, S._internal._minimum(b, 0 * a)), CUBE, CUBE),
    "add_n": (S.add_n, CUBE, CUBE, CUBE),
    "hard_sigmoid": (lambda a: S.hard_sigmoid(a, alpha=0.3), CUBE),
    "where": (S.where, FIVES, FIVES + 1, FIVES * 2),
    "where of rows": (S.where, FIVES[:, 1], FIVES + 1, FIVES * 2),
    "sum of all": (lambda a: S.sum(a), CUBE),
    "sum of none": (lambda a: S.sum(a, axis=(0, 1, 2), exclude=True), CUBE),
    "sum_axis": (lambda a: S.sum_axis(a, axis=-1, exclude=True), CUBE),
    "norm": (lambda a: S.norm(a, axis=(0, -1), keepdims=True), CUBE),
    "norm of all": (lambda a: S.norm(a, ord=1), CUBE),
    "norm 1": (lambda a: S.norm(a, ord=1, axis=1, out_dtype="float64"), CUBE),
    "argmax": (lambda a: S.argmax(a, axis=1), CUBE),
    "argmin": (lambda a: S.argmin(a, axis=-1, keepdims=True), CUBE),
    "argmax of all": (lambda a: S.argmax(a), CUBE),
    "argmin of a vector": (lambda a: S.argmin(a, axis=0), (5,)),
    **{
        f"L2Normalization {n}": (lambda a, n=n: S.L2Normalization(a, mode=n), SIX)
        for n in ("instance", "channel", "spatial")
    },
    "shape_array": (S.shape_array, CUBE),
    "size_array": (S.size_array, CUBE),
    "zeros_like": (lambda a: S.zeros_like(a) + S.ones_like(a) * a, CUBE),
    "made": (lambda a: S.broadcast_add(a, S.broadcast_mul(S.ones((3, 1)), S.arange(4))), CUBE),
    "made alone": (lambda a: S.Group([S.arange(3), S.relu(a)]), CUBE),
    "arange_like": (lambda a: S.contrib.arange_like(a, start=1.5, step=0.5), CUBE),
    "arange_like axis": (lambda a: S.contrib.arange_like(a, axis=-1, repeat=2), CUBE),
    "reshape_like": (S.reshape_like, (2, 12), CUBE),
    "reshape_like some": (
        lambda a, b: S.reshape_like(a, b, lhs_begin=1, lhs_end=-1, rhs_begin=1, rhs_end=None),
        (2, 12, 5), CUBE,
    ),
    "broadcast_axis": (lambda a: S.broadcast_axis(a, axis=(0, 2), size=(3, 2)), (1, 4, 1)),
    "broadcast_to": (lambda a: S.broadcast_to(a, shape=(0, 4, 3)), (2, 1, 3)),
    "broadcast_like": (S.broadcast_like, (2, 1, 1), CUBE),
    "broadcast_like some": (
        lambda a, b: S.broadcast_like(a, b, lhs_axes=(1,), rhs_axes=(-1,)), (2, 1, 3), CUBE,
    ),
    "slice_like": (S.slice_like, SIX, (1, 5, 3, 2)),
    "slice_like some": (lambda a, b: S.slice_like(a, b, axes=(1, -1)), SIX, (9, 5, 3, 2)),
    "SequenceMask": (
        lambda a, b: S.SequenceMask(a, b, use_sequence_length=True, value=-1), (3, 4, 2), LENGTHS,
    ),
    "SequenceMask axis 1": (
        lambda a, b: S.SequenceMask(a, b, use_sequence_length=True, axis=1), (4, 3), LENGTHS,
    ),
    "SequenceMask without": (S.SequenceMask, CUBE),
    "SequenceReverse": (
        lambda a, b: S.SequenceReverse(a, b, use_sequence_length=True), (3, 4, 2), LENGTHS + 1 - (LENGTHS == 3),
    ),
    "SequenceReverse without": (S.SequenceReverse, CUBE),
    "slice": (lambda a: S.slice(a, begin=(1, None, -2), end=(None, -1, None)), CUBE),
    "slice steps": (
        lambda a: S.slice(a, begin=(None, None, 3), end=(None, None, 0), step=(-1, 2, -2)), CUBE,
    ),
    "reverse": (lambda a: S.reverse(a, axis=(0, -1)), CUBE),
    "stack": (lambda a, b: S.stack(a, b, axis=-1), CUBE, CUBE),
    "tile": (lambda a: S.tile(a, reps=(2, 1)), CUBE),
    "tile more": (lambda a: S.tile(a, reps=(3, 1, 2)), (2, 3)),
    "repeat": (lambda a: S.repeat(a, repeats=2, axis=1), CUBE),
    "repeat all": (lambda a: S.repeat(a, repeats=3), (2, 3)),
    "depth_to_space": (lambda a: S.depth_to_space(a, block_size=2), (2, 8, 3, 2)),
    "space_to_depth": (lambda a: S.space_to_depth(a, block_size=2), SIX),
    **{
        f"take {n}": (lambda a, b, n=n: S.take(a, b, axis=1, mode=n), CUBE, PLACES)
        for n in ("clip", "wrap")
    },
    "gather_nd": (S.gather_nd, (3, 2, 4), ROWS[:, :2].T),
    "one_hot": (lambda a: S.one_hot(a, depth=3, on_value=2, off_value=-1), PLACES),
    "dot of vectors": (S.dot, (5,), (5,)),
    "dot of a vector and a matrix": (lambda a, b: S.dot(a, b, transpose_b=True), (5,), (2, 5)),
    "dot of a matrix and a vector": (lambda a, b: S.dot(a, b, transpose_a=True), (5, 2), (5,)),
    "squeeze": (lambda a: S.squeeze(a), (1, 2, 1)),
    "squeeze all": (lambda a: S.squeeze(a), (1, 1)),
    "Embedding": (
        lambda a, b: S.Embedding(a, b, input_dim=3, output_dim=2), PLACES, np.eye(3, 2, dtype="f"),
    ),
    "Crop": (lambda a: S.Crop(a, h_w=(2, 3), offset=(1, 0), num_args=1), SIX),
    "Crop to the middle of another": (
        lambda a, b: S.Crop(a, b, center_crop=True, num_args=2), SIX, (1, 1, 3, 2),
    ),
    "softmax of lengths": (
        lambda a, b: S.softmax(a, b, use_length=True, axis=1), (3, 4, 2),
        np.array([[1, 4], [2, 0], [3, 9]], "float32"),
    ),
    "softmax in another type": (lambda a: S.softmax(a, dtype="float64", temperature=2.0), CUBE),
    "log_softmax from another type": (
        lambda a: S.log_softmax(a, axis=0, dtype="float32"), np.eye(3, 4),
    ),
    **{
        f"SoftmaxOutput {n}": (lambda a, n=n, k=k: S.SoftmaxOutput(a, S.zeros((2, k)), **{n: True} if n else {}), CUBE)
        for n, k in (("", 1), ("multi_output", 4), ("preserve_shape", 3))
    },
    "split_v2": (lambda a: S.split_v2(a, (1, 4), axis=1), SIX),
    "split_v2 squeezed": (lambda a: S.split_v2(a, 3, axis=1, squeeze_axis=True), CUBE),
    "topk": (lambda a: S.topk(a, k=2, axis=1), CUBE),
    "topk value": (lambda a: S.topk(a, k=3, ret_typ="value", is_ascend=True), CUBE),
    "argsort": (lambda a: S.argsort(a, axis=1), CUBE),
    "linalg_gemm2": (lambda a, b: S.linalg.gemm2(a, b, transpose_a=True, alpha=2.0), CUBE, CUBE),
    "attention": (
        lambda a: S.contrib.interleaved_matmul_selfatt_valatt(
            a, S.softmax(S.contrib.interleaved_matmul_selfatt_qk(a, heads=2)), heads=2
        ),
        (5, 3, 24),
    ),
    "attention to another": (
        lambda a, b: S.contrib.interleaved_matmul_encdec_valatt(
            b, S.softmax(S.contrib.interleaved_matmul_encdec_qk(a, b, heads=2)), heads=2
        ),
        (5, 3, 8), (4, 3, 16),
    ),
    "div_sqrt_dim": (S.contrib.div_sqrt_dim, CUBE),
    "AdaptiveAvgPooling2D": (lambda a: S.contrib.AdaptiveAvgPooling2D(a, output_size=(3, 2)), (1, 2, 7, 5)),
    "BilinearResize2D": (lambda a: S.contrib.BilinearResize2D(a, height=7, width=3), (1, 2, 4, 5)),
    "BilinearResize2D like": (
        lambda a, b: S.contrib.BilinearResize2D(a, b, mode="like", align_corners=False),
        (1, 2, 4, 5), (1, 1, 9, 8),
    ),
    "UpSampling": (
        lambda a, b: S.UpSampling(a, b, scale=2, sample_type="nearest", num_args=2),
        (1, 2, 4, 4), (1, 3, 2, 2),
    ),
    "anchors": (
        lambda a, b: S.contrib.box_decode(
            S.tanh(b), S.contrib.MultiBoxPrior(a, sizes=(0.5,)), format="corner", std0=0.1
        ),
        (1, 2, 3, 2), (2, 6, 4),
    ),
    "box_decode": (lambda a, b: S.contrib.box_decode(a, b, clip=0.5), (2, 3, 4), ANCHORS),
}  # fmt: skip


ONE_WAY = {
    "arange_like",
    "repeat all",
    "take wrap",
    "gather_nd",
}  # written in words that are not read


def read(path, names, arrays):
    """The outputs of a file as a graph of ours."""
    sym, params, states = import_model(path)
    given = {n: mx.nd.array(a, dtype=a.dtype) for n, a in zip(names, arrays)} | params | states
    return [y.asnumpy() for y in sym.eval(**{n: given[n] for n in sym.list_inputs()})]


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name, tmp_path):
    make, *given = OPERATORS[name]
    rng, path = np.random.default_rng(1), str(tmp_path / "net.onnx")
    arrays = [rng.normal(size=a).astype("float32") if type(a) is tuple else a for a in given]
    sym, names = symbols(make, len(arrays))
    names = sym.list_inputs()
    inputs = {n: mx.nd.array(a, dtype=a.dtype) for n, a in zip("abc", arrays) if n in names}
    want = [y.asnumpy() for y in sym.eval(**inputs)]
    arrays = [inputs[n].asnumpy() for n in names]
    shapes, types = [a.shape for a in arrays], [a.dtype for a in arrays]
    export_model(sym, {}, shapes, types, onnx_file_path=path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    found = ReferenceEvaluator(path).run(None, dict(zip(names, arrays)))
    for a, b in zip(found, want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, atol=1e-5)
    if name in ONE_WAY:
        with pytest.raises(mx.MXNetError, match="No reader|constant"):
            import_model(path)
        return
    for a, b in zip(read(path, names, arrays), want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, atol=1e-5)


class Bert(nn.HybridBlock):
    """An encoder of interleaved attention: tokens (batch, length) and lengths (batch,)."""

    def __init__(self, units=8, heads=2):
        super().__init__()
        self.heads = heads
        with self.name_scope():
            self.word, self.place = nn.Embedding(20, units), nn.Embedding(9, units)
            self.mixed, self.joined = (nn.Dense(n * units, flatten=False) for n in (3, 1))
            self.wide = nn.Dense(16, flatten=False, activation=None)
            self.gelu, self.narrow = nn.GELU(), nn.Dense(units, flatten=False)
            self.norms = nn.HybridSequential()
            self.norms.add(nn.LayerNorm(), nn.LayerNorm())
            self.pooler = nn.Dense(units, activation="tanh", flatten=False)

    def hybrid_forward(self, F, tokens, lengths):
        steps = F.contrib.arange_like(tokens, axis=1)
        inside = F.broadcast_lesser(F.expand_dims(steps, 0), F.expand_dims(lengths, 1))
        inside = F.repeat(F.expand_dims(inside, 1), repeats=self.heads, axis=0)
        x = F.broadcast_add(self.word(tokens), self.place(steps))
        x = self.mixed_in(F, F.transpose(x, axes=(1, 0, 2)), (inside - 1) * 1e4)
        x = self.norms[1](x + self.narrow(self.gelu(self.wide(x))))
        x = F.SequenceMask(x, lengths, use_sequence_length=True)
        first = F.squeeze(F.slice(x, begin=(0,), end=(1,)), axis=0)
        y = F.transpose(x, axes=(1, 0, 2))
        return y, self.pooler(first), F.take(y, F.zeros_like(lengths), axis=1)

    def mixed_in(self, F, x, mask):
        """`x` with what attention brings."""
        parts = self.mixed(x)
        scores = F.contrib.interleaved_matmul_selfatt_qk(parts, heads=self.heads)
        weights = F.softmax(F.broadcast_add(scores, mask), axis=-1)
        found = F.contrib.interleaved_matmul_selfatt_valatt(parts, weights, heads=self.heads)
        return self.norms[0](x + self.joined(found))


class Detector(nn.HybridBlock):
    """Two scales of a single-shot detector: probabilities and boxes, without suppression."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.base, self.down = nn.Conv2D(8, 3, 2, 1, activation="relu"), nn.Conv2D(8, 3, 2, 1)
            self.classes, self.boxes = nn.Conv2D(3 * 4, 3, 1, 1), nn.Conv2D(3 * 4, 3, 1, 1)

    def hybrid_forward(self, F, x):
        x = F.L2Normalization(self.base(x), mode="channel")
        scales = [x, F.relu(self.down(x))]
        rows = [
            [F.transpose(f(s), axes=(0, 2, 3, 1)) for s in scales]
            for f in (self.classes, self.boxes)
        ]
        classes, boxes = (F.concat(*(F.flatten(r) for r in each), dim=1) for each in rows)
        anchors = [F.contrib.MultiBoxPrior(s, sizes=(0.3, 0.6), ratios=(1, 2)) for s in scales]
        offsets = F.reshape(boxes, shape=(0, -1, 4))
        found = F.contrib.box_decode(
            *(offsets, F.concat(*anchors, dim=1)),
            std0=0.1,
            std1=0.1,
            std2=0.2,
            std3=0.2,
            format="corner",
        )
        chances = F.softmax(F.reshape(classes, shape=(0, -1, 4)), axis=-1)
        return chances, F.clip(found, a_min=0, a_max=1), F.argmax(chances, axis=-1)


class Segmenter(nn.HybridBlock):
    """A fully convolutional network: the class of each pixel."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.down = nn.Conv2D(6, 3, 2, 1), nn.Conv2D(6, 3, 2, 1)
            self.register_child(self.down[0]), self.register_child(self.down[1])
            self.up = nn.Conv2DTranspose(6, 4, 2, 1)

    def hybrid_forward(self, F, x):
        a = F.relu(self.down[0](x))
        b = F.slice_like(self.up(F.relu(self.down[1](a))), a, axes=(2, 3)) + a
        context = F.contrib.BilinearResize2D(
            F.contrib.AdaptiveAvgPooling2D(b, output_size=2), height=8, width=9
        )
        y = F.contrib.BilinearResize2D(F.concat(b, context, dim=1), height=15, width=17)
        y = F.concat(
            y,
            x,
            F.UpSampling(
                F.slice_axis(x, axis=2, begin=0, end=1), scale=1, sample_type="nearest"
            ).broadcast_like(x),
            dim=1,
        )
        return y, F.argmax(y, axis=1)


def ends_of(net, path, *xs, **settings):
    """The file of a network of several outputs, and a function that gives its outputs."""
    mx.random.seed(0)
    net.initialize(mx.init.Xavier())
    net(*xs)
    params = {p.name: p.data() for p in net.collect_params().values()}
    graph = mx.sym.Group(net(*(mx.sym.var(f"data{i}") for i in range(len(xs)))))
    export_model(graph, params, [x.shape for x in xs], onnx_file_path=path, **settings)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def bert_batch(batch, length):
    tokens = np.random.default_rng(batch).integers(0, 20, (batch, length))
    return mx.nd.array(tokens), mx.nd.array(np.arange(batch) % length + 1)


MODELS = {
    "bert": (Bert, lambda: bert_batch(3, 5)),
    "detector": (Detector, lambda: [numbers(2, 3, 16, 16)]),
    "segmenter": (Segmenter, lambda: [numbers(2, 3, 15, 17)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name, tmp_path):
    made, batch = MODELS[name]
    net, xs, path = made(), batch(), str(tmp_path / "net.onnx")
    ends_of(net, path, *xs)
    for found, want in zip(run(path, *xs), net(*xs), strict=True):
        np.testing.assert_allclose(found, want.asnumpy(), atol=1e-5)


def test_open_sizes_of_attention(tmp_path):
    net, path = Bert(), str(tmp_path / "net.onnx")
    told = {"dynamic": True, "dynamic_input_shapes": [(None, None), (None,)]}
    ends_of(net, path, *bert_batch(3, 5), **told)
    for size in ((1, 1), (4, 9)):
        xs = bert_batch(*size)
        for found, want in zip(run(path, *xs), net(*xs), strict=True):
            assert found.shape == want.shape
            np.testing.assert_allclose(found, want.asnumpy(), atol=1e-5)


def test_drawn_numbers(tmp_path):
    path, a = str(tmp_path / "net.onnx"), mx.sym.var("a")
    draws = [
        mx.sym.random.normal(3, 2, shape=(50, 40)), mx.sym.random.uniform(-1, 3, shape=(50, 40)),
        mx.sym.uniform_like(a, low=2, high=4), mx.sym.normal_like(a, loc=-1, scale=0.5),
    ]  # fmt: skip
    export_model(mx.sym.Group([*draws, mx.sym.relu(a)]), {}, [(60, 30)], onnx_file_path=path)
    found = ReferenceEvaluator(path).run(None, {"a": np.zeros((60, 30), "float32")})[:4]
    found += read(path, ["a"], [np.zeros((60, 30), "float32")])[:4]
    told = [(3, 2), (1, 4 / 12**0.5), (3, 2 / 12**0.5), (-1, 0.5)] * 2
    shapes = ([(50, 40)] * 2 + [(60, 30)] * 2) * 2
    for y, shape, (mean, deviation) in zip(found, shapes, told, strict=True):
        assert y.shape == shape and y.dtype == np.float32
        assert abs(y.mean() - mean) < 0.3 and abs(y.std() / deviation - 1) < 0.1


def test_regions_there_and_back(tmp_path):
    a, b, path = mx.sym.var("a"), mx.sym.var("b"), str(tmp_path / "net.onnx")
    sym = mx.sym.ROIPooling(a, b, pooled_size=(2, 3), spatial_scale=0.5)
    arrays = numbers(2, 3, 8, 8).asnumpy(), np.array([[0, 0, 0, 6, 5], [1, 2, 2, 9, 6]], "float32")
    export_model(sym, {}, [x.shape for x in arrays], onnx_file_path=path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    (want,) = sym.eval(a=mx.nd.array(arrays[0]), b=mx.nd.array(arrays[1]))
    np.testing.assert_array_equal(read(path, ["a", "b"], arrays)[0], want.asnumpy())


def test_what_only_onnxruntime_runs(tmp_path):
    runtime, path = pytest.importorskip("onnxruntime"), str(tmp_path / "net.onnx")
    a, b = mx.sym.var("a"), mx.sym.var("b")
    rois = [[0, 0, 0, 6, 5], [1, 2, 2, 3, 6], [0, 4, 1, 7.5, 6.8]]
    given = {"a": numbers(2, 3, 8, 8).asnumpy(), "b": np.array(rois, "float32")}
    pooled = mx.sym.ROIPooling(a, b, pooled_size=(2, 3), spatial_scale=0.5)
    settings = {"spatial_scale": 0.5, "pooled_size": (2, 3)}
    aligned = [mx.sym.contrib.ROIAlign(a, b, sample_ratio=n, **settings) for n in (2, -1)]
    chances = mx.sym.one_hot(
        mx.sym.argmax(mx.sym.slice_axis(b, axis=1, begin=1, end=5), axis=1), depth=5
    )
    sym = mx.sym.Group([pooled, *aligned, mx.sym.sample_multinomial(chances, shape=(2, 3))])
    export_model(sym, {}, [(2, 3, 8, 8), (3, 5)], onnx_file_path=path)
    found = runtime.InferenceSession(path).run(None, given)
    want = sym.eval(**{n: mx.nd.array(x) for n, x in given.items()})
    for y, z in zip(found, want, strict=True):
        assert y.dtype == z.dtype
        np.testing.assert_allclose(y, z.asnumpy(), atol=1e-6)


def test_labels_files_and_open_sizes(tmp_path):
    fc = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(fc, name="softmax"))
    module.bind([("data", (4, 5))], [("softmax_label", (4,))])
    module.init_params(mx.init.Xavier())
    prefix, path = str(tmp_path / "m"), str(tmp_path / "net.onnx")
    module.save_checkpoint(prefix, 0)
    export_model(
        f"{prefix}-symbol.json", f"{prefix}-0000.params", [(4, 5)], onnx_file_path=path,
        dynamic=True, dynamic_input_shapes=[(None, 5)],
    )  # fmt: skip
    x = numbers(7, 5)
    module.reshape([("data", (7, 5))], [("softmax_label", (7,))])
    module.forward(mx.io.DataBatch([x]), is_train=False)
    want = module.get_outputs()[0].asnumpy()
    np.testing.assert_allclose(run(path, x)[0], want, atol=1e-6)
    found = get_model_metadata(path)
    assert found["input_tensor_data"] == [("data", (0, 5))]
    assert [name for name, _ in found["output_tensor_data"]] == ["softmax_output"]
    sym, params, states = import_model(path)
    assert {*params} == {"fc_weight", "fc_bias"} and not states
    assert sym.infer_shape(data=(2, 5))[1] == [(2, 3)]


def test_unequal_borders_and_older_words(tmp_path):
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    w = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype("float32")
    nodes = [
        make("Conv", ["x", "w"], ["y"], pads=[0, 1, 2, 1]),
        make("MaxPool", ["y"], ["p"], kernel_shape=[2, 2], pads=[0, 0, 1, 0]),
        make("Clip", ["p"], ["c"], min=-0.5, max=0.5),
        make("Unsqueeze", ["c"], ["u"], axes=[0]),
        make("Constant", [], ["s"], value=onnx.numpy_helper.from_array(np.array([2, -1]))),
        make("Reshape", ["u", "s"], ["z"]),
    ]
    ends = [value("x", 1, [1, 1, 5, 5])], [value("z", 1, None)]
    graph = onnx.helper.make_graph(nodes, "g", *ends, [onnx.numpy_helper.from_array(w, "w")])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 10)], ir_version=5
    )
    onnx.save(model, tmp_path / "old.onnx")
    x = numbers(1, 1, 5, 5)
    padded = np.pad(x.asnumpy(), ((0, 0), (0, 0), (0, 2), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    y = np.einsum("nchwij,ocij->nohw", views, w)
    y = np.pad(y, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=-np.inf)
    want = np.lib.stride_tricks.sliding_window_view(y, (2, 2), (2, 3)).max((-1, -2))
    found = import_to_gluon(tmp_path / "old.onnx")(x).asnumpy()
    np.testing.assert_allclose(found, want.clip(-0.5, 0.5).reshape(2, -1), atol=1e-5)


WORDS = {  # of which our writer has no need
    "Mean": ({}, 3), "ReduceSumSquare": ({"axes": [1]}, 1), "ReduceLogSum": ({"axes": [0, 2]}, 1),
    "ReduceLogSumExp": ({"axes": [-1], "keepdims": 0}, 1), "Sum": ({}, 2), "Max": ({}, 2),
    "HardSigmoid": ({}, 1), "ArgMax": ({"axis": 1}, 1),
}  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_words_that_are_only_read(word, tmp_path):
    settings, count = WORDS[word]
    names, value = ["a", "b", "c"][:count], onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node(word, names, ["y"], **settings)
    ends = [value(n, 1, [2, 3, 4]) for n in names], [value("y", 7 if word == "ArgMax" else 1, None)]
    opset = onnx.helper.make_opsetid("", 15)
    graph = onnx.helper.make_graph([node], "g", *ends)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    arrays = [np.abs(numbers(2, 3, 4).asnumpy()) * (i + 1) for i in range(count)]
    (want,) = ReferenceEvaluator(model).run(None, dict(zip(names, arrays)))
    (found,) = read(tmp_path / "net.onnx", names, arrays)
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_errors(tmp_path, monkeypatch):
    x, path = mx.sym.var("data"), str(tmp_path / "net.onnx")
    wrong = {
        "No conversion function registered for op type gamma": mx.sym.gamma(x),
        "pools by max and avg": mx.sym.Pooling(x, kernel=(2, 2), pool_type="sum"),
        "slopes that are drawn": mx.sym.LeakyReLU(x, act_type="rrelu")[0],
        "dropout that draws": mx.sym.Dropout(x, mode="always"),
        "at opset 15": mx.sym.contrib.ROIAlign(
            *(x, mx.sym.var("b")), pooled_size=(1, 2), spatial_scale=1.0, position_sensitive=True
        ),
        "has no mask": mx.sym.topk(x, ret_typ="mask"),
        "along an axis": mx.sym.argsort(x, axis=None),
        "only UpSampling by 'nearest'": mx.sym.UpSampling(
            *(x, mx.sym.ones((2, 1, 4, 4))), scale=2, sample_type="bilinear", num_filter=2
        ),
        "get_prob cannot be told": mx.sym.sample_multinomial(x, get_prob=True)[0],
        "the last two axes": mx.sym.linalg.gemm2(x, x, transpose_b=True, axis=1),
    }
    for says, sym in wrong.items():
        with pytest.raises(mx.MXNetError, match=says):
            shapes = [(1, 2, 4, 4), (1, 5)][: len(sym.list_inputs())]
            export_model(sym, {}, shapes, onnx_file_path=path)
    with pytest.raises(ValueError, match="in_shapes"):
        export_model(mx.sym.relu(x), {}, onnx_file_path=path)
    assert not (tmp_path / "net.onnx").exists()
    assert "Convolution" in mx.onnx.get_operator_support()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        export_model(mx.sym.relu(x), {}, [(1, 2)], onnx_file_path=path)


def model_of(nodes, inputs, arrays, path, opset=17, outputs=("y",)):
    """A file of ONNX nodes; sizes of inputs that are texts stay open."""
    value, make = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    nodes = [
        make(op, i.split(), o.split(), name=f"n{k}", **s) for k, (op, i, o, s) in enumerate(nodes)
    ]
    known = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()]
    kinds = {n: 7 if n in ("tokens", "lengths") else 1 for n in inputs}
    ends = [value(n, kinds[n], s) for n, s in inputs.items()], [value(n, 1, None) for n in outputs]
    graph = onnx.helper.make_graph(nodes, "g", *ends, known)
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8
        ),
        path,
    )


W = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
ONE = {
    "zero": np.array(0),
    "one": np.array([1]),
    "minus": np.array([-1]),
    "heads": np.array([2]),
    "axis": np.array([0]),
}
CHAINS = {  # nodes, inputs, shapes of the arrays to try
    "as rows": (
        [("Shape", "x", "s", {}), ("Gather", "s zero", "n", {}), ("Unsqueeze", "n axis", "m", {}),
         ("Concat", "m minus", "t", {"axis": 0}), ("Reshape", "x t", "y", {})],
        {"x": ["n", 2, 3]}, [(4, 2, 3), (1, 2, 3)],
    ),
    "split heads": (
        [("Shape", "x", "s", {"start": 0, "end": 2}), ("Concat", "s heads minus", "t", {"axis": 0}),
         ("Reshape", "x t", "r", {}), ("Transpose", "r", "v", {"perm": [0, 2, 1, 3]}), ("Transpose", "v", "w", {"perm": [0, 2, 1, 3]}),
         ("Reshape", "w s6", "z", {}), ("Identity", "z", "y", {})],
        {"x": ["n", "t", 6]}, [(4, 5, 6), (2, 1, 6)],
    ),
    "samples and heads": (
        [("Shape", "x", "s", {}), ("Gather", "s axis", "n", {}), ("Gather", "s one", "t", {}), ("Mul", "n heads", "nh", {}),
         ("Concat", "t nh minus", "a", {"axis": 0}), ("Transpose", "x", "xt", {"perm": [1, 0, 2]}), ("Reshape", "xt a", "r", {}),
         ("Concat", "t n heads minus", "b", {"axis": 0}), ("Reshape", "r b", "y", {})],
        {"x": ["n", "t", 6]}, [(4, 5, 6), (2, 3, 6)],
    ),
    "places": (
        [("Shape", "x", "s", {}), ("Gather", "s one", "t", {}), ("Slice", "W axis t axis", "p", {}), ("Add", "x p", "y", {})],
        {"x": ["n", "t", 4]}, [(3, 2, 4), (1, 6, 4)],
    ),
    "spread": (
        [("ReduceMean", "x", "m", {"axes": [1], "keepdims": 1}), ("Shape", "x", "s", {}), ("Cast", "s", "c", {"to": 7}),
         ("Expand", "m c", "e", {}), ("Sub", "x e", "y", {})],
        {"x": ["n", 3]}, [(4, 3), (2, 3)],
    ),
    "fixed": (
        [("Shape", "x", "s", {}), ("Gather", "s one", "t", {}), ("Cast", "t", "f", {"to": 1}), ("Sqrt", "f", "q", {}), ("Div", "x q", "y", {})],
        {"x": [2, 4]}, [(2, 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_what_computes_with_shapes(name, tmp_path):
    nodes, inputs, shapes = CHAINS[name]
    path = str(tmp_path / "net.onnx")
    model_of(nodes, inputs, ONE | {"W": W, "s6": np.array([0, 0, 6])}, path)
    net = import_to_gluon(path)
    for shape in shapes:
        x = numbers(*shape)
        (want,) = ReferenceEvaluator(path).run(None, {"x": x.asnumpy()})
        found = net(x).asnumpy()
        assert found.shape == want.shape
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_what_depends_on_open_sizes_in_another_way_is_refused(tmp_path):
    path = str(tmp_path / "net.onnx")
    root = [("Shape", "x", "s", {}), ("Gather", "s one", "t", {}), ("Cast", "t", "f", {"to": 1})]
    model_of([*root, ("Div", "x f", "y", {})], {"x": ["n", "t"]}, ONE, path)
    with pytest.raises(mx.MXNetError, match="leaves open"):
        import_model(path)
    root = [("Shape", "x", "s", {}), ("Concat", "s s", "t", {"axis": 0})]
    model_of([*root, ("Reshape", "x t", "y", {})], {"x": ["n", "t"]}, ONE, path)
    with pytest.raises(mx.MXNetError, match="more than one size"):
        import_model(path)


PLAIN_WORDS = {
    "LayerNormalization": ([("LayerNormalization", "x g b", "y", {"epsilon": 1e-3})], (2, 3, 4)),
    "LayerNormalization, no bias": ([("LayerNormalization", "x g", "y", {"axis": 2})], (2, 3, 4)),
    "HardSwish": ([("HardSwish", "x", "y", {})], (2, 3, 4)),
    "CumSum": ([("CumSum", "x one", "y", {})], (2, 3, 4)),
    "Resize": ([("Resize", "x  k", "y", {"mode": "nearest"})], (1, 2, 3, 4)),
    "Gelu": ([("Gelu", "x", "y", {})], (2, 3, 4)),
    "Gelu by tanh": ([("Gelu", "x", "y", {"approximate": "tanh"})], (2, 3, 4)),
}


@pytest.mark.parametrize("name", PLAIN_WORDS)
def test_words_of_newer_files(name, tmp_path):
    nodes, shape = PLAIN_WORDS[name]
    path, make = str(tmp_path / "net.onnx"), onnx.helper.make_node
    known = {"g": W[0] + 2, "b": W[1], "one": np.array(1), "k": np.array([1, 1, 2, 2], "float32")}
    model_of(nodes, {"x": list(shape)}, known, path, 20)
    if name == "Resize":  # whose second input is left out
        model = onnx.load(path)
        node = make("Resize", ["x", "", "k"], ["y"], mode="nearest")
        model.graph.node[0].CopyFrom(node)
        onnx.save(model, path)
    x = numbers(*shape)
    (want,) = ReferenceEvaluator(path).run(None, {"x": x.asnumpy()})
    np.testing.assert_allclose(import_to_gluon(path)(x).asnumpy(), want, atol=1e-5)


def gates(kind):
    return {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_of_other_programs(kind, direction, tmp_path):
    """Against ONNX's interpreter, which has one direction, or against that one run
    on the turned data.
    """
    rng, path, d = (
        np.random.default_rng(0),
        str(tmp_path / "net.onnx"),
        1 + (direction == "bidirectional"),
    )
    make = lambda *shape: rng.normal(size=shape).astype("float32") * 0.5
    arrays = {
        "w": make(d, gates(kind) * 5, 3),
        "r": make(d, gates(kind) * 5, 5),
        "b": make(d, gates(kind) * 10),
    }
    settings = {"hidden_size": 5} | ({"linear_before_reset": 1} if kind == "GRU" else {})
    model_of([(kind, "x w r b", "y h", settings | {"direction": direction})], {"x": ["t", "n", 3]}, arrays, path,
             outputs=("y", "h"))  # fmt: skip
    x = make(4, 2, 3)
    y, h = (a.asnumpy() for a in import_to_gluon(path)(mx.nd.array(x)))
    assert y.shape == (4, d, 2, 5) and h.shape == (d, 2, 5)
    for i in range(d):
        alone = str(tmp_path / "one.onnx")
        part = {n: a[i : i + 1] for n, a in arrays.items()}
        model_of(
            [(kind, "x w r b", "y h", settings)], {"x": [4, 2, 3]}, part, alone, outputs=("y", "h")
        )
        turn = direction == "reverse" or i == 1
        want, last = ReferenceEvaluator(alone).run(None, {"x": x[::-1].copy() if turn else x})
        want = want[::-1] if turn else want
        np.testing.assert_allclose(y[:, i], want[:, 0], atol=1e-5)
        np.testing.assert_allclose(h[i], last[0], atol=1e-5)


def test_recurrent_layers_that_are_not_here(tmp_path):
    path, arrays = (
        str(tmp_path / "net.onnx"),
        {"w": np.zeros((1, 15, 3), "f"), "r": np.zeros((1, 15, 5), "f")},
    )
    for settings, says in (
        ({}, "linear_before_reset=0"),
        ({"linear_before_reset": 1, "clip": 1.0}, "clip=1.0"),
    ):
        model_of(
            [("GRU", "x w r", "y", {"hidden_size": 5} | settings)], {"x": [4, 2, 3]}, arrays, path
        )
        with pytest.raises(mx.MXNetError, match=says):
            import_model(path)
