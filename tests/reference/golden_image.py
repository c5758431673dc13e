"""Ask MXNet 1.9.1 for resized, turned and coloured pictures: `python golden_image.py`, writes golden_image.npz."""

from pathlib import Path
from zlib import crc32

import numpy as np

np.bool = bool
import mxnet as mx

rng = np.random.RandomState(0)
found = {"picture": rng.randint(0, 256, (9, 14, 3)).astype("uint8")}
byte = mx.nd.array(found["picture"], dtype="uint8")
real = byte.astype("float32")
I = mx.nd.image
for interp in range(5):
    for w, h in ((6, 5), (20, 17), (7, 3), (20, 5)):
        found[f"resize-{interp}-{w}-{h}-uint8"] = mx.image.imresize(byte, w, h, interp).asnumpy()
        found[f"resize-{interp}-{w}-{h}-float32"] = mx.image.imresize(real, w, h, interp).asnumpy()
for kind in range(5):
    found[f"border-{kind}"] = mx.image.copyMakeBorder(byte, 1, 2, 3, 4, kind).asnumpy()
for name in ("uint8", "float32"):
    x = byte if name == "uint8" else real
    for low in (0.5, 1.3):
        found[f"brightness-{low}-{name}"] = I.random_brightness(x, low, low).asnumpy()
        found[f"contrast-{low}-{name}"] = I.random_contrast(x, low, low).asnumpy()
        found[f"saturation-{low}-{name}"] = I.random_saturation(x, low, low).asnumpy()
        found[f"hue-{low}-{name}"] = I.random_hue(x, low, low).asnumpy()
    found[f"lighting-{name}"] = I.adjust_lighting(x, (0.1, 0.2, 0.3)).asnumpy()
chw = real.transpose((2, 0, 1))
for angle in (30, -77):
    for zoom in ((False, False), (True, False), (False, True)):
        found[f"rotate-{angle}-{int(zoom[0])}-{int(zoom[1])}"] = mx.image.imrotate(
            chw, angle, *zoom
        ).asnumpy()
sums = []  # of 400 pictures of all sizes: too many to keep
rng = np.random.RandomState(5)
for i in range(400):
    (H, W), (h, w) = rng.randint(3, 70, 2), rng.randint(2, 130, 2)
    size = (2 * H, 2 * W) if i % 3 == 0 else (h, w)
    x = rng.randint(0, 256, (H, W, (3, 1)[i % 2])).astype("uint8")
    y = mx.image.imresize(mx.nd.array(x, dtype="uint8"), int(size[1]), int(size[0]), i // 2 % 5)
    sums.append(crc32(y.asnumpy().tobytes()))
found["checksums"] = np.array(sums)
np.savez_compressed(Path(__file__).with_name("golden_image.npz"), **found)
