"""A picture is an array of bytes; to resize it is to multiply it by a narrow matrix from both sides."""

# Written from chapters/83_image.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.op import BadValue, operator
from minigluon.ops.random import COUNTS, DOUBLE, drawn

__all__ = [
    "CODES",
    "GREY",
    "LIGHT",
    "WEIGHTS",
    "bits",
    "brightened",
    "by_eights",
    "contrasted",
    "covered",
    "cubic_weights",
    "factor",
    "fixed_point",
    "grey",
    "hued",
    "image_adjust_lighting",
    "image_crop",
    "image_crop_like",
    "image_flip_left_right",
    "image_flip_top_bottom",
    "image_from_tensor",
    "image_normalize",
    "image_random_brightness",
    "image_random_color_jitter",
    "image_random_contrast",
    "image_random_flip_left_right",
    "image_random_flip_top_bottom",
    "image_random_hue",
    "image_random_lighting",
    "image_random_saturation",
    "image_resize",
    "image_to_tensor",
    "image_uncrop",
    "in_range",
    "kept",
    "lanczos_weights",
    "linear_weights",
    "lit",
    "normal",
    "on",
    "one",
    "permutation",
    "pictures",
    "real",
    "resized",
    "saturated",
    "summed",
    "taps",
    "uncut",
    "uniform",
    "wanted_size",
]


# --- Weights --------------------------------------------------------------------------------------

CODES = {0: "nearest", 1: "linear", 2: "cubic", 3: "area", 4: "lanczos"}


def linear_weights(t):
    """Weights of the 2 pixels around a place, `t` after the first: shape (2, n)."""
    return np.stack([1 - t, t])


def cubic_weights(t, a=-0.75):
    """Weights of 4 pixels, which sum to 1; Keys (1981), with the slope `a`."""
    outer = ((a * (1 + t) - 5 * a) * (1 + t) + 8 * a) * (1 + t) - 4 * a
    inner = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    return np.stack([outer, *inner, 1 - outer - inner[0] - inner[1]])


def lanczos_weights(t):
    """Weights of 8 pixels; they sum to 1."""
    i = np.arange(8)[:, None]
    # sinc(d) is ±sin(πt) / πd: scaling takes sin(πt) out
    y = (t + 3 - i).astype(float) * (np.pi / 4)
    with np.errstate(divide="ignore", invalid="ignore"):
        w = ((-1) ** i * np.sin(y) / y**2).astype(t.dtype)
    w[abs(y) < 1e-6] = 1e30  # of a pixel at the very place: the others' are nothing to it
    return w * (1 / sum(w))


WEIGHTS = {"linear": linear_weights, "cubic": cubic_weights, "lanczos": lanczos_weights}


def taps(old, new, kind):
    """For each of `new` pixels, which of `old` pixels it takes and their weights:
    two arrays (k, new).
    """
    i, inverse = np.arange(new), new / old
    scale = 1 / inverse  # rounded as OpenCV's, for places at the edge of a pixel
    if kind == "nearest":
        return np.minimum((i * scale).astype(int), old - 1)[None], np.ones((1, new))
    if kind == "cover":
        return covered(i * scale, (i + 1) * scale, old)
    if kind == "area":  # of an enlarged picture: linear, between places where pixels begin
        first = np.floor(i * scale).astype(int)
        t = ((i + 1) - (first + 1) * inverse).astype("float32")
        weights = linear_weights(np.where(t <= 0, 0, t - np.floor(t)))
    else:
        u = ((i + 0.5) * scale - 0.5).astype("float32")
        first = np.floor(u).astype(int)
        weights = WEIGHTS[kind](u - first.astype("float32"))
    k = len(weights)
    places = first + np.arange(k)[:, None] - (k // 2 - 1)
    return places.clip(0, old - 1), weights


def covered(begin, end, old):
    """Taps of pixels that each cover the interval from `begin` to `end` of the old ones."""
    first = np.floor(begin + 1e-9).astype(int)
    k = int((np.ceil(end - 1e-9) - first).max())
    places = first + np.arange(k)[:, None]
    weights = (np.minimum(end, places + 1) - np.maximum(begin, places)).clip(0)
    return places.clip(0, old - 1), weights / weights.sum(axis=0)


# --- Resizing -------------------------------------------------------------------------------------


def resized(data, h, w, interp):
    """Pictures (…, H, W, C) in the size `h`, `w`, by interpolation `interp`; bytes stay bytes."""
    if interp not in CODES:
        raise BadValue(f"interpolation {interp} is not one of {CODES}")
    if h < 1 or w < 1 or 0 in data.shape[-3:-1]:
        raise BadValue(f"a picture of {data.shape} cannot be resized to height {h}, width {w}")
    kind, (H, W) = CODES[interp], data.shape[-3:-1]
    if data.shape[-3:-1] == (h, w):
        return data.copy()
    if kind == "area" and h <= H and w <= W:
        kind = "cover"
    rows, columns = taps(H, h, kind), taps(W, w, kind)
    if kind == "nearest":
        return data.take(on(rows[0][0], data), axis=-3).take(on(columns[0][0], data), axis=-2)
    if data.dtype == np.uint8 and kind != "cover":
        return fixed_point.kernel(data, rows, columns, kind)
    x = real(data)
    out = summed(summed(x, columns, -2, x.dtype), rows, -3, x.dtype)
    if data.dtype == np.uint8 and (h, w) == (H / 2, W / 2):
        out += 0.125  # OpenCV rounds the half of such means up
    return in_range(out, data.dtype)


def on(a, like):
    """A small NumPy array on the device of `like`."""
    return np.asarray(a, like=like)


def summed(data, tap, axis, dtype):
    """The weighted sums of some pixels along an axis, -3 or -2."""
    places, weights = tap
    total = 0
    for at, weight in zip(places, weights):
        weight = weight.reshape((-1,) + (1,) * (-1 - axis)).astype(dtype)
        total = total + data.take(on(at, data), axis=axis) * on(weight, data)
    return total


@operator(listed=False)
def fixed_point(data, /, rows, columns, kind):
    """The same on bytes, with weights of 11 bits: as OpenCV computes it, to the last bit."""
    rows, columns = ((p, bits(w)) for p, w in (rows, columns))
    wide = summed(data.astype("int32"), columns, -2, "int32")
    if kind == "linear" or kind == "area":
        (p, q), (a, b) = rows
        a, b = (on(v[:, None, None], data) for v in (a, b))
        upper, lower = (wide.take(on(v, data), axis=-3) >> 4 for v in (p, q))
        total = (((a * upper) >> 16) + ((b * lower) >> 16) + 2) >> 2
    else:
        total = (summed(wide, rows, -3, "int32") + (1 << 21)) >> 22
        if kind == "cubic":
            by_eights(total, wide, rows)
    return total.clip(0, 255).astype("uint8")


def bits(weights):
    """Weights as whole numbers of 11 bits."""
    return np.rint(weights * 2048).astype("int32")


def by_eights(total, wide, rows):
    """Sums of rows in float32, ties to the even number, where a row
    of `total` has eight numbers left.
    """
    places, weights = rows
    near = np.rint(summed(wide.astype("float32"), (places, weights / (1 << 22)), -3, "float32"))
    total, near = (a.reshape(*a.shape[:-2], -1) for a in (total, near))
    whole = total.shape[-1] // 8 * 8
    total[..., :whole] = near[..., :whole]


def in_range(out, dtype):
    """Numbers as `dtype`: of whole types the nearest one, within their bounds."""
    if dtype.kind == "f":
        return out.astype(dtype, copy=False)
    bounds = np.iinfo(dtype)
    return np.rint(out).clip(bounds.min, bounds.max).astype(dtype)


# --- Operators ------------------------------------------------------------------------------------


def pictures(data, channels=None):
    """ValueError unless `data` is one picture (H, W, C) or a batch of them."""
    if data.ndim not in (3, 4):
        raise ValueError(f"an image has 3 axes, a batch of them 4, not {data.ndim}")
    if channels and data.shape[-1] not in channels:
        raise ValueError(f"{data.shape[-1]} channels: this operator wants {channels}")


@operator(aliases=("_image_to_tensor",))
def image_to_tensor(data, /):
    """Pictures (H, W, C) or (N, H, W, C) of numbers to 255 as float32 (C, H, W) or (N, C, H, W) to 1."""
    pictures(data)
    axes = (2, 0, 1) if data.ndim == 3 else (0, 3, 1, 2)
    out = np.empty_like(data, shape=[data.shape[i] for i in axes], dtype=np.float32, order="C")
    return np.divide(data.transpose(axes), np.float32(255), out=out, dtype=np.float32)


@operator(vjp=(lambda g, y, data: image_to_tensor(g),))
def image_from_tensor(data, /):
    """The adjoint of `image_to_tensor`: channels last, divided by 255."""
    axes = (1, 2, 0) if data.ndim == 3 else (0, 2, 3, 1)
    return (data.transpose(axes) * data.dtype.type(1 / 255)).copy()


@image_to_tensor.vjp
def _(g, y, data):
    return (image_from_tensor(g),)


@operator(
    vjp=(lambda g, y, data, mean, std: image_normalize(g, mean=0.0, std=std),),
    aliases=("_image_normalize",),
)
def image_normalize(data, /, mean=0.0, std=1.0):
    """Pictures (C, H, W) or (N, C, H, W) as (data - mean) / std,
    with numbers for each channel or one.
    """
    pictures(data)
    if data.shape[-3] not in (1, 3) or data.dtype.kind != "f":
        raise ValueError(
            f"data is {data.dtype}{list(data.shape)}: want float, 1 or 3 channels first"
        )
    mean, std = (on(np.reshape(v, (-1, 1, 1)).astype(data.dtype), data) for v in (mean, std))
    if len(mean) not in (1, data.shape[-3]) or len(std) not in (1, data.shape[-3]):
        raise ValueError(
            f"mean or std does not have 1 number, or one for each of {data.shape[-3]} channels"
        )
    out = data - mean
    out /= std
    return out


def wanted_size(data, size, keep_ratio):
    """Height and width for `size`, a number or (width, height)."""
    H, W = data.shape[-3:-1]
    size = (size,) if np.ndim(size) == 0 else tuple(size)
    if len(size) not in (1, 2) or min(size) <= 0:
        raise ValueError(f"size {size}: give a positive number, or width and height")
    if len(size) == 2:
        return size[1], size[0]
    n = size[0]
    if not keep_ratio:
        return n, n
    return (n, int(W * n / H)) if W > H else (int(H * n / W), n)


@operator(aliases=("_image_resize",))
def image_resize(data, /, size=0, keep_ratio=False, interp=1):
    """Pictures (…, H, W, C) in another `size`: one number, or (width, height).

    With `keep_ratio`, one number is for the shorter side. `interp`: 0 nearest, 1 bilinear, 2 cubic,
    3 area, 4 Lanczos.
    """
    pictures(data)
    return resized(data, *wanted_size(data, size, keep_ratio), interp)


@operator(
    aliases=("_image_crop",),
)
def image_crop(data, /, x, y, width, height):
    """The part of pictures (…, H, W, C) from column `x`, row `y`, `width` by `height`."""
    pictures(data)
    H, W = data.shape[-3:-1]
    if x < 0 or y < 0 or width <= 0 or height <= 0 or x + width > W or y + height > H:
        raise ValueError(f"x={x}, y={y}, {width} by {height} is not inside of {W} by {H}")
    return data[..., y : y + height, x : x + width, :].copy()


@image_crop.vjp
def _(g, _, data, x, y, width, height):
    return (image_uncrop(g, data, x=x, y=y),)


@operator(vjp=(lambda g, _, data, like, x, y: uncut(g, x, y, data), None))
def image_uncrop(data, like, /, x, y):
    """Zeros in the shape of `like` with `data` at column `x`, row `y`: what undoes a crop."""
    out = np.zeros_like(like)
    out[..., y : y + data.shape[-3], x : x + data.shape[-2], :] = data
    return out


def uncut(g, x, y, data):
    """The gradient of `image_uncrop`: the part that `data` filled."""
    return image_crop_like(g, data, x=x, y=y)


@operator(vjp=(lambda g, _, data, like, x, y: image_uncrop(g, data, x=x, y=y), None))
def image_crop_like(data, like, /, x, y):
    """The part of `data` from column `x`, row `y`, in the size of `like`."""
    return data[..., y : y + like.shape[-3], x : x + like.shape[-2], :].copy()


@operator(vjp=(lambda g, y, data: image_flip_left_right(g),), aliases=("_image_flip_left_right",))
def image_flip_left_right(data, /):
    """Pictures (…, H, W, C) mirrored: the left side goes to the right."""
    pictures(data)
    return data[..., ::-1, :].copy()


@operator(vjp=(lambda g, y, data: image_flip_top_bottom(g),), aliases=("_image_flip_top_bottom",))
def image_flip_top_bottom(data, /):
    """Pictures (…, H, W, C) upside down."""
    pictures(data)
    return data[..., ::-1, :, :].copy()


def uniform(r, n, t, low, high):
    """A law: numbers spread evenly from `low` to `high`, float64."""
    return r.uniform(min(low, high), max(low, high), n)


def one(rng, data, low=0.0, high=1.0):
    """A Python number drawn evenly from `low` to `high`."""
    return float(drawn(rng, data, uniform, (1,), DOUBLE, low, high)[0])


@operator(aliases=("_image_random_flip_left_right",))
def image_random_flip_left_right(data, /, p=0.5, rng=None):
    """Pictures, mirrored with probability `p`."""
    return image_flip_left_right.kernel(data) if one(rng, data) < p else data.copy()


@operator(aliases=("_image_random_flip_top_bottom",))
def image_random_flip_top_bottom(data, /, p=0.5, rng=None):
    """Pictures, upside down with probability `p`."""
    return image_flip_top_bottom.kernel(data) if one(rng, data) < p else data.copy()


# --- Colours --------------------------------------------------------------------------------------

GREY = np.array([0.299, 0.587, 0.114])


def factor(rng, data, low, high):
    """A random factor from `low` to `high`, which are not negative."""
    if low < 0 or high < 0:
        raise ValueError(
            f"min_factor={low}, max_factor={high}: a factor should be greater equal to 0"
        )
    return one(rng, data, low, high)


def kept(out, data):
    """Colours in the type of `data`: bytes within their bounds, without a fraction."""
    if data.dtype.kind == "f":
        return out.astype(data.dtype, copy=False)
    bounds = np.iinfo(data.dtype)
    return out.clip(bounds.min, bounds.max).astype(data.dtype)


def real(data):
    """Pictures as floating-point numbers of at least 32 bits."""
    return data if data.dtype.kind == "f" and data.dtype.itemsize > 2 else data.astype("float32")


def grey(data):
    """The grey of floating-point pictures (…, 3), keeping the axis."""
    return (data @ on(GREY.astype(data.dtype), data))[..., None]


def brightened(data, alpha):
    """Pictures times `alpha`."""
    return kept(real(data) * alpha, data)


def contrasted(data, alpha):
    """Pictures mixed with their mean grey."""
    x = real(data)
    level = (grey(x) if x.shape[-1] == 3 else x).mean(axis=(-3, -2, -1), keepdims=True)
    return kept(x * alpha + level * (1 - alpha), data)


def saturated(data, alpha):
    """Pictures mixed with their grey."""
    if data.shape[-1] == 1:
        return data.copy()
    x = real(data)
    return kept(x * alpha + grey(x) * (1 - alpha), data)


def hued(data, alpha):
    """Pictures with their colours turned by `alpha` of a whole turn, in the hexagon of HSL."""
    if data.shape[-1] == 1 or alpha == 0:
        return data.copy()
    # a plane for each: rows of three are slow
    r, g, b = np.moveaxis(real(data), -1, 0).copy() / 255
    high, low = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b)
    chroma = high - low
    safe = np.where(chroma > 0, chroma, 1)
    by_red, by_green = (g - b) / safe, (b - r) / safe + 2
    turn = np.where(high == r, by_red, np.where(high == g, by_green, (r - g) / safe + 4))
    turn = turn + 6 * alpha
    out = np.empty_like(r, shape=data.shape)
    for channel, start in enumerate((5, 3, 1)):
        place = start + turn
        place -= 6 * np.floor(place / 6)  # NumPy's % takes 20 ns a number
        out[..., channel] = (high - chroma * np.minimum(place, 4 - place).clip(0, 1)) * 255
    return kept(out, data)


@operator(aliases=("_image_random_brightness",))
def image_random_brightness(data, /, min_factor, max_factor, rng=None):
    """Pictures times a random factor."""
    pictures(data)
    return brightened(data, factor(rng, data, min_factor, max_factor))


@operator(aliases=("_image_random_contrast",))
def image_random_contrast(data, /, min_factor, max_factor, rng=None):
    """Pictures mixed with their mean grey: a random factor times themselves, the rest grey."""
    pictures(data, (1, 3))
    return contrasted(data, factor(rng, data, min_factor, max_factor))


@operator(aliases=("_image_random_saturation",))
def image_random_saturation(data, /, min_factor, max_factor, rng=None):
    """Pictures mixed with their grey: a random factor times themselves, the rest grey."""
    pictures(data, (1, 3))
    return saturated(data, factor(rng, data, min_factor, max_factor))


@operator(aliases=("_image_random_hue",))
def image_random_hue(data, /, min_factor, max_factor, rng=None):
    """Pictures with their colours turned by a random part of a whole turn."""
    pictures(data, (1, 3))
    return hued(data, factor(rng, data, min_factor, max_factor))


def permutation(r, n, t):
    """A law: the numbers below n in random order."""
    return r.permutation(n[0])


@operator(aliases=("_image_random_color_jitter",))
def image_random_color_jitter(data, /, brightness, contrast, saturation, hue, rng=None):
    """Pictures with brightness, contrast and saturation changed by up to these parts, and hue,
    in random order.
    """
    pictures(data, (1, 3))
    changes = (
        (brightened, brightness, 1),
        (contrasted, contrast, 1),
        (saturated, saturation, 1),
        (hued, hue, 0),
    )
    rng = rng if rng is None or not isinstance(rng, int) else np.random.default_rng(rng)
    for i in drawn(rng, data, permutation, (4,), COUNTS):
        change, most, middle = changes[i]
        if most > 0:
            data = change(data, one(rng, data, middle - most, middle + most))
    return data


# Eigenvectors of the colours of ImageNet times their eigenvalues (Krizhevsky et al. 2012, section 4.1).
LIGHT = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
LIGHT = LIGHT * np.array([55.46, 4.794, 1.148])


def lit(data, alpha):
    """Pictures plus the colour that `alpha` makes of the three directions."""
    if data.shape[-1] == 1:
        return data.copy()
    x = real(data)
    shift = LIGHT @ np.asarray(alpha, "float64")
    return kept(x + on(shift.astype(x.dtype), data), data)


@operator(aliases=("_image_adjust_lighting",))
def image_adjust_lighting(data, /, alpha):
    """Pictures (…, 3) plus a colour: `alpha`, three numbers, along the principal colours of ImageNet."""
    pictures(data, (1, 3))
    if np.shape(alpha) != (3,):
        raise ValueError(f"alpha={alpha}: give three numbers")
    return lit(data, alpha)


def normal(r, n, t, scale):
    """A law: normal numbers."""
    return r.normal(0, scale, n)


@operator(aliases=("_image_random_lighting",))
def image_random_lighting(data, /, alpha_std=0.05, rng=None):
    """As `adjust_lighting`, with three normal numbers of standard deviation `alpha_std`."""
    pictures(data, (1, 3))
    return lit(data, drawn(rng, data, normal, (3,), DOUBLE, alpha_std))
