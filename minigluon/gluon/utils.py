"""A file appears whole and verified or not at all, a batch falls into slices, and a gradient is cut to length."""

# Written from chapters/79_utilities.ipynb: edit the chapter, then run `minigluon export`.

import errno
import hashlib
import math
import os
import ssl
import time
import urllib.request
import uuid
import warnings
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np

from minigluon.gluon.block import HookHandle as Handle
from minigluon.ndarray.ndarray import NDArray
from minigluon.numpy.scope import new_array

__all__ = [
    "HookHandle",
    "Silence",
    "Transfer",
    "check_sha1",
    "clip_global_norm",
    "destination",
    "download",
    "fetch",
    "hopeless",
    "one_slice",
    "progress",
    "replace_file",
    "resumed",
    "shape_is_known",
    "split_and_load",
    "split_data",
    "squared",
    "strong",
    "verify",
]


# --- Slices ---------------------------------------------------------------------------------------

HookHandle = Handle  # MXNet keeps it here


def split_data(data, num_slice, batch_axis=0, even_split=True):
    """`data` cut into `num_slice` arrays along `batch_axis`, the first ones longer by one if need be.

    ValueError if the slices cannot be equal, unless `even_split` is False.
    """
    size = data.shape[batch_axis]
    if even_split and size % num_slice:
        raise ValueError(
            f"data with shape {data.shape} cannot be evenly split into {num_slice} slices along axis "
            f"{batch_axis}. Use a batch size that's multiple of {num_slice} or set even_split=False "
            "to allow uneven partitioning of data."
        )
    step, rest = divmod(size, num_slice)
    ends = [i * step + min(i, rest) for i in range(num_slice + 1)]
    return [one_slice(data, batch_axis, a, b) for a, b in zip(ends, ends[1:])]


def one_slice(data, axis, begin, end):
    """Part of an array; where it is the whole, the array itself."""
    if (begin, end) == (0, data.shape[axis]):
        return data
    return data[(slice(None),) * axis + (slice(begin, end),)]


def split_and_load(data, ctx_list, batch_axis=0, even_split=True):
    """The slices of `data`, an NDArray or a NumPy array, each on its own context."""
    if not isinstance(data, NDArray):
        data = new_array(data, ctx=ctx_list[0])
    slices = split_data(data, len(ctx_list), batch_axis, even_split)
    return [part.as_in_context(ctx) for part, ctx in zip(slices, ctx_list)]


# --- Norms ----------------------------------------------------------------------------------------


def clip_global_norm(arrays, max_norm, check_isfinite=True):
    """Scale `arrays` in place so that together their norm is at most `max_norm`; return their norm.

    A number, or with `check_isfinite=False` an array of shape (1,) that nobody waits for.
    """
    assert len(arrays) > 0, "clip_global_norm needs at least one array"
    ctx = arrays[0].context
    squares = [squared(a).as_in_context(ctx) for a in arrays]
    total = sum(squares[1:], squares[0]).sqrt()
    if check_isfinite and not math.isfinite(total.asscalar()):
        warnings.warn("nan or inf is detected. Clipping results will be undefined.", stacklevel=2)
    scale = (max_norm / (total + 1e-8)).clip(-math.inf, 1.0)
    for a in arrays:
        a *= scale.as_in_context(a.context).astype(a.dtype)
    return total.asscalar() if check_isfinite else total


def squared(a):
    """The sum of the squares of an array, at least in float32:
    half precision would overflow at 65504.
    """
    a = a.detach() if a.stype == "default" else a.data  # zeros that are not stored add nothing
    return (
        (a if np.dtype(a.dtype).itemsize > 4 else a.astype("float32"))
        .square()
        .sum()
        .astype("float32")
    )


def shape_is_known(shape):
    """Whether a shape has no unknown sizes: 0, or -1 under `mx.util.np_shape`, and is not None."""
    from minigluon.util import is_np_shape

    unknown = -1 if is_np_shape() else 0
    if shape is None or (len(shape) == 0 and unknown == 0):
        return False
    assert all(n >= unknown for n in shape), (
        f"shape dimension size cannot be less than {unknown}, while received {min(shape)}"
    )
    return unknown not in shape


# --- Downloads ------------------------------------------------------------------------------------


def check_sha1(filename, sha1_hash):
    """Whether the SHA-1 of a file is `sha1_hash`, 40 hexadecimal digits."""
    found = hashlib.sha1(usedforsecurity=False)
    with open(filename, "rb") as f:
        while block := f.read(1 << 20):
            found.update(block)
    return found.hexdigest() == sha1_hash.lower()


def replace_file(src, dst):
    """Give the file `src` the name `dst`, at once; where that fails, `src` is gone too: OSError."""
    try:
        os.replace(src, dst)
    except OSError as error:
        with suppress(OSError):
            os.remove(src)
        raise OSError(f"Moving {src} to {dst} failed: {error}") from error


def download(url, path=None, overwrite=False, sha1_hash=None, retries=5, verify_ssl=True):
    """Fetch a file from `url`, unless it is there with the right hash; return its name.

    `path` is a name or a folder, by default the current one. A file appears whole and verified or not
    at all. Errors: UserWarning for a wrong hash, RuntimeError for what `retries` do not mend.
    """
    fname = destination(url, path)
    assert retries >= 0, f"Number of retries should be at least 0, but it's {retries}"
    if not verify_ssl:
        warnings.warn(
            "Unverified HTTPS request is being made (verify_ssl=False). "
            "Adding certificate verification is strongly advised.",
            stacklevel=2,
        )
    right = os.path.exists(fname) and not overwrite
    if right and (not sha1_hash or check_sha1(fname, sha1_hash)):
        return fname
    os.makedirs(os.path.dirname(os.path.abspath(fname)), exist_ok=True)
    part = f"{fname}.{uuid.uuid4().hex[:8]}.part"
    try:
        fetch(Transfer(url, part, verify_ssl), fname, sha1_hash, retries)
        replace_file(part, fname)
    finally:
        with suppress(OSError):
            os.remove(part)
    return fname


def destination(url, path):
    """The name of the file that `url` shall become."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(
            f"download: {url!r} is not an address that begins with http:// or https://"
        )
    name = urlsplit(url).path.split("/")[-1]
    if path is not None and not os.path.isdir(path := os.path.expanduser(path)):
        return path
    assert name, "Can't construct file-name from this URL. Please set the `path` option manually."
    return name if path is None else os.path.join(path, name)


def fetch(transfer, fname, sha1_hash, retries):
    """Run a transfer until its file is complete and right; the last error goes to the caller."""
    for left in range(retries, -1, -1):
        try:
            print(f"Downloading {fname} from {transfer.url}...")
            transfer.run()
            return verify(transfer, fname, sha1_hash)
        except (OSError, HTTPException, UserWarning) as error:
            if hopeless(error) or left == 0:
                if isinstance(error, UserWarning) or not isinstance(
                    error, HTTPError | HTTPException
                ):
                    raise
                raise RuntimeError(f"Failed downloading url {transfer.url}: {error}") from error
            attempts = f"{left} attempt{'s' if left > 1 else ''} left"
            print(f"download failed due to {error!r}, retrying, {attempts}")
            time.sleep(min(0.1 * 2 ** (retries - left), 10))
    return None


def verify(transfer, fname, sha1_hash):
    """UserWarning, raised, if a complete file has another hash; the next attempt starts from nothing."""
    if sha1_hash and not check_sha1(transfer.part, sha1_hash):
        transfer.version = None
        raise UserWarning(
            f"File {fname} is downloaded but the content hash does not match. The repo may be "
            "outdated or download may be incomplete. If the problem persists, consider another mirror"
        )


def hopeless(error):
    """Whether another attempt would fail in the same way: no such page, no right, no room."""
    if isinstance(error, HTTPError):
        return error.code < 500 and error.code not in (408, 416, 425, 429)
    stuck = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EISDIR)
    return isinstance(error, OSError) and error.errno in stuck


class Transfer:
    """One file on its way to `part`, which may need several connections."""

    def __init__(self, url, part, verify_ssl=True):
        self.url, self.part, self.version = url, part, None
        self.context = None if verify_ssl else ssl._create_unverified_context()

    def run(self):
        """Fetch what is missing; HTTPException if the line broke before the end."""
        begin = os.path.getsize(self.part) if self.version and os.path.exists(self.part) else 0
        headers = {"User-Agent": "minigluon"}
        if begin:
            headers |= {"Range": f"bytes={begin}-", "If-Range": self.version}
        request = urllib.request.Request(self.url, headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=60, context=self.context)
        except HTTPError as error:
            self.version = None  # after 416, Range Not Satisfiable, start from nothing
            error.close()
            raise
        with answer:
            begin = begin if resumed(answer, begin) else 0
            self.version = strong(answer.headers.get("ETag"))
            self.store(answer, begin)

    def store(self, answer, begin):
        """Append the body of an answer to the first `begin` bytes."""
        length = answer.headers.get("Content-Length")
        total = None if length is None else begin + int(length)
        with open(self.part, "ab" if begin else "wb") as f, progress(total, begin) as bar:
            while block := answer.read(1 << 16):
                f.write(block)
                bar.update(len(block))
        size = os.path.getsize(self.part)
        if total is not None and size != total:
            raise HTTPException(f"{size} of {total} bytes came")


def resumed(answer, begin):
    """Whether an answer is the rest that was asked for, from byte `begin`."""
    given = answer.headers.get("Content-Range", "")
    return answer.status == 206 and given.startswith(f"bytes {begin}-")


def strong(tag):
    """An ETag that stands for equal bytes; None for a weak one, or none."""
    return tag if tag and not tag.startswith("W/") else None


class Silence:
    """A progress bar that shows nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, n):
        """Do nothing."""


def progress(total, begin):
    """A progress bar for large files, if tqdm is installed."""
    if total is None or total < 1 << 22:
        return Silence()
    try:
        from tqdm import tqdm
    except ImportError:
        return Silence()
    return tqdm(total=total, initial=begin, unit="B", unit_scale=True, leave=False)


# --- Mirrors --------------------------------------------------------------------------------------


def _get_repo_url():
    """The address of MXNet's files: the environment variable MXNET_GLUON_REPO, or its usual place."""
    usual = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
    return os.environ.get("MXNET_GLUON_REPO", usual).rstrip("/") + "/"


def _get_repo_file_url(namespace, filename):
    """The address of one of MXNet's files."""
    return f"{_get_repo_url()}{namespace}/{filename}"
