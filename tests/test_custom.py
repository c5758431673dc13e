"""Operators of one's own: eagerly, in graphs, in files, hybridized, and what must be refused."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import nd
from minigluon.operator import CustomOp, CustomOpProp, register


class Square(CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        if aux:
            aux[0][:] = 1
        self.assign(out_data[0], req[0], in_data[0] * in_data[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], 2 * in_data[0] * out_grad[0])


@register("test_square")
class SquareProp(CustomOpProp):
    def list_auxiliary_states(self):
        return ["seen"]

    def infer_shape(self, in_shape):
        return in_shape, [in_shape[0]], [in_shape[0]]

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return Square()


@register("test_multiply")
class MultiplyProp(CustomOpProp):
    def __init__(self, scale="1"):
        super().__init__(need_top_grad=True)
        assert isinstance(scale, str)
        self.scale = float(scale)

    def list_arguments(self):
        return ["lhs", "rhs"]

    def list_outputs(self):
        return ["product", "lhs_again"]

    def infer_shape(self, in_shape):
        return [in_shape[0], in_shape[0]], [in_shape[0], in_shape[0]]

    def create_operator(self, ctx, in_shapes, in_dtypes):
        scale = self.scale

        class Multiply(CustomOp):
            def forward(self, is_train, req, in_data, out_data, aux):
                self.assign(out_data[0], req[0], scale * in_data[0] * in_data[1])
                self.assign(out_data[1], req[1], in_data[0].asnumpy())

            def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
                self.assign(in_grad[0], req[0], scale * out_grad[0] * in_data[1] + out_grad[1])
                self.assign(in_grad[1], req[1], scale * out_grad[0] * in_data[0])

        return Multiply()


def arrays():
    return [nd.array(np.random.default_rng(i).normal(size=(3, 2))) for i in range(2)]


def test_eager_with_states():
    x, seen = nd.array([1, 2, 3]), nd.zeros(3)
    x.attach_grad()
    with mx.autograd.record():
        y = nd.Custom(x, seen, op_type="test_square", name="any")
    y.backward()
    assert y.asnumpy().tolist() == [1, 4, 9]
    assert x.grad.asnumpy().tolist() == [2, 4, 6]
    assert seen.asnumpy().tolist() == [1, 1, 1]


def test_two_arrays_two_outputs_one_setting():
    a, b = arrays()
    a.attach_grad()
    b.attach_grad()
    with mx.autograd.record():
        y, again = nd.Custom(rhs=b, lhs=a, op_type="test_multiply", scale=3)
        total = (y * 2 + again * 5).sum()
    total.backward()
    np.testing.assert_allclose(y.asnumpy(), 3 * a.asnumpy() * b.asnumpy(), rtol=1e-6)
    np.testing.assert_allclose(a.grad.asnumpy(), 6 * b.asnumpy() + 5, rtol=1e-6)
    np.testing.assert_allclose(b.grad.asnumpy(), 6 * a.asnumpy(), rtol=1e-6)


def test_out():
    a, b = arrays()
    out = [nd.zeros((3, 2)), nd.zeros((3, 2))]
    nd.Custom(a, b, op_type="test_multiply", out=out)
    np.testing.assert_array_equal(out[1].asnumpy(), a.asnumpy())


def test_symbol_names_shapes_and_file():
    s = mx.sym.Custom(mx.sym.var("a"), op_type="test_multiply", scale=2, name="m")
    assert s.list_arguments() == ["a", "m_rhs"]
    assert s.list_outputs() == ["m_product", "m_lhs_again"]
    assert s.infer_shape(a=(4, 2)) == ([(4, 2), (4, 2)], [(4, 2), (4, 2)], [])
    again = mx.sym.load_json(s.tojson())
    a, b = arrays()
    found = again.bind(mx.cpu(), {"a": a, "m_rhs": b}).forward()
    np.testing.assert_allclose(found[0].asnumpy(), 2 * a.asnumpy() * b.asnumpy(), rtol=1e-6)


def test_symbol_with_states():
    s = mx.sym.Custom(data=mx.sym.var("x"), op_type="test_square", name="sq")
    assert s.list_auxiliary_states() == ["sq_seen"]
    e = s.simple_bind(mx.cpu(), x=(2,))
    e.arg_dict["x"][:] = 3
    e.forward(is_train=True)
    e.backward(nd.ones(2))
    assert e.grad_dict["x"].asnumpy().tolist() == [6, 6]
    assert e.aux_dict["sq_seen"].asnumpy().tolist() == [1, 1]


class Net(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x, y):
        product, again = F.Custom(x, y, op_type="test_multiply", scale=2)
        return product + again


@pytest.mark.parametrize("hybridize", [False, True])
def test_in_a_network(hybridize):
    net = Net()
    if hybridize:
        net.hybridize()
    a, b = arrays()
    a.attach_grad()
    b.attach_grad()
    for _ in range(2):
        with mx.autograd.record():
            y = net(a, b)
        y.backward()
        np.testing.assert_allclose(y.asnumpy(), (2 * a * b + a).asnumpy(), rtol=1e-6)
        np.testing.assert_allclose(a.grad.asnumpy(), (2 * b + 1).asnumpy(), rtol=1e-6)
        np.testing.assert_allclose(b.grad.asnumpy(), (2 * a).asnumpy(), rtol=1e-6)


def test_without_arrays():
    @register("test_nothing")
    class Nothing(CustomOpProp):
        def __init__(self, length):
            super().__init__()
            self.length = int(length)

        def list_arguments(self):
            return []

        def infer_shape(self, in_shape):
            return in_shape, [(self.length,)], []

        def infer_type(self, in_type):
            return in_type, [np.float64], []

        def create_operator(self, ctx, in_shapes, in_dtypes):
            class Op(CustomOp):
                def forward(self, is_train, req, in_data, out_data, aux):
                    self.assign(out_data[0], req[0], mx.nd.ones(3, dtype="float64"))

            return Op()

    y = nd.Custom(length=3, op_type="test_nothing")
    assert y.asnumpy().tolist() == [1, 1, 1] and y.dtype is np.float64


def test_is_train_and_requests():
    seen = []

    @register("test_notes")
    class Notes(CustomOpProp):
        def create_operator(self, ctx, in_shapes, in_dtypes):
            class Op(CustomOp):
                def forward(self, is_train, req, in_data, out_data, aux):
                    seen.append((is_train, list(req)))
                    assert not mx.autograd.is_recording()
                    self.assign(out_data[0], "write", in_data[0])
                    self.assign(out_data[0], "add", in_data[0])
                    self.assign(out_data[0], "null", in_data[0] * 100)

            return Op()

    x = nd.ones(2)
    assert nd.Custom(x, op_type="test_notes").asnumpy().tolist() == [2, 2]
    with mx.autograd.record():
        nd.Custom(x, op_type="test_notes")
    assert seen == [(False, ["write"]), (True, ["write"])]


def broken(where):
    """A registered operator whose method `where` raises."""

    class Op(CustomOp):
        def forward(self, is_train, req, in_data, out_data, aux):
            if where == "forward":
                raise RuntimeError("no")
            self.assign(out_data[0], req[0], in_data[0])

        def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
            raise RuntimeError("no")

    class Prop(CustomOpProp):
        def create_operator(self, ctx, in_shapes, in_dtypes):
            if where == "create":
                raise RuntimeError("no")
            return Op()

    def fail(self, *_):
        raise RuntimeError("no")

    if where in ("infer_shape", "infer_type", "list_arguments"):
        setattr(Prop, where, fail)
    register("test_broken")(Prop)


@pytest.mark.parametrize(
    "where", ["forward", "backward", "create", "infer_shape", "infer_type", "list_arguments"]
)
def test_what_raises_is_named(where):
    broken(where)
    x = nd.ones(2)
    x.attach_grad()
    with pytest.raises(mx.MXNetError, match="test_broken.*no"), mx.autograd.record():
        nd.Custom(x, op_type="test_broken").backward()


def test_no_second_derivative():
    x = nd.ones(2)
    x.attach_grad()
    with mx.autograd.record():
        y = nd.Custom(x, nd.zeros(2), op_type="test_square")
        g = mx.autograd.grad(y, x, create_graph=True)[0]
        with pytest.raises(mx.MXNetError, match="no gradient of its own"):
            g.backward()


@pytest.mark.parametrize(
    ("args", "settings", "kind", "says"),
    [
        ((), {}, mx.MXNetError, "op_type"),
        ((), {"op_type": "test_unheard_of"}, mx.MXNetError, "register"),
        ((1.0, 2.0), {"op_type": "test_multiply"}, AssertionError, "NDArray"),
        ((nd.ones(2),) * 3, {"op_type": "test_multiply"}, mx.MXNetError, "lhs"),
        ((nd.ones(2),), {"op_type": "test_multiply"}, AssertionError, "NDArray"),
        ((nd.ones(2),) * 2, {"op_type": "test_multiply", "depth": 3}, mx.MXNetError, "depth"),
    ],
)
def test_refused(args, settings, kind, says):
    with pytest.raises(kind, match=says):
        nd.Custom(*args, **settings)


def test_wrong_class_and_file():
    with pytest.raises(AssertionError, match="subclass"):
        register("test_wrong")(CustomOp)
    text = mx.sym.Custom(mx.sym.var("a"), op_type="test_multiply").tojson()
    with pytest.raises(mx.MXNetError, match="unheard"):
        mx.sym.load_json(text.replace("test_multiply", "unheard"))


class Doubled(mx.operator.NumpyOp):
    def forward(self, in_data, out_data):
        out_data[0][...] = 2 * in_data[0]

    def backward(self, out_grad, in_data, out_data, in_grad):
        assert isinstance(out_grad[0], np.ndarray)
        in_grad[0][...] = 2 * out_grad[0]


class Shifted(mx.operator.NDArrayOp):
    def forward(self, in_data, out_data):
        out_data[0][:] = in_data[0] + 1

    def backward(self, out_grad, in_data, out_data, in_grad):
        in_grad[0][:] = out_grad[0]


@pytest.mark.parametrize(
    "op, value, slope",
    [(Doubled(), 6, 2), (Shifted(), 4, 1), (mx.operator.NumpyOp(False), 3, 1)],
)
def test_operators_of_the_oldest_kind(op, value, slope):
    y = op(mx.sym.var("x"), name="old")
    assert y.list_outputs() == ["old_output"]
    exe = y.bind(mx.cpu(), [mx.nd.array([3.0])], {"x": mx.nd.zeros(1)})
    assert exe.forward(is_train=True)[0].asscalar() == value
    exe.backward(mx.nd.ones(1))
    assert exe.grad_dict["x"].asscalar() == slope


def test_the_arguments_of_an_operator():
    found = mx.operator.get_operator_arguments("Activation")
    assert isinstance(found, mx.operator.OperatorArguments)
    assert found.narg == 2 and found.names == ["data", "act_type"]
    choices = "{'relu', 'sigmoid', 'softrelu', 'softsign', 'tanh'}, required"
    assert found.types == ["NDArray-or-Symbol", choices]
    found = mx.operator.get_operator_arguments("Dropout")
    assert found.names == ["data", "p", "mode", "axes", "cudnn_off"]
    assert found.types[1] == "float, optional, default=0.5"
    assert mx.operator.get_operator_arguments("Concat").types[0] == "NDArray-or-Symbol[]"
    assert mx.operator.get_operator_arguments("_contrib_ROIAlign").names[:2] == ["data", "rois"]
    with pytest.raises(mx.MXNetError, match="no operator 'nothing'"):
        mx.operator.get_operator_arguments("nothing")


def test_storage_on_the_way_back_is_dense():
    found = mx.operator.CustomOpProp().infer_storage_type_backward(
        ["csr"], ["csr"], ["csr"], ["csr"], []
    )
    assert found == (*[["default"]] * 4, [])
