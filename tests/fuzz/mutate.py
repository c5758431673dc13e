"""Damaged files for the readers: `python tests/fuzz/mutate.py [SECONDS [SEED]]` runs until the time is up.

Each input is a good file, damaged at random: bits, bytes, lengths, pieces cut, doubled or swapped. A
reader must return or raise one of its own errors, soon, and take little memory. A mutation that makes
the reader take lines that no input took before is kept and damaged further (coverage by sys.settrace,
in the first runs of each seed only, for tracing is slow). An audit hook refuses what no reader may do:
write outside its folder, start a program, open a connection, run code from a file.
"""

import gzip
import io
import os
import random
import struct
import sys
import tarfile
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from minigluon import im2rec, nd, recordio
from minigluon.base import MXNetError
from minigluon.contrib import text
from minigluon.gluon.data.vision import ImageListDataset, datasets
from minigluon.io import LibSVMIter

INTERESTING = [0, 1, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 29, 2 << 29]
INTERESTING += [3 << 29, 0xCED7230A, 2**62, 2**63 - 1, 2**64 - 1]
SECONDS, MEMORY = 5, 64 << 20  # for one input of a few hundred bytes
FOLDER = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def read_records(content):
    path = Path(FOLDER.name, "a.rec")
    path.write_bytes(content)
    reader = recordio.MXRecordIO(str(path), "r")
    while (record := reader.read()) is not None:
        if len(record) >= 24:
            recordio.unpack(record)
    reader.close()


def read_index(content):
    path = Path(FOLDER.name, "a.idx")
    path.write_bytes(content)
    reader = recordio.MXIndexedRecordIO(path, Path(FOLDER.name, "good.rec"), "r")
    for key in reader.keys[:50]:
        reader.read_idx(key)


def read_params(content):
    nd.load_frombuffer(content)


def read_image(content):
    recordio.unpack_img(content)


def read_embedding(content):
    path = Path(FOLDER.name, "e.txt")
    path.write_bytes(content)
    text.embedding.CustomEmbedding(str(path))


def read_idx(content):
    path = Path(FOLDER.name, "a-idx3-ubyte.gz")
    path.write_bytes(content)
    datasets.read_idx(datasets.unpacked(path), 3)


def read_bare_idx(content):
    datasets.read_idx(content, 3)


def read_list(content):
    path = Path(FOLDER.name, "a.lst")
    path.write_bytes(content)
    with redirect_stderr(io.StringIO()):  # it names the lines that it leaves out
        list(im2rec.read_list(path))
    ImageListDataset(FOLDER.name, "a.lst")


def read_libsvm(content):
    path = Path(FOLDER.name, "a.libsvm")
    path.write_bytes(content)
    LibSVMIter(str(path), (20,), 2)


def read_tar(content):
    path = Path(FOLDER.name, "a.tar")
    path.write_bytes(content)
    datasets.unpack(path, FOLDER.name, {"one.bin": None, "two.bin": None})


def read_zip(content):
    path = Path(FOLDER.name, "a.zip")
    path.write_bytes(content)
    text.embedding.taken_out(path, Path(FOLDER.name, "inner.txt"))


def tar(*names):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"bytes"))
    return packed.getvalue()[:2048]


def zipped(*names):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"a 1 2\n" * 9)
    return packed.getvalue()


def records():
    path = Path(FOLDER.name, "good.rec")
    writer = recordio.MXIndexedRecordIO(Path(FOLDER.name, "good.idx"), path, "w")
    magic = recordio.MAGIC_BYTES
    for i, r in enumerate([b"", b"abc", magic, b"abcd" + magic + b"e" * 30, bytes(64)]):
        writer.write_idx(i, recordio.pack((0, [1.0, 2.0], i, 0), r))
    writer.close()
    return path.read_bytes(), Path(FOLDER.name, "good.idx").read_bytes()


def params():
    path = str(Path(FOLDER.name, "a.params"))
    arrays = {"w": nd.ones((3, 4)), "b": nd.zeros((2,), dtype="int8")}
    nd.save(path, {**arrays, "s": nd.array(np.eye(3)).tostype("csr")})
    return Path(path).read_bytes()


def seeds():
    rec, idx = records()
    image = recordio.pack_img((0, 1, 2, 0), np.zeros((8, 8, 3), "uint8"))
    return {
        read_records: [rec],
        read_index: [idx],
        read_params: [params()],
        read_image: [image, recordio.pack_img((0, 1, 2, 0), np.ones((4, 4), "uint8"), 3, ".png")],
        read_embedding: [b"a 0.1 0.2\nb 1 2\n"],
        read_idx: [gzip.compress(IDX, mtime=0)],
        read_bare_idx: [IDX],
        read_list: [b"0\t1.000000\ta.png\n1\t0.5\t2\t../b c.png\n2 1 d.png\n"],
        read_libsvm: [b"1 0:1.5 3:2\n0 1:1 19:-2e3\n1\n"],
        read_tar: [tar("batches/one.bin", "two.bin"), tar("../one.bin", "/two.bin")],
        read_zip: [zipped("inner.txt"), zipped("../inner.txt", "x/inner.txt", "inner.txt")],
    }


IDX = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4) + bytes(24)
ERRORS = {
    read_records: (MXNetError, ValueError),
    read_index: (MXNetError, ValueError, UnicodeDecodeError),
    read_params: (MXNetError, ValueError, TypeError),
    read_image: (MXNetError, ValueError, struct.error),
    read_embedding: (ValueError, AssertionError, UnicodeDecodeError),
    read_idx: (MXNetError,),
    read_bare_idx: (MXNetError,),
    read_list: (ValueError, UnicodeDecodeError),
    read_libsvm: (MXNetError,),
    read_tar: (MXNetError, OSError),
    read_zip: (MXNetError, OSError),
}


def damaged(content, rng):
    """A file with one to four damages."""
    b = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(b) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(b):
            b[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(b):
            b[at] = rng.randrange(256)
        elif kind == 2:
            del b[at : at + rng.randint(1, 16)]
        elif kind == 3:
            del b[at:]
        elif kind == 4:
            b[at:at] = b[at : at + rng.randint(1, 64)]
        elif kind == 5:
            width, value = rng.choice("BHIQ"), rng.choice(INTERESTING)
            packed = struct.pack("<" + width, value % 256 ** struct.calcsize(width))
            b[at : at + len(packed)] = packed
        else:
            b[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(b[: 1 << 16])


def lines_of(read, content):
    """The lines of this package that reading runs."""
    seen = set()

    def trace(frame, event, _):
        name = frame.f_code.co_filename
        if "minigluon" not in name:
            return None
        seen.add((name, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        attempt(read, content)
    finally:
        sys.settrace(None)
    return seen


def attempt(read, content):
    """Read once; only the reader's own errors are right."""
    try:
        read(content)
    except ERRORS[read]:
        pass


def forbid(event, args):
    """The audit hook: RuntimeError for what a reader of data has no business with."""
    if not forbid.on:
        return
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        if not str(args[0]).startswith((FOLDER.name, os.devnull)):
            raise RuntimeError(f"a reader writes to {args[0]!r}")
    elif event.startswith(("subprocess.", "os.system", "os.exec", "os.fork", "socket.", "pickle.")):
        raise RuntimeError(f"a reader does {event} {args}")


forbid.on = False


def fuzz(seconds, seed=0, traced=300):
    """Read damaged files for so long; {reader: number of inputs}. Raises what a reader must not."""
    if not hasattr(forbid, "hooked"):
        forbid.hooked = True
        sys.addaudithook(forbid)
    rng, counts, corpora, seen = random.Random(seed), {}, seeds(), {}
    end = time.monotonic() + seconds
    tracemalloc.start(1)
    forbid.on = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while time.monotonic() < end:
            for read, corpus in corpora.items():
                content, n = damaged(rng.choice(corpus), rng), counts.get(read.__name__, 0)
                counts[read.__name__] = n + 1
                check(read, content, n < traced, seen.setdefault(read, set()), corpus)
    forbid.on = False
    tracemalloc.stop()
    return counts


def check(read, content, traced, seen, corpus):
    """Read one input, in time and in little memory; keep it if it went where none went."""
    start = time.monotonic()
    tracemalloc.reset_peak()
    try:
        if traced and (new := lines_of(read, content)) - seen:
            seen |= new
            corpus.append(content)
        elif not traced:
            attempt(read, content)
    except BaseException:
        print(f"{read.__name__} of {content!r}", file=sys.stderr)
        raise
    taken, peak = time.monotonic() - start, tracemalloc.get_traced_memory()[1]
    assert taken < SECONDS, f"{read.__name__} took {taken:.1f} s for {content!r}"
    assert peak < MEMORY, f"{read.__name__} took {peak} bytes for {content!r}"


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:3]]
    counts = fuzz(*(given or [60]))
    for name, count in counts.items():
        print(f"{name:16}{count:9} inputs")
    print(f"{'all':16}{sum(counts.values()):9} inputs")
