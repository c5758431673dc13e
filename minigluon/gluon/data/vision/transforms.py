"""A transform is a block without parameters, so a pipeline of pictures is a network like any other."""

# Written from chapters/84_transforms.ipynb: edit the chapter, then run `minigluon export`.

import math
import random

import numpy as np

import minigluon.ndarray as nd
from minigluon import image
from minigluon.base import numeric_types
from minigluon.gluon.block import Block, HybridBlock
from minigluon.gluon.nn.basic_layers import HybridSequential, Sequential
from minigluon.image.image import _get_interp_method

__all__ = [
    "AtOnce",
    "Cast",
    "CenterCrop",
    "Compose",
    "CropResize",
    "GREYS",
    "HybridCompose",
    "HybridRandomApply",
    "Normalize",
    "RandomApply",
    "RandomBrightness",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCrop",
    "RandomFactor",
    "RandomFlipLeftRight",
    "RandomFlipTopBottom",
    "RandomGray",
    "RandomHue",
    "RandomLighting",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "Rotate",
    "ToTensor",
    "borders",
    "floating",
    "joined",
    "pair",
    "part",
    "same_for_each",
]


# --- Composition ----------------------------------------------------------------------------------


class AtOnce:
    """A transform that a loader may give a whole batch:
    `on_batch` is None where chance or a hook forbids.
    """

    @property
    def on_batch(self):
        """What does to a batch what the transform does to each picture."""
        return self if same_for_each(self) else None


class Compose(AtOnce, Sequential):
    """Transforms, one after the other; neighbours that are hybrid become one HybridSequential."""

    def __init__(self, transforms):
        super().__init__()
        group = []
        for t in [*transforms, None]:
            if isinstance(t, HybridBlock):
                group.append(t)
                continue
            self.add(*joined(group), *([] if t is None else [t]))
            group = []


def joined(group):
    """Hybrid transforms as a list of at most one block."""
    if len(group) < 2:
        return group
    together = HybridSequential()
    together.add(*group)
    return [together]


class HybridCompose(AtOnce, HybridSequential):
    """Hybrid transforms, one after the other."""

    def __init__(self, transforms):
        super().__init__()
        for t in transforms:
            if not isinstance(t, HybridBlock):
                raise ValueError(f"{t} is not a HybridBlock; try Compose instead")
            self.add(t)


def same_for_each(block):
    """Whether a block does to a batch what it does to each picture:
    no chance in it, no hook, no code of others.
    """
    if block._forward_hooks or block._forward_pre_hooks:
        return False
    if type(block) in (Compose, HybridCompose, Sequential, HybridSequential):
        return all(same_for_each(child) for child in block)
    if type(block) in (Resize, CropResize) and block._interpolation == 10:
        return False  # another one each time
    return type(block) in (Cast, ToTensor, Normalize, Resize, CropResize)


class RandomApply(Sequential):
    """All transforms with probability `p`, or none."""

    def __init__(self, transforms, p=0.5):
        super().__init__()
        self.transforms, self.p = transforms, p

    def forward(self, x):
        return x if self.p < random.random() else self.transforms(x)


class HybridRandomApply(HybridSequential):
    """As RandomApply, for a hybrid transform."""

    def __init__(self, transforms, p=0.5):
        super().__init__()
        assert isinstance(transforms, HybridBlock), f"{transforms} is not a HybridBlock"
        self.transforms, self.p = transforms, p

    def hybrid_forward(self, F, x, *args):
        return F.where(F.random.uniform(shape=(1,)) < self.p, self.transforms(x), x)

    def forward(self, x, *args):
        return x if self.p < random.random() else self.transforms(x)


class Cast(AtOnce, HybridBlock):
    """Another type of numbers."""

    def __init__(self, dtype="float32"):
        super().__init__()
        self._dtype = dtype

    def hybrid_forward(self, F, x):
        return F.cast(x, dtype=self._dtype)


class ToTensor(AtOnce, HybridBlock):
    """Pictures (…, H, W, C) of bytes as float32 (…, C, H, W) from 0 to 1."""

    def hybrid_forward(self, F, x):
        return F.image.to_tensor(x)


class Normalize(AtOnce, HybridBlock):
    """(x - mean) / std, with numbers for each channel of (…, C, H, W)."""

    def __init__(self, mean=0.0, std=1.0):
        super().__init__()
        self._mean, self._std = mean, std

    def hybrid_forward(self, F, x):
        return F.image.normalize(x, mean=self._mean, std=self._std)


# --- Geometry -------------------------------------------------------------------------------------


def pair(size):
    """A size as (width, height)."""
    return (size, size) if isinstance(size, numeric_types) else tuple(size)


def part(x, place, size, interp):
    """The part `place`, (x, y, w, h), of pictures, resized to `size`."""
    y = nd.image.crop(x, *place)
    if place[2:] == size:
        return y
    sizes = (place[3], place[2], size[1], size[0])
    return nd.image.resize(y, size=size, interp=_get_interp_method(interp, sizes))


class Resize(AtOnce, HybridBlock):
    """Pictures (…, H, W, C) in another size: a number, or (width, height)."""

    def __init__(self, size, keep_ratio=False, interpolation=1):
        super().__init__()
        self._size, self._keep, self._interpolation = size, keep_ratio, interpolation

    def hybrid_forward(self, F, x):
        return F.image.resize(x, size=self._size, keep_ratio=self._keep, interp=self._interpolation)


class CropResize(AtOnce, HybridBlock):
    """A fixed part of pictures, resized if a `size` is given."""

    def __init__(self, x, y, width, height, size=None, interpolation=None):
        super().__init__()
        self._place = {"x": x, "y": y, "width": width, "height": height}
        self._size, self._interpolation = size, interpolation

    def hybrid_forward(self, F, x):
        out = F.image.crop(x, **self._place)
        if not self._size:
            return out
        interp = 1 if self._interpolation is None else self._interpolation
        return F.image.resize(out, size=self._size, keep_ratio=False, interp=interp)


class CenterCrop(Block):
    """The middle of pictures, resized if they are smaller than `size`."""

    def __init__(self, size, interpolation=1):
        super().__init__()
        self._args = (pair(size), interpolation)

    def forward(self, x):
        size, interp = self._args
        h, w = x.shape[-3:-1]
        new_w, new_h = image.scale_down((w, h), size)
        return part(x, ((w - new_w) // 2, (h - new_h) // 2, new_w, new_h), size, interp)


class RandomCrop(Block):
    """A random part of pictures, which first get a border of `pad` zeros."""

    def __init__(self, size, pad=None, pad_value=0, interpolation=1):
        super().__init__()
        self._args, self._pad, self._value = (pair(size), interpolation), pad, pad_value

    def forward(self, x):
        if self._pad:
            x = nd.array(
                np.pad(x.asnumpy(), borders(self._pad, x.ndim), constant_values=self._value),
                ctx=x.context,
                dtype=x.dtype,
            )
        size, interp = self._args
        h, w = x.shape[-3:-1]
        new_w, new_h = image.scale_down((w, h), size)
        place = random.randint(0, w - new_w), random.randint(0, h - new_h), new_w, new_h
        return part(x, place, size, interp)


def borders(pad, ndim):
    """What `numpy.pad` wants: `pad` is a number, or pairs for height, width and channel."""
    wide = [(pad, pad), (pad, pad), (0, 0)] if isinstance(pad, int) else list(pad)
    return [(0, 0)] * (ndim - 3) + wide


class RandomResizedCrop(Block):
    """A part of random area (`scale`, a share) and random `ratio`, resized to `size`."""

    def __init__(self, size, scale=(0.08, 1.0), ratio=(3.0 / 4.0, 4.0 / 3.0), interpolation=1):
        super().__init__()
        scale = (scale, 1.0) if isinstance(scale, numeric_types) else scale
        self._args = (pair(size), scale, ratio, interpolation)

    def forward(self, x):
        size, scale, ratio, interp = self._args
        h, w = x.shape[-3:-1]
        for _ in range(10):
            area = random.uniform(*scale) * h * w
            shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
            new_w, new_h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < new_w <= w and 0 < new_h <= h:
                place = random.randint(0, w - new_w), random.randint(0, h - new_h), new_w, new_h
                return part(x, place, size, interp)
        return CenterCrop(size, interp)(x)


class RandomFlipLeftRight(HybridBlock):
    """Mirrored, with probability one half."""

    def hybrid_forward(self, F, x):
        return F.image.random_flip_left_right(x)


class RandomFlipTopBottom(HybridBlock):
    """Upside down, with probability one half."""

    def hybrid_forward(self, F, x):
        return F.image.random_flip_top_bottom(x)


class Rotate(Block):
    """Float pictures (…, C, H, W), turned by an angle in degrees."""

    def __init__(self, rotation_degrees, zoom_in=False, zoom_out=False):
        super().__init__()
        self._args = (rotation_degrees, zoom_in, zoom_out)

    def forward(self, x):
        return image.imrotate(floating(x), *self._args)


def floating(x):
    """`x`, which must be float32."""
    if np.dtype(x.dtype) != np.float32:
        raise TypeError(
            "This transformation only supports float32. Consider calling it after ToTensor"
        )
    return x


class RandomRotation(Block):
    """Turned by a random angle, with probability `rotate_with_proba`."""

    def __init__(self, angle_limits, zoom_in=False, zoom_out=False, rotate_with_proba=1.0):
        super().__init__()
        if angle_limits[0] >= angle_limits[1]:
            raise ValueError("`angle_limits` must be an ordered tuple")
        if not 0 <= rotate_with_proba <= 1:
            raise ValueError("Probability of rotating the image should be between 0 and 1")
        self._args, self._proba = (angle_limits, zoom_in, zoom_out), rotate_with_proba

    def forward(self, x):
        if random.random() > self._proba:
            return x
        return image.random_rotate(floating(x), *self._args)


# --- Colours --------------------------------------------------------------------------------------


class RandomFactor(HybridBlock):
    """A change of colour by a random factor within `most` of 1."""

    def __init__(self, most):
        super().__init__()
        self._range = {"min_factor": max(0, 1 - most), "max_factor": 1 + most}


class RandomBrightness(RandomFactor):
    """Brightness changed by up to `brightness`."""

    def __init__(self, brightness):
        super().__init__(brightness)

    def hybrid_forward(self, F, x):
        return F.image.random_brightness(x, **self._range)


class RandomContrast(RandomFactor):
    """Contrast changed by up to `contrast`."""

    def __init__(self, contrast):
        super().__init__(contrast)

    def hybrid_forward(self, F, x):
        return F.image.random_contrast(x, **self._range)


class RandomSaturation(RandomFactor):
    """Saturation changed by up to `saturation`."""

    def __init__(self, saturation):
        super().__init__(saturation)

    def hybrid_forward(self, F, x):
        return F.image.random_saturation(x, **self._range)


class RandomHue(RandomFactor):
    """Hue turned by a random part of a whole turn, as MXNet draws it: within `hue` of 1."""

    def __init__(self, hue):
        super().__init__(hue)

    def hybrid_forward(self, F, x):
        return F.image.random_hue(x, **self._range)


class RandomColorJitter(HybridBlock):
    """Brightness, contrast, saturation and hue, in random order."""

    def __init__(self, brightness=0, contrast=0, saturation=0, hue=0):
        super().__init__()
        self._args = (brightness, contrast, saturation, hue)

    def hybrid_forward(self, F, x):
        names = "brightness", "contrast", "saturation", "hue"
        return F.image.random_color_jitter(x, **dict(zip(names, self._args)))


class RandomLighting(HybridBlock):
    """Plus a random colour along ImageNet's principal ones."""

    def __init__(self, alpha):
        super().__init__()
        self._alpha = alpha

    def hybrid_forward(self, F, x):
        return F.image.random_lighting(x, alpha_std=self._alpha)


class RandomGray(HybridBlock):
    """Grey, with probability `p`."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x, *args):
        if random.random() >= self.p:
            return x
        y = nd.dot(
            x.astype("float32"), nd.array(np.full((3, 3), 1.0) * GREYS[:, None], ctx=x.context)
        )
        return y.astype(x.dtype)


GREYS = np.array([0.21, 0.72, 0.07])
