"""A record file is a row of byte strings, each behind a number that can be found again when the rest is lost."""

# Written from chapters/81_records.ipynb: edit the chapter, then run `minigluon export`.

import io
import logging
import numbers
import os
import struct
from collections import namedtuple
from multiprocessing import current_process

import numpy as np

from minigluon.base import MXNetError

__all__ = [
    "AHEAD",
    "FIRST",
    "FORMATS",
    "HEADER",
    "IR",
    "IRHeader",
    "LAST",
    "LIMIT",
    "MAGIC",
    "MAGIC_BYTES",
    "MIDDLE",
    "MXIndexedRecordIO",
    "MXRecordIO",
    "WHOLE",
    "Window",
    "converted",
    "decoded",
    "framed",
    "head_at",
    "neighbours",
    "pack",
    "pack_img",
    "part_at",
    "pillow",
    "record_at",
    "reversed_colours",
    "scaled",
    "split",
    "unpack",
    "unpack_img",
]


# --- The layout -----------------------------------------------------------------------------------

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
HEADER = struct.Struct("<II")  # the magic number; the flag in 3 bits above the length in 29
LIMIT = 1 << 29
WHOLE, FIRST, MIDDLE, LAST = range(4)
AHEAD = 1 << 14, 1 << 19  # bytes read at once: after a jump, and at most (more leaves the cache)
head_at = HEADER.unpack_from  # looked up once, not for each record


def split(record):
    """The parts of a record: cut where a whole word of it is the magic number, which is left out."""
    parts, start, at = [], 0, record.find(MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            parts.append(record[start:at])
            start = at + 4
        at = record.find(MAGIC_BYTES, at + (4 if at % 4 == 0 else 1))
    return [*parts, record[start:]]


def framed(record):
    """The bytes of a record in a file: header, part and padding, once or more."""
    if len(record) >= LIMIT:
        raise MXNetError(f"a record of {len(record)} bytes: it must be shorter than {LIMIT}")
    if MAGIC_BYTES not in record:
        return HEADER.pack(MAGIC, len(record)) + record + bytes(-len(record) % 4)
    parts = split(record)
    several = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    flags = several if len(parts) > 1 else [WHOLE]
    return b"".join(
        HEADER.pack(MAGIC, flag << 29 | len(part)) + part + bytes(-len(part) % 4)
        for flag, part in zip(flags, parts)
    )


# --- Reading --------------------------------------------------------------------------------------


class Window:
    """A piece of a file in memory; asked for bytes outside, it reads the piece around them.

    Each jump makes the next piece small, each step on makes it larger.
    """

    def __init__(self, path):
        self.path = path
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115
        self.start, self.bytes, self.ahead = 0, b"", AHEAD[0]

    def fetch(self, at, count):
        """Have `count` bytes from offset `at` in the window, if the file has them;
        how many there are.
        """
        have = self.start + len(self.bytes) - at
        if self.start <= at and have >= count:
            return have
        on = self.start <= at and have >= 0
        self.ahead = min(2 * self.ahead, AHEAD[1]) if on else AHEAD[0]
        if count > self.ahead:
            count = min(count, max(0, os.fstat(self.file.fileno()).st_size - at))
        self.start, self.bytes = at, self.read(at, max(count, self.ahead))
        return len(self.bytes)

    def read(self, at, count):
        """Bytes of the file from `at`; where it can, without a place that forked processes share."""
        try:
            if hasattr(os, "pread"):
                return os.pread(self.file.fileno(), count, at)
            self.file.seek(at)
            return self.file.read(count)
        except (OSError, OverflowError) as error:
            raise MXNetError(f"{self.path}: cannot read at offset {at}: {error}") from error


def record_at(window, at):
    """The record at offset `at` and the offset behind it; None at the end of the file.

    MXNetError, with the offset, for what is no record or ends too early.
    """
    parts, start = [], at
    while True:
        flag, part, at = part_at(window, at, start)
        if flag is None and not parts:
            return None, at
        if flag is None:
            raise MXNetError(
                f"{window.path}: torn record at offset {start}: its last part is missing"
            )
        if flag not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
            raise MXNetError(
                f"{window.path}: invalid record at offset {start}: part {len(parts)} has flag {flag}"
            )
        parts.append(part)
        if flag in (WHOLE, LAST):
            return MAGIC_BYTES.join(parts), at


def part_at(window, at, start):
    """Flag, bytes and end of the part at offset `at`, a part of the record at `start`."""
    found = window.fetch(at, HEADER.size)
    if not found:
        return None, b"", at
    if found < HEADER.size:
        raise MXNetError(f"{window.path}: torn record at offset {start}: {found} bytes of a header")
    magic, word = HEADER.unpack_from(window.bytes, at - window.start)
    if magic != MAGIC:
        raise MXNetError(
            f"{window.path}: invalid record at offset {start}: {magic:#010x} at {at} "
            f"is not the magic number {MAGIC:#010x}"
        )
    length = word % LIMIT
    padded = HEADER.size + length + -length % 4
    if (found := window.fetch(at, padded)) < padded:
        raise MXNetError(
            f"{window.path}: torn record at offset {start}: "
            f"{padded - HEADER.size} bytes should follow at {at + HEADER.size}, {found - HEADER.size} do"
        )
    begin = at - window.start + HEADER.size
    return word >> 29, window.bytes[begin : begin + length], at + padded


# --- Files of records -----------------------------------------------------------------------------


class MXRecordIO:
    """A file of records, to be read one after another (`flag` 'r') or written anew ('w').

    MXNetError if the file cannot be opened. Pickled, a reader comes back open at the beginning; after
    a fork, each process reads on at its own place, and only the one that opened it may write.
    """

    def __init__(self, uri, flag):
        self.uri, self.flag = os.fspath(uri), flag
        self.pid, self.is_open = None, False
        self.open()

    def open(self):
        """Open the file: the next record is the first."""
        if self.flag not in ("r", "w"):
            raise ValueError(f"Invalid flag {self.flag}: 'r' reads, 'w' writes")
        self.writable = self.flag == "w"
        try:
            self.handle = self._opened()
        except OSError as error:
            raise MXNetError(f"cannot open {self.uri}: {error.strerror or error}") from error
        self._have, self._place = b"", 0  # the window's bytes, and where in them we are
        self.pid, self.is_open = current_process().pid, True

    def _opened(self):
        if not self.writable:
            return Window(self.uri)
        return open(self.uri, "wb", 1 << 20)  # noqa: SIM115

    def close(self):
        """Close the file; what was written is on its way to the disk."""
        if not self.is_open:
            return
        self.is_open, self._have, handle = False, b"", self.handle
        if not self.writable:
            handle.file.close()
        elif self.pid == current_process().pid:
            handle.close()
        self.pid = self.handle = None

    def reset(self):
        """Go back to the first record; a file that is being written becomes empty."""
        self.close()
        self.open()

    def __del__(self):
        if getattr(self, "is_open", False):
            self.close()

    # --- Files of records -------------------------------------------------------------------------

    def __getstate__(self):
        state = dict(self.__dict__, handle=None, pid=None, _have=b"")
        if self.is_open and self.writable:
            self.handle.flush()
        return state

    def __setstate__(self, state):
        self.__dict__ = state
        if self.is_open:
            self.is_open = False
            self.open()

    def _check(self, writable):
        """Refuse a closed file, the wrong direction and, for writing, another process."""
        assert self.writable == writable, (
            f"{self.uri} is open with flag {self.flag!r}: it can only be "
            + ("written" if self.writable else "read")
        )
        if not self.is_open:
            raise RuntimeError(f"{self.uri} is closed: call open() or reset()")
        if writable and self.pid != current_process().pid:
            raise RuntimeError(f"Forbidden operation in multiple processes: writing {self.uri}")

    def read(self):
        """The next record, bytes; None at the end. MXNetError, with the offset, for a broken one."""
        have, at = self._have, self._place
        try:
            magic, length = head_at(have, at)
        except (struct.error, OverflowError):
            return self._read_on()
        stop = at + 8 + length  # with a flag above the length, far beyond the end
        if magic != MAGIC or stop + 3 > len(have):
            return self._read_on()
        self._place = stop + (-length & 3)
        return have[at + 8 : stop]

    def _read_on(self):
        """The next record, not all of which is in memory."""
        self._check(False)
        self._have, window = b"", self.handle
        at = window.start + self._place
        try:
            record, at = record_at(window, at)
            self._have = window.bytes
            return record
        finally:  # a broken record stays the next
            self._place = at - window.start

    def write(self, buf):
        """Append a record of bytes."""
        self._check(True)
        if not isinstance(buf, bytes | bytearray | memoryview):
            raise TypeError(f"a record is bytes, not {type(buf).__name__}: encode text first")
        data = framed(bytes(buf))
        self.handle.write(data)
        self._place += len(data)


class MXIndexedRecordIO(MXRecordIO):
    """A file of records, and beside it a text file with the key and the offset of each."""

    def __init__(self, idx_path, uri, flag, key_type=int):
        self.idx_path, self.key_type = os.fspath(idx_path), key_type
        self.idx, self.keys, self.fidx = {}, [], None
        super().__init__(uri, flag)

    def open(self):
        """Open both files; for reading, the index is read whole."""
        super().open()
        self.idx, self.keys = {}, []
        try:
            self.fidx = open(self.idx_path, self.flag, encoding="utf-8")  # noqa: SIM115
            if not self.writable:
                self._read_index()
        except BaseException:
            self.close()
            raise

    def _read_index(self):
        for number, line in enumerate(self.fidx, 1):
            try:
                key, offset = line.strip().split("\t")[:2]
                key, offset = self.key_type(key), int(offset)
            except ValueError:
                raise ValueError(
                    f"{self.idx_path}, line {number}: {line[:40]!r} is not a key, a tab and an offset"
                ) from None
            self.idx[key] = offset
            self.keys.append(key)

    def close(self):
        """Close both files."""
        if self.is_open:
            ours = self.pid == current_process().pid
            super().close()
            if self.fidx is not None and (ours or not self.writable):
                self.fidx.close()

    # --- Files of records -------------------------------------------------------------------------

    def __getstate__(self):
        if self.is_open and self.writable:
            self.fidx.flush()
        return {**super().__getstate__(), "fidx": None}

    def seek(self, idx):
        """Make the record of key `idx` the next; KeyError if there is none."""
        self._check(False)
        self._place = self.idx[idx] - self.handle.start
        if self._place < 0:  # before the window
            self.handle.start, self.handle.bytes = self.idx[idx], b""
            self._have, self._place = b"", 0

    def tell(self):
        """The offset at which the next record will be written."""
        self._check(True)
        return self._place

    def read_idx(self, idx):
        """The record of key `idx`."""
        self.seek(idx)
        return self.read()

    def write_idx(self, idx, buf):
        """Append a record under the key `idx`."""
        key, at = self.key_type(idx), self.tell()
        self.write(buf)
        self.fidx.write(f"{key}\t{at}\n")
        self.idx[key] = at
        self.keys.append(key)


# --- Labels before the bytes ----------------------------------------------------------------------

IRHeader = namedtuple("HEADER", ["flag", "label", "id", "id2"])
IR = struct.Struct("<IfQQ")


def pack(header, s):
    """A record of a header, `IRHeader` or four values, and bytes; a label may be an array of floats."""
    header = IRHeader(*header)
    if isinstance(header.label, numbers.Number):
        return IR.pack(0, *header[1:]) + s
    label = np.asarray(header.label, "<f4")
    return IR.pack(label.size, 0, *header[2:]) + label.tobytes() + s


def unpack(s):
    """The header and the bytes of a record that `pack` made; a label of several numbers is an array."""
    header, s = IRHeader(*IR.unpack(s[: IR.size])), s[IR.size :]
    if header.flag == 0:
        return header, s
    if 4 * header.flag > len(s):
        raise ValueError(f"a label of {header.flag} numbers does not fit into {len(s)} bytes")
    return header._replace(label=np.frombuffer(s, "<f4", header.flag)), s[4 * header.flag :]


# --- Images ---------------------------------------------------------------------------------------


def pillow():
    """Pillow's module Image, which does not log its debugging; ImportError that says what to install."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "pictures need Pillow: pip install 'minigluon[image]' (or pillow)"
        ) from error
    log = logging.getLogger("PIL")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
    return Image


FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}
FORMATS |= {".tif": "TIFF", ".tiff": "TIFF"}


def pack_img(header, img, quality=95, img_fmt=".jpg"):
    """A record of a header and an image, uint8 of shape (height, width[, blue-green-red[-alpha]]).

    `quality` is 1 to 100 for JPEG, the compression 1 to 9 for PNG. MXNetError for another format.
    """
    kind = FORMATS.get(img_fmt.lower())
    if kind is None:
        raise MXNetError(f"img_fmt {img_fmt!r}: known are {', '.join(FORMATS)}")
    settings = {"compress_level": min(quality, 9)} if kind == "PNG" else {"quality": quality}
    encoded = io.BytesIO()
    pillow().fromarray(reversed_colours(np.asarray(img))).save(encoded, kind, **settings)
    return pack(header, encoded.getvalue())


def reversed_colours(img):
    """Blue, green and red as red, green and blue, or back; alpha stays; one channel needs no axis."""
    if img.ndim == 3 and img.shape[2] == 1:
        return img[:, :, 0]
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(img.shape[2]) if img.ndim == 3 else ...
    if order is None or img.ndim not in (2, 3):
        raise MXNetError(f"an image of shape {img.shape}: give (height, width[, 1, 3 or 4])")
    return np.ascontiguousarray(img[..., order] if img.ndim == 3 else img)


def unpack_img(s, iscolor=-1):
    """The header and the image of a record; colours are blue, green, red, as in OpenCV.

    `iscolor` 1 makes three channels, 0 one without an axis, -1 takes what is there. The image is None
    if the bytes are none that can be decoded.
    """
    header, s = unpack(s)
    return header, decoded(s, iscolor)


def decoded(s, iscolor):
    """The image of encoded bytes, None for what is no image; MXNetError for one of absurd size."""
    Image = pillow()
    try:
        with Image.open(io.BytesIO(s)) as image:
            if iscolor == 0:
                image.draft("L", None)  # a JPEG has its brightness at hand
            image.load()
            return reversed_colours(np.array(converted(image, iscolor)))
    except Image.DecompressionBombError as error:
        raise MXNetError(f"{len(s)} bytes claim to be a huge image: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        return None


def converted(image, iscolor):
    """An image of Pillow in one of the layouts that OpenCV has."""
    from PIL import ImageOps

    if iscolor >= 0:
        image = ImageOps.exif_transpose(image)
        return image.convert("L" if iscolor == 0 else "RGB")
    if image.mode.startswith("I;16") or image.mode in ("L", "RGB", "RGBA"):
        return image
    has_alpha = "A" in image.mode or "transparency" in image.info
    return image.convert("L" if image.mode == "1" else "RGBA" if has_alpha else "RGB")


def scaled(img, height, width):
    """A uint8 image in another size, by bilinear interpolation between the middles of pixels."""
    if img.shape[:2] == (height, width):
        return img
    top, bottom, v = neighbours(img.shape[0], height)
    left, right, h = neighbours(img.shape[1], width)
    tail = (1,) * (img.ndim - 2)
    h, v = h.reshape(1, -1, *tail), v.reshape(-1, 1, *tail)
    rows = [img[r].astype("float32") for r in (top, bottom)]
    upper, lower = (r[:, left] * (1 - h) + r[:, right] * h for r in rows)
    return np.rint(upper * (1 - v) + lower * v).astype(img.dtype)


def neighbours(old, new):
    """For each new pixel along an axis: the old ones before and behind its middle,
    and how far between.
    """
    at = ((np.arange(new, dtype="float32") + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    first = at.astype(int)
    return first, np.minimum(first + 1, old - 1), (at - first).astype("float32")
