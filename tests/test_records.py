"""Record files: the bytes of MXNet, in both directions; broken files; images; the command."""

import io
import logging
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigluon
from minigluon import im2rec, recordio
from minigluon.base import MXNetError
from minigluon.gluon import data

MAGIC = struct.pack("<I", 0xCED7230A)
RECORDS = [
    b"",
    b"a",
    b"abcd",
    MAGIC,
    MAGIC * 3,
    b"x" + MAGIC,
    b"abcd" + MAGIC + b"efg" + MAGIC,
    MAGIC + b"abc",
    b"z" * 100 + MAGIC + MAGIC + b"12",
    bytes(range(256)) * 300,
]
SHORT = (
    "0a23d7ce00000000"
    "0a23d7ce0100000061000000"  # the first records, as MXNet wrote them
    "0a23d7ce0400000061626364"
    "0a23d7ce000000200a23d7ce00000060"
)


def write(path, records):
    file = recordio.MXRecordIO(str(path), "w")
    for record in records:
        file.write(record)
    file.close()
    return str(path)


def read(path):
    file, found = recordio.MXRecordIO(str(path), "r"), []
    while (record := file.read()) is not None:
        found.append(record)
    assert file.read() is None
    file.close()
    return found


def test_bytes_are_those_of_mxnet(tmp_path):
    path = write(tmp_path / "a.rec", RECORDS[:4])
    with open(path, "rb") as file:
        assert file.read().hex() == SHORT
    assert read(path) == RECORDS[:4]


piece = st.one_of(st.binary(max_size=9), st.just(MAGIC), st.just(MAGIC[:2]))
record = st.lists(piece, max_size=8).map(b"".join)


@given(st.lists(record, max_size=6))
def test_round_trip(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "a.rec"
    assert read(write(path, records)) == records


MXNET = """
import sys, pickle
import numpy as np; np.bool = bool
import mxnet as mx
folder, records = pickle.load(sys.stdin.buffer)
r, found = mx.recordio.MXRecordIO(folder + '/ours.rec', 'r'), []
for _ in records: found.append(r.read())
assert found == records and r.read() is None
w = mx.recordio.MXIndexedRecordIO(folder + '/theirs.idx', folder + '/theirs.rec', 'w')
for i, record in enumerate(records): w.write_idx(i * 3, record)
w.close()
r = mx.recordio.MXIndexedRecordIO(folder + '/indexed.idx', folder + '/indexed.rec', 'r')
assert [r.read_idx(i) for i in r.keys] == records and r.keys == list(range(len(records)))
header, img = mx.recordio.unpack_img(r_img := open(folder + '/img', 'rb').read())
assert header.label.tolist() == [1, 2] and header.id == 7, header
np.save(folder + '/img.npy', img)
open(folder + '/png', 'wb').write(mx.recordio.pack_img((0, 3, 4, 0), img, quality=3, img_fmt='.png'))
open(folder + '/jpg', 'wb').write(mx.recordio.pack_img((0, [3, 1], 4, 0), img))
np.save(folder + '/jpg.npy', mx.recordio.unpack_img(open(folder + '/jpg', 'rb').read())[1])
"""


def test_mxnet_reads_ours_and_we_read_its(tmp_path, mxnet_python):
    write(tmp_path / "ours.rec", RECORDS)
    indexed = recordio.MXIndexedRecordIO(tmp_path / "indexed.idx", tmp_path / "indexed.rec", "w")
    for i, r in enumerate(RECORDS):
        indexed.write_idx(i, r)
    indexed.close()
    img = np.random.default_rng(0).integers(0, 256, (9, 12, 3), "uint8")
    (tmp_path / "img").write_bytes(recordio.pack_img((0, [1, 2], 7, 0), img, 9, ".png"))
    given = pickle.dumps((str(tmp_path), RECORDS), protocol=4)
    done = subprocess.run(
        [mxnet_python, "-W", "ignore", "-c", MXNET], input=given, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (np.load(tmp_path / "img.npy") == img).all()
    assert read(tmp_path / "theirs.rec") == RECORDS
    theirs = data.RecordFileDataset(str(tmp_path / "theirs.rec"))
    assert [theirs[i] for i in range(len(theirs))] == RECORDS
    header, png = recordio.unpack_img((tmp_path / "png").read_bytes())
    assert header == (0, 3, 4, 0) and (png == img).all()
    header, jpg = recordio.unpack_img((tmp_path / "jpg").read_bytes())
    assert header.label.tolist() == [3, 1]
    assert abs(jpg.astype(int) - np.load(tmp_path / "jpg.npy")).max() <= 2  # two decoders round


def test_indexed(tmp_path):
    paths = tmp_path / "c.idx", tmp_path / "c.rec"
    file = recordio.MXIndexedRecordIO(*paths, "w")
    offsets = []
    for i in range(5):
        file.write_idx(i, b"record_%d" % i)
        offsets.append(file.tell())
    file.close()
    assert offsets == [16, 32, 48, 64, 80]
    assert paths[0].read_bytes() == b"0\t0\n1\t16\n2\t32\n3\t48\n4\t64\n"
    file = recordio.MXIndexedRecordIO(*paths, "r")
    assert file.keys == [0, 1, 2, 3, 4] and file.idx == {i: 16 * i for i in range(5)}
    assert (file.read_idx(3), file.read(), file.read()) == (b"record_3", b"record_4", None)
    assert (file.read_idx(0), file.read()) == (b"record_0", b"record_1")
    with pytest.raises(KeyError):
        file.read_idx(9)
    file.reset()
    assert file.read() == b"record_0"
    again = pickle.loads(pickle.dumps(file))
    assert again.read_idx(2) == b"record_2" and again.keys == file.keys
    names = recordio.MXIndexedRecordIO(tmp_path / "n.idx", tmp_path / "n.rec", "w", key_type=str)
    names.write_idx("one", b"1")
    names.close()
    names = recordio.MXIndexedRecordIO(tmp_path / "n.idx", tmp_path / "n.rec", "r", key_type=str)
    assert names.read_idx("one") == b"1"


def test_states(tmp_path):
    path = write(tmp_path / "a.rec", [b"1", b"2"])
    file = recordio.MXRecordIO(path, "r")
    assert (file.uri, file.flag, file.is_open, file.writable) == (path, "r", True, False)
    assert file.pid == os.getpid()
    with pytest.raises(AssertionError):
        file.write(b"x")
    file.close()
    file.close()
    assert not file.is_open and file.pid is None
    with pytest.raises(RuntimeError, match="closed"):
        file.read()
    file.open()
    assert file.read() == b"1"
    writer = recordio.MXRecordIO(path, "w")
    with pytest.raises(AssertionError):
        writer.read()
    with pytest.raises(TypeError, match="encode"):
        writer.write("text")
    writer.write(b"new")
    writer.reset()
    writer.close()
    assert read(path) == []
    with pytest.raises(ValueError, match="Invalid flag a"):
        recordio.MXRecordIO(path, "a")
    with pytest.raises(MXNetError, match="No such file"):
        recordio.MXRecordIO(str(tmp_path / "none.rec"), "r")
    with pytest.raises(FileNotFoundError):
        recordio.MXIndexedRecordIO(str(tmp_path / "none.idx"), path, "r")


def test_an_open_writer_can_be_pickled(tmp_path):
    file = recordio.MXRecordIO(str(tmp_path / "a.rec"), "w")
    file.write(b"1")
    state = pickle.dumps(file)
    file.close()
    assert read(tmp_path / "a.rec") == [b"1"]
    assert pickle.loads(state).writable


def in_child(file, queue):
    try:
        queue.put(file.read())
        queue.put(file.read_idx(1))
    except Exception as error:
        queue.put(repr(error))


def write_in_child(file, queue):
    try:
        queue.put(file.write(b"x"))
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_fork(tmp_path):
    paths = str(tmp_path / "c.idx"), str(tmp_path / "c.rec")
    file = recordio.MXIndexedRecordIO(*paths, "w")
    for i in range(3):
        file.write_idx(i, b"%d" % i * 10)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=write_in_child, args=(file, queue))
    child.start()
    assert "multiple processes" in queue.get()
    child.join()
    file.close()
    file = recordio.MXIndexedRecordIO(*paths, "r")
    assert file.read() == b"0" * 10
    children = [context.Process(target=in_child, args=(file, queue)) for _ in range(2)]
    for child in children:
        child.start()
        child.join()
    assert {queue.get() for _ in range(4)} == {b"1" * 10}
    assert file.read() == b"1" * 10  # the children have not moved our place


BROKEN = [  # what is in the file, what the message says
    (b"hello world 1234", "offset 0: 0x6c6c6568"),
    (MAGIC, "offset 0: 4 bytes of a header"),
    (MAGIC + struct.pack("<I", 5) + b"abc", "offset 0: 8 bytes should follow at 8, 3 do"),
    (MAGIC + struct.pack("<I", 3) + b"abc", "torn record at offset 0"),  # without padding
    (MAGIC + struct.pack("<I", 4) + b"good" + MAGIC, "torn record at offset 12"),
    (MAGIC + struct.pack("<I", 4) + b"good" + b"\0" * 8, "offset 12: 0x00000000"),
    (MAGIC + struct.pack("<I", 1 << 29 | 4) + b"good", "offset 0: its last part is missing"),
    (MAGIC + struct.pack("<I", 2 << 29), "offset 0: part 0 has flag 2"),
    (MAGIC + struct.pack("<I", 3 << 29), "offset 0: part 0 has flag 3"),
    (MAGIC + struct.pack("<I", 7 << 29), "part 0 has flag 7"),
    ((MAGIC + struct.pack("<I", 1 << 29)) * 2, "part 1 has flag 1"),
    (MAGIC + struct.pack("<I", (1 << 29) - 1) + b"x" * 64, "torn record at offset 0"),
]


@pytest.mark.parametrize(("content", "says"), BROKEN)
def test_broken_files(tmp_path, content, says):
    path = tmp_path / "a.rec"
    path.write_bytes(content)
    with pytest.raises(MXNetError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_torn_record_behind_many(tmp_path):
    records = [bytes([i]) * (i * 37) for i in range(200)]
    path = write(tmp_path / "a.rec", records)
    size = os.path.getsize(path)
    last = size - 8 - -(-len(records[-1]) // 4) * 4
    with open(path, "r+b") as file:
        file.truncate(size - 5)
    reader = recordio.MXRecordIO(path, "r")
    assert [reader.read() for _ in records[:-1]] == records[:-1]
    for _ in range(2):  # it stays where it is
        with pytest.raises(MXNetError, match=f"torn record at offset {last}"):
            reader.read()


@pytest.mark.parametrize("line", ["", "1", "a\t0", "1\tb", "\t", "1\t\x00"])
def test_broken_index(tmp_path, line):
    path = write(tmp_path / "a.rec", [b"1"])
    (tmp_path / "a.idx").write_text(f"0\t0\n{line}\n")
    with pytest.raises(ValueError, match="line 2"):
        recordio.MXIndexedRecordIO(tmp_path / "a.idx", path, "r")


@pytest.mark.parametrize("offset", [-8, 4, 10**6, 2**62, 10**30])
def test_an_index_that_points_nowhere(tmp_path, offset):
    path = write(tmp_path / "a.rec", [b"12345678"])
    (tmp_path / "a.idx").write_text(f"0\t{offset}\n")
    file = recordio.MXIndexedRecordIO(tmp_path / "a.idx", path, "r")
    try:
        assert file.read_idx(0) is None  # behind the end
    except MXNetError as error:
        assert "offset" in str(error)


def test_too_long():
    class Long(bytes):
        def __len__(self):
            return 1 << 29

    with pytest.raises(MXNetError, match="shorter"):
        recordio.framed(Long())


def test_a_forged_length_takes_no_memory(tmp_path):
    path = tmp_path / "a.rec"
    path.write_bytes(MAGIC + struct.pack("<I", (1 << 29) - 1) + b"x" * 100)
    import tracemalloc

    reader = recordio.MXRecordIO(str(path), "r")
    tracemalloc.start()
    with pytest.raises(MXNetError):
        reader.read()
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_headers():
    packed = recordio.pack(recordio.IRHeader(0, 4, 7, 1), b"xyz")
    assert packed.hex() == "00000000000080400700000000000000010000000000000078797a"
    assert recordio.unpack(packed) == ((0, 4.0, 7, 1), b"xyz")
    packed = recordio.pack((5, [1, 2, 3], 7, 0), b"xyz")
    assert packed[:4] == b"\3\0\0\0"
    header, rest = recordio.unpack(packed)
    assert header.flag == 3 and header.label.tolist() == [1, 2, 3] and rest == b"xyz"
    assert recordio.pack((0, np.float32(4), 7, 1), b"xyz")[4:8] == struct.pack("<f", 4)
    assert repr(header).startswith("HEADER(flag=3, label=array([1., 2., 3.]")
    with pytest.raises(struct.error):
        recordio.unpack(b"abc")
    with pytest.raises(ValueError, match="label of 1000 numbers"):
        recordio.unpack(struct.pack("<IfQQ", 1000, 0, 0, 0) + b"12")


IMAGE = np.arange(300, dtype="uint8").reshape(10, 10, 3)


def test_images():
    packed = recordio.pack_img((0, 1, 2, 0), IMAGE, quality=3, img_fmt=".png")
    assert (recordio.unpack_img(packed)[1] == IMAGE).all()
    for iscolor, shape in ((-1, (10, 10, 3)), (0, (10, 10)), (1, (10, 10, 3))):
        assert recordio.unpack_img(packed, iscolor)[1].shape == shape
    smooth = np.add.outer(np.arange(40), np.arange(0, 60, 2)).astype("uint8")
    packed = recordio.pack_img((0, 1, 2, 0), smooth)
    header, grey = recordio.unpack_img(packed)
    assert header == (0, 1, 2, 0) and grey.shape == smooth.shape and grey.dtype == np.uint8
    assert abs(grey.astype(int) - smooth).max() < 4
    assert recordio.unpack_img(packed, 1)[1].shape == (40, 30, 3)
    alpha = np.concatenate([IMAGE, IMAGE[..., :1]], 2)
    packed = recordio.pack_img((0, 1, 2, 0), alpha, img_fmt=".PNG")
    assert (recordio.unpack_img(packed)[1] == alpha).all()
    assert (recordio.unpack_img(packed, 1)[1] == IMAGE).all()
    blue = np.zeros((4, 4, 3), "uint8")
    blue[..., 0] = 200
    from PIL import Image

    encoded = recordio.unpack(recordio.pack_img((0, 0, 0, 0), blue, 1, ".png"))[1]
    assert np.array(Image.open(io.BytesIO(encoded)))[0, 0].tolist() == [0, 0, 200]


def test_images_that_are_none():
    header, img = recordio.unpack_img(recordio.pack((0, 1, 2, 0), b"notimage"))
    assert header.label == 1 and img is None
    packed = recordio.pack_img((0, 1, 2, 0), IMAGE)
    assert recordio.unpack_img(packed[:-200])[1] is None  # cut off
    with pytest.raises(MXNetError, match="img_fmt"):
        recordio.pack_img((0, 1, 2, 0), IMAGE, img_fmt=".foo")
    with pytest.raises(MXNetError, match="shape"):
        recordio.pack_img((0, 1, 2, 0), np.zeros((2, 2, 5), "uint8"))


def test_pillow_does_not_log_its_debugging(caplog):
    img = np.zeros((4, 4, 3), "uint8")
    with caplog.at_level(logging.DEBUG):
        packed = recordio.pack_img(recordio.IRHeader(0, 1, 0, 0), img, img_fmt=".png")
        recordio.unpack_img(packed)
        minigluon.image.imdecode(recordio.unpack(packed)[1])
        logging.debug("mine")
    assert [r.getMessage() for r in caplog.records] == ["mine"]


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"minigluon\[image\]"):
        recordio.pack_img((0, 1, 2, 0), IMAGE)


# --- im2rec ---------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    from PIL import Image

    root = tmp_path / "images"
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (root / kind).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (20 + i, 30, 3), "uint8")
            Image.fromarray(pixels).save(root / kind / f"{i}.png")
    Image.fromarray(pixels).save(root / "top.png")
    (root / "cat" / "notes.txt").write_text("no image")
    return root


def lines(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_lists(tmp_path, images, capsys):
    prefix = tmp_path / "set"
    assert im2rec.main([str(prefix), str(images), "--list", "--recursive", "--no-shuffle"]) == 0
    found = lines(tmp_path / "set.lst")
    assert found[0] == ["0", "0.000000", "top.png"]
    assert found[1] == ["1", "1.000000", os.path.join("cat", "0.png")]
    assert len(found) == 11 and found[-1][1] == "2.000000"
    assert capsys.readouterr().out == ". 0\ncat 1\ndog 2\n"
    im2rec.main([str(prefix), str(images), "--list"])
    assert lines(tmp_path / "set.lst") == [["0", "0.000000", "top.png"]]
    ratios = ["--train-ratio", "0.6", "--test-ratio", "0.2"]
    im2rec.main([str(prefix), str(images), "--list", "--recursive", *ratios])
    parts = {n: lines(tmp_path / f"set_{n}.lst") for n in ("train", "test", "val")}
    assert [len(p) for p in parts.values()] == [6, 2, 3]
    assert sorted(int(r[0]) for p in parts.values() for r in p) == list(range(11))
    im2rec.main([str(prefix), str(images), "--list", "--recursive", "--chunks", "2"])
    assert [len(lines(tmp_path / f"set_{i}.lst")) for i in (0, 1)] == [6, 5]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_packing(tmp_path, images, threads, capsys):
    prefix = tmp_path / "set"
    im2rec.main([str(prefix), str(images), "--list", "--recursive", "--no-shuffle"])
    options = ["--resize", "16", "--center-crop", "--encoding", ".png", "--quality", "3"]
    assert im2rec.main([str(prefix), str(images), *options, "--num-thread", threads]) == 0
    dataset = data.RecordFileDataset(str(tmp_path / "set.rec"))
    assert len(dataset) == 11 and dataset._record.keys == list(range(11))
    for i in range(11):
        header, img = recordio.unpack_img(dataset[i])
        assert header.id == i and img.shape == (16, 16, 3)
        assert header.label == 0 if i == 0 else header.label in (1, 2)
    im2rec.main([str(prefix), str(images), "--pass-through"])
    dataset = data.RecordFileDataset(str(tmp_path / "set.rec"))
    assert recordio.unpack(dataset[0])[1] == (images / "top.png").read_bytes()
    im2rec.main([str(prefix), str(images), "--resize", "40", "--color", "0"])
    dataset = data.RecordFileDataset(str(tmp_path / "set.rec"))
    assert recordio.unpack_img(dataset[1])[1].shape == (40, 60)


def test_what_cannot_be_packed_is_named(tmp_path, images, capsys):
    (tmp_path / "set.lst").write_text(
        "0\t1\ttop.png\n1\tnot enough\nx\t1\ttop.png\n2\t1\tcat/notes.txt\n3\t1\tnone.png\n"
        "4\t1\t2\ttop.png\n"
    )
    assert im2rec.main([str(tmp_path / "set"), str(images), "--pack-label"]) == 0
    out, err = capsys.readouterr()
    assert "2 records, 2 images left out" in out
    assert "line 2" in err and "line 3" in err and "notes.txt" in err and "none.png" in err
    dataset = data.RecordFileDataset(str(tmp_path / "set.rec"))
    assert recordio.unpack(dataset[1])[0].label.tolist() == [1, 2]
    assert im2rec.main([str(tmp_path / "other"), str(images)]) == 1


def test_the_command(tmp_path, images):
    root = os.path.dirname(os.path.dirname(minigluon.__file__))
    command = [sys.executable, "-m", "minigluon.im2rec", str(tmp_path / "a"), str(images)]
    for extra in (["--list"], []):
        done = subprocess.run(command + extra, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len(data.RecordFileDataset(str(tmp_path / "a.rec"))) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk here")
@pytest.mark.parametrize("size", [10, 1 << 21])
def test_a_full_disk(size):
    writer = recordio.MXRecordIO("/dev/full", "w")
    with pytest.raises(OSError, match="No space left"):
        writer.write(bytes(size))
        writer.close()
    with suppress(OSError):
        writer.close()  # what is left in memory
    assert not writer.is_open
