"""Iterators over arrays and files: what MXNet 1.9.1 gave for the same calls."""

import gzip
import pickle
import struct

import numpy as np
import pytest

import minigluon as mx
from minigluon import io, nd, recordio
from minigluon.base import MXNetError

D = np.arange(24).reshape(8, 3).astype("float32")
L = np.arange(8)


def labels(iterator, epochs=3):
    found = []
    for _ in range(epochs):
        found.append([(b.label[0].asnumpy().astype(int).tolist(), b.pad) for b in iterator])
        iterator.reset()
    return found


LAST = {
    "pad": [[([0, 1, 2], 0), ([3, 4, 5], 0), ([6, 0, 1], 2)]] * 3,
    "discard": [[([0, 1, 2], 0), ([3, 4, 5], 0)]] * 3,
    "roll_over": [
        [([0, 1, 2], 0), ([3, 4, 5], 0)],
        [([6, 0, 1], 1), ([2, 3, 4], 0)],
        [([5, 6, 0], 2), ([1, 2, 3], 0), ([4, 5, 6], 0)],
    ],
}


@pytest.mark.parametrize("way", LAST)
def test_last_batch(way):
    iterator = io.NDArrayIter(D[:7], L[:7], 3, last_batch_handle=way)
    assert iterator.num_data == 7
    assert labels(iterator) == LAST[way]
    iterator.hard_reset()
    batch = iterator.next()
    assert batch.data[0].asnumpy().tolist() == D[:3].tolist() and batch.index is None
    assert batch.label[0].dtype == np.float32


def test_descriptions():
    iterator = io.NDArrayIter(D, L, 3)
    (described,) = iterator.provide_data
    assert described == ("data", (3, 3)) and described.dtype == np.float32
    assert repr(iterator.provide_label) == (
        "[DataDesc[softmax_label,(3,),<class 'numpy.float32'>,NCHW]]"
    )
    several = io.NDArrayIter({"a": D, "c": D * 2, "b": D[:, 0]}, {"y": L}, 5)
    assert [d.name for d in several.provide_data] == ["a", "b", "c"]
    assert str(several.next()) == (
        "DataBatch: data shapes: [(5, 3), (5,), (5, 3)] label shapes: [(5,)]"
    )
    listed = io.NDArrayIter([D, D], batch_size=5)
    assert [d.name for d in listed.provide_data] == ["_0_data", "_1_data"]
    assert listed.provide_label == [] and listed.next().label == []
    assert str(io.DataBatch([nd.ones((1,))])).endswith("label shapes: None")
    typed = io.NDArrayIter(nd.array(L, dtype="int32"), batch_size=5)
    assert typed.provide_data[0].dtype == np.int32
    time_major = io.NDArrayIter(D.reshape(2, 4, 3), batch_size=2, layout="TNC")
    assert time_major.provide_data[0].shape == (2, 2, 3) and time_major.num_data == 2
    assert [b.data[0].shape for b in time_major] == [(2, 2, 3)]
    assert io.DataDesc.get_batch_axis("TNC") == 1 and io.DataDesc.get_batch_axis(None) == 0
    assert (
        repr(io.DataDesc.get_list([("a", (1,))], [("a", "int8")])) == "[DataDesc[a,(1,),int8,NCHW]]"
    )
    assert io.DataDesc.get_list([("a", (1,))], None)[0].dtype is np.float32
    again = pickle.loads(pickle.dumps(io.DataDesc("a", (1,), "int8", "NC")))
    assert (again.dtype, again.layout) == ("int8", "NC")


def test_shuffle_is_that_of_mxnet():
    np.random.seed(0)
    assert labels(io.NDArrayIter(D, L, 3, True), 2) == [
        [([6, 2, 1], 0), ([7, 3, 0], 0), ([5, 4, 6], 1)],
        [([1, 0, 4], 0), ([3, 5, 7], 0), ([2, 6, 1], 1)],
    ]


def test_a_batch_larger_than_the_data():
    (batch,) = io.NDArrayIter(D, L, 20)
    assert batch.pad == 12 and batch.label[0].asnumpy().tolist() == [*L, *L, *L[:4]]
    assert list(io.NDArrayIter(D, L, 20, last_batch_handle="discard")) == []
    rolling = io.NDArrayIter(D, L, 20, last_batch_handle="roll_over")
    assert list(rolling) == []


def test_getters_and_the_way_by_hand():
    iterator = io.NDArrayIter(D, L, 3)
    assert iterator.iter_next() and iterator.cursor == 0
    assert iterator.getdata()[0].shape == (3, 3) and iterator.getpad() == 0
    assert iterator.getlabel()[0].asnumpy().tolist() == [0, 1, 2]


def test_sparse():
    sparse = nd.array(D).tostype("csr")
    first, _ = io.NDArrayIter(sparse, L, 3, last_batch_handle="discard")
    assert first.data[0].asnumpy().tolist() == D[:3].tolist()
    np.random.seed(0)
    shuffled = io.NDArrayIter(sparse, L, 3, True, last_batch_handle="discard")
    batch = shuffled.next()
    rows = batch.label[0].asnumpy().astype(int)
    assert batch.data[0].asnumpy().tolist() == D[rows].tolist()
    with pytest.raises(NotImplementedError):
        io.NDArrayIter(sparse, L, 3)


REFUSED = [
    (lambda: io.NDArrayIter(None), AssertionError),
    (lambda: io.NDArrayIter([]), AssertionError),
    (lambda: io.NDArrayIter("abc"), TypeError),
    (lambda: io.NDArrayIter({"a": "x"}), TypeError),
    (lambda: io.NDArrayIter(D, L, 3, last_batch_handle="foo"), ValueError),
    (lambda: io.NDArrayIter(D, L, 0), ValueError),
    (lambda: io.DataBatch(D), AssertionError),
    (lambda: io.DataBatch([D], D), AssertionError),
]


@pytest.mark.parametrize(("call", "error"), REFUSED)
def test_refused(call, error):
    with pytest.raises(error):
        call()


def test_resize():
    resized = io.ResizeIter(io.NDArrayIter(D, L, 3), 5)
    assert [b.label[0].asnumpy().tolist() for b in resized] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 0],
        [0, 1, 2],
        [3, 4, 5],
    ]
    resized.reset()
    assert resized.next().label[0].asnumpy().tolist() == [0, 1, 2]
    short = io.ResizeIter(io.NDArrayIter(D, L, 3), 1, reset_internal=False)
    assert len(list(short)) == 1
    short.reset()
    assert short.next().label[0].asnumpy().tolist() == [3, 4, 5]
    assert short.provide_data == [("data", (3, 3))] and short.batch_size == 3


def test_prefetching():
    names = {
        "rename_data": [{"data": "d1"}, {"data": "d2"}],
        "rename_label": [{"softmax_label": "l1"}, {"softmax_label": "l2"}],
    }
    both = io.PrefetchingIter([io.NDArrayIter(D, L, 3), io.NDArrayIter(D + 1, L, 3)], **names)
    assert [d.name for d in both.provide_data + both.provide_label] == ["d1", "d2", "l1", "l2"]
    assert both.batch_size == 3
    for _ in range(2):
        batches = list(both)
        assert [b.pad for b in batches] == [0, 0, 1]
        assert (batches[0].data[1] - batches[0].data[0]).asnumpy().min() == 1
        assert list(both) == []
        both.reset()
    both.next()
    both.reset()
    assert both.next().label[0].asnumpy().tolist() == [0, 1, 2]
    assert len(list(io.PrefetchingIter(io.NDArrayIter(D, L, 3)))) == 3
    uneven = io.PrefetchingIter([io.NDArrayIter(D, L, 3), io.NDArrayIter(D[:3], L[:3], 3)])
    uneven.next()
    with pytest.raises(AssertionError, match="mismatches"):
        uneven.next()


class Failing(io.DataIter):
    provide_data = provide_label = [io.DataDesc("data", (2,))]

    def next(self):
        raise KeyError("no such thing")


def test_an_error_while_prefetching_is_raised():
    with pytest.raises(KeyError, match="no such thing"):
        io.PrefetchingIter(Failing()).next()


def test_an_iterator_of_your_own():
    class Squares(io.DataIter):
        n = 0

        def iter_next(self):
            self.n += 1
            return self.n < 4

        def getdata(self):
            return [nd.array([self.n**2])]

    assert [b.data[0].asscalar() for b in Squares()] == [1, 4, 9]
    io.DataIter().reset()


# --- Files ----------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path):
    np.savetxt(tmp_path / "d.csv", D, delimiter=",")
    np.savetxt(tmp_path / "l.csv", L, delimiter=",")
    return {"data_csv": str(tmp_path / "d.csv"), "label_csv": str(tmp_path / "l.csv")}


ROUND = {
    True: [
        [([0, 1, 2], 0), ([3, 4, 5], 0), ([6, 7, 0], 1)],
        [([1, 2, 3], 0), ([4, 5, 6], 0), ([7, 0, 1], 2)],
    ],
    False: [[([0, 1, 2], 0), ([3, 4, 5], 0), ([6, 7, 5], 1)]] * 2,
}


@pytest.mark.parametrize("way", ROUND)
def test_csv(csv, way):
    iterator = io.CSVIter(**csv, data_shape=(3,), label_shape=(1,), batch_size=3, round_batch=way)
    assert isinstance(iterator, io.MXDataIter)
    assert iterator.provide_data == [("data", (3, 3))]
    assert iterator.provide_label == [("softmax_label", (3,))]
    assert labels(iterator, 2) == ROUND[way]
    batch = iterator.next()
    assert len(batch.index) == 3 and batch.data[0].dtype == np.float32


def test_csv_types(csv, tmp_path):
    alone = io.CSVIter(data_csv=csv["data_csv"], data_shape=(3,), batch_size=3, dtype="int32")
    batch = alone.next()
    assert batch.data[0].dtype == np.int32 and batch.label[0].asnumpy().tolist() == [0, 0, 0]
    with pytest.raises(MXNetError, match="rows of 3 numbers"):
        io.CSVIter(data_csv=csv["data_csv"], data_shape=(2,), batch_size=3)
    with pytest.raises(MXNetError, match="none.csv"):
        io.CSVIter(data_csv=str(tmp_path / "none.csv"), data_shape=(2,), batch_size=3)
    square = io.CSVIter(data_csv=csv["data_csv"], data_shape=(3, 1), batch_size=8)
    assert square.next().data[0].shape == (8, 3, 1)


def test_mnist(tmp_path):
    images = np.arange(200, dtype="u1").reshape(10, 4, 5)
    (tmp_path / "im").write_bytes(struct.pack(">IIII", 2051, 10, 4, 5) + images.tobytes())
    (tmp_path / "lb").write_bytes(struct.pack(">II", 2049, 10) + bytes(range(10)))
    paths = {"image": str(tmp_path / "im"), "label": str(tmp_path / "lb")}
    first, second = io.MNISTIter(**paths, batch_size=4, shuffle=False)
    assert first.data[0].shape == (4, 1, 4, 5) and second.label[0].asnumpy().tolist() == [
        4,
        5,
        6,
        7,
    ]
    assert second.data[0].asnumpy().ravel()[:2].tolist() == [0.3125, 0.31640625]
    flat = io.MNISTIter(**paths, batch_size=4, flat=True, shuffle=True, seed=1)
    assert flat.provide_data == [("data", (4, 20))] and len(list(flat)) == 2
    (tmp_path / "im").write_bytes(struct.pack(">IIII", 2051, 2**31, 2**31, 2**31))
    with pytest.raises(MXNetError, match="no MNIST file"):
        io.MNISTIter(**paths)
    (tmp_path / "im").write_bytes(gzip.compress(b"x"))
    with pytest.raises(MXNetError, match="no MNIST file|within its header"):
        io.MNISTIter(**paths)


def test_libsvm(tmp_path):
    path = tmp_path / "s.svm"
    path.write_text("1 0:1.5 2:3\n0 1:2\n-1 2:7\n3 0:1 1:2 2:3\n5\n")
    iterator = io.LibSVMIter(data_libsvm=str(path), data_shape=(3,), batch_size=2)
    batches = list(iterator)
    assert [b.label[0].asnumpy().tolist() for b in batches] == [[1, 0], [-1, 3], [5, 1]]
    assert batches[2].data[0].asnumpy().tolist() == [[0, 0, 0], [1.5, 0, 3]]
    assert batches[0].data[0].stype == "csr" and batches[2].pad == 1
    path.write_text("1 5:1\n")
    with pytest.raises(MXNetError, match="line 1"):
        io.LibSVMIter(data_libsvm=str(path), data_shape=(3,), batch_size=2)


# --- Images ---------------------------------------------------------------------------------------


@pytest.fixture
def rec(tmp_path):

    rng, images = np.random.default_rng(0), []
    writer = recordio.MXRecordIO(str(tmp_path / "im.rec"), "w")
    for i in range(7):
        images.append(rng.integers(0, 256, (10 + i, 12, 3), "uint8"))
        writer.write(recordio.pack_img((0, float(i), i, 0), images[-1], 3, ".png"))
    writer.close()
    return str(tmp_path / "im.rec"), images


def middle(image):
    top, left = (image.shape[0] - 8) // 2, (image.shape[1] - 8) // 2
    return image[top : top + 8, left : left + 8, ::-1].transpose(2, 0, 1).astype("float32")


def test_image_records(rec):
    path, images = rec
    settings = {"path_imgrec": path, "data_shape": (3, 8, 8), "batch_size": 3, "verbose": False}
    iterator = io.ImageRecordIter(**settings, preprocess_threads=2)
    assert iterator.provide_data == [("data", (3, 3, 8, 8))]
    assert iterator.provide_label == [("softmax_label", (3,))]
    assert labels(iterator, 2) == [
        [([0, 1, 2], 0), ([3, 4, 5], 0), ([6, 0, 1], 2)],
        [([2, 3, 4], 0), ([5, 6, 0], 1)],
    ]
    batch = io.ImageRecordIter(**settings).next()
    assert (batch.data[0].asnumpy() == np.stack([middle(x) for x in images[:3]])).all()
    mean = {"mean_r": 10, "mean_g": 20, "mean_b": 30, "std_r": 2, "std_g": 3, "std_b": 4}
    batch = io.ImageRecordIter(**settings, **mean, scale=0.5, mirror=True).next()
    red = (middle(images[1])[0, :, ::-1] - 10) * 0.5 / 2
    np.testing.assert_allclose(batch.data[0].asnumpy()[1, 0], red, 1e-6)
    assert io.ImageRecordUInt8Iter(**settings).next().data[0].dtype == np.uint8
    part = io.ImageRecordIter(**settings, num_parts=2, part_index=1)
    assert labels(part, 1) == [[([4, 5, 6], 0)]]
    grey = io.ImageRecordIter(**{**settings, "data_shape": (1, 20, 20)}, resize=9)
    assert grey.next().data[0].shape == (3, 1, 20, 20)
    chance = io.ImageRecordIter(**settings, rand_crop=True, rand_mirror=True, shuffle=True, seed=3)
    seen = [int(y) for b in chance for y in b.label[0].asnumpy()]
    assert sorted(seen[:7]) == list(range(7)) and seen[:7] != list(range(7))
    with pytest.raises(MXNetError, match="max_rotate_angel"):
        io.ImageRecordIter(**settings, max_rotate_angel=10)
    with pytest.raises(MXNetError, match="label_width is 2"):
        io.ImageRecordIter(**settings, label_width=2)
    with pytest.raises(MXNetError, match="No such file"):
        io.ImageRecordIter(**{**settings, "path_imgrec": path + "x"})


def test_the_mean_image_is_made_once_and_subtracted_before_the_mirror(rec, tmp_path):
    path, images = rec
    settings = {"path_imgrec": path, "data_shape": (3, 8, 8), "batch_size": 7}
    settings["mean_img"] = str(tmp_path / "mean.bin")
    whole = np.stack([middle(x) for x in images])
    first = io.ImageRecordIter(**settings).next().data[0].asnumpy()
    np.testing.assert_allclose(first, whole - whole.mean(0), atol=1e-3)
    (name, mean), *rest = mx.nd.load(settings["mean_img"]).items()
    assert name == "mean_img" and not rest
    mx.nd.save(settings["mean_img"], {name: mean + 1})  # what is there is taken
    again = io.ImageRecordIter(**settings, mirror=True, scale=0.5, mean_r=9, std_g=2.0)
    found = again.next().data[0].asnumpy()  # as in MXNet the channels' means do not count then
    half = np.array([1, 0.5, 1], "float32")[:, None, None] / 2
    np.testing.assert_allclose(found, (first - 1)[..., ::-1] * half, atol=1e-3)
    assert io.ImageRecordUInt8Iter(**settings).next().data[0].asnumpy().max() > 200
    with pytest.raises(MXNetError, match=r"a mean of shape \(3, 8, 8\)"):
        io.ImageRecordIter(**{**settings, "data_shape": (3, 6, 6)})


def test_a_list_has_the_last_word_on_labels(rec, tmp_path):
    settings = {"path_imgrec": rec[0], "data_shape": (3, 8, 8), "batch_size": 2}
    lines = [f"{i}\t{10 + i}.5\t{-i}\timage{i}.png\n" for i in range(7)]
    (tmp_path / "all.lst").write_text("".join(lines))
    settings["path_imglist"] = str(tmp_path / "all.lst")
    assert io.ImageRecordIter(**settings).next().label[0].asnumpy().tolist() == [10.5, 11.5]
    two = io.ImageRecordIter(**settings, label_width=2).next().label[0].asnumpy()
    assert two.tolist() == [[10.5, 0], [11.5, -1]]
    boxes = io.ImageDetRecordIter(**settings).next().label[0].asnumpy()
    assert boxes[:, 3:].tolist() == [[2, 10.5, 0], [2, 11.5, -1]]
    (tmp_path / "all.lst").write_text("".join(lines[:3]))
    with pytest.raises(MXNetError, match="no line for image 3"):
        io.ImageRecordIter(**settings)


def coloured_records(tmp_path, label=lambda i: i):
    path = str(tmp_path / "c.rec")
    writer = recordio.MXRecordIO(path, "w")
    rng = np.random.default_rng(0)
    for i in range(6):
        picture = np.repeat(np.repeat(rng.integers(0, 256, (8, 10, 3)), 4, 0), 4, 1)
        writer.write(recordio.pack_img((0, label(i), i, 0), picture.astype("uint8"), 9, ".png"))
    writer.close()
    return path


def batch_of(path, **settings):
    iterator = io.ImageRecordIter(path, (3, 32, 40), 6, **settings)
    return next(iterator).data[0].asnumpy()


def test_varied_images(tmp_path):
    """Each way to vary an image: what it must do, and that it stays where it should."""
    path = coloured_records(tmp_path)
    plain = batch_of(path)
    assert np.array_equal(batch_of(path, rotate=360), plain)
    assert np.array_equal(batch_of(path, rotate=180), plain[:, :, ::-1, ::-1])
    assert np.array_equal(batch_of(path, max_rotate_angle=0, max_shear_ratio=0.0, pad=0), plain)
    turned = batch_of(path, max_rotate_angle=20, fill_value=0, seed=1)
    assert (turned[:, :, 0, 0] == 0).any() and not np.array_equal(turned, plain)
    wide = batch_of(path, pad=5, fill_value=7, max_crop_size=42, min_crop_size=42)
    assert (wide[:, :, 0] == 7).all() and (wide[:, :, 16, 20] != 7).any()
    near = batch_of(path, random_resized_crop=True, min_random_area=0.1, max_random_area=0.2)
    steps = [np.abs(np.diff(x)).mean() for x in (near, plain)]
    assert steps[0] < 0.8 * steps[1]  # enlarged, an image changes more slowly
    for name in ("max_shear_ratio", "max_aspect_ratio"):
        assert not np.array_equal(batch_of(path, **{name: 0.3}), plain)
    grey = batch_of(path, rand_gray=1.0)
    assert np.allclose(grey[:, 0], grey[:, 1]) and np.allclose(grey[:, 0], grey[:, 2])
    for name in ("brightness", "contrast", "saturation", "pca_noise", "random_h"):
        varied = batch_of(path, **{name: 10 if name == "random_h" else 0.3}, seed=2)
        assert varied.min() >= 0 and varied.max() <= 255 and np.abs(varied - plain).max() > 1, name
    same = batch_of(path, brightness=0.3, rand_crop=True, max_rotate_angle=9, seed=5)
    assert np.array_equal(
        same, batch_of(path, brightness=0.3, rand_crop=True, max_rotate_angle=9, seed=5)
    )


def test_hue_lightness_saturation_equal_colorsys():
    import colorsys

    from minigluon.io.io import shifted

    x = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype("float32")
    x[0, 0], x[0, 1], x[0, 2] = 0, 255, 77  # greys have no hue
    assert np.allclose(shifted(x, 0, 0, 0), x, atol=1e-3)
    for hue, light, colour in [(30, 0, 0), (0, 40, 0), (0, 0, -60), (-50, -30, 25)]:
        ours = shifted(x, hue, light, colour)
        for ours_bgr, (b, g, r) in zip(ours.reshape(-1, 3), x.reshape(-1, 3) / 255):
            h, lightness, s = colorsys.rgb_to_hls(r, g, b)
            moved = [min(1, max(0, v + d / 255)) for v, d in ((lightness, light), (s, colour))]
            wanted = colorsys.hls_to_rgb((h + hue / 180) % 1, *moved)
            assert np.allclose(ours_bgr[::-1] / 255, wanted, atol=1e-4)


def test_labels_of_any_length(tmp_path):
    path = coloured_records(tmp_path, lambda i: [2, 5] + [i, 0.1, 0.2, 0.5, 0.6] * (i % 2 + 1))
    iterator = io.ImageDetRecordIter(path, (3, 20, 24), 4, label_pad_width=15)
    batch = next(iterator)
    assert batch.data[0].shape == (4, 3, 20, 24) and batch.label[0].shape == (4, 19)
    row = batch.label[0][0].asnumpy()
    assert row[:6].tolist() == [3, 20, 24, 7, 2, 5] and (row[11:] == -1).all()
    assert next(io.ImageDetRecordIter(path, (3, 20, 24), 2)).label[0].shape == (2, 16)
    with pytest.raises(MXNetError, match="label_pad_width is 9"):
        io.ImageDetRecordIter(path, (3, 20, 24), 2, label_pad_width=9)
    with pytest.raises(MXNetError, match="rand_crop_chance"):
        io.ImageDetRecordIter(path, (3, 20, 24), 2, rand_crop_chance=0.5)
    with pytest.raises(MXNetError, match="resize_mode 'fit'"):
        io.ImageDetRecordIter(path, (3, 20, 24), 2, resize_mode="fit")


CROP = {"rand_crop_prob": 1, "min_crop_scales": 0.5, "max_crop_scales": 0.9}
LOOSE = {"min_crop_aspect_ratios": 0.5, "max_crop_aspect_ratios": 2.0, "rand_mirror_prob": 0.5}
MOVES = {
    "mirror": {"rand_mirror_prob": 1},
    "border": {"rand_pad_prob": 1, "max_pad_scale": 2.0, "rand_mirror_prob": 0.5},
    "cut": {**CROP, **LOOSE, "min_crop_object_coverages": 0.3},
    "samplers": {
        **CROP,
        **LOOSE,
        "min_crop_scales": (0.5, 0.7),
        "max_crop_scales": (0.8, 1.0),
        "num_crop_sampler": 2,
        "crop_emit_mode": "overlap",
        "min_crop_overlaps": (0.1, 0.0),
    },
    "all": {**CROP, **LOOSE, "rand_pad_prob": 0.7, "max_pad_scale": 1.5, "fill_value": 0},
}


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES)
def test_boxes_move_with_their_pictures(tmp_path, moves):
    path, box = str(tmp_path / "box.rec"), (10, 20, 40, 50)
    writer = recordio.MXRecordIO(path, "w")
    picture = np.full((60, 80, 3), 30, "uint8")
    picture[box[1] : box[3], box[0] : box[2]] = 230
    label = [2, 6, 4, *np.array(box) / [80, 60, 80, 60], 7]
    for i in range(12):
        writer.write(recordio.pack_img((0, label, i, 0), picture, 3, ".png"))
    writer.close()
    batch = io.ImageDetRecordIter(path, (3, 96, 96), 12, seed=1, **moves).next()
    seen = set()
    for image, row in zip(batch.data[0].asnumpy(), batch.label[0].asnumpy()):
        assert row[:7].tolist() == [3, 96, 96, 8, 2, 6, 4] and row[11] == 7
        there = np.argwhere(image[0] > 180)
        (top, left), (bottom, right) = there.min(0), there.max(0) + 1
        np.testing.assert_allclose(row[7:11] * 96, [left, top, right, bottom], atol=2.1)
        seen.add(tuple(row[7:11]))
    assert (len(seen) == 1) == (moves == MOVES["mirror"])


def test_colours_vary_and_boxes_stay(tmp_path):
    path = coloured_records(tmp_path, lambda i: [2, 5, i, 0.1, 0.2, 0.5, 0.6])
    still = io.ImageDetRecordIter(path, (3, 20, 24), 4).next()
    for key, most in (("hue", 40), ("illumination", 60), ("saturation", 60), ("contrast", 0.5)):
        chance = {f"max_random_{key}": most, f"random_{key}_prob": 1.0}
        batch = io.ImageDetRecordIter(path, (3, 20, 24), 4, **chance).next()
        assert abs(batch.data[0] - still.data[0]).asnumpy().max() > 3
        assert (batch.label[0] == still.label[0]).asnumpy().all()


def test_whole_numbers_stay_in_range(tmp_path):
    path = coloured_records(tmp_path)
    small = next(io.ImageRecordInt8Iter(path, (3, 32, 40), 6)).data[0]
    bytes_ = next(io.ImageRecordUInt8Iter(path, (3, 32, 40), 6)).data[0].asnumpy()
    assert small.dtype == np.int8 and np.array_equal(small.asnumpy(), bytes_.clip(0, 127))
