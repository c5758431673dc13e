"""Pictures with boxes, and the iterators over pictures: MXNet 1.9.1's results, and what it gets wrong."""

import json
import random
import warnings

import numpy as np
import pytest
from PIL import Image

import minigluon as mx
from minigluon import image, recordio
from tests.reference import golden_boxes

GOLDEN = json.loads(golden_boxes.PATH.read_text())
SEEN = golden_boxes.seen(mx)


def test_augmenters_equal_mxnet():
    assert len(SEEN["found"]) == len(GOLDEN["found"]) == 60
    for ours, theirs in zip(SEEN["found"], GOLDEN["found"]):
        assert ours[0] == theirs[0] and ours[1] == pytest.approx(theirs[1], abs=0.02)
        assert np.allclose(ours[2], theirs[2], atol=2e-4)


def test_dumps_equal_mxnet():
    ours, theirs = SEEN["dumps"], GOLDEN["dumps"]
    assert [d if isinstance(d, str) else d[0] for d in ours] == [
        d if isinstance(d, str) else d[0] for d in theirs
    ]


@pytest.fixture
def folder(tmp_path):
    """Pictures 0.png to 6.png, each of one grey, 7.png damaged."""
    for i in range(7):
        Image.fromarray(np.full((20 + i, 24, 3), 10 * i, "uint8")).save(tmp_path / f"{i}.png")
    (tmp_path / "7.png").write_bytes(b"no picture")
    return tmp_path


def epochs(iterator, count=3):
    """(pad, labels) of the batches of some epochs."""
    found = []
    for _ in range(count):
        found.append([(b.pad, b.label[0].asnumpy().tolist()) for b in iterator])
        iterator.reset()
    return found


FULL = [(0, [0, 1, 2]), (0, [3, 4, 5])]


@pytest.mark.parametrize(
    "handle, expected",
    [
        ("pad", [[*FULL, (2, [6, 0, 1])]] * 3),
        ("discard", [FULL] * 3),
        (
            "roll_over",
            [
                FULL,
                [(2, [6, 0, 1]), (0, [2, 3, 4])],
                [(1, [5, 6, 0]), (0, [1, 2, 3]), (0, [4, 5, 6])],
            ],
        ),
    ],
)
def test_the_last_batch(folder, handle, expected):
    rows = [[float(i), f"{i}.png"] for i in range(7)]
    iterator = image.ImageIter(
        3, (3, 8, 8), imglist=rows, path_root=str(folder), last_batch_handle=handle
    )
    assert iterator.provide_data == [("data", (3, 3, 8, 8))]
    assert iterator.provide_label == [("softmax_label", (3,))]
    assert epochs(iterator) == expected


def test_a_list_file_in_parts(folder):
    lines = [f"{i}\t{i}\t{2 * i}\t{i}.png\n" for i in range(7)]
    (folder / "a.lst").write_text("".join(lines))
    settings = {"path_imglist": str(folder / "a.lst"), "path_root": str(folder), "label_width": 2}
    iterator = image.ImageIter(2, (3, 8, 8), num_parts=2, part_index=1, **settings)
    assert epochs(iterator, 1) == [[(0, [[3, 6], [4, 8]]), (1, [[5, 10], [3, 6]])]]
    (folder / "a.lst").write_text("0 1 0.png\n")
    with pytest.raises(ValueError, match="a.lst, line 1: want number"):
        image.ImageIter(2, (3, 8, 8), **settings)


def records(folder, count=5):
    paths = str(folder / "a.idx"), str(folder / "a.rec")
    writer = recordio.MXIndexedRecordIO(*paths, "w")
    for i in range(count):
        objects = [[k, 0.1, 0.1, 0.2 + 0.1 * k, 0.5] for k in range(i % 3 + 1)]
        header = (0, [2, 5, *np.ravel(objects)], i, 0)
        picture = np.full((30, 40, 3), 10 * i, "uint8")
        writer.write_idx(i, recordio.pack_img(header, picture, 9, ".png"))
    writer.close()
    return {"path_imgrec": paths[1], "path_imgidx": paths[0]}


def test_objects_of_records(folder):
    both = records(folder)
    iterator = image.ImageDetIter(2, (3, 8, 8), path_imgrec=both["path_imgrec"])
    assert iterator.provide_label == [("label", (2, 3, 5))] and iterator.label_shape == (3, 5)
    batches = list(iterator)
    assert [b.pad for b in batches] == [0, 0, 1]
    first = batches[0].label[0].asnumpy()
    assert (first[0, 1:] == -1).all() and np.allclose(first[1, 1], [1, 0.1, 0.1, 0.3, 0.5])
    assert batches[2].data[0][:, 0, 0, 0].asnumpy().tolist() == [40, 0]
    random.seed(1)
    shuffled = image.ImageDetIter(5, (3, 8, 8), shuffle=True, **both)
    greys = [next(shuffled).data[0][:, 0, 0, 0].asnumpy().tolist()]
    shuffled.reset()
    greys.append(next(shuffled).data[0][:, 0, 0, 0].asnumpy().tolist())
    assert sorted(greys[0]) == sorted(greys[1]) == [0, 10, 20, 30, 40] and greys[0] != greys[1]


def test_room_for_objects(folder):
    a = image.ImageDetIter(2, (3, 8, 8), **records(folder))
    rows = [[[2, 5, 0, 0.1, 0.2, 0.3, 0.4], "0.png"]]
    b = image.ImageDetIter(1, (3, 8, 8), imglist=rows, path_root=str(folder))
    assert b.label_shape == (1, 5) and a.sync_label_shape(b) is b
    assert a.label_shape == b.label_shape == next(b).label[0].shape[1:] == (3, 5)
    b.reshape((3, 6, 6), (7, 5))
    assert b.provide_data[0][1] == (1, 3, 6, 6) and b.provide_label[0][1] == (1, 7, 5)
    for wrong in ((3, 5), (9, 6), (9,)):
        with pytest.raises(ValueError):
            b.reshape(label_shape=wrong)
    with pytest.raises(ValueError, match="3 channels"):
        b.reshape((1, 4, 4))


def test_drawn(folder):
    rows = [[[2, 5, 0, 0.25, 0.25, 0.75, 0.75], "0.png"]]
    iterator = image.ImageDetIter(1, (3, 20, 20), imglist=rows, path_root=str(folder))
    (drawn,) = list(iterator.draw_next(color=(255, 0, 0), thickness=1, id2labels={0: "a"}))
    assert drawn.shape == (20, 20, 3) and drawn[5, 5:15].tolist() == [[255, 0, 0]] * 10


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda f: image.ImageIter(1, (3, 4, 4)), AssertionError, "imglist"),
        (lambda f: image.ImageIter(1, (3, 4), imglist=[]), ValueError, "length 3"),
        (lambda f: image.ImageIter(1, (1, 4, 4), imglist=[]), ValueError, "3 channels"),
        (lambda f: image.ImageIter(1, (3, 4, 4), imglist=[], dtype="int8"), AssertionError, "int8"),
        (
            lambda f: next(image.ImageIter(1, (3, 4, 4), imglist=[[1, "7.png"]], path_root=str(f))),
            RuntimeError,
            "Broken image filename: 7.png",
        ),
        (
            lambda f: image.ImageIter(
                1, (3, 4, 4), path_imgrec=records(f)["path_imgrec"], shuffle=True
            ),
            AssertionError,
            "path_imgidx",
        ),
        (lambda f: image.ImageDetIter(1, (3, 4, 4), imglist=[[1, "0.png"]]), RuntimeError, "7 num"),
        (
            lambda f: image.ImageDetIter(1, (3, 4, 4), imglist=[[[2, 0, 0, 0, 0, 1, 1], "0.png"]]),
            RuntimeError,
            "annotation width 0",
        ),
        (
            lambda f: image.ImageDetIter(1, (3, 4, 4), imglist=[[[2, 5, 0, 1, 0, 0, 1], "0.png"]]),
            RuntimeError,
            "no valid label",
        ),
        (lambda f: image.DetBorrowAug(3), TypeError, "3"),
        (lambda f: image.DetRandomSelectAug([image.CastAug()]), ValueError, "DetAugmenter"),
    ],
)
def test_faults(folder, make, error, words):
    with pytest.raises(error, match=words):
        make(folder)


def test_ranges_that_are_none_warn():
    x, label = mx.nd.zeros((20, 20, 3), dtype="uint8"), np.array([[0, 0.2, 0.2, 0.8, 0.8]])
    for make in (
        lambda: image.DetRandomCropAug(area_range=(0.9, 0.1)),
        lambda: image.DetRandomPadAug(area_range=(1.0, 0.5)),
        lambda: image.DetRandomPadAug(aspect_ratio_range=(2, 1)),
    ):
        with pytest.warns(UserWarning, match="Skip DetRandom"):
            change = make()
        assert change(x, label)[0] is x


def test_a_number_is_a_range():
    random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = mx.nd.zeros((40, 40, 3), dtype="uint8")
        y, _ = image.DetRandomPadAug(1.0, 4.0, pad_val=7)(x, np.array([[0, 0.2, 0.2, 0.8, 0.8]]))
    assert y.shape[0] == y.shape[1] and 40 < y.shape[0] <= 80 and 7 in y.asnumpy()
