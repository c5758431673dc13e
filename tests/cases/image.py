"""Operators of chapter 83: pictures."""

import numpy as np

from tests.rows import Row, positive, signed

A, B, T = positive(4, 5, 3), positive(2, 4, 5, 3), signed(3, 4, 5)
GREY = np.array([0.299, 0.587, 0.114])


def crop(x, /, **_):
    return x[..., 1:3, 2:5, :]


def uncrop(x, like, /, **_):
    y = np.zeros_like(like)
    y[..., 1:3, 2:5, :] = x
    return y


def contrast(x, **_):
    return 0.5 * x + 0.5 * (x * GREY).sum(axis=-1).mean(axis=(-1, -2))[..., None, None, None]


def bilinear(x, **_):
    """Half the height: the mean of pairs."""
    return (x[..., ::2, :, :] + x[..., 1::2, :, :]) / 2


HALF = {"min_factor": 0.5, "max_factor": 0.5, "rng": 0}
LIT = np.array([-0.5675, -0.5808, -0.5836]) * 55.46 * 0.1
CUT = {"x": 2, "y": 1, "width": 3, "height": 2}
PLACE = {"x": 2, "y": 1}

ROWS = [
    Row(
        "image_to_tensor",
        (A,),
        {},
        lambda x: np.float32(x.transpose(2, 0, 1)) / np.float32(255),
        (),
        ((A[0],), {}),
        "3 axes",
    ),
    Row(
        "image_to_tensor",
        (B,),
        {},
        lambda x: np.float32(x.transpose(0, 3, 1, 2)) / np.float32(255),
        (),
        note="batch",
    ),
    Row("image_from_tensor", (T,), {}, lambda x: x.transpose(1, 2, 0) / 255, ()),
    Row(
        "image_normalize",
        (T,),
        {"mean": (1.0, 2.0, 3.0), "std": (2.0, 4.0, 8.0)},
        lambda x, mean, std: (x - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1)),
        None,
        ((T[:2],), {}),
        "channels",
    ),
    Row(
        "image_normalize",
        (T[None],),
        {"mean": 0.5, "std": 2.0},
        lambda x, **_: (x - 0.5) / 2,
        note="one",
    ),
    Row("image_resize", (A,), {"size": (5, 2)}, bilinear, (), ((A,), {"size": -1}), "size"),
    Row(
        "image_resize",
        (B,),
        {"size": (5, 2), "interp": 3},
        bilinear,
        (),
        ((B,), {"size": 2, "interp": 7}),
        "7",
        note="area",
    ),
    Row("image_crop", (A,), CUT, crop, None, ((A,), {**CUT, "width": 4}), "inside"),
    Row("image_crop", (B,), CUT, crop, note="batch"),
    Row("image_crop_like", (A, A[:2, :3]), PLACE, lambda a, like, /, **_: crop(a), (0,)),
    Row("image_uncrop", (A[:2, :3], A), PLACE, uncrop, (0,)),
    Row("image_flip_left_right", (A,), {}, lambda x: x[:, ::-1]),
    Row("image_flip_top_bottom", (B,), {}, lambda x: x[:, ::-1]),
    Row("image_random_flip_left_right", (A,), {"p": 1.1, "rng": 0}, lambda x, **_: x[:, ::-1], ()),
    Row("image_random_flip_top_bottom", (A,), {"p": 1.1, "rng": 0}, lambda x, **_: x[::-1], ()),
    Row(
        "image_random_brightness",
        (A,),
        HALF,
        lambda x, **_: x / 2,
        (),
        ((A,), {"min_factor": -1, "max_factor": 0, "rng": 0}),
        "factor",
    ),
    Row("image_random_contrast", (A,), HALF, contrast, ()),
    Row(
        "image_random_contrast",
        (B,),
        HALF,
        contrast,
        (),
        ((B[..., :2],), HALF),
        "channels",
        note="batch",
    ),
    Row(
        "image_random_saturation", (A,), HALF, lambda x, **_: x / 2 + (x @ GREY)[..., None] / 2, ()
    ),
    Row(
        "image_random_hue", (A,), {"min_factor": 1, "max_factor": 1, "rng": 0}, lambda x, **_: x, ()
    ),
    Row(
        "image_random_color_jitter",
        (A,),
        dict.fromkeys(("brightness", "contrast", "saturation", "hue", "rng"), 0),
        lambda x, **_: x,
        (),
    ),
    Row(
        "image_adjust_lighting",
        (A,),
        {"alpha": (0.1, 0, 0)},
        lambda x, **_: x + LIT,
        (),
        ((A,), {"alpha": (1, 2)}),
        "three",
    ),
    Row("image_random_lighting", (A,), {"alpha_std": 0.0, "rng": 0}, lambda x, **_: x, ()),
]
