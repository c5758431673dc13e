"""Whoever moves a picture moves the boxes on it: a box is four numbers, and every change of geometry is a map of them."""

# Written from chapters/86b_boxes.ipynb: edit the chapter, then run `minigluon export`.

import json
import logging
import math
import random
import warnings

import numpy as np

from minigluon import ndarray as nd
from minigluon.image import image
from minigluon.image.image import (
    Augmenter,
    ForceResizeAug,
    ImageIter,
    ResizeAug,
    colours,
    copyMakeBorder,
    fixed_crop,
    told,
)
from minigluon.ndarray.ndarray import NDArray
from minigluon.numpy.scope import as_asked

__all__ = [
    "CreateDetAugmenter",
    "CreateMultiRandCropAugmenter",
    "DetAugmenter",
    "DetBorrowAug",
    "DetHorizontalFlipAug",
    "DetRandomCropAug",
    "DetRandomPadAug",
    "DetRandomSelectAug",
    "ImageDetIter",
    "areas_of",
    "cut_size",
    "cut_to",
    "drawn",
    "span",
    "usable",
]


# --- Pictures with boxes --------------------------------------------------------------------------


class DetAugmenter:
    """A change of a picture and its boxes; its settings are in `dumps()`."""

    def __init__(self, **kwargs):
        self._kwargs = {key: told(value) for key, value in kwargs.items()}

    def dumps(self):
        """The augmenter's name and settings as JSON."""
        return json.dumps([type(self).__name__.lower(), self._kwargs])

    def __call__(self, src, label):
        raise NotImplementedError(
            f"{type(self).__name__} does not define __call__(self, src, label)"
        )


class DetBorrowAug(DetAugmenter):
    """An augmenter that leaves every pixel where it is, in parts of the picture;
    TypeError for what is none.
    """

    def __init__(self, augmenter):
        if not isinstance(augmenter, Augmenter):
            raise TypeError(f"Borrowing from invalid Augmenter: {augmenter!r}")
        super().__init__(augmenter=augmenter.dumps())
        self.augmenter = augmenter

    def dumps(self):
        return [type(self).__name__.lower(), self.augmenter.dumps()]

    def __call__(self, src, label):
        return self.augmenter(src), label


class DetRandomSelectAug(DetAugmenter):
    """One of several augmenters, or with `skip_prob` none."""

    def __init__(self, aug_list, skip_prob=0):
        super().__init__(skip_prob=skip_prob)
        self.aug_list = list(aug_list) if isinstance(aug_list, list | tuple) else [aug_list]
        if not all(isinstance(change, DetAugmenter) for change in self.aug_list):
            raise ValueError("Allow DetAugmenter in list only")
        self.skip_prob = skip_prob if self.aug_list else 1

    def dumps(self):
        return [type(self).__name__.lower(), [change.dumps() for change in self.aug_list]]

    def __call__(self, src, label):
        if random.random() < self.skip_prob:
            return src, label
        random.shuffle(self.aug_list)
        return self.aug_list[0](src, label)


class DetHorizontalFlipAug(DetAugmenter):
    """Mirrored, with probability `p`."""

    def __init__(self, p):
        super().__init__(p=p)
        self.p = p

    def __call__(self, src, label):
        if random.random() < self.p:
            src = nd.flip(src, axis=1)
            label[:, [1, 3]] = 1.0 - label[:, [3, 1]]
        return src, label


def span(value, name, owner):
    """A range as two numbers; a number alone is both."""
    if isinstance(value, tuple | list):
        return value
    assert isinstance(value, image.numeric_types), f"{name} is a number or two, not {value!r}"
    logging.info("Using fixed %s: %s in %s", name, value, owner)
    return value, value


def usable(ratios, areas, least, owner):
    """Whether ranges are such; a warning if they are not, for then the augmenter does nothing."""
    wrong = {"area_range": areas[1] <= least or areas[0] > areas[1]}
    wrong["aspect_ratio_range"] = ratios[0] <= 0 or ratios[0] > ratios[1]
    for name, is_wrong in wrong.items():
        if is_wrong:
            given = areas if name == "area_range" else ratios
            warnings.warn(f"Skip {owner} due to invalid {name}: {given}", stacklevel=3)
    return not any(wrong.values())


def areas_of(boxes):
    """The areas of boxes, rows of x0, y0, x1, y1; 0 for a box turned inside out."""
    return np.maximum(0, boxes[:, 2] - boxes[:, 0]) * np.maximum(0, boxes[:, 3] - boxes[:, 1])


def cut_to(boxes, place, width, height):
    """Boxes in parts of the cut `place`, (x, y, w, h) in pixels, and cut off at its edges."""
    x, y, w, h = place
    begin = np.array([x / width, y / height] * 2, boxes.dtype)  # so that an edge on an edge is one
    return ((boxes - begin) / np.array([w / width, h / height] * 2, boxes.dtype)).clip(0, 1)


class DetRandomCropAug(DetAugmenter):
    """A random part with a ratio and an area within ranges, which cuts no object too much.

    Each object that it touches is covered by more than `min_object_covered`; an object of which no
    more than `min_eject_coverage` is left is dropped. After `max_attempts`, the whole picture.
    """

    def __init__(
        self,
        min_object_covered=0.1,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        min_eject_coverage=0.3,
        max_attempts=50,
    ):
        ratios = span(aspect_ratio_range, "aspect_ratio_range", type(self).__name__)
        areas = span(area_range, "area_range", type(self).__name__)
        super().__init__(
            min_object_covered=min_object_covered,
            aspect_ratio_range=ratios,
            area_range=areas,
            min_eject_coverage=min_eject_coverage,
            max_attempts=max_attempts,
        )
        self.min_object_covered, self.min_eject_coverage = min_object_covered, min_eject_coverage
        self.aspect_ratio_range, self.area_range, self.max_attempts = ratios, areas, max_attempts
        self.enabled = usable(ratios, areas, 0, type(self).__name__)

    def __call__(self, src, label):
        height, width = src.shape[:2]
        for place in self._places(height, width):
            kept = self._kept(label, place, width, height)
            if kept is not None:
                return fixed_crop(src, *place), kept
        return src, label

    # Proposals, and what is left of a label in one.

    def _places(self, height, width):
        """Up to `max_attempts` places (x, y, w, h)."""
        least, most = (share * height * width for share in self.area_range)
        for _ in range(self.max_attempts if self.enabled and height and width else 0):
            w, h = cut_size(random.uniform(*self.aspect_ratio_range), least, most, width, height)
            if least <= w * h <= most and 0 <= w <= width and 0 <= h <= height:
                y = random.randint(0, height - h)
                yield random.randint(0, width - w), y, w, h

    def _kept(self, label, place, width, height):
        """The label within a cut, None if the cut is refused."""
        large = areas_of(label[:, 1:5]) * width * height > 2  # pixels
        if place[2] * place[3] < 2 or not large.any():
            return None
        coverage = self._coverage(label, place, width, height)
        touched = coverage[large & (coverage > 0)]
        if not touched.size or touched.min() <= self.min_object_covered:
            return None
        out = label.copy()
        out[:, 1:5] = cut_to(label[:, 1:5], place, width, height)
        out = out[(areas_of(out[:, 1:5]) > 0) & (coverage > self.min_eject_coverage)]
        return out if len(out) else None

    def _coverage(self, label, place, width, height):
        """The share of each box that is left in a cut."""
        share = place[2] * place[3] / (width * height)
        left = areas_of(cut_to(label[:, 1:5], place, width, height)) * share
        return left / np.maximum(areas_of(label[:, 1:5]), np.finfo(np.float32).tiny)


def cut_size(ratio, least, most, width, height):
    """Width and height of a cut of this ratio, with an area from `least` to `most`,
    as far as it fits.
    """
    low, high = (round(math.sqrt(area / ratio)) for area in (least, most))
    if round(high * ratio) > width:
        high = int((width + 0.4999999) / ratio)
    high = min(high, height)
    h = random.randint(low, high) if low < high else high
    w = round(h * ratio)
    if w * h < least:  # what rounding took away
        h += 1
        w = round(h * ratio)
    if w * h > most:
        h -= 1
        w = round(h * ratio)
    return w, h


class DetRandomPadAug(DetAugmenter):
    """Laid somewhere on a canvas of `pad_val`, with a ratio and an area (in pictures) within ranges."""

    def __init__(
        self,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(1.0, 3.0),
        max_attempts=50,
        pad_val=(128, 128, 128),
    ):
        ratios = span(aspect_ratio_range, "aspect_ratio_range", type(self).__name__)
        areas = span(area_range, "area_range", type(self).__name__)
        super().__init__(
            aspect_ratio_range=ratios, area_range=areas, max_attempts=max_attempts, pad_val=pad_val
        )
        self.aspect_ratio_range, self.area_range = ratios, areas
        self.max_attempts, self.pad_val = max_attempts, pad_val
        self.enabled = usable(ratios, areas, 1.0, type(self).__name__)

    def __call__(self, src, label):
        height, width = src.shape[:2]
        for _ in range(self.max_attempts if self.enabled and height and width else 0):
            w, h = self._canvas(height, width)
            if h - height < 2 or w - width < 2:
                continue  # a border of one pixel teaches nothing
            y, x = random.randint(0, h - height), random.randint(0, w - width)
            out = label.copy()
            out[:, [1, 3]] = (out[:, [1, 3]] * width + x) / w
            out[:, [2, 4]] = (out[:, [2, 4]] * height + y) / h
            border = (y, h - y - height, x, w - x - width)
            values = tuple(np.broadcast_to(self.pad_val, src.shape[2]))
            return copyMakeBorder(src, *border, 0, values=values), out
        return src, label

    def _canvas(self, height, width):
        """Width and height of a canvas; too small a one is not used."""
        ratio = random.uniform(*self.aspect_ratio_range)
        low, high = (round(math.sqrt(s * height * width / ratio)) for s in self.area_range)
        if round(low * ratio) < width:
            low = int((width + 0.499999) / ratio)
        low = min(max(low, height), high)
        h = random.randint(low, high) if low < high else low
        return round(h * ratio), h


def CreateMultiRandCropAugmenter(
    min_object_covered=0.1,
    aspect_ratio_range=(0.75, 1.33),
    area_range=(0.05, 1.0),
    min_eject_coverage=0.3,
    max_attempts=50,
    skip_prob=0,
):
    """One of several random crops; arguments that are lists have a value for each of them."""
    given = min_object_covered, aspect_ratio_range, area_range, min_eject_coverage, max_attempts
    lists = [value if isinstance(value, list) else [value] for value in given]
    count = max(map(len, lists))
    for values in lists:
        assert len(values) in (1, count), f"{values} has {len(values)} values, another has {count}"
    lists = [values * (count // len(values)) for values in lists]
    return DetRandomSelectAug([DetRandomCropAug(*each) for each in zip(*lists)], skip_prob)


def CreateDetAugmenter(
    data_shape,
    resize=0,
    rand_crop=0,
    rand_pad=0,
    rand_gray=0,
    rand_mirror=False,
    mean=None,
    std=None,
    brightness=0,
    contrast=0,
    saturation=0,
    pca_noise=0,
    hue=0,
    inter_method=2,
    min_object_covered=0.1,
    aspect_ratio_range=(0.75, 1.33),
    area_range=(0.05, 3.0),
    min_eject_coverage=0.3,
    max_attempts=50,
    pad_val=(127, 127, 127),
):
    """The usual augmenters for detection; `rand_crop` and `rand_pad` are probabilities."""
    found = [DetBorrowAug(ResizeAug(resize, inter_method))] if resize > 0 else []
    if rand_crop > 0:
        demands = min_object_covered, aspect_ratio_range, area_range, min_eject_coverage
        found.append(CreateMultiRandCropAugmenter(*demands, max_attempts, 1 - rand_crop))
    if rand_mirror > 0:
        found.append(DetHorizontalFlipAug(0.5))
    if rand_pad > 0:  # late, for the canvas is large
        pad = DetRandomPadAug(aspect_ratio_range, (1.0, area_range[1]), max_attempts, pad_val)
        found.append(DetRandomSelectAug([pad], 1 - rand_pad))
    size = (data_shape[2], data_shape[1])
    pixels = colours(brightness, contrast, saturation, hue, pca_noise, rand_gray, mean, std)
    return found + [DetBorrowAug(a) for a in [ForceResizeAug(size, inter_method), *pixels]]


# --- The iterator ---------------------------------------------------------------------------------


class ImageDetIter(ImageIter):
    """Batches of pictures (batch_size, 3, H, W) and of their objects (batch_size, most, width),
    filled with -1.

    Sources and `last_batch_handle` are `ImageIter`'s, more arguments `CreateDetAugmenter`'s.
    """

    # As the base class, with other augmenters and labels.

    def __init__(
        self,
        batch_size,
        data_shape,
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
        label_name="label",
        last_batch_handle="pad",
        **kwargs,
    ):
        super().__init__(
            batch_size,
            data_shape,
            path_imgrec=path_imgrec,
            path_imglist=path_imglist,
            path_root=path_root,
            path_imgidx=path_imgidx,
            shuffle=shuffle,
            part_index=part_index,
            num_parts=num_parts,
            aug_list=[],
            imglist=imglist,
            data_name=data_name,
            label_name=label_name,
            last_batch_handle=last_batch_handle,
        )
        self.auglist = CreateDetAugmenter(data_shape, **kwargs) if aug_list is None else aug_list
        self.label_shape = self._estimate_label_shape()
        self.provide_label = [(label_name, (batch_size, *self.label_shape))]

    def _estimate_label_shape(self):
        """The greatest number of objects in a picture, and the numbers of an object."""
        self.reset()
        shapes = [self._parse_label(label).shape for label in self._labels()]
        self.hard_reset()
        if not shapes:
            raise RuntimeError("there is no sample")
        return max(n for n, _ in shapes), shapes[-1][1]

    # Labels as they are in a file.

    def _labels(self):
        """The labels of an epoch, without the pictures of a list."""
        if self.imglist is not None:
            return [self.imglist[key][0] for key in self.seq or self.imglist]
        return [label for label, _ in iter(self._sample, None)]

    def _sample(self):
        try:
            return self.next_sample()
        except StopIteration:
            return None

    def _parse_label(self, label):
        """The objects of a flat label, of those with a proper box; RuntimeError if it is none."""
        raw = (label.asnumpy() if isinstance(label, NDArray) else np.asarray(label)).ravel()
        if raw.size < 7:
            raise RuntimeError(f"Label shape is invalid: {raw.shape}, an object takes 7 numbers")
        head, wide = int(raw[0]), int(raw[1])
        if head < 2 or wide < 5 or (raw.size - head) % wide:
            raise RuntimeError(
                f"Label shape {raw.shape} inconsistent with a head of {head} and annotation width {wide}"
            )
        objects = raw[head:].reshape(-1, wide)
        objects = objects[areas_of(objects[:, 1:5]) > 0]
        if not len(objects):
            raise RuntimeError("Encounter sample with no valid label.")
        return objects

    # --- The iterator -----------------------------------------------------------------------------

    def _empty(self):
        data, label = self.provide_data[0][1], self.provide_label[0][1]
        return as_asked(nd.zeros(data)), as_asked(nd.full(label, -1.0))

    def _put(self, batch_data, batch_label, i, label, picture):
        """Put a sample into row `i`; how many rows that are, 0 for one that has no valid object."""
        try:
            self.check_valid_image([picture])
            picture, objects = self.augmentation_transform(picture, self._parse_label(label))
            self._check_valid_label(objects)
        except RuntimeError as error:
            logging.debug("Invalid image, skipping: %s", error)
            return 0
        batch_data[i] = self.postprocess_data(picture)
        rows = np.full(batch_label.shape[1:], -1.0, "float32")
        rows[: len(objects)] = objects
        batch_label[i] = rows
        return 1

    def augmentation_transform(self, data, label):
        """A picture and its objects after all augmenters."""
        for change in self.auglist:
            data, label = change(data, label)
        return data, label

    def _check_valid_label(self, label):
        """RuntimeError unless there is an object with a class and a proper box."""
        if label.ndim != 2 or label.shape[1] < 5:
            raise RuntimeError(f"Label with shape (1+, 5+) required, {label.shape} received.")
        if not ((label[:, 0] >= 0) & (areas_of(label[:, 1:5]) > 0)).any():
            raise RuntimeError("Invalid label occurs.")

    def reshape(self, data_shape=None, label_shape=None):
        """Give batches another shape of pictures, or room for more objects."""
        if data_shape is not None:
            self.check_data_shape(data_shape)
            self.data_shape = tuple(data_shape)
            self.provide_data = [(self.provide_data[0][0], (self.batch_size, *data_shape))]
        if label_shape is not None:
            self.check_label_shape(label_shape)
            self.label_shape = tuple(label_shape)
            self.provide_label = [(self.provide_label[0][0], (self.batch_size, *label_shape))]

    def check_label_shape(self, label_shape):
        """ValueError for a shape that has less room for objects, or other objects."""
        if len(label_shape) != 2:
            raise ValueError("label_shape should have length 2")
        most, wide = self.label_shape
        if label_shape[0] < most:
            raise ValueError(
                f"Attempts to reduce label count from {most} to {label_shape[0]}, not allowed."
            )
        if label_shape[1] != wide:
            raise ValueError(f"label_shape object width inconsistent: {wide} vs {label_shape[1]}.")

    def sync_label_shape(self, it, verbose=False):
        """Give this iterator and `it` the same room for objects; returns `it`."""
        assert isinstance(it, ImageDetIter), "Synchronize with invalid iterator."
        (ours, wide), (theirs, their_wide) = self.label_shape, it.label_shape
        assert wide == their_wide, f"object width mismatch: {wide} and {their_wide}"
        for iterator in (self, it):
            iterator.reshape(None, (max(ours, theirs), wide))
        if verbose and ours != theirs:
            logging.info("Resized label_shape to (%d, %d).", max(ours, theirs), wide)
        return it

    # Pictures to look at.

    def draw_next(
        self,
        color=None,
        thickness=2,
        mean=None,
        std=None,
        clip=True,
        waitKey=None,
        window_name="draw_next",
        id2labels=None,
    ):
        """Yield the pictures of an epoch, uint8 (H, W, 3), with their boxes drawn on them by Pillow.

        `mean` and `std` undo a normalization; `id2labels` names classes. `waitKey` other than None
        would open a window: show what is yielded instead.
        """
        mean, std = (
            usual if given is True else given
            for given, usual in ((mean, image.IMAGENET_MEAN), (std, image.IMAGENET_STD))
        )
        for label, packed in iter(self._sample, None):
            try:
                objects = self._parse_label(label)
            except RuntimeError as error:
                logging.debug("Invalid image, skipping: %s", error)
                continue
            picture, objects = self.augmentation_transform(self.imdecode(packed), objects)
            x = picture.asnumpy() * (1 if std is None else std) + (0 if mean is None else mean)
            yield drawn(x.clip(0, 255) if clip else x, objects, color, thickness, id2labels or {})


def drawn(x, objects, color, thickness, names):
    """A picture with the boxes of its objects, in random colours unless there is one for all."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(x.astype("uint8"))
    draw, sizes = ImageDraw.Draw(picture), np.tile(picture.size, 2)
    for kind, *box in objects[:, :5]:
        corners = tuple((box * sizes).astype(int).tolist())
        ink = tuple(np.random.randint(0, 256, 3).tolist()) if color is None else tuple(color)
        draw.rectangle(corners, outline=ink, width=thickness)
        if int(kind) in names:
            draw.text((corners[0] + thickness + 2, corners[1] + thickness), names[int(kind)])
    return np.asarray(picture)
