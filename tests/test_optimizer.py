"""Optimizers and schedules against MXNet's numbers, blocks against the plain steps, wrong input."""

import os
import pickle
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
from minigluon import lr_scheduler, optimizer
from minigluon.ops import optimizer as ops
from tests import optimizer_table as t

GOLDEN = np.load(Path(__file__).with_name("golden_optimizers.npz"))


def listed(kind, rows):
    return [
        pytest.param(kind, n, *row, id=f"{kind}-{row[0]}-{row[1]}") for n, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("kind", "number", "name", "settings"),
    [row for kind, rows in t.KINDS.items() for row in listed(kind, rows)],
)
def test_ten_steps_are_mxnets(kind, number, name, settings):
    got = t.run(mx, kind, name, settings)
    want, loose = GOLDEN[t.key(kind, number)], got.dtype == np.float16
    assert got.dtype == want.dtype
    np.testing.assert_allclose(
        got, want, rtol=2e-3 if loose else 1e-5, atol=2e-3 if loose else 2e-6
    )


@pytest.mark.parametrize(("kind", "number", "name", "settings"), listed("schedule", t.SCHEDULES))
def test_schedules_are_mxnets(kind, number, name, settings):
    schedule = getattr(lr_scheduler, name)(**settings)
    got = [schedule(n) for n in range(200)]
    np.testing.assert_allclose(got, GOLDEN[t.key(kind, number)], rtol=1e-12)


STEPS = {
    "sgd": (ops.sgd_step, 2),
    "momentum": (ops.momentum_step, 3),
    "adam": (ops.adam_step, 4),
    "nesterov": (ops.nesterov_step, 3),
    "ftrl": (ops.ftrl_step, 4),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("size", [0, 1, ops.BLOCK // 4 - 1, ops.BLOCK + 7, ops.LARGE + 3])
def test_blocks_and_threads_change_nothing(name, size, monkeypatch):
    monkeypatch.setattr(ops, "WORKERS", 3)
    monkeypatch.setenv("MINIGLUON_NATIVE", "0")  # loops: test_step_loops.py
    step, count = STEPS[name]
    rng = np.random.default_rng(0)
    plain = [rng.uniform(0.1, 1, size).astype("float32") for _ in range(count)]
    cut = [a.copy() for a in plain]
    step(*plain, lr=0.1, wd=0.01)
    ops.run([(step, cut, {"lr": 0.1, "wd": 0.01})])
    for a, b in zip(plain, cut):  # the ends of blocks may miss the instructions for many numbers
        np.testing.assert_array_max_ulp(a, b, maxulp=1)


ACTIONS = {  # what may happen to parameters between two steps, given a trainer and a file of its states
    "nothing": lambda params, trainer, file: None,
    "set_data": lambda params, trainer, file: params[0].set_data(params[0].data() * 0.5),
    "cast": lambda params, trainer, file: [
        p.cast(to) for p in params for to in ("float64", "float32")
    ],
    "reset_ctx": lambda params, trainer, file: [p.reset_ctx(mx.cpu(1)) for p in params],
    "attach_grad": lambda params, trainer, file: params[1].data().attach_grad(),
    "held gradient": lambda params, trainer, file: params[0].grad().detach(),
    "lr_mult": lambda params, trainer, file: setattr(params[0], "lr_mult", 0.5),
    "wd_mult": lambda params, trainer, file: setattr(params[1], "wd_mult", 3.0),
    "rate": lambda params, trainer, file: trainer.set_learning_rate(0.03),
    "no gradient": lambda params, trainer, file: setattr(params[2], "grad_req", "null"),
    "added gradient": lambda params, trainer, file: setattr(params[2], "grad_req", "add"),
    "states": lambda params, trainer, file: (trainer.save_states(file), trainer.load_states(file)),
    "turned": lambda params, trainer, file: turn(params[0].data()),
    "set small data": lambda params, trainer, file: params[2].set_data(params[2].data() * 0.5),
    "small turned": lambda params, trainer, file: turn(params[2].data()),
    "small attach_grad": lambda params, trainer, file: params[2].data().attach_grad(),
    "read": lambda params, trainer, file: [p.data().asnumpy() for p in params],
}


def turn(x):
    """Let the numbers of an array lie in columns."""
    x._data = np.asfortranarray(x._data)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "name, settings",
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("adam", {}),
        ("adamax", {}),
        ("nadam", {}),
        ("lars", {}),
        ("lamb", {}),
    ],
)
def test_known_arrays_change_nothing(name, settings, action, tmp_path, monkeypatch):
    found = []
    for knowing in (True, False):
        if not knowing:
            monkeypatch.setattr(optimizer.Stepper, "_again", lambda *_: False)
        params = [
            mx.gluon.Parameter(f"p{i}", shape=s) for i, s in enumerate([(70, 60), (3,), (5, 4)])
        ]
        rng = np.random.default_rng(0)
        for p in params:
            p.initialize(mx.init.Constant(mx.nd.array(rng.normal(size=p.shape))))
        trainer = mx.gluon.Trainer(params, name, {"learning_rate": 0.1, "wd": 0.01, **settings})
        for step in range(5):
            with mx.autograd.record():
                loss = sum((p.data().square().sum() * (i + 1) for i, p in enumerate(params)))
            loss.backward()
            trainer.step(
                2, ignore_stale_grad=action in ("no gradient", "attach_grad", "small attach_grad")
            )
            if step == 2:
                kept = ACTIONS[action](params, trainer, str(tmp_path / "states"))
        found.append([p.data().asnumpy() for p in params])
        del kept
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def test_known_arrays_are_not_looked_at_again():
    weights = [mx.nd.ones((3, 2)), mx.nd.ones((4,))]
    update = optimizer.get_updater(optimizer.SGD(learning_rate=0.5, momentum=0.9))
    for _ in range(3):
        update([0, 1], weights, weights)
    (known,) = import_module("minigluon.optimizer.optimizer").known[update.optimizer].values()
    assert known.same(weights, [update.states[i] for i in (0, 1)])
    with mx.autograd.record(), pytest.raises(mx.base.MXNetError, match="Inplace"):
        weights[0].attach_grad()
        update([0, 1], weights, weights)


# who else may refer to the memory of a parameter or its gradient, as a function that returns it
HOLDERS = {
    "nobody": lambda p: None,
    "detach": lambda p: p.data().detach(),
    "slice": lambda p: p.data()[1:],
    "gradient": lambda p: p.grad().detach(),
    "rows of the gradient": lambda p: p.grad()[1:],
    "raw": lambda p: p.data()._data,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_small_parameters_live_together_where_nobody_minds(holder):
    params = [mx.gluon.Parameter(f"p{i}", shape=(n,)) for i, n in enumerate((3, 4100, 4000, 200))]
    for p in params:
        p.initialize(mx.init.One())
    objects = [(p.data(), p.grad()) for p in params]
    held = HOLDERS[holder](params[0])
    trainer = mx.gluon.Trainer(params, "adam", {"learning_rate": 0.5})
    for _ in range(3):
        with mx.autograd.record():
            loss = sum(p.data().sum() for p in params)
        loss.backward()
        trainer.step(1)
    (known,) = import_module("minigluon.optimizer.optimizer").known[trainer.optimizer].values()
    assert known.together == ([0, 2, 3] if holder == "nobody" else [])
    assert [len(piece[0]) for piece in known.pieces] == ([4095, 108] if holder == "nobody" else [])
    for p, (data, grad) in zip(params, objects):
        assert p.data() is data and p.grad() is grad
        np.testing.assert_allclose(data.asnumpy(), -0.5, rtol=1e-5)
        np.testing.assert_array_equal(grad.asnumpy(), 1)
    if held is not None:
        assert float(np.asarray(getattr(held, "_data", held))[0]) in (1.0, data.asnumpy()[0])
        place = "grad" if "gradient" in holder else "data"
        now = getattr(params[0], place)()._data
        assert np.shares_memory(now, getattr(held, "_data", held))


def test_rows_of_a_dense_table():
    w = mx.nd.ones((5, 2))
    g = mx.nd.sparse.row_sparse_array((np.ones((2, 2)), [1, 3]), shape=(5, 2))
    optimizer.get_updater(optimizer.SGD(learning_rate=0.5, momentum=0.9, wd=1.0))(0, g, w)
    np.testing.assert_array_equal(w.asnumpy()[:, 0], [1, 0, 1, 0, 1])
    none = mx.nd.sparse.zeros("row_sparse", (5, 2))
    optimizer.get_updater(optimizer.Adam(wd=1.0))(0, none, w)
    np.testing.assert_array_equal(w.asnumpy()[:, 0], [1, 0, 1, 0, 1])


def test_ftrl_is_lazy_for_sparse_weights_only():
    g = mx.nd.sparse.row_sparse_array((np.ones((1, 2)), [1]), shape=(3, 2))
    for stype, rest in (("row_sparse", 1), ("default", 0)):  # 0: |z| is within the L1 penalty
        w = mx.nd.ones((3, 2)).tostype(stype)
        optimizer.get_updater(optimizer.Ftrl())(0, g, w)
        assert w.stype == stype and w.asnumpy()[[0, 2]].tolist() == [[rest] * 2] * 2


def test_views_are_updated_where_they_are():
    whole = mx.nd.ones((4, 3))
    part = whole[1:3]
    optimizer.get_updater(optimizer.SGD(learning_rate=1.0))(0, mx.nd.ones((2, 3)), part)
    np.testing.assert_array_equal(whole.asnumpy()[:, 0], [1, 0, 0, 1])


def test_operators_change_states_and_return_the_weight():
    w, g, m = mx.nd.array([1, 2, 3.0]), mx.nd.array([0.1, 0.2, 0.3]), mx.nd.zeros(3)
    y = mx.nd.sgd_mom_update(w, g, m, lr=0.1, momentum=0.9)
    np.testing.assert_allclose(y.asnumpy(), [0.99, 1.98, 2.97], rtol=1e-6)
    np.testing.assert_allclose(m.asnumpy(), [-0.01, -0.02, -0.03], rtol=1e-6)
    np.testing.assert_array_equal(w.asnumpy(), [1, 2, 3])
    out = mx.nd.sgd_mom_update(w, g, m, lr=0.1, momentum=0.9, out=w)
    assert out is w
    np.testing.assert_allclose(w.asnumpy(), [0.981, 1.962, 2.943], rtol=1e-6)
    w16 = w.astype("float16")
    mx.nd.mp_sgd_update(w16, g.astype("float16"), w, lr=0.1, out=w16)
    np.testing.assert_allclose(w.asnumpy(), [0.9710, 1.9420, 2.9130], atol=1e-4)
    assert w16.dtype == np.float16


def test_many_at_once():
    def arrays():
        return [mx.nd.array(a) for a in ([1.0, 2], [0.1, 0.2], [3.0], [0.3])]

    w, g, v, h = arrays()
    out = mx.nd.multi_sgd_update(
        w, g, v, h, lrs=(0.1, 0.2), wds=(0, 0.5), num_weights=2, out=[w, v]
    )
    assert out[0] is w
    np.testing.assert_allclose(w.asnumpy(), [0.99, 1.98], rtol=1e-6)
    np.testing.assert_allclose(v.asnumpy(), [2.64], rtol=1e-6)
    w, g, v, h = arrays()
    lrs, wds = mx.nd.array([0.1, 0.2]), mx.nd.array([0, 0.5])
    mx.nd.preloaded_multi_sgd_update(w, g, v, h, lrs, wds, num_weights=2, out=[w, v])
    np.testing.assert_allclose(v.asnumpy(), [2.64], rtol=1e-6)
    rates = mx.nd.multi_lars(
        mx.nd.array([0.1, 0.2]),
        mx.nd.array([4.0, 0]),
        mx.nd.array([1.0, 2]),
        mx.nd.array([0.1, 0]),
        eta=0.01,
        eps=1e-6,
        rescale_grad=0.5,
    )
    np.testing.assert_allclose(rates.asnumpy(), [0.00285714, 0.2], rtol=1e-5)
    w = mx.nd.ones(3)
    assert mx.nd.reset_arrays(w, num_arrays=1) == []
    assert not w.asnumpy().any()


def test_adamw_skips_what_overflowed():
    w, g = mx.nd.array([0.981, 1.962, 2.943]), mx.nd.array([0.1, 0.2, 0.3])
    settings = {"lr": 0.1, "eta": 0.5, "wd": 0.1}
    new = lambda scale: mx.nd.contrib.adamw_update(
        w, g, mx.nd.zeros(3), mx.nd.zeros(3), scale, **settings
    ).asnumpy()
    np.testing.assert_allclose(new(mx.nd.ones(1)), [0.77381, 1.7057, 2.6377], atol=1e-3)
    np.testing.assert_allclose(new(1.0), new(mx.nd.ones(1)))
    np.testing.assert_array_equal(new(mx.nd.array([np.nan])), w.asnumpy())


def test_adamw_is_its_operator():
    rng = np.random.default_rng(0)
    w, g = (mx.nd.array(rng.normal(size=5)) for _ in range(2))
    for correct in (True, False):
        own, theirs = w.copy(), w.copy()
        m, v = mx.nd.zeros(5), mx.nd.zeros(5)
        settings = {"learning_rate": 0.1, "wd": 0.2, "rescale_grad": 0.5, "clip_gradient": 0.3}
        update = optimizer.get_updater(
            optimizer.create("adamw", correct_bias=correct, epsilon=1e-3, **settings)
        )
        for step in (1, 2, 3):
            update(0, g, own)
            rate = 0.1 * (np.sqrt(1 - 0.999**step) / (1 - 0.9**step) if correct else 1)
            mx.nd.contrib.adamw_update(
                theirs, g, m, v, 0.5, out=theirs, lr=rate, eta=1.0, wd=0.1 * 0.2,
                epsilon=1e-3, clip_gradient=0.3,
            )  # fmt: skip
        np.testing.assert_allclose(own.asnumpy(), theirs.asnumpy(), rtol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_lists_are_updated_as_one_by_one(name, exact):
    """`multi_…` against two steps of the class, the second with another rate and decay."""
    dtype, rates, decays = "float16" if exact else "float32", [0.1, 0.2], [0.01, 0.3]
    rng = np.random.default_rng(0)
    weights, grads = (
        [mx.nd.array(rng.normal(size=(3, 2)), dtype=dtype) for _ in "ab"] for _ in "ab"
    )
    means, variances, copies, wanted = [], [], [], []
    for w, g, lr, wd in zip(weights, grads, rates, decays):
        means.append(mx.nd.zeros((3, 2)))
        variances.append(mx.nd.zeros((3, 2)))
        copies.append(w.astype("float32"))
        wanted.append(w.copy())
        update = optimizer.get_updater(
            optimizer.create(name, learning_rate=lr, wd=wd, epsilon=1e-4, multi_precision=exact)
        )
        update(0, g, wanted[-1])
    arrays = [weights, grads, means, variances, *[copies] * exact]
    middle = "mp_" * exact
    if name == "lamb":
        multi = getattr(mx.nd.contrib, f"multi_{middle}lamb_update")
        out = multi(*arrays, [1, 1], rates, decays, out=weights, num_tensors=2, epsilon=1e-4)
    else:
        multi = getattr(mx.nd.contrib, f"multi_{middle}adamw_update")
        unbiased = [lr * np.sqrt(1 - 0.999) / (1 - 0.9) for lr in rates]
        decays = [lr * wd for lr, wd in zip(rates, decays)]
        out = multi(*arrays, mx.nd.ones(1), unbiased, decays, [1, 1], out=weights, epsilon=1e-4)
    assert all(a is b for a, b in zip(out, weights))
    for w, want in zip(weights, wanted):
        np.testing.assert_allclose(w.asnumpy(), want.asnumpy(), rtol=2e-3 if exact else 1e-5)
    if exact:
        np.testing.assert_allclose(copies[0].asnumpy(), wanted[0].asnumpy(), rtol=2e-3)


def test_exact_copies_are_updated_together():
    schedule = {"lr_scheduler": lr_scheduler.FactorScheduler(1, 0.5, base_lr=0.1)}
    update = optimizer.get_updater(
        optimizer.LARS(momentum=0.9, eta=1.0, multi_precision=True, **schedule)
    )
    one, two = (mx.nd.ones(4, dtype="float16") for _ in range(2))
    for _ in range(3):  # a rate that changes corrects the momentum of all, not of the first only
        update([0, 1], [mx.nd.ones(4, dtype="float16")] * 2, [one, two])
    assert one.asnumpy().tolist() == two.asnumpy().tolist()


def test_states_as_bytes_hold_no_code():
    update = optimizer.get_updater(optimizer.Adam())
    with pytest.raises(mx.MXNetError, match="is a pickle"):
        update.set_states(pickle.dumps({0: None}))
    with pytest.raises(mx.MXNetError, match="no file of an optimizer's states"):
        update.set_states(update.get_states()[:40])
    with pytest.raises(ValueError, match="divides by the learning rate"):
        optimizer.get_updater(optimizer.FTML(learning_rate=0))(0, mx.nd.ones(1), mx.nd.ones(1))


def test_multipliers_counts_and_states():
    names = {0: "a_weight", 1: "a_bias", 2: "a_gamma"}
    sgd = optimizer.SGD(param_idx2name=names, wd=0.1, learning_rate=2.0)
    assert sgd.wd_mult == {"a_bias": 0.0}
    assert optimizer.LARS(param_idx2name=names).wd_mult == {"a_bias": 0.0, "a_gamma": 0.0}
    sgd.set_lr_mult({"a_bias": 0.5, 2: 3.0})
    assert [sgd._get_lr(i) for i in range(4)] == [2.0, 1.0, 6.0, 2.0]
    update = optimizer.get_updater(optimizer.Adam())
    update([0, 1], [mx.nd.ones(2), mx.nd.ones(3)], [mx.nd.ones(2), mx.nd.ones(3)])
    other = optimizer.get_updater(optimizer.Adam())
    other.set_states(update.get_states(dump_optimizer=True))
    assert other.optimizer._index_update_count == {0: 1, 1: 1}
    assert other.states[1][0].shape == (3,)
    assert other.states_synced == {0: False, 1: False}


def test_multipliers_of_symbols_and_parameters():
    w = mx.sym.var("w_weight", lr_mult=3, wd_mult=0.5)
    sgd = optimizer.SGD(sym=w * 2, param_idx2name={0: "w_weight"}, learning_rate=1.0, wd=1.0)
    assert (sgd._get_lr(0), sgd._get_wd(0)) == (3.0, 0.5)
    p = mx.gluon.Parameter("p", shape=(1,), lr_mult=0.25, wd_mult=4.0)
    sgd = optimizer.SGD(param_dict={0: p}, learning_rate=1.0, wd=1.0)
    assert (sgd._get_lr(0), sgd._get_wd(0)) == (0.25, 4.0)


def test_counts_begin_where_they_are_told_and_schedules_follow(capsys):
    schedule = lr_scheduler.FactorScheduler(2, 0.5, base_lr=1.0)
    sgd = optimizer.SGD(lr_scheduler=schedule, begin_num_update=4)
    assert sgd.learning_rate == 0.5
    update, w = optimizer.get_updater(sgd), mx.nd.ones(1)
    update(0, mx.nd.zeros(1), w)
    assert sgd.num_update == 5 and sgd.learning_rate == 0.25
    both = optimizer.SGD(0.7, lr_scheduler=lr_scheduler.PolyScheduler(10), learning_rate=0.7)
    assert both.lr_scheduler.base_lr == 0.7 and "overwritten" in capsys.readouterr().out


def test_devices_count_apart():
    adam = optimizer.Adam()
    update = optimizer.get_updater(adam)
    for ctx in (mx.cpu(0), mx.cpu(1)):
        optimizer.get_updater(adam)(0, mx.nd.ones(2, ctx), mx.nd.ones(2, ctx))
    assert adam._all_index_update_counts == {0: {0: 1}, 1: {0: 1}} and not update.states


def test_sgld_samples_a_posterior():
    mx.random.seed(0)
    update = optimizer.get_updater(optimizer.SGLD(learning_rate=0.1))
    w, found = mx.nd.zeros(2000), []
    for _ in range(120):
        update(0, w, w)  # the energy w**2 / 2: a standard normal law
        found.append(w.asnumpy())
    assert abs(np.std(found[60:]) - 1) < 0.05


def test_momentum_of_late_gradients():
    w, g = mx.nd.array([1.0, -2.0]), mx.nd.array([0.5, 0.25])
    update = optimizer.get_updater(optimizer.create("dcasgd", momentum=0.5, learning_rate=0.1))
    for _ in range(2):
        update(0, g, w)
    by_hand, previous, v = np.array([1.0, -2.0]), np.array([1.0, -2.0]), 0
    for _ in range(2):
        v = 0.5 * v - 0.1 * (g.asnumpy() + 0.04 * g.asnumpy() ** 2 * (by_hand - previous))
        previous, by_hand = by_hand, by_hand + v
    np.testing.assert_allclose(w.asnumpy(), by_hand, rtol=1e-6)


def test_optimizers_of_the_user():
    @optimizer.register
    class Halve(optimizer.Optimizer):
        def create_state(self, index, weight):
            return None

        def update(self, index, weight, grad, state):
            weight[:] = weight / 2

    update = optimizer.get_updater(optimizer.create("halve"))
    w = mx.nd.ones(2)
    update([0], [w], [w])
    assert w.asnumpy().tolist() == [0.5, 0.5]

    class Mine(optimizer.SGD):
        def update(self, index, weight, grad, state):
            assert isinstance(index, int)
            super().update(index, weight, grad, state)

    w = mx.nd.ones(2)
    optimizer.get_updater(Mine(learning_rate=1.0))([0, 1], [w, w], [mx.nd.ones(2), w])


WRONG = {
    "name": (lambda: optimizer.create("sgdd"), ValueError, "Cannot find optimizer sgdd"),
    "argument": (lambda: optimizer.create("sgd", foo=1), TypeError, "foo"),
    "names": (lambda: optimizer.SGD(param_idx2name=[1]), AssertionError, "should be a dict"),
    "rate": (
        lambda: optimizer.SGD(lr_scheduler=lr_scheduler.FactorScheduler(5)).set_learning_rate(3),
        UserWarning,
        "LRScheduler of the optimizer has already been defined",
    ),
    "scale": (lambda: optimizer.SGD().set_lr_scale({}), DeprecationWarning, "set_lr_mult"),
    "base": (
        lambda: optimizer.Optimizer().update(0, 0, 0, 0),
        NotImplementedError,
        "does not define",
    ),
    "shape": (
        lambda: mx.nd.sgd_update(mx.nd.ones(3), mx.nd.ones(2), lr=0.1),
        mx.MXNetError,
        "sgd_update",
    ),
    "missing rate": (
        lambda: mx.nd.adam_update(*[mx.nd.ones(3)] * 4),
        mx.MXNetError,
        "lr",
    ),
    "step": (lambda: lr_scheduler.FactorScheduler(0), ValueError, "greater or equal than 1"),
    "factor": (lambda: lr_scheduler.FactorScheduler(1, 1.1), ValueError, "no more than 1"),
    "order": (lambda: lr_scheduler.MultiFactorScheduler([3, 2]), ValueError, "increasing"),
    "list": (lambda: lr_scheduler.MultiFactorScheduler(3), AssertionError, "list"),
    "updates": (lambda: lr_scheduler.PolyScheduler(0), ValueError, "strictly positive"),
    "warm-up": (
        lambda: lr_scheduler.CosineScheduler(10, base_lr=0.1, warmup_begin_lr=0.2),
        ValueError,
        "has to be higher",
    ),
    "mode": (lambda: lr_scheduler.LRScheduler(warmup_mode="x"), ValueError, "Supports only"),
}


@pytest.mark.parametrize("call", WRONG)
def test_wrong_input(call):
    wrong, error, says = WRONG[call]
    with pytest.raises(error, match=says):
        wrong()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_updates_with_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(ops, "WORKERS", 2)
    arrays = [np.ones(ops.LARGE, "float32") for _ in range(2)]
    ops.run([(ops.sgd_step, arrays, {"lr": 0.5})])
    child = os.fork()
    if child == 0:
        ops.run([(ops.sgd_step, arrays, {"lr": 0.5})])
        os._exit(int(arrays[0].any()))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdaGrad"])
def test_rates_of_a_subclass_count_in_updates_of_one_and_of_many(name):
    class Halved(getattr(mx.optimizer, name)):
        asked = 0

        def _get_lr(self, index):
            type(self).asked += 1
            return super()._get_lr(index) / 2

    weights = []
    for made in (Halved(learning_rate=0.2), getattr(mx.optimizer, name)(learning_rate=0.1)):
        own = [mx.nd.ones(3), mx.nd.ones(3)]
        grads = [mx.nd.array([1, 2, -3]), mx.nd.array([3, 1, 2])]
        states = [made.create_state_multi_precision(i, w) for i, w in enumerate(own)]
        made.update_multi_precision([0, 1], own, grads, states)
        made.update_multi_precision(0, own[0], grads[0], states[0])
        weights.append(np.concatenate([w.asnumpy() for w in own]))
    np.testing.assert_allclose(*weights, rtol=1e-6)
    assert Halved.asked == 3
