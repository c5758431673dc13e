"""Loops between the products of a training step against NumPy's way: kernels/cpu/steps.cpp, chapter 96j."""

import numpy as np
import pytest

import minigluon as mx
from minigluon.op import operators
from minigluon.ops import optimizer as ops
from minigluon.ops import step_loops
from minigluon.symbol.hybrid import traced

STEPS = {  # step, arrays, settings
    "descent": (ops.sgd_step, 2, {}),
    "descent, all": (ops.sgd_step, 2, {"wd": 0.1, "rescale_grad": 0.5, "clip_gradient": 0.2}),
    "momentum": (ops.momentum_step, 3, {"momentum": 0.9}),
    "momentum, all": (
        ops.momentum_step,
        3,
        {"momentum": 0.9, "wd": 0.1, "rescale_grad": 0.5, "clip_gradient": 0.2},
    ),
    "clipped to nothing": (ops.momentum_step, 3, {"momentum": 0.5, "clip_gradient": 0.0}),
    "no bound": (ops.momentum_step, 3, {"momentum": 0.5, "clip_gradient": None}),
    "adam": (ops.adam_step, 4, {}),
    "adam, all": (
        ops.adam_step,
        4,
        {"wd": 0.1, "rescale_grad": 0.5, "clip_gradient": 0.2, "beta1": 0.5, "epsilon": 1e-3},
    ),
    "adam, a whole rate": (ops.adam_step, 4, {"lr": 1, "wd": 0, "clip_gradient": 1}),
    "adamw": (ops.adamw_step, 4, {"decay": 0.05, "wd": 0.01}),
}
SIZES = [1, step_loops.LONG - 1, step_loops.LONG, ops.BLOCK // 4 + 5, ops.LARGE + 3]


def arrays_of(count, size, dtype="float32"):
    rng = np.random.default_rng(size)
    return [rng.uniform(0.1, 1, size).astype(dtype) for _ in range(count)]


def after(monkeypatch, native, step, arrays, settings):
    """Copies of the arrays after three steps."""
    monkeypatch.setenv("MINIGLUON_NATIVE", native)
    arrays = [a.copy(order="K") for a in arrays]
    with np.errstate(all="ignore"):
        for _ in range(3):
            ops.run([(step, arrays, {"lr": 0.1, **settings})])
    return arrays


@pytest.fixture
def walked(monkeypatch):
    """Lengths of the arrays that loops have walked over."""
    found, call = [], step_loops.Loops.__call__

    def told(self, name, *args):
        found.append(args[2] if name in ("descend", "momentum", "adam") else args[0])
        call(self, name, *args)

    monkeypatch.setattr(step_loops.Loops, "__call__", told)
    return found


@pytest.mark.loops
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STEPS)
def test_steps_are_those_of_numpy(name, size, walked, monkeypatch):
    monkeypatch.setattr(ops, "WORKERS", 3)
    step, count, settings = STEPS[name]
    arrays = arrays_of(count, size)
    loop, plain = (after(monkeypatch, native, step, arrays, settings) for native in "10")
    assert sum(walked) == (3 * size if size >= step_loops.LONG else 0)
    for a, b in zip(loop, plain):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.loops
@pytest.mark.parametrize("name", STEPS)
def test_numbers_that_are_none_and_infinite_ones(name, monkeypatch):
    step, count, settings = STEPS[name]
    arrays = arrays_of(count, step_loops.LONG)
    for i, a in enumerate(arrays):
        a[7 * i : 7 * i + 4] = np.nan, np.inf, -np.inf if i < 2 else np.inf, 0
    loop, plain = (after(monkeypatch, native, step, arrays, settings) for native in "10")
    for a, b in zip(loop, plain):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.loops
@pytest.mark.parametrize("name", STEPS)
def test_cores_and_blocks_change_nothing(name, monkeypatch):
    step, count, settings = STEPS[name]
    arrays = arrays_of(count, ops.LARGE + 3)
    found = []
    for workers, block in ((1, ops.BLOCK), (3, ops.BLOCK), (2, ops.BLOCK // 8)):
        monkeypatch.setattr(ops, "WORKERS", workers)
        monkeypatch.setattr(ops, "BLOCK", block)
        found.append(after(monkeypatch, "1", step, arrays, settings))
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_array_equal(a, b)


OTHERS = {
    "double": lambda a: a.astype("float64"),
    "strided": lambda a: np.repeat(a, 2)[::2],
    "by columns": lambda a: np.asfortranarray(a.reshape(64, -1)),
    "the other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.loops
@pytest.mark.parametrize("kind", OTHERS)
def test_other_arrays_go_numpys_way(kind, walked, monkeypatch):
    arrays = [OTHERS[kind](a) for a in arrays_of(4, 1 << 13)]
    monkeypatch.setenv("MINIGLUON_NATIVE", "1")
    ops.run([(ops.adam_step, arrays, {"lr": 0.1})])
    plain = arrays_of(4, 1 << 13, "float64")
    ops.adam_step(*plain, lr=0.1)
    assert not walked
    for a, b in zip(arrays, plain):
        np.testing.assert_allclose(np.ravel(a), b, rtol=1e-4, atol=1e-6)


@pytest.mark.loops
def test_what_is_for_reading_only_stays(monkeypatch):
    arrays = arrays_of(4, 1 << 13)
    arrays[0].flags.writeable = False
    before = arrays[0].copy()
    with pytest.raises(ValueError, match="read-only"):
        ops.run([(ops.adam_step, arrays, {"lr": 0.1})])
    np.testing.assert_array_equal(arrays[0], before)


@pytest.mark.loops
@pytest.mark.parametrize("lazy", [False, True])
def test_rows_of_a_table(lazy, monkeypatch):
    def run(native):
        monkeypatch.setenv("MINIGLUON_NATIVE", native)
        w = mx.nd.array(arrays_of(1, 1 << 14)[0].reshape(128, 128))
        rows, values = [3, 5, *range(60, 120)], arrays_of(1, 62 * 128)[0].reshape(62, 128)
        g = mx.nd.sparse.row_sparse_array((values, rows), shape=w.shape)
        optimizer = mx.optimizer.Adam(wd=0.1, lazy_update=lazy)
        state = optimizer.create_state(0, w)
        for _ in range(3):
            optimizer.update(0, w, g, state)
        return w.asnumpy()

    np.testing.assert_allclose(run("1"), run("0"), rtol=1e-5, atol=1e-6)


@pytest.mark.loops
@pytest.mark.parametrize("name", ["sgd", "adam", "adamW"])
def test_a_network_learns_alike(name, walked, monkeypatch):
    def run(native):
        monkeypatch.setenv("MINIGLUON_NATIVE", native)
        mx.random.seed(0)
        net = mx.gluon.nn.Dense(128, in_units=64)
        net.initialize(mx.init.Xavier())
        settings = {"momentum": 0.9} if name == "sgd" else {}
        trainer = mx.gluon.Trainer(net.collect_params(), name, {"wd": 0.01, **settings})
        x = mx.nd.array(arrays_of(1, 640)[0].reshape(10, 64))
        for _ in range(5):
            with mx.autograd.record():
                loss = (net(x) ** 2).sum()
            loss.backward()
            trainer.step(10)
        return [p.data().asnumpy() for p in net.collect_params().values()]

    for a, b in zip(run("1"), run("0")):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert walked


# --- Bias, relu and the way back ------------------------------------------------------------------

SHAPES = {  # batch and units: by rows, by columns of small programs, in parts of the batch
    "odd": (131, 257),
    "by columns": (64, 517),
    "many units": (40, 2311),
    "few rows": (9, 4099),
    "large": (530, 1030),
    "a batch with axes": (7, 19, 260),
}


def network(units, relu, bias=True, linear=False):
    class Net(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                settings = {"flatten": False, "use_bias": bias}
                self.first = mx.gluon.nn.Dense(
                    units, activation="relu" if relu else None, **settings
                )
                self.last = mx.gluon.nn.Dense(3, flatten=False)

        def hybrid_forward(self, F, x):
            h = self.first(x)
            return (self.last(h), h) if linear else self.last(h)

    mx.random.seed(0)
    net = Net()
    net.initialize(mx.init.Normal(0.5))
    return net


def trained(monkeypatch, native, shape, hybrid=True, bad=False, **kind):
    """Outputs and gradients of a network, and the texts of its programs."""
    monkeypatch.setenv("MINIGLUON_NATIVE", native)
    net = network(shape[-1], **kind)
    x = np.random.default_rng(0).standard_normal((*shape[:-1], 5)).astype("float32")
    if bad:
        x[0, ..., 0], x[1, ..., 1] = np.nan, np.inf
    x = mx.nd.array(x)
    net(x[:1])  # shapes, without hybridize
    net.hybridize(hybrid)
    x.attach_grad()
    with mx.autograd.record():
        outputs = net(x)
        outputs = outputs if isinstance(outputs, tuple | list) else [outputs]
        loss = sum((y * y).mean() for y in outputs)
    loss.backward()
    grads = [p.grad() for p in net.collect_params().values()]
    texts = [op.listing for op in net._programs.latest.programs.values()] if hybrid else []
    return [a.asnumpy() for a in [*outputs, x.grad, *grads]], "".join(texts)


def equal(found, wanted, rtol=1e-4):
    for a, b in zip(found, wanted):
        scale = np.abs(b[np.isfinite(b)]).max(initial=1e-30)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5 * scale)


@pytest.mark.loops
@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_layers_with_relu(shape, hybrid, monkeypatch):
    both = [trained(monkeypatch, n, SHAPES[shape], hybrid, relu=True) for n in "10"]
    equal(both[0][0], both[1][0])
    for name in (" = layer(", "passed_sums"):
        assert (name in both[0][1]) is hybrid and name not in both[1][1]


@pytest.mark.loops
@pytest.mark.parametrize(
    "kind",
    [
        {"relu": False},
        {"relu": True, "bias": False},
        {"relu": True, "linear": True},
        {"relu": False, "linear": True},
    ],
    ids=str,
)
def test_other_layers(kind, monkeypatch):
    both = [trained(monkeypatch, n, (64, 520), **kind) for n in "10"]
    equal(both[0][0], both[1][0])
    assert (" = layer(" in both[0][1]) is kind.get("bias", True)


@pytest.mark.loops
@pytest.mark.parametrize("shape", ["by columns", "large"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_none_and_infinite_numbers_in_a_layer(shape, monkeypatch):
    both = [trained(monkeypatch, n, SHAPES[shape], relu=True, bad=True) for n in "10"]
    equal(both[0][0], both[1][0])
    assert np.isnan(both[0][0][0]).any()


@pytest.mark.loops
def test_a_layer_whose_result_is_read_twice_keeps_it(monkeypatch):
    def run(native):
        monkeypatch.setenv("MINIGLUON_NATIVE", native)
        rng = np.random.default_rng(0)
        x, w, b = (mx.nd.array(rng.standard_normal(s)) for s in ((200, 30), (200, 30), (200,)))

        def layer(x, w, b):
            y = operators["FullyConnected"](x, w, b, num_hidden=200)
            return operators["relu"](y) + y

        program = traced(layer, [a.shape for a in (x, w, b)])
        return program(x, w, b).asnumpy()

    np.testing.assert_allclose(run("1"), run("0"), rtol=1e-5, atol=1e-5)


@pytest.mark.loops
def test_second_derivatives_through_a_layer(monkeypatch):
    def run(native):
        monkeypatch.setenv("MINIGLUON_NATIVE", native)
        net = network(550, relu=True)
        x = mx.nd.array(np.random.default_rng(0).standard_normal((80, 5)))
        net(x[:1])
        net.hybridize()
        x.attach_grad()
        with mx.autograd.record():
            y = net(x)
            (g,) = mx.autograd.grad((y**3).sum(), [x], create_graph=True)
            loss = (g * g).mean()
        loss.backward()
        return [x.grad.asnumpy()] + [p.grad().asnumpy() for p in net.collect_params().values()]

    equal(run("1"), run("0"), 1e-3)


@pytest.mark.loops
def test_sums_of_many_rows_are_exact_enough():
    rng = np.random.default_rng(0)
    for rows, cols in ((100003, 5), (5, 100003), (3000, 1500)):
        g, y = (rng.uniform(0.5, 1, (rows, cols)).astype("float32") for _ in range(2))
        for a, b in ((g, y), (np.asfortranarray(g), np.asfortranarray(y))):
            out, sums = step_loops.passed_sums(a, b)
            np.testing.assert_array_equal(out, g)
            np.testing.assert_allclose(sums, g.sum(0, "float64"), rtol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_arrays_of_a_layer_go_numpys_way(turned, dtype):
    rng = np.random.default_rng(0)
    g, y = (rng.standard_normal((40, 60)).astype(dtype)[:, ::2] for _ in range(2))
    out, sums = step_loops.passed_sums(g, y)
    np.testing.assert_allclose(out, g * (y > 0))
    np.testing.assert_allclose(sums, (g * (y > 0)).sum(0), rtol=1e-4)
    bias = rng.standard_normal(40 if turned else 30).astype(dtype)
    wanted = np.maximum(g + (bias[:, None] if turned else bias), 0)
    np.testing.assert_allclose(step_loops.add_bias(g.copy()[:, :], bias, turned, True), wanted)
    np.testing.assert_allclose(step_loops.add_bias(g, bias, turned, True), wanted)


# --- The error function ---------------------------------------------------------------------------

BENDS = {
    "erf": lambda x: mx.nd.erf(x),
    "gelu": lambda x: mx.nd.LeakyReLU(x, act_type="gelu"),
    "elu": lambda x: mx.nd.LeakyReLU(x, act_type="elu", slope=0.7),
    "selu": lambda x: mx.nd.LeakyReLU(x, act_type="selu"),
    "leaky": lambda x: mx.nd.LeakyReLU(x, act_type="leaky", slope=0.1),
}


def bent(name, native, numbers, monkeypatch):
    """The result, its gradient and the gradient of that one's squares."""
    monkeypatch.setenv("MINIGLUON_NATIVE", native)
    x = mx.nd.array(numbers)
    x.attach_grad()
    with mx.autograd.record():
        y = BENDS[name](x)
        (slope,) = mx.autograd.grad(y, [x], create_graph=True)
        loss = (slope * slope).sum()
    loss.backward()
    return [a.asnumpy() for a in (y, slope, x.grad)]


@pytest.mark.loops
@pytest.mark.parametrize("name", BENDS)
@pytest.mark.parametrize("shape", [(0, 3), (4095,), (4096,), (70, 61), (3, 300001)], ids=str)
def test_bends_are_those_of_numpy(name, shape, monkeypatch, called):
    numbers = np.random.default_rng(0).normal(0, 3, shape).astype("float32")
    BENDS[name](mx.nd.array(numbers))
    assert bool(called) == (name != "leaky" and numbers.size >= step_loops.LONG)
    for a, b in zip(*(bent(name, native, numbers, monkeypatch) for native in "10")):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


@pytest.mark.loops
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["erf", "gelu", "elu", "selu"])
def test_bends_of_none_and_infinite_numbers(name, monkeypatch):
    numbers = np.float32([np.nan, np.inf, -np.inf, 0, 1e30, -1e30, 30, -30, 1e-30, 4, -4.1])
    numbers = np.resize(numbers, 5000)
    loop, plain = (bent(name, native, numbers, monkeypatch) for native in "10")
    for a, b in zip(loop[:2], plain[:2]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.loops
def test_bends_of_other_arrays_go_numpys_way():
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=9000), rng.normal(size=(100, 90)).astype("float32").T):
        y = operators["erf"].kernel(x)
        single = operators["erf"].kernel(np.ascontiguousarray(x, "float32"))
        assert y.dtype == x.dtype
        np.testing.assert_allclose(y, single, rtol=1e-5, atol=1e-6)


@pytest.mark.loops
def test_gelu_in_a_program(monkeypatch, called):
    def run(native):
        monkeypatch.setenv("MINIGLUON_NATIVE", native)
        mx.random.seed(0)
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dense(300), mx.gluon.nn.GELU(), mx.gluon.nn.Dense(2))
        net.initialize(mx.init.Normal(0.3))
        x = mx.nd.array(np.random.default_rng(0).standard_normal((200, 7)))
        net(x[:1])
        net.hybridize()
        with mx.autograd.record():
            loss = (net(x) ** 2).mean()
        loss.backward()
        return [p.grad().asnumpy() for p in net.collect_params().values()]

    equal(run("1"), run("0"))
    assert {"gelu", "gelu_slope"} <= {*called}


# --- Several walks in one -------------------------------------------------------------------------

WALKS = {
    "modulo 2": ("modulo", lambda x, y: x % 2),
    "modulo -0.7": ("modulo", lambda x, y: x % -0.7),
    "modulo 0": ("modulo", lambda x, y: x % 0),
    "modulo": ("modulo", lambda x, y: x % y),
    "hypot": ("hypot_all", lambda x, y: mx.nd.broadcast_hypot(x, y)),
    "round": ("round_all", lambda x, y: mx.nd.round(x)),
    "sign": ("sign", lambda x, y: mx.nd.sign(x)),
    "smooth_l1": ("smooth_l1", lambda x, y: mx.nd.smooth_l1(x, scalar=3)),
    "smooth_l1, flat": ("smooth_l1", lambda x, y: mx.nd.smooth_l1(x, scalar=0)),
}


def numbers(kind):
    """Two arrays of numbers of one size, or of all sizes, with halves, infinity and NaN among them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 1001)).astype("float32")
    if kind == "odd":
        x *= np.float32(10) ** rng.integers(-40, 38, x.shape)
        x[0, :11] = [np.nan, np.inf, -np.inf, 0, -0.0, 0.5, -0.5, 1.5, -2.5, 0.49999997, 8388609]
        x[1] = (np.arange(1001) - 500) / 2
    return x, rng.permutation(x.reshape(-1)).reshape(x.shape)


@pytest.mark.loops
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["plain", "odd"])
@pytest.mark.parametrize("name", WALKS)
def test_one_walk_gives_what_several_give(name, kind, by_numpy, called):
    loop, function = WALKS[name]
    x, y = map(mx.nd.array, numbers(kind))
    found, wanted = function(x, y).asnumpy(), by_numpy(lambda: function(x, y).asnumpy())
    assert {*called} == {loop}
    rounded = loop in ("hypot_all", "smooth_l1")
    np.testing.assert_allclose(found, wanted, rtol=1e-6 if rounded else 0, atol=0)


def bits(a):
    """The bits of numbers; a NaN counts as a quiet one, which some processors make of it."""
    kind, quiet = ("uint16", 1 << 9) if a.dtype == np.float16 else ("uint32", 1 << 22)
    return np.where(np.isnan(a), a.view(kind) | quiet, a.view(kind))


@pytest.mark.loops
def test_every_half_becomes_single_and_comes_back(called):
    halves = np.arange(1 << 16, dtype="uint16").view("float16")
    x = mx.nd.array(halves, dtype="float16")
    single = x.astype("float32")
    assert single.dtype == np.float32 and called == ["widen"]
    assert (bits(single.asnumpy()) == bits(halves.astype("float32"))).all()
    assert (bits(single.astype("float16").asnumpy()) == bits(halves)).all()
    assert called == ["widen", "halve"]


@pytest.mark.loops
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(4))
def test_floats_become_the_nearest_half(seed, called):
    rng = np.random.default_rng(seed)
    some = rng.integers(0, 1 << 32, 1 << 20, dtype="uint32")  # of all sizes, with NaN
    near = rng.integers(0x32000000, 0x48000000, 1 << 20, dtype="uint32")  # where halves are
    ties = near & ~np.uint32(0xFFF) | np.uint32(0x1000)
    for chosen in (some, near, ties, ties + 1, ties - 1, near | 1 << 31):
        x = chosen.astype("uint32").view("float32")
        found = mx.nd.array(x).astype("float16").asnumpy()
        assert (bits(found) == bits(x.astype("float16"))).all()
    assert {*called} == {"halve"}


@pytest.mark.loops
def test_other_ways_to_half_precision(called):
    x = mx.nd.array(np.random.default_rng(0).standard_normal((3, 7001)))
    like = mx.nd.zeros((1,), dtype="float16")
    ways = (
        lambda: x.astype("float16"),
        lambda: mx.nd.cast(x, dtype=np.float16),
        lambda: mx.nd.amp_cast(x, dtype="float16"),
        lambda: operators["cast_like"](x, like),
    )
    for way in ways:
        assert way().shape == x.shape and way().dtype == np.float16
        assert (way().asnumpy() == x.asnumpy().astype("float16")).all()
    assert called == ["halve"] * 12
    called.clear()
    x.attach_grad()
    with mx.autograd.record():
        y = x.astype("float16")
    y.backward(mx.nd.ones_like(y) * 3)
    assert x.grad.dtype == np.float32 and (x.grad.asnumpy() == 3).all()
    assert called == ["halve", "widen"]


@pytest.mark.loops
def test_conversions_that_go_numpys_way(called):
    x = mx.nd.array(np.random.default_rng(0).standard_normal((128, 64)))
    assert (x[0].astype("float16").asnumpy() == x.asnumpy()[0].astype("float16")).all()  # short
    columns = np.asfortranarray(x.asnumpy())
    found = operators["cast"].kernel(columns, "float16")
    assert (found == columns.astype("float16")).all()
    swapped = operators["cast"].kernel(columns.astype(">f4", order="C"), "float16")
    assert (swapped == found).all()
    for dtype in ("float64", "int32", "float32"):
        assert (x.astype(dtype).asnumpy() == x.asnumpy().astype(dtype)).all()
    with pytest.raises(TypeError):
        x.astype("no type")
    assert not called


@pytest.mark.loops
def test_arrays_that_are_no_rows_alike_go_numpys_way(called):
    x, y = map(mx.nd.array, numbers("plain"))
    cases = (x, y[:1]), (x.astype("float64"), y.astype("float64")), (x[:3], y[:3]), (2.0, x)
    for a, b in cases:
        assert (a % b).shape == x.shape or len(b) == 3
    mx.nd.broadcast_hypot(x, y[:1])
    assert not called


@pytest.mark.loops
def test_relu_on_all_cores_keeps_nan_and_memory():
    from minigluon.native import both_ways
    from minigluon.ops.step_loops import rectified

    x = np.random.default_rng(0).standard_normal((3, 50_001)).astype("float32")
    x[0, 5], x[1, 7], x[2, 9] = np.nan, -np.inf, np.inf
    np.testing.assert_array_equal(*both_ways(lambda: mx.nd.relu(mx.nd.array(x)).asnumpy()))
    wanted = np.maximum(x, 0)
    assert rectified(x, out=x) is x
    np.testing.assert_array_equal(x, wanted)
    x.flags.writeable = False
    np.testing.assert_array_equal(rectified(x), wanted)
    assert rectified(x[:, ::2]).shape == (3, 25_001)
