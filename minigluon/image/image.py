"""A picture is an array of bytes; to resize it is to multiply it by a narrow matrix from both sides."""

# Written from chapters/83_image.ipynb, chapters/86b_boxes.ipynb: edit the chapter, then run `minigluon export`.

import io
import json
import logging
import math
import os
import random

import numpy as np

from minigluon import ndarray as nd
from minigluon.base import MXNetError, numeric_types
from minigluon.io.io import DataBatch, DataIter
from minigluon.ndarray.ndarray import NDArray, array, place
from minigluon.numpy.scope import as_asked
from minigluon.ops.image import GREY, LIGHT, resized
from minigluon.recordio import MXIndexedRecordIO, MXRecordIO, pillow, unpack

__all__ = [
    "Augmenter",
    "BORDERS",
    "BrightnessJitterAug",
    "CastAug",
    "CenterCropAug",
    "ColorJitterAug",
    "ColorNormalizeAug",
    "ContrastJitterAug",
    "CreateAugmenter",
    "EIGENVALUES",
    "ForceResizeAug",
    "HorizontalFlipAug",
    "HueJitterAug",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ImageIter",
    "LightingAug",
    "RandomCropAug",
    "RandomGrayAug",
    "RandomOrderAug",
    "RandomSizedCropAug",
    "ResizeAug",
    "SaturationJitterAug",
    "SequentialAug",
    "center_crop",
    "changed",
    "color_normalize",
    "colour_of",
    "colours",
    "copyMakeBorder",
    "decoded",
    "fixed_crop",
    "framed",
    "grey_of",
    "imdecode",
    "imread",
    "imresize",
    "imrotate",
    "listed",
    "parsed",
    "plain",
    "random_crop",
    "random_rotate",
    "random_size_crop",
    "records_at",
    "resize_short",
    "sampled",
    "scale_down",
    "told",
    "turned",
]


# --- Files ----------------------------------------------------------------------------------------


def imread(filename, flag=1, to_rgb=1, out=None):
    """The picture in a file, uint8 (H, W, 3), or (H, W, 1) with `flag=0`; BGR with `to_rgb=0`."""
    try:
        with open(filename, "rb") as f:
            data = f.read()
    except OSError as error:
        raise MXNetError(f"imread: '{filename}' couldn't open file: {error}") from error
    try:
        return imdecode(data, flag, to_rgb, out)
    except MXNetError as error:
        raise MXNetError(f"imread: '{filename}': {error}") from error


def imdecode(buf, flag=1, to_rgb=1, out=None):
    """The picture in the bytes of a JPEG, PNG or other file, see `imread`."""
    if isinstance(buf, NDArray):
        buf = buf.asnumpy()
    if not isinstance(buf, bytes | bytearray | memoryview | np.ndarray):
        raise ValueError(
            f"buf must be of type bytes, bytearray or numpy.ndarray, not {type(buf).__name__}; "
            "if you would like to input type str, please convert to bytes"
        )
    if flag not in (0, 1):
        raise MXNetError(f"imdecode: flag={flag} is not 0 (grey) or 1 (colour)")
    if len(buf) == 0:
        raise MXNetError("imdecode: Input cannot be an empty buffer")
    made = as_asked(array(decoded(bytes(buf), flag, to_rgb), dtype="uint8"))
    if out is None:
        return made
    out[:] = made
    return out


def decoded(data, flag, to_rgb):
    """The bytes of a picture file as a NumPy array; what Pillow cannot read is an MXNetError."""
    Image = pillow()
    from PIL import ImageOps

    try:
        with Image.open(io.BytesIO(data)) as found:
            picture = ImageOps.exif_transpose(found)
            if picture.mode[0] == "I":  # 16 bits: the upper 8
                picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype("uint8"))
            pixels = np.asarray(picture.convert("RGB" if flag else "L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MXNetError(f"Decoding failed. Invalid image file: {error}") from error
    return pixels[..., None] if not flag else pixels if to_rgb else pixels[..., ::-1]


def imresize(src, w, h, interp=1, out=None):
    """A picture (H, W, C) in the size `w` by `h`; see `interpolation` for `interp`."""
    made = changed(src, resized(src.asnumpy(), int(h), int(w), interp))
    if out is None:
        return made
    out[:] = made
    return out


def changed(src, raw):
    """An NDArray of a fresh raw array, on the device of `src`."""
    return src._alike(place(raw, src.context))


BORDERS = {0: "constant", 1: "edge", 2: "symmetric", 3: "wrap", 4: "reflect"}


def copyMakeBorder(src, top, bot, left, right, type=0, value=0.0, values=None, out=None):
    """A picture with borders of `value`, or of one of `values` for each channel, 0 where these end.

    `type`: 0 constant, 1 the edge, 2 mirrored with the edge, 3 from the other side, 4 mirrored without.
    """
    type &= ~16  # OpenCV's BORDER_ISOLATED: we look at nothing outside anyway
    if type not in BORDERS:
        raise MXNetError(f"copyMakeBorder: type {type} is not one of {BORDERS}")
    if src.ndim != 3:
        raise MXNetError(f"copyMakeBorder: a picture is (H, W, C), not of shape {src.shape}")
    if min(top, bot, left, right) < 0:
        raise MXNetError(f"copyMakeBorder: borders {top, bot, left, right} are 0 wide or more")
    raw, wide = src._data, ((top, bot), (left, right), (0, 0))
    raw = raw if isinstance(raw, np.ndarray) else src.asnumpy()
    if type == 0:
        given = values is not None and np.size(values) > 0
        made = framed(raw, *wide[:2], colour_of(values, raw.shape[2]) if given else value)
    else:
        made = np.pad(raw, wide, mode=BORDERS[type])
    made = changed(src, made)
    if out is None:
        return made
    out[:] = made
    return out


def colour_of(values, channels):
    """A number for each channel: those of `values`, then zeros."""
    values = np.ravel(values)[:channels]
    return np.pad(values, (0, channels - len(values)))


def framed(raw, rows, columns, colour):
    """A picture with borders in one colour, rounded and cut to what its type holds."""
    (top, bot), (left, right), (h, w, channels) = rows, columns, raw.shape
    if raw.dtype.kind in "iu":
        limits = np.iinfo(raw.dtype)
        colour = np.clip(np.rint(colour), limits.min, limits.max)
    made = np.empty((top + h + bot, left + w + right, channels), raw.dtype)
    inside = made[top : top + h]
    inside[:, left : left + w] = raw
    for border in (made[:top], made[top + h :], inside[:, :left], inside[:, left + w :]):
        border[...] = colour
    return made


# --- Sizes and parts ------------------------------------------------------------------------------


def _get_interp_method(interp, sizes=()):
    """A code of `mx.nd.image.resize` from MXNet's: 9 chooses by the sizes, 10 at random."""
    if interp == 9:
        if not sizes:
            return 2
        old_h, old_w, new_h, new_w = sizes
        if new_h > old_h and new_w > old_w:
            return 2
        return 3 if new_h < old_h and new_w < old_w else 1
    if interp == 10:
        return random.randint(0, 4)
    if interp not in (0, 1, 2, 3, 4):
        raise ValueError(f"Unknown interp method {interp}: 0 to 4, 9 or 10")
    return interp


def scale_down(src_size, size):
    """`size`, made smaller in its ratio until it fits into `src_size`; both are (width, height)."""
    (w, h), (sw, sh) = size, src_size
    if sh < h:
        w, h = w * sh / h, sh
    if sw < w:
        w, h = sw, h * sw / w
    return int(w), int(h)


def resize_short(src, size, interp=2):
    """A picture whose shorter side becomes `size`."""
    h, w = src.shape[:2]
    new_h, new_w = (size * h // w, size) if h > w else (size, size * w // h)
    return imresize(src, new_w, new_h, _get_interp_method(interp, (h, w, new_h, new_w)))


def fixed_crop(src, x0, y0, w, h, size=None, interp=2):
    """The part from column `x0`, row `y0`, resized to `size` (width, height) if given."""
    out = src[y0 : y0 + h, x0 : x0 + w]
    if size is None or (w, h) == tuple(size):
        return out
    return imresize(out, *size, _get_interp_method(interp, (h, w, size[1], size[0])))


def center_crop(src, size, interp=2):
    """The middle of a picture, at most `size`, resized to it; and its place (x, y, w, h)."""
    h, w = src.shape[:2]
    new_w, new_h = scale_down((w, h), size)
    x, y = (w - new_w) // 2, (h - new_h) // 2
    return fixed_crop(src, x, y, new_w, new_h, size, interp), (x, y, new_w, new_h)


def random_crop(src, size, interp=2):
    """A random part of a picture, at most `size`, resized to it; and its place (x, y, w, h)."""
    h, w = src.shape[:2]
    new_w, new_h = scale_down((w, h), size)
    x, y = random.randint(0, w - new_w), random.randint(0, h - new_h)
    return fixed_crop(src, x, y, new_w, new_h, size, interp), (x, y, new_w, new_h)


def random_size_crop(src, size, area, ratio, interp=2, **kwargs):
    """A part with a random share of the `area` and a random `ratio` of width to height;
    and its place.
    """
    area = kwargs.pop("min_area", area)
    assert not kwargs, f"unexpected keyword arguments: {', '.join(kwargs)}"
    h, w = src.shape[:2]
    area = (area, 1.0) if isinstance(area, numeric_types) else area
    for _ in range(10):
        target = random.uniform(area[0], area[1]) * h * w
        shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        new_w, new_h = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if 0 < new_w <= w and 0 < new_h <= h:
            x, y = random.randint(0, w - new_w), random.randint(0, h - new_h)
            return fixed_crop(src, x, y, new_w, new_h, size, interp), (x, y, new_w, new_h)
    return center_crop(src, size, interp)


def color_normalize(src, mean, std=None):
    """(src - mean) / std, with numbers for each channel."""
    src = src if mean is None else src - mean
    return src if std is None else src / std


# --- Turning --------------------------------------------------------------------------------------


def imrotate(src, rotation_degrees, zoom_in=False, zoom_out=False):
    """Pictures (C, H, W) or (N, C, H, W), float32, turned by degrees: a number, or one for each picture.

    `zoom_in` leaves no empty corner, `zoom_out` loses none.
    """
    if zoom_in and zoom_out:
        raise ValueError("`zoom_in` and `zoom_out` cannot be both True")
    if src.dtype is not np.float32:
        raise TypeError("Only `float32` images are supported by this function")
    if src.ndim not in (3, 4):
        raise ValueError("Only 3D and 4D are supported by this function")
    raw = src.asnumpy()
    raw = raw if src.ndim == 4 else raw[None]
    if src.ndim == 3 and not isinstance(rotation_degrees, numeric_types):
        raise TypeError(
            "When a single image is passed the rotation angle is required to be a scalar."
        )
    angles = plain(rotation_degrees)
    angles = np.broadcast_to(angles, len(raw)) if angles.size == 1 else angles
    if len(angles) != len(raw):
        raise ValueError("The number of images must be equal to the number of rotation angles")
    out = np.stack([turned(x, a, zoom_in, zoom_out) for x, a in zip(raw, np.deg2rad(angles))])
    return changed(src, out if src.ndim == 4 else out[0])


def plain(a):
    """Numbers as a flat NumPy array."""
    return np.asarray(a.asnumpy() if isinstance(a, NDArray) else a, "float64").reshape(-1)


def turned(x, angle, zoom_in, zoom_out):
    """One picture (C, H, W), turned by `angle` about its middle."""
    _, h, w = x.shape
    row, column = np.indices((h, w))
    row, column = row - (h - 1) / 2, column - (w - 1) / 2
    c, s = math.cos(angle), math.sin(angle)
    zoom = 1.0
    if zoom_in or zoom_out:
        rho = math.sqrt(h * h + w * w)
        corners = [abs(math.atan2(h, w) + k * angle) for k in (1, -1)]
        wide, tall = (max(abs(f(t)) for t in corners) * rho for f in (math.cos, math.sin))
        zoom = max(wide / w, tall / h) if zoom_out else 1 / max(wide / w, tall / h)
    new_row, new_column = s * column + c * row, c * column - s * row
    return sampled(x, new_row * zoom + (h - 1) / 2, new_column * zoom + (w - 1) / 2)


def sampled(x, row, column):
    """`x` (C, H, W) at places between its pixels, bilinear, 0 outside."""
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2)))
    row, column = row.clip(-1, x.shape[1]) + 1, column.clip(-1, x.shape[2]) + 1
    i, j = row.astype(int), column.astype(int)
    t, u = (row - i).astype(x.dtype), (column - j).astype(x.dtype)
    upper = padded[:, i, j] * (1 - u) + padded[:, i, j + 1] * u
    lower = padded[:, i + 1, j] * (1 - u) + padded[:, i + 1, j + 1] * u
    return upper * (1 - t) + lower * t


def random_rotate(src, angle_limits, zoom_in=False, zoom_out=False):
    """`imrotate` by a random angle between two limits, one for each picture."""
    if src.ndim == 3:
        return imrotate(src, random.uniform(*angle_limits), zoom_in, zoom_out)
    angles = array(np.random.uniform(*angle_limits, size=len(src)))
    return imrotate(src, angles, zoom_in, zoom_out)


# --- Augmenters -----------------------------------------------------------------------------------


def told(value):
    """A setting as JSON takes it."""
    value = value.asnumpy() if isinstance(value, NDArray) else value
    return value.tolist() if isinstance(value, np.ndarray) else value


class Augmenter:
    """A change of a picture; its settings are in `dumps()`."""

    def __init__(self, **kwargs):
        self._kwargs = {key: told(value) for key, value in kwargs.items()}

    def dumps(self):
        """The augmenter's name and settings as JSON."""
        return json.dumps([type(self).__name__.lower(), self._kwargs])

    def __call__(self, src):
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(self, src)")


class SequentialAug(Augmenter):
    """Augmenters, one after the other."""

    def __init__(self, ts):
        super().__init__()
        self.ts = ts

    def dumps(self):
        return [type(self).__name__.lower(), [t.dumps() for t in self.ts]]

    def __call__(self, src):
        for t in self.ts:
            src = t(src)
        return src


class RandomOrderAug(SequentialAug):
    """Augmenters in random order."""

    def __call__(self, src):
        random.shuffle(self.ts)  # in place: with one seed the orders are MXNet's
        for t in self.ts:
            src = t(src)
        return src


class ResizeAug(Augmenter):
    """The shorter side becomes `size`."""

    def __init__(self, size, interp=2):
        super().__init__(size=size, interp=interp)
        self.size, self.interp = size, interp

    def __call__(self, src):
        return resize_short(src, self.size, self.interp)


class ForceResizeAug(ResizeAug):
    """The picture becomes `size`, (width, height)."""

    def __call__(self, src):
        sizes = (*src.shape[:2], self.size[1], self.size[0])
        return imresize(src, *self.size, interp=_get_interp_method(self.interp, sizes))


class RandomCropAug(ResizeAug):
    """A random part of `size`."""

    def __call__(self, src):
        return random_crop(src, self.size, self.interp)[0]


class CenterCropAug(ResizeAug):
    """The middle of `size`."""

    def __call__(self, src):
        return center_crop(src, self.size, self.interp)[0]


class RandomSizedCropAug(Augmenter):
    """A random part of random area and ratio, resized to `size`."""

    def __init__(self, size, area, ratio, interp=2, **kwargs):
        area = kwargs.pop("min_area", area)
        assert not kwargs, f"unexpected keyword arguments: {', '.join(kwargs)}"
        super().__init__(size=size, area=area, ratio=ratio, interp=interp)
        self.size, self.area, self.ratio, self.interp = size, area, ratio, interp

    def __call__(self, src):
        return random_size_crop(src, self.size, self.area, self.ratio, self.interp)[0]


def grey_of(src):
    """The grey of a float picture, (H, W, 1)."""
    return (src * array(GREY, ctx=src.context, dtype=src.dtype)).sum(axis=2, keepdims=True)


class BrightnessJitterAug(Augmenter):
    """Times a random factor within `brightness` of 1."""

    def __init__(self, brightness):
        super().__init__(brightness=brightness)
        self.brightness = brightness

    def __call__(self, src):
        return src * (1 + random.uniform(-self.brightness, self.brightness))


class ContrastJitterAug(Augmenter):
    """Mixed with its mean grey."""

    def __init__(self, contrast):
        super().__init__(contrast=contrast)
        self.contrast = contrast

    def __call__(self, src):
        alpha = 1 + random.uniform(-self.contrast, self.contrast)
        return src * alpha + (1 - alpha) * grey_of(src).mean().asscalar()


class SaturationJitterAug(Augmenter):
    """Mixed with its grey."""

    def __init__(self, saturation):
        super().__init__(saturation=saturation)
        self.saturation = saturation

    def __call__(self, src):
        alpha = 1 + random.uniform(-self.saturation, self.saturation)
        return src * alpha + grey_of(src) * (1 - alpha)


class HueJitterAug(Augmenter):
    """Colours turned in the plane of YIQ, the coordinates of old television."""

    yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    rgb = np.array([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]])

    def __init__(self, hue):
        super().__init__(hue=hue)
        self.hue = hue

    def __call__(self, src):
        angle = random.uniform(-self.hue, self.hue) * math.pi
        c, s = math.cos(angle), math.sin(angle)
        turn = self.rgb @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ self.yiq
        return nd.dot(src, array(turn.T, ctx=src.context, dtype=src.dtype))


class ColorJitterAug(RandomOrderAug):
    """Brightness, contrast and saturation, in random order."""

    def __init__(self, brightness, contrast, saturation):
        kinds = BrightnessJitterAug, ContrastJitterAug, SaturationJitterAug
        amounts = brightness, contrast, saturation
        super().__init__([kind(x) for kind, x in zip(kinds, amounts) if x > 0])


class LightingAug(Augmenter):
    """Plus a random colour along principal directions."""

    def __init__(self, alphastd, eigval, eigvec):
        super().__init__(alphastd=alphastd, eigval=eigval, eigvec=eigvec)
        self.alphastd, self.eigval, self.eigvec = alphastd, eigval, eigvec

    def __call__(self, src):
        alpha = np.random.normal(0, self.alphastd, size=(3,))
        shift = np.dot(np.asarray(self.eigvec) * alpha, np.asarray(self.eigval))
        return src + array(shift, ctx=src.context, dtype=src.dtype)


class ColorNormalizeAug(Augmenter):
    """Minus `mean`, divided by `std`."""

    def __init__(self, mean, std):
        super().__init__(mean=mean, std=std)
        self.mean, self.std = (
            None if v is None else v if isinstance(v, NDArray) else array(v) for v in (mean, std)
        )

    def __call__(self, src):
        return color_normalize(src, self.mean, self.std)


class RandomGrayAug(Augmenter):
    """Grey, with probability `p`."""

    weights = np.array([0.21, 0.72, 0.07])

    def __init__(self, p):
        super().__init__(p=p)
        self.p = p

    def __call__(self, src):
        if random.random() >= self.p:
            return src
        mix = np.repeat(self.weights[:, None], 3, axis=1)
        return nd.dot(src, array(mix, ctx=src.context, dtype=src.dtype))


class HorizontalFlipAug(Augmenter):
    """Mirrored, with probability `p`."""

    def __init__(self, p):
        super().__init__(p=p)
        self.p = p

    def __call__(self, src):
        return nd.flip(src, axis=1) if random.random() < self.p else src


class CastAug(Augmenter):
    """Another type of numbers."""

    def __init__(self, typ="float32"):
        super().__init__(type=typ)
        self.typ = typ

    def __call__(self, src):
        return src.astype(self.typ)


IMAGENET_MEAN, IMAGENET_STD = np.array([123.68, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
EIGENVALUES = np.array([55.46, 4.794, 1.148])


def colours(brightness, contrast, saturation, hue, pca_noise, rand_gray, mean, std):
    """The augmenters of colours, for numbers as float32."""
    found = [CastAug()]
    if brightness or contrast or saturation:
        found.append(ColorJitterAug(brightness, contrast, saturation))
    if hue:
        found.append(HueJitterAug(hue))
    if pca_noise > 0:
        found.append(LightingAug(pca_noise, EIGENVALUES, LIGHT / EIGENVALUES))
    if rand_gray > 0:
        found.append(RandomGrayAug(rand_gray))
    mean, std = IMAGENET_MEAN if mean is True else mean, IMAGENET_STD if std is True else std
    for v in (mean, std):
        assert v is None or np.shape(v) in ((1,), (3,)), (
            f"mean and std have 1 or 3 numbers, not {v}"
        )
    if mean is not None or std is not None:
        found.append(ColorNormalizeAug(mean, std))
    return found


def CreateAugmenter(
    data_shape,
    resize=0,
    rand_crop=False,
    rand_resize=False,
    rand_mirror=False,
    mean=None,
    std=None,
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    pca_noise=0,
    rand_gray=0,
    inter_method=2,
):
    """The usual list of augmenters that make pictures of shape `data_shape`, (C, H, W)."""
    size = (data_shape[2], data_shape[1])
    found = [ResizeAug(resize, inter_method)] if resize > 0 else []
    if rand_resize:
        assert rand_crop, "rand_resize needs rand_crop"
        found.append(RandomSizedCropAug(size, 0.08, (3.0 / 4.0, 4.0 / 3.0), inter_method))
    else:
        found.append((RandomCropAug if rand_crop else CenterCropAug)(size, inter_method))
    found += [HorizontalFlipAug(0.5)] if rand_mirror else []
    return found + colours(brightness, contrast, saturation, hue, pca_noise, rand_gray, mean, std)


# --- Pictures in batches --------------------------------------------------------------------------


class ImageIter(DataIter):
    """Batches of pictures, float32 (batch_size, 3, H, W), and labels.

    From `path_imgrec`, a record file (shuffled or in parts, it takes `path_imgidx`); from
    `path_imglist`, a list file of lines `number label(s) path`; or from `imglist`, of [label(s),
    path]. Paths begin at `path_root`. `last_batch_handle` is 'pad' with the first pictures,
    'discard', or 'roll_over' to the next epoch. More arguments are `CreateAugmenter`'s, unless
    there is an `aug_list`.
    """

    # Where samples come from, in which order.

    def __init__(
        self,
        batch_size,
        data_shape,
        label_width=1,
        path_imgrec=None,
        path_imglist=None,
        path_root=None,
        path_imgidx=None,
        shuffle=False,
        part_index=0,
        num_parts=1,
        aug_list=None,
        imglist=None,
        data_name="data",
        label_name="softmax_label",
        dtype="float32",
        last_batch_handle="pad",
        **kwargs,
    ):
        super().__init__(batch_size)
        assert path_imgrec or path_imglist or isinstance(imglist, list), (
            f"{type(self).__name__} needs path_imgrec, path_imglist or imglist, a list"
        )
        labels = "int32", "float32", "int64", "float64"
        assert dtype in labels, f"dtype of labels is one of {labels}, not {dtype!r}"
        self.check_data_shape(data_shape)
        self.data_shape, self.label_width, self.path_root = (
            tuple(data_shape),
            label_width,
            path_root,
        )
        self.shuffle, self.last_batch_handle = shuffle, last_batch_handle
        self.imgrec, self.imgidx = records_at(path_imgrec, path_imgidx)
        self.imglist = listed(path_imglist, imglist, dtype)
        self.seq = self._sequence(shuffle or num_parts > 1, part_index, num_parts)
        self.num_image = None if self.seq is None else len(self.seq)
        self.provide_data = [(data_name, (batch_size, *self.data_shape))]
        wide = (label_width,) if label_width > 1 else ()
        self.provide_label = [(label_name, (batch_size, *wide))]
        self.auglist = CreateAugmenter(self.data_shape, **kwargs) if aug_list is None else aug_list
        # data, label and number of samples of a batch that waits for the next epoch
        self._rolled = None
        self.hard_reset()

    # The keys of a part.

    def _sequence(self, needed, part_index, num_parts):
        """The keys of the samples of this part; None where records are read as they come."""
        keys = self.imgidx if self.imgrec is not None else list(self.imglist)
        assert keys is not None or not needed, "shuffle and num_parts take path_imgidx"
        assert part_index < num_parts, f"part_index {part_index} of num_parts {num_parts}"
        if keys is None:
            return None
        size = len(keys) // num_parts
        return keys[part_index * size : (part_index + 1) * size] if num_parts > 1 else keys

    # --- Pictures in batches ----------------------------------------------------------------------

    def reset(self):
        """Begin an epoch; a batch that was rolled over is its beginning."""
        if self.seq is not None and self.shuffle:
            random.shuffle(self.seq)
        if self._rolled is None:
            self._rewind()

    def hard_reset(self):
        """Begin an epoch and forget what was rolled over."""
        self._rolled = None
        self.reset()

    def _rewind(self):
        if self.imgrec is not None:
            self.imgrec.reset()
        self.cur, self._allow_read = 0, True

    def next_sample(self):
        """The next label and the bytes of the next picture file; StopIteration at the end."""
        if not self._allow_read:
            raise StopIteration
        found = self._read_next() if self.seq is None else self._read_key()
        if found is None:
            if self.last_batch_handle != "discard":
                self._rewind()
            raise StopIteration
        self.cur += 1
        return found

    def _read_next(self):
        record = self.imgrec.read()
        if record is None:
            return None
        header, packed = unpack(record)
        return header.label, packed

    def _read_key(self):
        if self.cur >= self.num_image:
            return None
        key = self.seq[self.cur]
        if self.imgrec is None:
            label, name = self.imglist[key]
            return label, self.read_image(name)
        header, packed = unpack(self.imgrec.read_idx(key))
        return (header.label if self.imglist is None else self.imglist[key][0]), packed

    def read_image(self, fname):
        """The bytes of a picture file below `path_root`."""
        with open(os.path.join(self.path_root or "", fname), "rb") as file:
            return file.read()

    def next(self):
        """The next batch; `pad` of its samples do not belong to this epoch."""
        data, label, count = self._rolled or (*self._empty(), 0)
        rolled, self._rolled = self._rolled is not None, None
        if not rolled:
            count = self._batchify(data, label)
        pad = self.batch_size - count
        if pad and self.last_batch_handle == "discard":
            raise StopIteration
        if pad and self.last_batch_handle == "roll_over" and not rolled:
            self._rolled = data, label, count
            raise StopIteration
        while count < self.batch_size:
            count = self._batchify(data, label, count)
        if pad and self.last_batch_handle == "pad":
            self._allow_read = False
        return DataBatch([data], [label], pad=pad)

    def _empty(self):
        shapes = self.provide_data[0][1], self.provide_label[0][1]
        return tuple(as_asked(nd.zeros(shape)) for shape in shapes)

    def _batchify(self, batch_data, batch_label, start=0):
        """Fill rows from `start` on; the number of rows that are full. StopIteration if none is."""
        i = start
        try:
            while i < self.batch_size:
                label, packed = self.next_sample()
                i += self._put(batch_data, batch_label, i, label, self.imdecode(packed))
        except StopIteration:
            if i == start:
                raise
        return i

    def _put(self, batch_data, batch_label, i, label, picture):
        """Put a sample into row `i`; how many rows that are, 0 for a picture that is none."""
        try:
            self.check_valid_image([picture])
        except RuntimeError as error:
            logging.debug("Invalid image, skipping: %s", error)
            return 0
        batch_data[i] = self.postprocess_data(self.augmentation_transform(picture))
        batch_label[i] = label
        return 1

    # The steps, each to be overridden.

    def imdecode(self, s):
        """The picture in the bytes of a file; RuntimeError that names the file or its key."""
        try:
            return imdecode(s)
        except Exception as error:
            key = self.cur - 1 if self.seq is None else self.seq[self.cur - 1]
            known = self.imglist is not None
            where = f"filename: {self.imglist[key][1]}" if known else f"index: {key}"
            raise RuntimeError(f"Broken image {where}, {error}") from error

    def check_data_shape(self, data_shape):
        """ValueError unless `data_shape` is (3, H, W)."""
        if len(data_shape) != 3:
            raise ValueError("data_shape should have length 3, with dimensions CxHxW")
        if data_shape[0] != 3:
            raise ValueError("This iterator expects inputs to have 3 channels.")

    def check_valid_image(self, data):
        """RuntimeError unless `data[0]` has axes."""
        if len(data[0].shape) == 0:
            raise RuntimeError("Data shape is wrong")

    def augmentation_transform(self, data):
        """A picture after all augmenters."""
        for change in self.auglist:
            data = change(data)
        return data

    def postprocess_data(self, datum):
        """A picture (H, W, C) as (C, H, W)."""
        return nd.transpose(datum, axes=(2, 0, 1))


def records_at(path_imgrec, path_imgidx):
    """The reader of a record file and its keys, None without an index; twice None without a file."""
    if not path_imgrec:
        return None, None
    if not path_imgidx:
        return MXRecordIO(path_imgrec, "r"), None
    records = MXIndexedRecordIO(path_imgidx, path_imgrec, "r")
    return records, list(records.keys)


def listed(path_imglist, imglist, dtype):
    """The lines of a list as {key: (label, path)}; None if there is no list."""
    if path_imglist:
        with open(path_imglist, encoding="utf-8") as file:
            lines = [(n, line) for n, line in enumerate(file, 1) if line.strip()]
        return dict(parsed(line, f"{path_imglist}, line {n}", dtype) for n, line in lines)
    if not isinstance(imglist, list):
        return None
    labels = [row[:-1] if len(row) > 2 else np.atleast_1d(plain(row[0])) for row in imglist]
    rows = zip(labels, imglist)
    return {
        str(n): (as_asked(array(y, dtype=dtype)), row[-1]) for n, (y, row) in enumerate(rows, 1)
    }


def parsed(line, where, dtype):
    """A line of a list file as (key, (label, path)); ValueError that says `where` for what is none."""
    try:
        number, *labels, path = (word.strip() for word in line.strip().split("\t"))
        label = as_asked(array([float(word) for word in labels], dtype=dtype))
        return int(number), (label, path)
    except ValueError:
        raise ValueError(
            f"{where}: want number, label(s) and path with tabs between, not {line!r}"
        ) from None
