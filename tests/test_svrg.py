"""Stochastic descent with less variance: `mx.contrib.svrg_optimization`, as MXNet's own program uses it."""

import numpy as np
import pytest

import minigluon as mx
from minigluon.contrib.svrg_optimization import SVRGModule
from minigluon.contrib.svrg_optimization.svrg_module import SVRGModule as same
from minigluon.contrib.svrg_optimization.svrg_optimizer import _AssignmentOptimizer, _SVRGOptimizer

assert same is SVRGModule


def data(n=100, batch=16):
    rng = np.random.default_rng(0)
    x = rng.integers(1, 5, (n, 2)).astype("float32")
    y = x @ np.float32([1, 2]) + rng.normal(size=n).astype("float32")
    return mx.io.NDArrayIter(x, y, batch, label_name="lin_reg_label"), x, y


def made(update_freq=2, context=None, **settings):
    rows = mx.sym.FullyConnected(mx.sym.Variable("data"), name="fullyconnected0", num_hidden=1)
    graph = mx.sym.LinearRegressionOutput(rows, mx.sym.Variable("lin_reg_label"), name="lro")
    names = {"data_names": ["data"], "label_names": ["lin_reg_label"]}
    return SVRGModule(graph, **names, update_freq=update_freq, context=context, **settings)


def ready(module, batches, optimizer="sgd", **settings):
    module.bind(batches.provide_data, batches.provide_label)
    module.init_params(mx.init.One())
    module.set_params({n: mx.nd.full(a.shape, 0.1) for n, a in module.get_params()[0].items()}, {})
    settings = settings or {"learning_rate": 0.01}
    module.init_optimizer("local", optimizer, tuple(settings.items()))
    return module


def test_update_freq_is_a_positive_number():
    for wrong, error in ((None, TypeError), ("2", TypeError), (0, ValueError), (-1, ValueError)):
        with pytest.raises(error, match="update_freq"):
            made(wrong)


@pytest.mark.parametrize("contexts", [1, 2])
def test_mean_gradient_is_that_of_all_data(contexts):
    batches, x, y = data(96)
    module = ready(made(context=[mx.cpu(i) for i in range(contexts)]), batches)
    for _ in range(2):  # a mean, not a growing sum
        module.update_full_grads(batches)
    whole = 16 * (x @ np.full(2, 0.1) + 0.1 - y) @ x / len(x)  # of a batch: the sum over 16
    for i in range(contexts):
        found = module._param_dict[i]["fullyconnected0_weight"].asnumpy()[0]
        np.testing.assert_allclose(found, whole / contexts, rtol=1e-5)


def test_padding_counts_in_part():
    batches, _, _ = data(24)
    module = ready(made(), batches)
    module.update_full_grads(batches)
    two, _, _ = data(24, 8)
    other = ready(made(), two)
    other.update_full_grads(two)
    twice = 2 * other._param_dict[0]["fullyconnected0_bias"].asnumpy()
    found = module._param_dict[0]["fullyconnected0_bias"].asnumpy()
    # the second batch of 16 is filled up with the first 8 rows: 32 rows in 1.5 batches
    first = batches.data[0][1].asnumpy()[:8]
    again = (first @ np.full(2, 0.1) + 0.1 - batches.label[0][1].asnumpy()[:8]).sum()
    np.testing.assert_allclose(found, (twice * 1.5 + again) / 1.5, rtol=1e-5)


@pytest.mark.parametrize("contexts", [1, 2])
def test_a_step_is_that_of_the_formula(contexts):
    batches, x, y = data(96)
    module = ready(made(context=[mx.cpu(i) for i in range(contexts)]), batches, learning_rate=0.1)
    module.update_full_grads(batches)
    module.set_params({n: a * 2 for n, a in module.get_params()[0].items()}, {})
    old, new = np.full(3, 0.1), np.full(3, 0.2)
    rows = np.column_stack([x, np.ones(len(x))])
    batches.reset()
    batch = batches.next()
    module.forward_backward(batch)
    module.update()
    part = rows[:16]
    g = part.T @ (part @ (new - old)) + 16 * rows.T @ (rows @ old - y) / len(x)
    found = np.append(
        *[module.get_params()[0][f"fullyconnected0_{n}"].asnumpy() for n in ("weight", "bias")]
    )
    np.testing.assert_allclose(found, new - 0.1 / 16 * g, rtol=1e-4)


def test_without_a_remembered_place_descent_is_plain():
    batches, _, _ = data()
    found = []
    for module in (made(), mx.mod.Module(made().symbol, label_names=["lin_reg_label"])):
        ready(module, batches, "adam", learning_rate=0.1)
        batches.reset()
        for batch in batches:
            module.forward_backward(batch)
            module.update()
        found.append(module.get_params()[0]["fullyconnected0_weight"].asnumpy())
    np.testing.assert_array_equal(*found)


def test_fit_finds_the_least_squares(caplog):
    batches, x, y = data(160, 16)
    module = made(update_freq=3)
    calls = []
    more = {"epoch_end_callback": lambda *a: calls.append(a[0]), "eval_data": batches}
    module.fit(
        batches, eval_metric="mse", optimizer_params={"learning_rate": 0.05}, num_epoch=200, **more
    )
    rows = np.column_stack([x, np.ones(len(x))])
    want = np.linalg.lstsq(rows, y, rcond=None)[0]
    found = [
        module.get_params()[0][f"fullyconnected0_{n}"].asnumpy().ravel() for n in ("weight", "bias")
    ]
    np.testing.assert_allclose(np.concatenate(found), want, atol=0.02)
    assert calls == list(range(200))


def test_optimizers():
    store = mx.kv.create("local")
    both = _SVRGOptimizer("sgd", param_idx2name={0: "weight", 1: "weight_full"}, learning_rate=1.0)
    assert both.default_opt.lr == 1.0 and isinstance(both.aux_opt, _AssignmentOptimizer)
    store.set_optimizer(both)
    for key in (0, 1):
        store.init(key, mx.nd.zeros(3))
        store.push(key, mx.nd.ones(3))
    outs = [mx.nd.zeros(3), mx.nd.zeros(3)]
    store.pull([0, 1], outs)
    assert outs[0].asnumpy().tolist() == [-1] * 3 and outs[1].asnumpy().tolist() == [1] * 3
    batches, _, _ = data()
    assert type(ready(made(), batches)._optimizer).__name__ == "_SVRGOptimizer"


def test_bind_reshape_and_files(tmp_path):
    rows = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=20, name="fc")
    module = SVRGModule(rows, label_names=None, context=[mx.cpu(0), mx.cpu(1)], update_freq=2)
    module.bind([("data", (8, 20))])
    assert module.binded and module._mod_aux.binded
    module.init_params()
    module._mod_aux.init_params()
    module.init_optimizer(optimizer_params={"learning_rate": 1.0})
    for n in (8, 14):
        module.reshape([("data", (n, 20))])
        module.forward(mx.io.DataBatch([mx.nd.ones((n, 20))], None))
        module.backward([mx.nd.ones((n, 20))])
        module.update()
        assert module.get_outputs()[0].shape == (n, 20)
    prefix = str(tmp_path / "test")
    module.save_checkpoint(prefix, 0, save_optimizer_states=True)
    other = SVRGModule.load(prefix, 0, label_names=None)
    other.bind([("data", (8, 20))])
    other.init_optimizer(optimizer_params={"learning_rate": 0.1})
    assert other.symbol.tojson() == module.symbol.tojson()
    assert other.get_params()[0].keys() == module.get_params()[0].keys()
    alone = SVRGModule(rows, label_names=None, update_freq=2)
    with pytest.raises(TypeError):
        alone.bind(data_shapes=["data", mx.nd.zeros(shape=(2, 1))])
