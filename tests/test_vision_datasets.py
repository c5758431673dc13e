"""gluon.data.vision: files made on the spot, hostile files, folders, lists."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import struct
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

import minigluon as mx
from minigluon.gluon.data import vision
from minigluon.gluon.data.vision import datasets
from minigluon.gluon.data.vision.datasets import read_idx

DIGITS = load_digits()
PIXELS = DIGITS.images[:20].astype("uint8")


def idx(a):
    return struct.pack(f">4B{a.ndim}I", 0, 0, 8, a.ndim, *a.shape) + a.tobytes()


def sha1(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is fetched: whoever tries gets an error."""

    def refuse(url, *_, **__):
        raise OSError(f"asked for {url}")

    monkeypatch.setattr(datasets, "download", refuse)


@pytest.fixture
def digits(tmp_path):
    """MNIST's class, on twenty small digits."""
    files = []
    for name, a in (("images.gz", PIXELS), ("labels.gz", DIGITS.target[:20].astype("uint8"))):
        (tmp_path / name).write_bytes(gzip.compress(idx(a)))
        files.append((name, sha1(tmp_path / name)))
    names = [f"_{part}_{what}" for part in ("train", "test") for what in ("data", "label")]
    return type("Digits", (vision.MNIST,), dict(zip(names, files * 2)))


def test_mnist(digits, tmp_path):
    data = digits(root=str(tmp_path))
    x, y = data[3]
    assert (
        len(data) == 20 and x.shape == (8, 8, 1) and x.dtype == np.uint8 and y == DIGITS.target[3]
    )
    assert (x.asnumpy()[..., 0] == PIXELS[3]).all() and type(y) is np.int32
    half = digits(str(tmp_path), train=False, transform=lambda x, y: (x / 2, y + 1))
    assert half[3][1] == DIGITS.target[3] + 1
    batch = next(iter(mx.gluon.data.DataLoader(data, batch_size=4)))
    assert batch[0].shape == (4, 8, 8, 1)
    (tmp_path / "labels.gz").write_bytes(b"other")
    with pytest.raises(OSError, match="asked for http"):
        digits(str(tmp_path))


def test_repository(monkeypatch, tmp_path):
    monkeypatch.setenv("MXNET_GLUON_REPO", "https://example.org/x")
    with pytest.raises(
        OSError, match="asked for https://example.org/x/gluon/dataset/fashion-mnist/"
    ):
        vision.FashionMNIST(str(tmp_path))


@given(st.binary(max_size=40), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_idx_is_robust(data, ndim):
    for body in (data, bytes([0, 0, 8, ndim]) + data):
        try:
            assert read_idx(body, ndim).ndim == ndim
        except mx.MXNetError as error:
            assert "idx" in str(error)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_idx_round_trip(shape):
    a = np.arange(np.prod(shape), dtype="uint8").reshape(shape)
    assert (read_idx(idx(a), a.ndim) == a).all()
    with pytest.raises(mx.MXNetError):
        read_idx(idx(a) + b"x", a.ndim)


def test_gzip_bounds(monkeypatch, tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(100_000)))
    monkeypatch.setattr(datasets, "MOST", 1000)
    with pytest.raises(mx.MXNetError, match="more than 1000"):
        datasets.unpacked(path)
    monkeypatch.undo()
    for damaged in (path.read_bytes()[:50], b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(mx.MXNetError, match="whole gzip"):
            datasets.unpacked(path)


def small_cifar(kind, labels, tmp_path):
    """An archive with two files of three records, and a class that knows their hashes."""
    records = np.random.default_rng(0).integers(0, 256, (3, labels + 3072)).astype("uint8")
    digest = hashlib.sha1(records.tobytes()).hexdigest()
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name in ("../../train.bin", "deep/test.bin", "/abs/other.bin"):
            member = tarfile.TarInfo(name)
            member.size = records.nbytes
            tar.addfile(member, io.BytesIO(records.tobytes()))
    found = {"_train_data": (("train.bin", digest),), "_test_data": (("test.bin", digest),)}
    return type(
        "Small", (kind,), {**found, "_archive_file": ("a.tar.gz", sha1(tmp_path / "a.tar.gz"))}
    ), records


@pytest.mark.parametrize("fine", [None, False, True])
def test_cifar(tmp_path, fine):
    kind, labels = (vision.CIFAR10, 1) if fine is None else (vision.CIFAR100, 2)
    Small, records = small_cifar(kind, labels, tmp_path)
    data = Small(str(tmp_path)) if fine is None else Small(str(tmp_path), fine_label=fine)
    x, y = data[1]
    assert len(data) == 3 and x.shape == (32, 32, 3) and y == records[1, int(bool(fine))]
    assert (x.asnumpy() == records[1, labels:].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "test.bin", "train.bin"]
    (tmp_path / "a.tar.gz").unlink()
    assert len(Small(str(tmp_path), train=False)) == 3


def test_wrong_member(tmp_path):
    Small, _ = small_cifar(vision.CIFAR10, 1, tmp_path)
    Small._train_data = (("train.bin", "0" * 40),)
    with pytest.raises(mx.MXNetError, match="content of train.bin"):
        Small(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.fixture
def folder(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(2):
            Image.fromarray(np.full((4, 6, 3), i, "uint8")).save(tmp_path / label / f"{i}.png")
    return tmp_path


def test_folder(folder):
    data = vision.ImageFolderDataset(str(folder))
    assert data.synsets == ["cat", "dog"] and len(data) == 4
    assert data[3][0].shape == (4, 6, 3) and data[3][1] == 1
    assert data.items[0] == (os.path.join(str(folder), "cat", "0.png"), 0)
    assert vision.ImageFolderDataset(str(folder), 0, lambda x, y: (x.shape, y))[0] == ((4, 6, 1), 0)
    (folder / "cat" / "1.png").write_bytes(b"broken")
    with pytest.raises(mx.MXNetError, match=r"cat.1\.png"):
        data[1]
    (folder / "dog" / "x.txt").write_text("")
    (folder / "readme").write_text("")
    with pytest.warns(UserWarning, match="Ignoring") as seen:
        assert len(vision.ImageFolderDataset(str(folder))) == 4
    assert len(seen) == 2


def test_lists(folder):
    root = str(folder)
    (folder / "a.lst").write_text("0 0 cat/0.png\n1 1 dog/1.png\n\n")
    (folder / "b.lst").write_text("0\t0\t0.5\tcat/0.png\n1\t1\t1.5\tdog/1.png\n")
    pure = [[0, "cat/0.png"], [[1.0, 2.0], "dog/1.png"]]
    a, b, c = (vision.ImageListDataset(root, given) for given in ("a.lst", "b.lst", pure))
    assert [len(d) for d in (a, b, c)] == [2, 2, 2]
    assert a[1][1] == 1.0 and b[1][1].tolist() == [1, 1.5] and c[1][1].tolist() == [1, 2]
    assert c[0][0].shape == (4, 6, 3)
    (folder / "bad.lst").write_text("0 0 cat/0.png\nnonsense\n")
    with pytest.raises(ValueError, match="line 2"):
        vision.ImageListDataset(root, "bad.lst")
    with pytest.raises(ValueError, match="imglist"):
        vision.ImageListDataset(root)


def test_vision_is_there_without_an_import_of_its_own():
    code = (
        "from minigluon import gluon; print(gluon.data.vision.transforms.__name__)\n"
        "try:\n    gluon.data.vison\nexcept AttributeError as error:\n    print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = out.stdout.splitlines()
    assert lines[0] == "minigluon.gluon.data.vision.transforms" and "it has vision" in lines[1]


def broken_in_the_middle(tmp_path, names="abcde", broken="c"):
    """A folder dataset in which the pictures of some folders are none; a class has one picture."""
    for i, name in enumerate(names):
        (tmp_path / name).mkdir()
        Image.new("RGB", (6, 4), (i, i, i)).save(tmp_path / name / "0.png")
        if name in broken:
            (tmp_path / name / "0.png").write_bytes(b"no picture")
    return vision.ImageFolderDataset(str(tmp_path))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_named(tmp_path, workers):
    data = broken_in_the_middle(tmp_path)
    with pytest.raises(mx.MXNetError, match=f"{tmp_path}/c/0.png"):
        list(mx.gluon.data.DataLoader(data, 2, num_workers=workers))


@pytest.mark.filterwarnings("ignore:sample")
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_pictures_are_skipped_and_counted(tmp_path, workers):
    data = broken_in_the_middle(tmp_path, broken="ce").readable()
    for epoch in (1, 2):
        batches = list(mx.gluon.data.DataLoader(data, 2, num_workers=workers))
        labels = [y for _, b in batches for y in b.asnumpy().tolist()]
        assert labels == [0, 1, 3, 3, 0] and data.skipped == 2 * epoch
    assert data[2][1] == 3 and data.skipped == 5 and len(data) == 5


def test_skipping_says_what_and_ends(tmp_path):
    data = broken_in_the_middle(tmp_path, "ab", "ab").readable()
    with (
        pytest.warns(UserWarning, match="sample [01] is skipped: imread"),
        pytest.raises(mx.MXNetError, match="no sample"),
    ):
        data[0]
    with pytest.raises(TypeError):  # other errors are errors
        mx.gluon.data.SimpleDataset([1]).transform(len).readable()[0]


def test_an_unreadable_record_is_named(tmp_path):
    path = str(tmp_path / "a.rec")
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "a.idx"), path, "w")
    writer.write_idx(7, mx.recordio.pack((0, 1.0, 7, 0), b"no picture"))
    writer.close()
    data = vision.ImageRecordDataset(path)
    assert isinstance(data, mx.gluon.data.RecordFileDataset)
    with pytest.raises(mx.MXNetError, match="a.rec, record of key 7"):
        data[0]


def mnist_files(folder):
    """Files in the format of MNIST, and the class that takes them without asking for their hashes."""
    digits = DIGITS.target[:20].astype("uint8")
    parts = {"_train_data": PIXELS, "_train_label": digits}
    parts |= {"_test_data": PIXELS, "_test_label": digits}
    names = {part: (getattr(vision.MNIST, part)[0], None) for part in parts}
    for part, a in parts.items():
        (folder / names[part][0]).write_bytes(gzip.compress(idx(a)))
    return type("Mine", (vision.MNIST,), names)


def test_digits_with_numpys_arrays(tmp_path):
    with mx.util.np_array(), mx.util.np_shape():
        data = mnist_files(tmp_path)(str(tmp_path))
        x, y = data[3]
        assert type(x) is type(y) is mx.np.ndarray and y.dtype == "int32" and y.shape == ()
        some, labels = data[2:5]
        assert some.shape == (3, 8, 8, 1) and labels.tolist() == DIGITS.target[2:5].tolist()
        for workers in (0, 1):
            x, y = next(iter(mx.gluon.data.DataLoader(data, 4, num_workers=workers)))
            assert type(y) is mx.np.ndarray and y.dtype == "int32" and y.shape == (4,)


def test_a_subclass_may_read_other_files(tmp_path):
    class Mine(vision.MNIST):
        def _get_data(self):
            name = (self._train_data if self._train else self._test_data)[0]
            self._data, self._label = [name], [self._train]

    assert Mine(str(tmp_path))[0] == ("train-images-idx3-ubyte.gz", True)
    assert Mine(str(tmp_path), train=False)[0] == ("t10k-images-idx3-ubyte.gz", False)


def test_digits_for_tutorials(tmp_path, monkeypatch):
    from minigluon import test_utils

    mine = mnist_files(tmp_path)
    monkeypatch.setattr(test_utils, "MNIST", mine)
    monkeypatch.setitem(datasets.ROOTS, "mnist", str(tmp_path))
    found = test_utils.get_mnist()
    assert found["train_data"].shape[1:] == (1, 8, 8) and found["train_data"].dtype == np.float32
    assert found["test_label"].dtype == np.int8 and found["train_data"].max() <= 1
    folder = str(tmp_path / "data")
    train, test = test_utils.get_mnist_iterator(5, (64,), path=folder)
    assert next(train).data[0].shape == (5, 64) and next(test).label[0].shape == (5,)
    assert (
        sorted(os.listdir(folder))[0] == "t10k-images-idx3-ubyte" and len(os.listdir(folder)) == 4
    )
    again = test_utils.DummyIter(test_utils.get_mnist_iterator(5, (1, 8, 8), path=folder)[0])
    assert next(again) is next(again) and again.provide_data[0].shape == (5, 1, 8, 8)


def test_a_mirror_may_pack_in_its_own_way(tmp_path, monkeypatch):
    """The files in the archive are checked, so the archive's own hash may differ."""
    monkeypatch.setattr(datasets, "download", mx.gluon.utils.download)
    shop, root = tmp_path / "shop", tmp_path / "root"
    shop.mkdir()
    Small, records = small_cifar(vision.CIFAR10, 1, shop)
    with tarfile.open(shop / "a.tar.gz", "w:gz", compresslevel=1) as other:
        for name in ("test.bin", "train.bin"):
            member = tarfile.TarInfo(f"another/{name}")
            member.size = records.nbytes
            other.addfile(member, io.BytesIO(records.tobytes()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=shop)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Small._mirror = f"http://127.0.0.1:{server.server_port}/"
        assert len(Small(str(root))) == 3
        server.shutdown()
    assert len(Small(str(root))) == 3  # offline
