"""A data set from a file trusts nothing that the file says about itself until it has checked it."""

# Written from chapters/85_vision_datasets.ipynb: edit the chapter, then run `minigluon export`.

import gzip
import math
import os
import shutil
import struct
import tarfile
import warnings
import zlib
from contextlib import suppress

import numpy as np

from minigluon import image, recordio
from minigluon.base import MXNetError
from minigluon.gluon.data.dataset import Dataset, RecordFileDataset, _DownloadedDataset
from minigluon.gluon.utils import _get_repo_file_url, check_sha1, download, replace_file
from minigluon.numpy.scope import is_np_array, new_array

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "FashionMNIST",
    "ImageFolderDataset",
    "ImageListDataset",
    "ImageRecordDataset",
    "MNIST",
    "MOST",
    "Pictures",
    "ROOTS",
    "data_dir",
    "fetched",
    "kept",
    "read_idx",
    "taken",
    "unpack",
    "unpacked",
]


# --- idx files ------------------------------------------------------------------------------------

MOST = 1 << 30  # bytes that an unpacked file may have: MNIST has 47 million


def unpacked(filename):
    """The bytes in a gzip file, at most MOST; MXNetError if it is damaged or larger."""
    data = bytearray()
    try:
        with gzip.open(filename) as f:  # in pieces, for read(MOST) would take the memory at once
            while len(data) <= MOST and (block := f.read(1 << 20)):
                data += block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MXNetError(f"{filename} is not a whole gzip file: {error}") from error
    if len(data) > MOST:
        raise MXNetError(f"{filename} unpacks to more than {MOST} bytes")
    return data


def read_idx(data, ndim, source="idx data"):
    """The uint8 array of `ndim` axes in the bytes of an idx file;
    MXNetError if they are no such file.
    """
    begin = 4 + 4 * ndim
    if len(data) < begin or data[:4] != bytes([0, 0, 8, ndim]):
        raise MXNetError(f"{source} does not begin as an idx file of bytes with {ndim} axes")
    shape = struct.unpack(f">{ndim}I", data[4:begin])
    if len(data) != begin + math.prod(shape):
        raise MXNetError(
            f"{source} has {len(data)} bytes, its shape {shape} needs {begin + math.prod(shape)}"
        )
    try:
        return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)
    except ValueError as error:  # a huge size beside a 0
        raise MXNetError(f"{source} has an impossible shape {shape}: {error}") from error


# --- Data sets that come from elsewhere -----------------------------------------------------------


def data_dir():
    """Where data are kept: the environment variable MXNET_HOME, or ~/.mxnet."""
    return os.path.expanduser(os.environ.get("MXNET_HOME", os.path.join("~", ".mxnet")))


ROOTS = {
    name: os.path.join(data_dir(), "datasets", name)
    for name in ("mnist", "fashion-mnist", "cifar10", "cifar100")
}


def fetched(root, namespace, mirror, filename, sha1):
    """The path of a file below `root`, fetched unless it is there; from `mirror` if the first fails."""
    path = os.path.join(root, filename)
    if os.path.exists(path) and (sha1 is None or check_sha1(path, sha1)):
        return path
    sources = [_get_repo_file_url(f"gluon/dataset/{namespace}", filename)]
    if mirror and "MXNET_GLUON_REPO" not in os.environ:
        sources.insert(0, mirror + filename)
    for i, url in enumerate(sources):
        try:
            return download(url, path, overwrite=True, sha1_hash=sha1, retries=1)
        except (OSError, RuntimeError, UserWarning):
            if i + 1 == len(sources):
                raise
    return path


def kept(pictures, labels):
    """Both as a data set keeps them: labels stay NumPy's, unless the program asks for arrays
    of `mx.np`.
    """
    if is_np_array():
        labels = new_array(labels, dtype=labels.dtype)
    return new_array(pictures, dtype="uint8"), labels


class MNIST(_DownloadedDataset):
    """Handwritten digits: pictures uint8 (28, 28, 1), labels int32; 60,000 to train, 10,000 to test."""

    _namespace = "mnist"
    _mirror = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    _train_data = ("train-images-idx3-ubyte.gz", "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d")
    _train_label = ("train-labels-idx1-ubyte.gz", "2a80914081dc54586dbdf242f9805a6b8d2a15fc")
    _test_data = ("t10k-images-idx3-ubyte.gz", "c3a25af1f52dad7f726cce8cacb138654b760d48")
    _test_label = ("t10k-labels-idx1-ubyte.gz", "763e7fa3757d93b0cdec073cef058b2004252c17")

    def __init__(self, root=ROOTS["mnist"], train=True, transform=None):
        self._train = train
        super().__init__(root, transform)

    def _get_data(self):
        train, test = (self._train_data, self._train_label), (self._test_data, self._test_label)
        files = train if self._train else test
        paths = [fetched(self._root, self._namespace, self._mirror, *f) for f in files]
        pictures, labels = (read_idx(unpacked(p), n, p) for p, n in zip(paths, (3, 1)))
        if len(pictures) != len(labels):
            raise MXNetError(f"{paths[0]} has {len(pictures)} pictures, {len(labels)} labels")
        self._data, self._label = kept(pictures[..., None], labels.astype(np.int32))


class FashionMNIST(MNIST):
    """Pieces of clothing, in the format of MNIST."""

    _namespace = "fashion-mnist"
    _mirror = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    _train_data = ("train-images-idx3-ubyte.gz", "0cf37b0d40ed5169c6b3aba31069a9770ac9043d")
    _train_label = ("train-labels-idx1-ubyte.gz", "236021d52f1e40852b06a4c3008d8de8aef1e40b")
    _test_data = ("t10k-images-idx3-ubyte.gz", "626ed6a7c06dd17c0eec72fa3be1740f146a2863")
    _test_label = ("t10k-labels-idx1-ubyte.gz", "17f9ab60e7257a1620f4ad76bbbaf857c3920701")

    def __init__(self, root=ROOTS["fashion-mnist"], train=True, transform=None):
        super().__init__(root, train, transform)


# --- CIFAR ----------------------------------------------------------------------------------------


def unpack(archive, root, wanted):
    """Take the files {name: sha1} out of a tar archive into `root`; each whole and right, or not at all.

    Where a member's path leads to, and links, do not count. MXNetError for a damaged archive.
    """
    with open(archive, "rb") as file:
        mode = "r:gz" if file.read(2) == b"\x1f\x8b" else "r:"  # others may ask for much memory
    try:
        with tarfile.open(archive, mode) as tar:
            found = {name for member in tar if (name := taken(tar, member, archive, root, wanted))}
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise MXNetError(f"{archive} is not a whole archive: {error}") from error
    if found != set(wanted):
        raise MXNetError(f"{archive} has no {', '.join(sorted(set(wanted) - found))}")


def taken(tar, member, archive, root, wanted):
    """Take one member of an archive out, if it is wanted; its name then."""
    name = os.path.basename(member.name)
    if not member.isfile() or name not in wanted or member.size > MOST:
        return None
    part = os.path.join(root, f"{name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as f:
            shutil.copyfileobj(tar.extractfile(member), f, 1 << 20)
        if wanted[name] and not check_sha1(part, wanted[name]):
            raise MXNetError(f"{archive}: the content of {name} is not what it should be")
        replace_file(part, os.path.join(root, name))
    finally:
        with suppress(FileNotFoundError):
            os.remove(part)
    return name


class CIFAR10(_DownloadedDataset):
    """Small photographs in ten classes: uint8 (32, 32, 3), labels int32;
    50,000 to train, 10,000 to test.
    """

    _namespace, _mirror = "cifar10", "https://www.cs.toronto.edu/~kriz/"
    _archive_file = ("cifar-10-binary.tar.gz", "fab780a1e191a7eda0f345501ccd62d20f7ed891")
    _train_data = (
        ("data_batch_1.bin", "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
        ("data_batch_2.bin", "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
        ("data_batch_3.bin", "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
        ("data_batch_4.bin", "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
        ("data_batch_5.bin", "26e2849e66a845b7f1e4614ae70f4889ae604628"),
    )
    _test_data = (("test_batch.bin", "67eb016db431130d61cd03c7ad570b013799c88c"),)
    _labels, _which = 1, 0

    def __init__(self, root=ROOTS["cifar10"], train=True, transform=None):
        self._train = train
        super().__init__(root, transform)

    def _read_batch(self, filename):
        size = 3072 + self._labels
        data = np.fromfile(filename, np.uint8)
        if len(data) == 0 or len(data) % size:
            raise MXNetError(f"{filename} has {len(data)} bytes, not records of {size}")
        data = data.reshape(-1, size)
        pictures = data[:, self._labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return pictures, data[:, self._which].astype(np.int32)

    # From an archive to the files.

    def _fetch(self, wanted):
        """Take the files {name: sha1} out of an archive that is there, or from the mirror,
        or from MXNet.

        The mirror may have packed the same files in its own way, so there each file is checked, not
        the archive.
        """
        path = os.path.join(self._root, self._archive_file[0])
        if not os.path.exists(path) and "MXNET_GLUON_REPO" not in os.environ:
            with suppress(OSError, RuntimeError, MXNetError):
                download(self._mirror + self._archive_file[0], path, retries=1)
        if os.path.exists(path):
            with suppress(MXNetError):
                return unpack(path, self._root, wanted)
        return unpack(
            fetched(self._root, self._namespace, None, *self._archive_file), self._root, wanted
        )

    def _get_data(self):
        here = lambda name: os.path.join(self._root, name)  # noqa: E731
        right = [
            os.path.exists(here(n)) and check_sha1(here(n), h)
            for n, h in self._train_data + self._test_data
        ]
        if not all(right):
            self._fetch(dict(self._train_data + self._test_data))
        parts = [
            self._read_batch(here(n))
            for n, _ in (self._train_data if self._train else self._test_data)
        ]
        pictures, labels = (np.concatenate(p) for p in zip(*parts))
        self._data, self._label = kept(pictures, labels)


class CIFAR100(CIFAR10):
    """Small photographs in 100 classes, or in 20 coarse ones unless `fine_label`."""

    _namespace = "cifar100"
    _archive_file = ("cifar-100-binary.tar.gz", "a0bb982c76b83111308126cc779a992fa506b90b")
    _train_data = (("train.bin", "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"),)
    _test_data = (("test.bin", "8fb6623e830365ff53cf14adec797474f5478006"),)
    _labels = 2

    def __init__(
        self,
        root=ROOTS["cifar100"],
        fine_label=False,
        train=True,
        transform=None,
    ):
        self._which = int(fine_label)
        super().__init__(root, train, transform)


# --- Folders and lists ----------------------------------------------------------------------------


class Pictures(Dataset):
    """Picture files: `items` is a list of (path, label);
    a picture that cannot be read is named in the error.
    """

    def __getitem__(self, idx):
        name, label = self.items[idx]
        picture = image.imread(name, self._flag)
        return (picture, label) if self._transform is None else self._transform(picture, label)

    def __len__(self):
        return len(self.items)


class ImageFolderDataset(Pictures):
    """The pictures in the folders below `root`; each folder is a class,
    `synsets` are their names in order.
    """

    def __init__(self, root, flag=1, transform=None):
        self._root, self._flag, self._transform = os.path.expanduser(root), flag, transform
        self._exts = [".jpg", ".jpeg", ".png"]
        self._list_images(self._root)

    def _list_images(self, root):
        self.synsets, self.items = [], []
        for folder in sorted(os.listdir(root)):
            path = os.path.join(root, folder)
            if not os.path.isdir(path):
                warnings.warn(f"Ignoring {path}, which is not a directory.", stacklevel=3)
                continue
            label = len(self.synsets)
            self.synsets.append(folder)
            for name in sorted(os.listdir(path)):
                ext = os.path.splitext(name)[1]
                if ext.lower() in self._exts:
                    self.items.append((os.path.join(path, name), label))
                else:
                    warnings.warn(
                        f"Ignoring {os.path.join(path, name)} of type {ext}. "
                        f"Only support {', '.join(self._exts)}",
                        stacklevel=3,
                    )


class ImageListDataset(Pictures):
    """The pictures of a list: of [label(s), path] or the name of a file of lines `number label(s) path`.

    Paths begin at `root`; columns are parted by tabs, or by blanks where there is no tab.
    """

    def __init__(self, root=".", imglist=None, flag=1, transform=None):
        self._root, self._flag, self._transform = os.path.expanduser(root), flag, transform
        if isinstance(imglist, str | os.PathLike):
            path = os.path.expanduser(os.path.join(self._root, imglist))
            with open(path, encoding="utf-8") as f:
                rows = [self._parsed(line, path, n) for n, line in enumerate(f, 1) if line.strip()]
        elif isinstance(imglist, list | tuple):
            rows = imglist
        else:
            raise ValueError(f"imglist must be filename or list of [label, path], not {imglist!r}")
        self.items = [self._item(row) for row in rows]

    def _parsed(self, line, path, number):
        columns = line.strip().split("\t") if "\t" in line else line.split()
        try:
            return [*map(float, columns[1:-1]), columns[-1]] if len(columns) > 2 else int("")
        except ValueError:
            raise ValueError(
                f"{path}, line {number}: want number, label(s) and path, not {line!r}"
            ) from None

    def _item(self, row):
        labels = np.concatenate([np.atleast_1d(np.asarray(v, "float32")) for v in row[:-1]])
        label = float(labels[0]) if len(labels) == 1 else labels
        return os.path.join(self._root, row[-1]), label


# --- Records --------------------------------------------------------------------------------------


class ImageRecordDataset(RecordFileDataset):
    """The pictures in a record file with an index, as `im2rec` writes them;
    one that is damaged is named in the error.
    """

    def __init__(self, filename, flag=1, transform=None):
        super().__init__(filename)
        self._flag, self._transform = flag, transform

    def __getitem__(self, idx):
        header, packed = recordio.unpack(super().__getitem__(idx))
        try:
            picture = image.imdecode(packed, self._flag)
        except MXNetError as error:
            key = self._record.keys[idx]
            raise MXNetError(f"{self.filename}, record of key {key}: {error}") from error
        if self._transform is not None:
            return self._transform(picture, header.label)
        return picture, header.label
