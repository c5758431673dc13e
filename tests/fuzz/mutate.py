"""Damaged files for the readers: `python tests/fuzz/mutate.py [SECONDS]` runs until the time is up.

Each input is a good file, damaged at random: bits, bytes, lengths, pieces cut, doubled or swapped. A
reader must return or raise one of its own errors, soon, and take little memory. A mutation that makes
the reader take lines that no input took before is kept and damaged further (coverage by sys.settrace,
in the first runs of each seed only, for tracing is slow).
"""

import random
import struct
import sys
import tempfile
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from minigluon import nd, recordio
from minigluon.base import MXNetError
from minigluon.contrib import text

INTERESTING = [0, 1, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 29, 2 << 29]
INTERESTING += [3 << 29, 0xCED7230A, 2**62, 2**63 - 1, 2**64 - 1]
SECONDS, MEMORY = 5, 64 << 20  # for one input of a few hundred bytes
FOLDER = tempfile.TemporaryDirectory()


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
    }


ERRORS = {
    read_records: (MXNetError, ValueError),
    read_index: (MXNetError, ValueError, UnicodeDecodeError),
    read_params: (MXNetError, ValueError, TypeError),
    read_image: (MXNetError, ValueError, struct.error),
    read_embedding: (ValueError, AssertionError, UnicodeDecodeError),
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


def fuzz(seconds, seed=0, traced=300):
    """Read damaged files for so long; {reader: number of inputs}. Raises what a reader must not."""
    rng, counts, corpora, seen = random.Random(seed), {}, seeds(), {}
    end = time.monotonic() + seconds
    tracemalloc.start(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while time.monotonic() < end:
            for read, corpus in corpora.items():
                content, n = damaged(rng.choice(corpus), rng), counts.get(read.__name__, 0)
                counts[read.__name__] = n + 1
                check(read, content, n < traced, seen.setdefault(read, set()), corpus)
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
    for name, count in fuzz(float(sys.argv[1]) if len(sys.argv) > 1 else 60).items():
        print(f"{name:16}{count:9} inputs")
