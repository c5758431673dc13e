"""Files of arrays: MXNet's bytes, both ways, and nothing but MXNetError for everything else."""

import base64
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigluon as mx
from minigluon import nd

CSR = nd.sparse.csr_matrix(([1.0, 2, 3], [1, 0, 2], [0, 1, 2, 3]), shape=(3, 3))
ROWS = nd.sparse.row_sparse_array(([[1.0, 2], [3, 4]], [1, 3]), shape=(5, 2))
TYPES = ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool")
CONTENTS = {
    "list": [nd.array([1.5, -2]), nd.array([[1, 2, 3]])],
    "one": nd.array([[1, 2], [3, 4]]),
    "dict": {"w": nd.array([1, 2]), "bé": nd.array([[0.5]])},
    "csr": [CSR],
    "row_sparse": {"r": ROWS},
    "empty": [],
    "no": {},
    "zero": [nd.sparse.zeros("csr", (2, 3)), nd.sparse.zeros("row_sparse", (2, 3))],
    "mixed": {"d": nd.array([1.0]), "a": CSR.astype("float64"), "r": ROWS.astype("float16")},
    **{t: [nd.array([0, 1, 3], dtype=t)] for t in TYPES},
}
PACKED = {  # what MXNet 1.9.1 writes for CONTENTS
    "list": "eNoTYmRAAUxQ+uSvyT9BNCOSGKrSA/YgAqaOCUmeGav6BpB6ByBygIkAAJjpCf0=",
    "one": "eNoTYmRAATDuyV+Tf4JoJihmQKJRtTTYAwkHIALiBgeYKAD5mwWq",
    "dict": "eNoTYmRAAUxQ+uSvyT9BNCOSGKrSBnsg4QBTx4Qkz4hVPYM9ujnlzFBG0uGVAMGzCkY=",
    "csr": "eNoTYmRAATDuyV+TfzJB+cxQMSYkNjOaehBgg/JZ0PjMcBUN9kDCAYgc0O1jwmMusjwMAACV8QUQ",
    "row_sparse": "eNoTYmRAATDuyV+Tf4LYTFDMgEazookhG8MG5TPBRRrsgYQDEAFxgwNMLTOaXhhdBAAJLgY1",
    "empty": "eNoTYmTACwACfwAU",
    "no": "eNoTYmTACwACfwAU",
    "zero": "eNoTYmRAAUxQ+uSvyT9BbEY0OZg8M5RGlmeD8pnR+IQAyC5GJLORzSfWTnQAAK2KBuU=",
    "mixed": "eNoTYmRAAcxQ+uSvyT9BNCMUMyDRENBgD1LDBBWH6WNCYjOj6QPRbFCaBSrGhqYfAj7YQxkOEIrD"
    "gQHNLCYcdjCgyYPcyAjlM6HJgWhWNDFk82Fug8kx2ADd48TgwohmN7obUmCMRBijCAC+eA8K",
    "float16": "eNoTYmRAATDuyV+Tf8L4zGhyTBDKhsEJpgsAnoQD6Q==",
    "float32": "eNoTYmRAATDuyV+Tf8L4zGhyCNBgz8Dg4ADjAQC84wSo",
    "float64": "eNoTYmRAATDuyV+Tf8L4zGhyaFqA4IM9hOZwgIkAAO6fBOE=",
    "uint8": "eNoTYmRAATDuyV+Tf8L4zGhyYD4jTJQBAI+RA3A=",
    "int8": "eNoTYmRAATDuyV+Tf8L4zGhyrGAOTJQBAI+vA3I=",
    "int32": "eNoTYmRAATDuyV+Tf8L4zGhyLEh8ZiS9AK6EA3E=",
    "int64": "eNoTYmRAATDuyV+Tf8L4zGhybFjUM6MawwAA1/wDcw==",
    "bool": "eNoTYmRAATDuyV+Tf8L4zGhy7GAOXCMAj7sDcg==",
}
GOLDEN = {name: zlib.decompress(base64.b64decode(text)) for name, text in PACKED.items()}
every = pytest.mark.parametrize("name", GOLDEN)


def listed(arrays):
    """The arrays of a file as a list."""
    arrays = list(arrays.values()) if isinstance(arrays, dict) else arrays
    return arrays if isinstance(arrays, list) else [arrays]


def same(found, want):
    assert (type(found), found.dtype, found.shape) == (type(want), want.dtype, want.shape)
    assert found.asnumpy().tobytes() == want.asnumpy().tobytes()


@every
def test_reads_what_mxnet_wrote(name, tmp_path):
    found, want = nd.load_frombuffer(GOLDEN[name]), CONTENTS[name]
    (tmp_path / "x").write_bytes(GOLDEN[name])
    again = nd.load(str(tmp_path / "x"))
    if isinstance(want, dict) and want:
        assert list(found) == list(again) == list(want)
    assert len(listed(found)) == len(listed(want))
    for a, b, c in zip(listed(found), listed(again), listed(want)):
        same(a, c)
        same(b, c)


@every
def test_writes_what_mxnet_writes(name, tmp_path):
    nd.save(str(tmp_path / "x"), CONTENTS[name])
    assert (tmp_path / "x").read_bytes() == GOLDEN[name]


@every
def test_cut_off_anywhere(name):
    data = GOLDEN[name]
    for n in range(len(data)):
        with pytest.raises(mx.MXNetError, match="at byte"):
            nd.load_frombuffer(data[:n])
    with pytest.raises(mx.MXNetError, match="follow the end"):
        nd.load_frombuffer(data + b"\0")


@every
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_anywhere(name, data):
    damaged = bytearray(GOLDEN[name])
    for _ in range(data.draw(st.integers(1, 4))):
        i = data.draw(st.integers(0, len(damaged) - 1))
        damaged[i] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 2, 127, 128, 255]))
    with suppress(mx.MXNetError):
        for a in listed(nd.load_frombuffer(bytes(damaged))):
            assert a.context is not None and len(a.shape) <= 32


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes(data):
    for header in (b"", struct.pack("<QQQ", 0x112, 0, 1), GOLDEN["csr"][:60]):
        try:
            nd.load_frombuffer(header + data)
        except mx.MXNetError as error:
            assert "at byte" in str(error)


@pytest.mark.parametrize("size", [2**31, 2**40, 2**62, 2**63 - 1])
@pytest.mark.parametrize("name", ["float32", "csr", "row_sparse"])
def test_huge_sizes_take_no_memory(name, size):
    data = GOLDEN[name]
    for at in range(0, len(data) - 8, 4):
        damaged = data[:at] + struct.pack("<q", size) + data[at + 8 :]
        assert min(peak_of_reading(damaged) for _ in range(2)) < 1_000_000, at


def peak_of_reading(data):
    """How much memory reading takes at most, whether it succeeds or not."""
    tracemalloc.start()
    with suppress(mx.MXNetError):
        nd.load_frombuffer(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def array_of_version_0(x):
    shape = struct.pack(f"<I{x.ndim}I", x.ndim, *x.shape)
    return shape + struct.pack("<iii", 1, 0, 0) + x.astype("f4").tobytes()


def file_of(*parts):
    return struct.pack("<QQQ", 0x112, 0, len(parts)) + b"".join(parts) + struct.pack("<Q", 0)


def test_old_versions():
    x = np.arange(6, dtype="f4").reshape(2, 3)
    rest = struct.pack("<i2q", 2, 2, 3) + struct.pack("<iii", 1, 0, 0) + x.tobytes()
    version_1 = struct.pack("<I", 0xF993FAC8) + rest
    found = nd.load_frombuffer(file_of(array_of_version_0(x), version_1))
    assert all((a.asnumpy() == x).all() for a in found) and len(found) == 2


def test_a_gpu_that_is_not_there():
    data = bytearray(GOLDEN["csr"])
    at = data.index(struct.pack("<iii", 1, 0, 0), 40)
    data[at : at + 8] = struct.pack("<ii", 2, 99)
    same(nd.load_frombuffer(bytes(data))[0], CSR)


@pytest.mark.parametrize(
    ("why", "at", "value"),
    [("indptr", -64, 9), ("columns", -32, 3), ("columns", -32, -1)],
)
def test_places_that_contradict(why, at, value):
    data = GOLDEN["csr"]
    at += len(data)
    with pytest.raises(mx.MXNetError, match=why):
        nd.load_frombuffer(data[:at] + struct.pack("<q", value) + data[at + 8 :])


def test_what_cannot_be_saved(tmp_path):
    path = str(tmp_path / "x")
    nd.save(path, CSR)
    before = Path(path).read_bytes()
    wrong = [
        (ValueError, 3),
        (TypeError, [1]),
        (TypeError, {1: CSR}),
        (TypeError, {"a": np.ones(2)}),
        (mx.MXNetError, [CSR, nd.zeros((2,), dtype="uint16")]),
    ]
    for error, data in wrong:
        with pytest.raises(error):
            nd.save(path, data)
        assert Path(path).read_bytes() == before and os.listdir(tmp_path) == ["x"]
    for attempt in (lambda: nd.load(str(tmp_path / "no")), lambda: nd.load(str(tmp_path))):
        with pytest.raises(mx.MXNetError, match="cannot read"):
            attempt()
    with pytest.raises(mx.MXNetError, match="cannot write"):
        nd.save(str(tmp_path / "no" / "x"), CSR)
    for attempt in (lambda: nd.load(3), lambda: nd.load_frombuffer("x"), lambda: nd.save(3, CSR)):
        with pytest.raises(TypeError):
            attempt()


def test_paths_and_links(tmp_path):
    for path in (tmp_path / "é", str(tmp_path / "b"), os.fsencode(tmp_path / "c")):
        nd.save(path, CSR)
        same(nd.load(path)[0], CSR)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    nd.save(tmp_path / "link", ROWS)
    assert (tmp_path / "link").is_symlink()
    same(nd.load(tmp_path / "b")[0], ROWS)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    nd.save(path, CSR)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        nd.save(path, ROWS)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["x"]
    same(nd.load(path)[0], CSR)


SAVER = """
import sys
from minigluon import nd
arrays = [nd.zeros((300_000,)) + i for i in range(3)]
nd.save(sys.argv[1], arrays[0])
print("ready", flush=True)
while True:
    for a in arrays:
        nd.save(sys.argv[1], a)
"""


def test_a_kill_leaves_the_old_file_or_the_new(tmp_path):
    path = str(tmp_path / "x")
    for moment in (0.002, 0.01, 0.03):
        run = [sys.executable, "-c", SAVER, path]
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(moment)
            child.kill()
        (a,) = nd.load(path)
        assert a.shape == (300_000,) and len(np.unique(a.asnumpy())) == 1


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda s: s.isprintable()),
        st.tuples(st.sampled_from(TYPES), st.lists(st.integers(1, 3), min_size=1, max_size=3)),
        max_size=4,
    ),
    st.sampled_from(["default", "row_sparse"]),
)
@settings(deadline=None, max_examples=50)
def test_there_and_back(spec, stype):
    rng = np.random.default_rng(0)
    arrays = {
        name: nd.array(rng.integers(0, 2, shape), dtype=dtype).tostype(stype)
        for name, (dtype, shape) in spec.items()
    }
    from minigluon.ndarray.utils import file_chunks

    data = b"".join(map(bytes, file_chunks(list(arrays), list(arrays.values()))))
    found = nd.load_frombuffer(data)
    if arrays:
        assert list(found) == list(arrays)
        for name, a in arrays.items():
            same(found[name], a)


MXNET = """
import sys
import numpy as np
np.bool = bool
import mxnet as mx
folder = sys.argv[1]
for name in sys.argv[2:]:
    mx.nd.save(f"{folder}/{name}.theirs", mx.nd.load(f"{folder}/{name}.ours"))
"""


def test_mxnet_reads_and_writes_the_same_bytes(mxnet_python, tmp_path):
    names = [name for name in CONTENTS if name not in ("empty", "no")]
    for name in names:
        nd.save(tmp_path / f"{name}.ours", CONTENTS[name])
    run = [mxnet_python, "-c", MXNET, str(tmp_path), *names]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    for name in names:
        ours, theirs = ((tmp_path / f"{name}.{who}").read_bytes() for who in ("ours", "theirs"))
        assert ours == theirs, name
