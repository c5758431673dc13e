"""Detection beyond the table: numbers of the real MXNet, a known textbook's, properties, odd input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigluon as mx
from minigluon import autograd, nd
from minigluon.ops import detection

# --- Numbers of MXNet 1.9.1 -----------------------------------------------------------------------

ANCHORS = [
    [0.0, 0.0, 0.4, 0.4],
    [0.1, 0.0, 0.5, 0.4],
    [0.1, 0.2, 0.5, 0.6],
    [0.5, 0.5, 1.0, 1.0],
    [0.6, 0.4, 1.0, 0.9],
    [0.5, 0.0, 0.9, 0.3],
    [0.0, 0.6, 0.3, 1.0],
    [0.2, 0.2, 0.8, 0.8],
]
LABELS = [
    [[1, 0.05, 0.05, 0.45, 0.45], [0, 0.55, 0.45, 0.95, 0.95], [-1] * 5],
    [[0, 0.3, 0.3, 0.7, 0.7], [-1] * 5, [-1] * 5],
]
LOGITS = ((np.arange(48) * 7 % 11 - 5) / 4).reshape(2, 3, 8)
CHANCES = ((np.arange(48) * 5 % 17 + 1) / 20).reshape(2, 3, 8)
SHIFTS = ((np.arange(64) * 3 % 7 - 3) / 2).reshape(2, 32)
TABLE = [  # class, score, box, number of the row
    [i % 2, (i * 5 % 8 + 1) / 10, *box, i] for i, box in enumerate(ANCHORS)
]


TARGETS = [  # settings, classes of the anchors
    ({}, [[2, 2, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]),
    ({"overlap_threshold": 0.3}, [[2, 2, 2, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]),
    ({"negative_mining_ratio": 3}, [[2, 2, 0, 1, 1, 0, 0, 0], [0, -1, 0, 0, -1, -1, -1, 1]]),
    (
        {"negative_mining_ratio": 1, "ignore_label": -5},
        [[2, 2, 0, 1, 1, 0, 0, 0], [0, -5, -5, -5, -5, -5, -5, 1]],
    ),
    (
        {
            "negative_mining_ratio": 0.7,
            "negative_mining_thresh": 0.25,
            "minimum_negative_samples": 4,
        },
        [[2, 2, -1, 1, 1, 0, -1, 0], [-1, -1, -1, -1, -1, -1, -1, 1]],
    ),
]
OFFSETS = {  # (image, anchor): the target; all others are 0
    (0, 0): [1.25, 1.25, -0.0, -0.0],
    (0, 1): [-1.25, 1.25, -0.0, -0.0],
    (0, 3): [0, -1.0, -1.1157, 0],
    (0, 4): [-1.25, 1.0, 0, 0.0],
    (1, 7): [0, 0, -2.0273, -2.0273],
}
DETECTIONS = [  # settings, the first four rows of the second picture, all classes
    (
        {},
        [
            [1, 0.85, 0.62, 0.2375, 1, 0.9125],
            [0, 0.8, 0.5163, 0.0142, 0.8437, 0.3458],
            [1, 0.75, 0.2284, 0.2178, 0.8916, 0.6622],
            [1, 0.7, 0.019, 0.0118, 0.461, 0.3082],
        ],
        [[0, 1, 0, 1, 1, 0, 1, 1], [1, 0, 1, 1, 0, 1, 1, 1]],
    ),
    (
        {"nms_threshold": 0.2},
        [
            [1, 0.85, 0.62, 0.2375, 1, 0.9125],
            [0, 0.8, 0.5163, 0.0142, 0.8437, 0.3458],
            [-1, 0.75, 0.2284, 0.2178, 0.8916, 0.6622],
            [1, 0.7, 0.019, 0.0118, 0.461, 0.3082],
        ],
        [[0, 1, 0, 1, 1, 0, -1, 1], [1, 0, -1, 1, 0, -1, 1, 1]],
    ),
    (
        {"nms_threshold": 0.2, "force_suppress": True},
        [
            [1, 0.85, 0.62, 0.2375, 1, 0.9125],
            [0, 0.8, 0.5163, 0.0142, 0.8437, 0.3458],
            [-1, 0.75, 0.2284, 0.2178, 0.8916, 0.6622],
            [1, 0.7, 0.019, 0.0118, 0.461, 0.3082],
        ],
        [[0, 1, 0, -1, 1, -1, -1, 1], [1, 0, -1, 1, -1, -1, 1, 1]],
    ),
    (
        {"nms_topk": 3, "threshold": 0.45},
        [
            [1, 0.85, 0.62, 0.2375, 1, 0.9125],
            [0, 0.8, 0.5163, 0.0142, 0.8437, 0.3458],
            [1, 0.75, 0.2284, 0.2178, 0.8916, 0.6622],
            [-1, 0.85, 0.62, 0.2375, 1, 0.9125],
        ],
        [[0, 1, 0, -1, -1, -1, -1, -1], [1, 0, 1, -1, -1, -1, -1, -1]],
    ),
    (
        {"nms_threshold": 0, "threshold": 0.75, "clip": False},
        [
            [1, 0.85, 0.62, 0.2375, 1.02, 0.9125],
            [0, 0.8, 0.5163, 0.0142, 0.8437, 0.3458],
            [1, 0.75, 0.2284, 0.2178, 0.8916, 0.6622],
            [-1, -1, -1, -1, -1, -1],
        ],
        [[0, 1, 0, -1, -1, -1, -1, -1], [1, 0, 1, -1, -1, -1, -1, -1]],
    ),
]
NMS = [  # settings, the rows that remain
    ({}, [3, 6, 1, 7, 2, 5]),
    ({"overlap_thresh": 0.2}, [3, 6, 1, 7, 5]),
    ({"overlap_thresh": 0.2, "id_index": 0}, [3, 6, 1, 4, 7, 2, 5]),
    ({"overlap_thresh": 0.2, "id_index": 0, "force_suppress": True}, [3, 6, 1, 7, 5]),
    ({"overlap_thresh": 0.2, "id_index": 0, "background_id": 1}, [6, 4, 2]),
    ({"overlap_thresh": 0.2, "valid_thresh": 0.35}, [3, 6, 1, 7]),
    ({"overlap_thresh": 0.2, "topk": 3}, [3, 6, 1]),
    ({"overlap_thresh": 0.2, "topk": 0}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ({"overlap_thresh": 0.2, "in_format": "center"}, [3, 6, 1]),
    ({"overlap_thresh": 0.0, "out_format": "center"}, [3, 6, 1, 5]),
]


def close(x, want, tolerance=1e-4):
    np.testing.assert_allclose(x.asnumpy() if hasattr(x, "asnumpy") else x, want, atol=tolerance)


@pytest.mark.parametrize("options, classes", TARGETS)
def test_targets_are_mxnets(options, classes):
    found = nd.contrib.MultiBoxTarget(
        nd.array([ANCHORS]), nd.array(LABELS), nd.array(LOGITS), **options
    )
    close(found[2], classes)
    close(found[1].reshape((2, 8, 4))[:, :, 0], np.array(classes) > 0)
    if not options:
        want = np.zeros((2, 8, 4))
        for at, offsets in OFFSETS.items():
            want[at] = offsets
        close(found[0].reshape((2, 8, 4)), want)


@pytest.mark.parametrize("options, rows, classes", DETECTIONS)
def test_detections_are_mxnets(options, rows, classes):
    arrays = map(nd.array, (CHANCES, SHIFTS, [ANCHORS]))
    found = nd.contrib.MultiBoxDetection(*arrays, **options)
    close(found[1, :4], rows)
    close(found[:, :, 0], classes)


@pytest.mark.parametrize("options, remaining", NMS)
def test_suppression_is_mxnets(options, remaining):
    found = nd.contrib.box_nms(nd.array(TABLE), **options).asnumpy()
    assert [int(row[6]) for row in found if row[6] >= 0] == remaining
    assert (found[len(remaining) :] == -1).all()
    if options.get("in_format", "corner") == options.get("out_format", "corner"):
        close(found[: len(remaining)], np.array(TABLE)[remaining], 1e-6)


# --- A textbook's ---------------------------------------------------------------------------------


def test_anchors_of_a_photograph():
    y = nd.contrib.MultiBoxPrior(
        nd.zeros((1, 3, 561, 728)), sizes=[0.75, 0.5, 0.25], ratios=[1, 2, 0.5]
    )
    assert y.shape == (1, 2042040, 4) and y.dtype == np.float32
    close(y.reshape((561, 728, 5, 4))[250, 250, 0, :], [0.0551, 0.0715, 0.6331, 0.8215])


def test_label_then_detect():
    truth = nd.array([[0, 0.1, 0.08, 0.52, 0.92], [1, 0.55, 0.2, 0.9, 0.88]])
    anchors = nd.array(
        [
            [0, 0.1, 0.2, 0.3],
            [0.15, 0.2, 0.4, 0.4],
            [0.63, 0.05, 0.88, 0.98],
            [0.66, 0.45, 0.8, 0.8],
            [0.57, 0.3, 0.92, 0.9],
        ]
    )
    offsets, mask, classes = nd.contrib.MultiBoxTarget(
        anchors.expand_dims(axis=0), truth.expand_dims(axis=0), nd.zeros((1, 3, 5))
    )
    close(classes, [[0, 1, 2, 0, 2]])
    close(mask, [[0] * 4 + [1] * 8 + [0] * 4 + [1] * 4])
    close(offsets[0, 4:8], [1.4, 10, 2.594, 7.1754])
    close(offsets[0, 16:], [-0.5714, -1, 0, 0.6258])
    anchors = nd.array(
        [
            [0.1, 0.08, 0.52, 0.92],
            [0.08, 0.2, 0.56, 0.95],
            [0.15, 0.3, 0.62, 0.91],
            [0.55, 0.2, 0.9, 0.88],
        ]
    )
    chances = nd.array([[0] * 4, [0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.9]])
    found = nd.contrib.MultiBoxDetection(
        chances.expand_dims(axis=0),
        nd.zeros((1, 16)),
        anchors.expand_dims(axis=0),
        nms_threshold=0.5,
    )
    close(found[0, :, 0], [0, 1, -1, -1])
    close(found[0, :, 1], [0.9, 0.9, 0.8, 0.7])
    close(found[0, :, 2:], anchors.asnumpy()[[0, 3, 1, 2]])


def test_regions_of_a_small_map():
    x = nd.arange(16).reshape((1, 1, 4, 4))
    rois = nd.array([[0, 0, 0, 20, 20], [0, 0, 10, 30, 30]])
    y = nd.ROIPooling(x, rois, pooled_size=(2, 2), spatial_scale=0.1)
    close(y, [[[[5, 6], [9, 10]]], [[[9, 11], [13, 15]]]])


# --- Types, empties, oddities ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_types_stay(dtype):
    x, roi = nd.ones((1, 2, 4, 4), dtype=dtype), nd.array([[0, 0, 0, 3, 3]], dtype=dtype)
    size = {"pooled_size": (2, 2), "spatial_scale": 1.0}
    for y in (
        nd.contrib.box_nms(nd.array(TABLE, dtype=dtype)),
        nd.contrib.box_iou(nd.array(ANCHORS, dtype=dtype), nd.array(ANCHORS, dtype=dtype)),
        *nd.contrib.bipartite_matching(nd.array(ANCHORS, dtype=dtype), threshold=0.1),
        nd.contrib.MultiBoxPrior(x),
        nd.ROIPooling(x, roi, **size),
        nd.contrib.ROIAlign(x, roi, **size),
        nd.contrib.BilinearResize2D(x, height=3, width=7),
        nd.contrib.AdaptiveAvgPooling2D(x, output_size=3),
        nd.GridGenerator(nd.ones((1, 6), dtype=dtype), "affine", (2, 3)),
        nd.BilinearSampler(x, nd.zeros((1, 2, 3, 3), dtype=dtype)),
    ):
        assert y.dtype == np.dtype(dtype)


def test_whole_numbers_are_refused():
    x = nd.ones((1, 2, 4, 4), dtype="int32")
    for call in (
        lambda: nd.contrib.MultiBoxPrior(x),
        lambda: nd.contrib.box_nms(nd.array(TABLE, dtype="int32")),
        lambda: nd.contrib.box_iou(x, x),
        lambda: nd.contrib.BilinearResize2D(x, height=2, width=2),
        lambda: nd.contrib.AdaptiveAvgPooling2D(x),
    ):
        with pytest.raises(mx.MXNetError, match="floating-point numbers, not int32"):
            call()


def test_nothing_is_found_in_nothing():
    x, rois, size = nd.ones((1, 2, 4, 4)), nd.empty((0, 5)), {"pooled_size": 2, "spatial_scale": 1}
    size["pooled_size"] = (2, 3)
    assert nd.ROIPooling(x, rois, **size).shape == (0, 2, 2, 3)
    assert nd.contrib.ROIAlign(x, rois, **size).shape == (0, 2, 2, 3)
    assert nd.contrib.box_iou(nd.empty((0, 4)), nd.array(ANCHORS)).shape == (0, 8)
    assert nd.contrib.box_nms(nd.empty((2, 0, 6))).shape == (2, 0, 6)
    close(nd.contrib.box_nms(nd.array(TABLE), valid_thresh=9), -np.ones((8, 7)))


def test_boxes_without_area_overlap_nothing():
    flat = nd.array([[0.2, 0.2, 0.2, 0.9], [0.5, 0.5, 0.4, 0.4]])
    close(nd.contrib.box_iou(flat, flat), np.zeros((2, 2)))


def test_regions_of_no_image_are_zero():
    x, rois = (
        nd.ones((1, 1, 4, 4)),
        nd.array([[-1, 0, 0, 3, 3], [5, 0, 0, 3, 3], [0, 9, 9, 12, 12]]),
    )
    for f in (nd.ROIPooling, nd.contrib.ROIAlign):
        close(f(x, rois, pooled_size=(2, 2), spatial_scale=1.0)[:2], np.zeros((2, 1, 2, 2)))


def test_an_infinite_pixel_is_the_largest():
    x = nd.array(np.float32([[[[0, np.inf], [-np.inf, np.nan]]]]))
    y = nd.ROIPooling(x, nd.array([[0, 0, 0, 1, 1]]), pooled_size=(2, 2), spatial_scale=1.0)
    close(y, [[[[0, np.inf], [-np.inf, np.nan]]]])


def test_the_gradient_of_a_survivor_returns_to_its_row():
    x = nd.array(TABLE)
    x.attach_grad()
    with autograd.record():
        y = nd.contrib.box_nms(x, overlap_thresh=0.2)
    weights = np.arange(56.0).reshape(8, 7) + 1
    y.backward(nd.array(weights))
    want = np.zeros((8, 7))
    kept = [int(i) for i in y[:, 6].asnumpy() if i >= 0]
    want[kept] = weights[: len(kept)]
    close(x.grad, want)


def test_too_few_negatives_are_all_taken():
    arrays = map(nd.array, ([ANCHORS], LABELS, LOGITS))
    few = {"negative_mining_ratio": 9, "negative_mining_thresh": 0.1}  # MXNet raises an error
    classes = nd.contrib.MultiBoxTarget(*arrays, **few)[2]
    close(classes[1], [0, 0, -1, -1, 0, 0, 0, 1])  # anchors 2 and 3 overlap the thing by more


def test_a_picture_as_large_as_another_of_other_channels():
    x, like = nd.arange(8).reshape((1, 2, 2, 2)), nd.zeros((3, 1, 1, 3))
    y = nd.contrib.BilinearResize2D(x, like, mode="like")
    close(y, [[[[0, 0.5, 1]], [[4, 4.5, 5]]]])


def test_a_batch_is_its_pictures():
    anchors, labels, logits = map(nd.array, ([ANCHORS], LABELS, LOGITS))
    whole = nd.contrib.MultiBoxTarget(anchors, labels, logits, negative_mining_ratio=2)
    for i in range(2):
        one = nd.contrib.MultiBoxTarget(
            anchors, labels[i : i + 1], logits[i : i + 1], negative_mining_ratio=2
        )
        for a, b in zip(whole, one):
            close(a[i : i + 1], b.asnumpy(), 0)


# --- Properties -----------------------------------------------------------------------------------

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10**6)


def boxes(rng, *shape):
    low = rng.uniform(0, 0.7, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.4, (*shape, 2))], axis=-1)


@quick
@given(seeds, st.integers(1, 20), st.sampled_from([0.1, 0.3, 0.6]))
def test_survivors_keep_apart_and_the_others_have_a_reason(seed, n, threshold):
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.uniform(0.1, 1, (n, 1)), boxes(rng, n)], axis=1).astype("float32")
    y = nd.contrib.box_nms(
        nd.array(x), overlap_thresh=threshold, coord_start=1, score_index=0
    ).asnumpy()
    kept = y[y[:, 0] > 0]
    apart = nd.contrib.box_iou(nd.array(kept[:, 1:]), nd.array(kept[:, 1:])).asnumpy()
    assert (apart[~np.eye(len(kept), dtype=bool)] <= threshold).all()
    near = nd.contrib.box_iou(nd.array(x[:, 1:]), nd.array(kept[:, 1:])).asnumpy()
    better = kept[:, 0] >= x[:, :1]
    assert ((near > threshold) & better).any(axis=1).sum() == n
    assert (np.diff(kept[:, 0]) <= 0).all()


@quick
@given(seeds)
def test_decoding_undoes_encoding(seed):
    rng = np.random.default_rng(seed)
    anchors, truth = boxes(rng, 1, 6), boxes(rng, 1, 6)
    arrays = np.ones((1, 6)), np.arange(6.0)[None], anchors, truth, np.zeros(4), np.ones(4)
    arrays = [nd.array(a, dtype="float64") for a in arrays]
    offsets, mask = nd.contrib.box_encode(*arrays)
    assert (mask == 1).asnumpy().all()
    close(nd.contrib.box_decode(offsets, arrays[2], format="corner"), truth, 1e-12)


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_matching_pairs_each_once(seed, n, m):
    table = np.random.default_rng(seed).uniform(size=(n, m)).astype("float32")
    rows, columns = nd.contrib.bipartite_matching(nd.array(table), threshold=1e-12)
    rows, columns = rows.asnumpy(), columns.asnumpy()
    assert (rows >= 0).sum() == (columns >= 0).sum() == min(n, m)
    assert all(columns[int(c)] == r for r, c in enumerate(rows) if c >= 0)
    assert table.max() in [table[r, int(c)] for r, c in enumerate(rows) if c >= 0]


@quick
@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_whole_pictures(seed, h, w, k):
    x = nd.array(np.random.default_rng(seed).normal(size=(2, 1, h * k, w * k)), dtype="float64")
    means = x.asnumpy().reshape(2, 1, h, k, w, k).mean((3, 5))
    close(nd.contrib.AdaptiveAvgPooling2D(x, output_size=(h, w)), means, 1e-12)
    for align_corners in (True, False):
        same = {"height": h * k, "width": w * k, "align_corners": align_corners}
        close(nd.contrib.BilinearResize2D(x, **same), x.asnumpy(), 1e-12)


def test_the_identity_transform_changes_nothing():
    x = nd.array(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), dtype="float64")
    loc = nd.array([[1, 0, 0, 0, 1, 0]] * 2, dtype="float64")
    known = {"transform_type": "affine", "sampler_type": "bilinear"}
    close(nd.SpatialTransformer(x, loc, target_shape=(4, 5), **known), x.asnumpy(), 1e-12)
    grid = nd.GridGenerator(nd.zeros((2, 2, 4, 5), dtype="float64"), transform_type="warp")
    close(nd.BilinearSampler(x, grid), x.asnumpy(), 1e-12)


@pytest.mark.parametrize("classes", [None, 1, 3, 400])
def test_boxes_compared_all_at_once_survive_as_one_by_one(classes):
    from minigluon.ops.detection import survivors, survivors_by_table

    rng = np.random.default_rng(0)
    low = rng.random((2, 400, 2))
    boxes = np.concatenate([low, low + rng.random((2, 400, 2)) / 4], -1).astype("float32")
    ids = None if classes is None else rng.integers(0, classes, (2, 400)).astype("float32")
    if classes == 3:
        ids[:, ::7] = np.nan  # which competes with nobody
    alive = rng.random((2, 400)) < 0.9
    assert boxes.shape[0] * boxes.shape[1] ** 2 > 2**18  # so that `survivors` goes one by one
    one_by_one = survivors.plain(boxes, ids, alive, 0.3)
    assert 0 < one_by_one.sum() < alive.sum()
    assert (survivors_by_table(boxes, ids, alive, np.greater, 0.3) == one_by_one).all()


def test_aligned_regions_of_no_image_may_have_any_size():
    x = nd.arange(32).reshape((1, 2, 4, 4))
    rois = nd.array([[0, 0, 0, 3, 3], [-1, -1, -1, -1, -1]])
    y = nd.contrib.ROIAlign(x, rois, (2, 2), 1.0, sample_ratio=2, aligned=True)
    alone = nd.contrib.ROIAlign(x, rois[:1], (2, 2), 1.0, sample_ratio=2, aligned=True)
    assert (y[0] == alone[0]).asnumpy().all() and not y[1].asnumpy().any()
    with pytest.raises(mx.MXNetError, match="positive width"):
        nd.contrib.ROIAlign(x, nd.array([[0, 2, 2, 2, 3]]), (2, 2), 1.0, aligned=True)


def test_aligned_regions_in_a_graph_have_a_shape():
    y = mx.sym.contrib.ROIAlign(mx.sym.var("x"), mx.sym.var("rois"), (3, 2), 0.5, aligned=True)
    assert y.infer_shape(x=(1, 4, 16, 16), rois=(5, 5))[1] == [(5, 4, 3, 2)]


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 9, 6), (2, 5, 8), (4, 40, 7), (2, 0, 3), (0, 4, 2)]
)
@pytest.mark.parametrize("most", [2, 99])
def test_a_column_that_looks_again_finds_what_the_rounds_find(shape, most):
    rng = np.random.default_rng(3)
    for levels in (2, 5, 1000):  # the fewer levels, the more scores are equal
        scores = rng.integers(0, levels, shape) / levels
        scores[rng.random(shape) < 0.1] = -np.inf
        scores[rng.random(shape) < 0.02] = np.nan
        plain = detection.paired(scores, 0.1, most)
        soon = detection.paired_soon(scores, 0.1, most) if shape[1] else np.zeros((3, 0))
        assert {*zip(*map(list, plain))} == {*zip(*map(list, soon))}


def test_a_thing_that_is_no_number_overlaps_nothing():
    labels = np.array(LABELS, "float32")
    labels[0, 0, 1] = np.nan
    arrays = nd.array([ANCHORS]), nd.array(labels), nd.array(LOGITS)
    offsets, mask, classes = nd.contrib.MultiBoxTarget(*arrays)
    assert np.isfinite(offsets.asnumpy()).all() and 2 not in classes[0].asnumpy()
    close(nd.contrib.box_iou(arrays[1][0, :1, 1:5], arrays[0][0]), np.zeros((1, len(ANCHORS))))


@pytest.mark.parametrize("n, m", [(8, 2), (2, 8), (1, 1), (5, 5)])
def test_pairs_of_few_are_those_of_many(n, m):
    scores = np.random.default_rng(n).integers(0, 4, (3, n, m)) / 3  # many are equal
    plain = sorted(zip(*[part.tolist() for part in detection.paired(scores, 0.1, n * m)]))
    assert sorted(detection.pairs_of_few(scores, 0.1, n * m)) == plain
    scores[1, 0, 0] = np.nan
    assert detection.pairs_of_few(scores, 0.1, n * m) is None


def test_targets_of_few_anchors_are_those_of_the_long_way(monkeypatch):
    rng = np.random.default_rng(5)
    label = np.sort(rng.random((2, 3, 5), "float32"))
    label[..., 0] = rng.integers(0, 3, (2, 3))
    label[1, 2] = -1
    anchors = mx.nd.array(np.sort(rng.random((1, 6, 4), "float32")))
    arrays = anchors, mx.nd.array(label), mx.nd.array(rng.random((2, 4, 6), "float32"))
    few = [y.asnumpy() for y in mx.nd.contrib.MultiBoxTarget(*arrays)]
    one = [y.asnumpy() for y in mx.nd.contrib.MultiBoxTarget(anchors, *[a[:1] for a in arrays[1:]])]
    monkeypatch.setattr(detection, "FEW_PAIRS", 0)
    for a, b, c in zip(few, mx.nd.contrib.MultiBoxTarget(*arrays), one):
        np.testing.assert_array_equal(a, b.asnumpy())
        np.testing.assert_array_equal(a[:1], c)
    assert few[1].any()
