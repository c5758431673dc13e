"""What MXNet 1.9.1 makes of pictures with boxes: `~/mx/bin/python tests/reference/golden_boxes.py`."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import numpy.ma

PATH = Path(__file__).with_suffix(".json")
LABEL = [[0, 0.1, 0.2, 0.5, 0.6], [1, 0.4, 0.4, 0.9, 0.95], [2, 0.7, 0.05, 0.8, 0.1]]


def picture():
    """A picture of 60 x 80 in which each place has its own colour."""
    row, column = np.indices((60, 80))
    return np.stack([3 * column, 4 * row, row + column], axis=2).astype("uint8")


def seen(mx):
    """Shapes, sums and boxes after each augmenter, for some seeds; and after all of them."""
    d, found = mx.image.detection, []
    x = mx.nd.array(picture(), dtype="uint8")
    for seed in range(12):
        random.seed(seed)
        for change in (
            d.DetRandomCropAug(area_range=(0.2, 0.9)),
            d.DetRandomPadAug(area_range=(1.0, 3.0)),
            d.DetHorizontalFlipAug(0.5),
            d.CreateMultiRandCropAugmenter([0.1, 0.5, 0.9], area_range=(0.1, 1.0)),
        ):
            found.append(told(*change(x, np.array(LABEL, "float32"))))
    random.seed(0)
    np.random.seed(0)
    augmenters = mx.image.CreateDetAugmenter(
        (3, 40, 50), 70, 0.5, 0.5, rand_mirror=True, mean=True, std=True
    )
    for _ in range(12):
        y, label = x, np.array(LABEL, "float32")
        for change in augmenters:
            y, label = change(y, label)
        found.append(told(y, label))
    return {"found": found, "dumps": [change.dumps() for change in augmenters]}


def told(y, label):
    mean = round(float(y.asnumpy().mean()), 2)
    return [list(y.shape), mean, np.round(label.astype("float64"), 4).tolist()]


if __name__ == "__main__":
    sys.path[:] = sys.path[1:]
    np.bool = bool
    import mxnet

    PATH.write_text(json.dumps(seen(mxnet), separators=(",", ":")) + "\n")
