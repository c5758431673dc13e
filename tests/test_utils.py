"""gluon.utils, mx.util and mx.test_utils: files over a bad line, slices, norms, instruments."""

import errno
import hashlib
import math
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import minigluon as mx
from minigluon import test_utils as tu
from minigluon import util
from minigluon.gluon import utils

BODY = bytes(range(256)) * 40
SHA1 = hashlib.sha1(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        getattr(self, self.path.split("/")[1])()

    def answer(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self):
        self.answer(BODY)

    def missing(self):
        self.answer(b"no", 404)

    def sick(self):
        self.answer(b"no", 503)

    def short(self):
        self.answer(BODY[:100], length=len(BODY))

    def redirect(self):
        self.answer(b"", 302, Location="/good/x")

    def to_file(self):
        self.answer(b"", 302, Location="file:///etc/hostname")

    def resumable(self):
        given = self.headers.get("Range")
        if given and self.headers.get("If-Range") == '"v1"':
            n = int(given[6:-1])
            where = f"bytes {n}-{len(BODY) - 1}/{len(BODY)}"
            return self.answer(BODY[n:], 206, ETag='"v1"', Content_Range=where)
        return self.answer(BODY[:100], length=len(BODY), ETag='"v1"')

    def changed(self):
        """Breaks once; by the second request the file has another version."""
        if len(self.server.asked) == 1:
            return self.answer(b"?" * 100, length=len(BODY), ETag='"v1"')
        return self.answer(BODY, ETag='"v2"')

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda s: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.asked, http.daemon_threads = [], True
        http.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def test_download(server, tmp_path, capsys, monkeypatch):
    name = utils.download(server.url + "/good/a.bin", str(tmp_path), sha1_hash=SHA1.upper())
    assert name == str(tmp_path / "a.bin") and (tmp_path / "a.bin").read_bytes() == BODY
    assert "Downloading" in capsys.readouterr().out
    utils.download(server.url + "/good/a.bin", str(tmp_path), sha1_hash=SHA1)
    assert len(server.asked) == 1
    (tmp_path / "a.bin").write_bytes(b"old")
    utils.download(server.url + "/good/a.bin", str(tmp_path))
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    utils.download(server.url + "/good/a.bin", str(tmp_path), sha1_hash=SHA1)
    utils.download(server.url + "/good/a.bin", str(tmp_path), overwrite=True)
    assert (tmp_path / "a.bin").read_bytes() == BODY and len(server.asked) == 3
    deep = tmp_path / "new" / "folder" / "b"
    assert utils.download(server.url + "/redirect/b", str(deep)) == str(deep)
    assert deep.read_bytes() == BODY
    monkeypatch.chdir(tmp_path)
    assert utils.download(server.url + "/good/here?x=1") == "here"


@pytest.mark.parametrize(
    ("path", "error", "asks"),
    [
        ("missing", RuntimeError, 1),
        ("sick", RuntimeError, 3),
        ("short", RuntimeError, 3),
        ("to_file", RuntimeError, 1),
    ],
)
def test_download_fails(server, tmp_path, path, error, asks):
    (tmp_path / "x").write_bytes(b"before")
    with pytest.raises(error, match="Failed downloading"):
        utils.download(f"{server.url}/{path}/x", str(tmp_path), overwrite=True, retries=2)
    assert len(server.asked) == asks
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"before"


def test_wrong_hash(server, tmp_path):
    with pytest.raises(UserWarning, match="hash"):
        utils.download(server.url + "/good/x", str(tmp_path), sha1_hash="0" * 40, retries=1)
    assert not list(tmp_path.iterdir()) and len(server.asked) == 2


def test_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda s: None)
    with pytest.raises(OSError, match="refused"):
        utils.download("http://127.0.0.1:9/x", str(tmp_path), retries=1)
    assert not list(tmp_path.iterdir())


def test_resume(server, tmp_path):
    utils.download(server.url + "/resumable/x", str(tmp_path), sha1_hash=SHA1)
    assert [r for _, r in server.asked] == [None, "bytes=100-"]
    server.asked.clear()
    utils.download(server.url + "/changed/y", str(tmp_path), sha1_hash=SHA1)
    assert len(server.asked) == 2


def test_full_disk(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(utils.Transfer, "store", full)
    with pytest.raises(OSError, match="No space"):
        utils.download(server.url + "/good/x", str(tmp_path))
    assert not list(tmp_path.iterdir()) and len(server.asked) == 1


def test_arguments_of_download(tmp_path):
    with pytest.raises(AssertionError, match="path"):
        utils.download("http://127.0.0.1:9/")
    with pytest.raises(AssertionError, match="etries"):
        utils.download("http://127.0.0.1:9/x", retries=-1)
    with pytest.raises(ValueError, match="http"):
        utils.download("file:///etc/hostname", str(tmp_path))


def test_replace_file(tmp_path):
    (tmp_path / "a").write_text("a")
    utils.replace_file(tmp_path / "a", tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    with pytest.raises(OSError, match="failed"):
        utils.replace_file(tmp_path / "b", tmp_path / "no" / "b")
    assert not list(tmp_path.iterdir())


def test_split():
    x = mx.nd.arange(22).reshape((11, 2))
    assert [p.shape[0] for p in utils.split_data(x, 4, even_split=False)] == [3, 3, 3, 2]
    assert [p.shape for p in utils.split_data(x, 2, batch_axis=1)] == [(11, 1)] * 2
    assert [p.shape[0] for p in utils.split_data(x[:1], 2, even_split=False)] == [1, 0]
    assert utils.split_data(x, 1)[0].shape == x.shape
    with pytest.raises(ValueError, match="evenly"):
        utils.split_data(x, 2)
    parts = utils.split_and_load(np.ones((4, 3)), [mx.cpu(0), mx.cpu(1)])
    assert [p.context for p in parts] == [mx.cpu(0), mx.cpu(1)] and parts[0].dtype == np.float32
    x.attach_grad()
    with mx.autograd.record():
        y = sum((i + 1) * p.sum() for i, p in enumerate(utils.split_data(x, 2, 1)))
    y.backward()
    assert x.grad[0].tolist() == [1, 2]


def test_clip_global_norm():
    a, b = mx.nd.ones((2, 2)), mx.nd.ones((3,))
    assert utils.clip_global_norm([a, b], 10.0) == np.float32(7**0.5)
    assert a.tolist() == [[1, 1], [1, 1]]
    norm = utils.clip_global_norm([a, b], 1.0, check_isfinite=False)
    assert norm.shape == (1,) and norm.asscalar() == np.float32(7**0.5)
    assert abs((a**2).sum().asscalar() + (b**2).sum().asscalar() - 1) < 1e-6
    rows = mx.nd.array([[3, 0], [0, 0]]).tostype("row_sparse")
    assert utils.clip_global_norm([rows, mx.nd.array([4.0])], 1.0) == 5.0
    assert abs(rows.asnumpy()[0, 0] - 0.6) < 1e-6 and rows.stype == "row_sparse"
    half = mx.nd.ones((10,), dtype="float16") * 200
    assert abs(utils.clip_global_norm([half], 1.0) - 632.45) < 0.01 and half.dtype == np.float16
    with pytest.warns(UserWarning, match="nan or inf"):
        assert np.isnan(utils.clip_global_norm([a, b * float("nan")], 1.0))
    with pytest.raises(AssertionError):
        utils.clip_global_norm([], 1.0)


def test_shapes_and_switches():
    shapes = (None, (), (0, 1), (1, 2))
    assert [utils.shape_is_known(s) for s in shapes] == [False, False, False, True]
    with util.np_shape():
        assert util.is_np_shape() and not util.is_np_array()
        known = [utils.shape_is_known(s) for s in (*shapes, (-1, 2))]
        assert known == [False, True, True, True, False]
    with pytest.raises(AssertionError):
        utils.shape_is_known((-1, 2))
    assert util.use_np(len)([1, 2]) == 2 and not util.is_np_shape()


def test_comparisons():
    one = np.ones((2, 2))
    tu.assert_almost_equal(mx.nd.ones((2, 2)), one + 1e-5)
    tu.assert_almost_equal(one, 1.0)
    tu.assert_almost_equal(np.array([np.nan]), np.array([np.nan]), equal_nan=True)
    for bad in (one + 1, np.full((2, 2), np.nan)):
        with pytest.raises(AssertionError, match="mismatch 100"):
            tu.assert_almost_equal(one, bad, names=("x", "y"))
    with pytest.raises(ValueError, match="shape"):
        tu.assert_almost_equal(one, np.ones((2, 3)))
    assert tu.same(one, one) and tu.almost_equal(one, one) and not tu.almost_equal(one, one + 1)
    tu.assert_almost_equal_with_err(np.ones(4), np.array([1, 1, 1, 2]), etol=0.3)
    assert tu.get_tols(np.ones(2, "float16"), one, None, None) == (0.01, 0.1)
    assert tu.get_tols(np.ones(2, "int32"), np.ones(2, "int32"), None, None) == (0, 0)
    tu.assert_exception(int, ValueError, "x")
    with pytest.raises(AssertionError):
        tu.assert_exception(int, ValueError, "1")
    assert tu.collapse_sum_like(np.ones((2, 3)), (1, 3)).tolist() == [[2, 2, 2]]
    assert tu.np_reduce(np.ones((2, 3, 4)), (0, 2), True, np.sum).shape == (1, 3, 1)


def test_random_arrays():
    assert tu.rand_ndarray((2, 3)).shape == (2, 3)
    assert tu.rand_ndarray((20, 20), "csr", 0.1).stype == "csr"
    a, (values, indices) = tu.rand_sparse_ndarray((20, 4), "row_sparse", 0.5)
    law, (places, _, _) = tu.rand_sparse_ndarray((8, 100), "csr", 0.2, distribution="powerlaw")
    assert np.diff(places.asnumpy()).tolist() == [2, 4, 8, 16, 32, 64, 33, 1]  # 160 in all
    assert not law.asnumpy()[:, -36:].any()
    with pytest.raises(ValueError, match="powerlaw"):
        tu.rand_sparse_ndarray((2, 2), "csr", distribution="x")
    assert a.stype == "row_sparse" and values.shape == (len(indices), 4)
    assert len(tu.rand_shape_nd(4)) == 4 and all(1 <= n <= 10 for n in tu.rand_shape_nd(4))
    assert tu.random_arrays((2,)).dtype == np.float32 and len(tu.random_arrays((2,), ())) == 2


def test_symbolic_checks():
    a = mx.sym.var("a")
    assert tu.check_symbolic_forward(a * 2, [np.ones(2)], [np.full(2, 2.0)])[0].tolist() == [2, 2]
    with pytest.raises(AssertionError, match="FORWARD"):
        tu.check_symbolic_forward(a * 2, [np.ones(2)], [np.full(2, 3.0)])
    tu.check_symbolic_backward(a * 2, {"a": np.ones(2)}, [np.ones(2)], {"a": np.full(2, 2.0)})
    twos, requests = {"a": np.full(2, 2.0)}, {"a": "write", "b": "null"}
    found = tu.check_symbolic_backward(
        a * mx.sym.var("b"),
        {"a": np.ones(2), "b": np.full(2, 2.0)},
        [np.ones(2)],
        twos,
        grad_req=requests,
    )
    assert list(found) == ["a"]
    tu.check_symbolic_backward(
        a * 2, [np.ones(2)], [np.ones(2)], {"a": np.full(2, 2.0)}, grad_req="add"
    )
    with pytest.raises(AssertionError, match="BACKWARD"):
        tu.check_symbolic_backward(a * 2, [np.ones(2)], [np.ones(2)], [np.ones(2)])
    tu.check_numeric_gradient(mx.sym.sin(a), [np.ones((2, 2))], rtol=1e-2)
    net = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2)
    tu.check_numeric_gradient(
        net, [np.ones((2, 3)), np.ones((2, 3)), np.ones(2)], dtype=np.float64, rtol=1e-4, atol=1e-6
    )
    shapes = {"ctx": mx.cpu(0), "data": (2, 3)}
    found = tu.check_consistency(
        net, [{**shapes, "type_dict": {"data": t}} for t in (np.float32, np.float64)]
    )
    assert "data" in found
    embedding = mx.sym.Embedding(mx.sym.var("i"), input_dim=5, output_dim=2, name="e")
    kinds = [{"ctx": mx.cpu(), "i": (3,), "type_dict": {"e_weight": t}} for t in (np.float16, "f")]
    settings = {"grad_req": {"i": "null", "e_weight": "write"}, "arg_params": {"i": np.arange(3)}}
    assert tu.check_consistency(embedding, kinds, **settings)["i"] is None
    net = [mx.sym.relu(a, name="y"), mx.sym.Dropout(a, p=0.99, name="y")]  # the same in use only
    shapes = {"ctx": mx.cpu(0), "a": (50,)}
    tu.check_consistency(net, [shapes] * 2, grad_req="null", arg_params={"a": np.ones(50)})
    with pytest.raises(AssertionError):
        tu.check_consistency(net, [shapes] * 2, arg_params={"a": np.ones(50)})
    assert tu.simple_forward(a * 2, a=np.ones(2)).tolist() == [2, 2]
    with pytest.raises(ValueError, match="match"):
        tu.check_symbolic_forward(a * 2, {"b": np.ones(2)}, [np.ones(2)])


def test_hybridize_consistency():
    x = mx.nd.random.uniform(shape=(2, 3))
    tu.check_gluon_hybridize_consistency(lambda: mx.gluon.nn.Dense(2, in_units=3), [x])


def test_environment():
    with tu.environment("MINIGLUON_X", "1"):
        assert tu.getenv("MINIGLUON_X") == "1"
    assert tu.getenv("MINIGLUON_X") is None


@pytest.mark.parametrize("x", [0.0, 0.01, 0.7, 1.4, 1.6, 3.0, 20.0, 500.0])
def test_tail_of_the_gamma_distribution(x):
    assert tu.gamma_tail(1, x) == pytest.approx(math.exp(-x), rel=1e-12)
    assert tu.gamma_tail(0.5, x) == pytest.approx(math.erfc(math.sqrt(x)), rel=1e-12)
    poisson = sum(math.exp(-x) * x**k / math.factorial(k) for k in range(50))
    assert tu.gamma_tail(50, x) == pytest.approx(poisson, rel=1e-9)


def test_generators_are_verified():
    buckets, probs = tu.gen_buckets_probs_with_ppf(lambda q: 2 * q - 1, 5)
    assert buckets[0] == (-1, pytest.approx(-0.6)) and probs == [0.2] * 5
    uniform = lambda n: mx.nd.random.uniform(-1, 1, shape=n)
    mx.random.seed(0)
    assert len(tu.verify_generator(uniform, buckets, probs, 10000)) == 5
    with pytest.raises(AssertionError, match="do not have the distribution"):
        tu.verify_generator(lambda n: uniform(n) ** 3, buckets, probs, 10000)
    coin = lambda n: np.arange(n) % 2
    p, found, expected = tu.chi_square_check(coin, [0, 1], [0.5, 0.5], 1000)
    assert p == 1 and found.tolist() == expected.tolist() == [500, 500]
    with pytest.raises(AssertionError, match="gave 7"):
        tu.chi_square_check(lambda n: np.zeros(7), [0, 1], [0.5, 0.5], 1000)


def test_ready_made_arrays():
    assert tu.create_vector(3).asnumpy().tolist() == [0, 1, 2]
    assert tu.create_2d_tensor(2, 3).asnumpy().tolist() == [[0] * 3, [1] * 3]
    values = np.linalg.eigvals(tu.new_matrix_with_real_eigvals_2d(4))
    np.testing.assert_allclose(np.sort(values.real), np.linspace(0.5, 1.5, 4), rtol=1e-6)
    a = tu.new_sym_matrix_with_real_eigvals_2d(4)
    np.testing.assert_array_equal(a, a.T)


@pytest.mark.parametrize("shape", [(3, 2), [(3, 2), (4,)]])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_optimizers_are_compared(shape, dtype):
    def sgd(**settings):
        return mx.optimizer.SGD(momentum=0.9, multi_precision=True, **settings)

    tu.compare_optimizer(sgd(), sgd(), shape, dtype)
    with pytest.raises(AssertionError):
        tu.compare_optimizer(sgd(), sgd(learning_rate=0.5), shape, dtype)
    with pytest.raises(AssertionError):
        tu.compare_optimizer(
            sgd(), mx.optimizer.NAG(momentum=0.9, multi_precision=True), shape, dtype
        )


def test_optimizers_are_compared_on_rows():
    lazy, full = (mx.optimizer.SGD(wd=0.5, lazy_update=lazy) for lazy in (True, False))
    plain = mx.optimizer.SGD(wd=0.5)
    tu.compare_optimizer(plain, full, (30, 2), "float32", "row_sparse", "row_sparse")
    with pytest.raises(AssertionError):
        tu.compare_optimizer(plain, lazy, (30, 2), "float32", "row_sparse", "row_sparse")
    several = tu.new_matrix_with_real_eigvals_nd((2, 3, 3))
    assert several.shape == (2, 3, 3) and np.linalg.cond(several).max() < 20
    assert np.linalg.eigvalsh(tu.new_sym_matrix_with_real_eigvals_nd((2, 3, 3))).min() > 0.49
    assert (tu.get_identity_mat_batch(2).asnumpy() == np.eye(2)).all()
    made = tu.create_sparse_array_zd((4, 2), "row_sparse", 0.5, rsp_indices=[1, 3])
    assert made.indices.asnumpy().tolist() == [1, 3]
    q = tu.new_orthonormal_matrix_2d(3)
    np.testing.assert_allclose(q @ q.T, np.eye(3), atol=1e-12)


def test_locations_are_taken_as_mxnet_takes_them():
    """An NDArray keeps type and storage; one of NumPy's becomes float32,
    or keeps its type with "asnumpy".
    """
    x = mx.sym.var("x")
    whole = np.arange(6).reshape(2, 3)
    tu.check_symbolic_forward(mx.sym.mean(x), [whole], [np.array([2.5])])
    for dtype, found in (("asnumpy", np.int64), (np.float64, np.float64)):
        outs = tu.check_symbolic_forward(x + 1, [whole], [whole + 1], dtype=dtype)
        assert outs[0].dtype == found
    outs = tu.check_symbolic_forward(x + 1, [mx.nd.array(whole, dtype="int32")], [whole + 1])
    assert outs[0].dtype == np.int32
    rows = mx.nd.array([[0, 1], [2, 0]]).tostype("csr")
    found = tu.check_symbolic_backward(
        mx.sym.sparse.dot(mx.sym.var("d"), mx.sym.var("w")),
        {"d": rows, "w": np.ones((2, 2))},
        [np.ones((2, 2))],
        {"w": np.array([[2, 2], [1, 1]])},
        grad_req={"d": "null", "w": "write"},
        grad_stypes={"d": "csr", "w": "row_sparse"},
    )
    assert found["w"].stype == "row_sparse" and rows.stype == "csr"


def test_graphs_are_compared_and_timed():
    x, y = mx.sym.var("x"), mx.sym.var("y")
    assert tu.same_symbol_structure(x + 1, y + 2) and not tu.same_symbol_structure(x + 1, x * 2)
    for typ in ("whole", "forward"):
        assert 0 < tu.check_speed(x * 2, x=(2, 2), N=2, typ=typ) < 1
    with pytest.raises(ValueError, match="'whole' or 'forward'"):
        tu.check_speed(x, x=(2,), typ="half")


def test_errors_are_discarded():
    program = """
import os, sys
from minigluon.test_utils import discard_stderr
with discard_stderr():
    os.write(2, b"unseen")
print("seen", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "seen\n"
