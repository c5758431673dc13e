"""Datasets, samplers, batches: as MXNet, and refusals before anything is loaded."""

import pickle
import warnings

import numpy as np
import pytest

from minigluon import nd
from minigluon.gluon import data
from minigluon.gluon.data import batchify


def items(dataset):
    return [dataset[i] for i in range(len(dataset))]


def negative(first):
    return -first


TEN = data.SimpleDataset(list(range(10)))
PAIRS = data.ArrayDataset(np.arange(4), np.arange(4) * 10)


@pytest.mark.parametrize("length", [0, 1, 7, 10])
@pytest.mark.parametrize("shards", [1, 3, 10, 11])
def test_shards_are_the_whole(length, shards):
    dataset = data.SimpleDataset(list(range(length)))
    parts = [items(dataset.shard(shards, i)) for i in range(shards)]
    assert sum(parts, []) == list(range(length))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1


def test_shards_of_mxnet():
    assert [items(TEN.shard(3, i)) for i in range(3)] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("count", [0, 3, 10, 12, None])
def test_take(count):
    assert items(TEN.take(count)) == list(range(10))[:count]


def test_choosing():
    assert items(TEN.filter(lambda x: x % 2)) == [1, 3, 5, 7, 9]
    assert items(PAIRS.filter(lambda pair: pair[0] > 1)) == [(2, 20), (3, 30)]
    assert items(TEN.sample(data.SequentialSampler(3, 2))) == [2, 3, 4]
    drawn = TEN.sample(data.RandomSampler(5))
    assert items(drawn) == items(drawn) and sorted(items(drawn)) == list(range(5))
    assert TEN.take(3)[-1] == 2
    with pytest.raises(IndexError):
        TEN.take(3)[3]
    assert list(TEN.take(3)) == [0, 1, 2]  # ends by IndexError
    assert items(TEN.filter(lambda x: x > 5).shard(2, 1).take(1)) == [8]


def test_filter_looks_at_each_sample_once():
    seen = []

    def look(x):
        seen.append(x)
        return x

    assert len(TEN.transform(look).filter(lambda x: x > 5)) == 4
    assert seen == list(range(10))


def test_transforms():
    assert items(TEN.transform(negative))[-1] == -9
    assert items(PAIRS.transform(lambda a, b: a + b)) == [0, 11, 22, 33]
    for lazy in (True, False):
        assert items(PAIRS.transform_first(negative, lazy))[1] == (-1, 10)
    assert TEN.transform_first(negative)[3] == -3
    assert isinstance(TEN.transform(negative, lazy=False), data.SimpleDataset)
    again = pickle.loads(pickle.dumps(PAIRS.transform_first(negative).take(2)))
    assert items(again) == [(0, 0), (-1, 10)]


def test_array_dataset():
    first, second = PAIRS[1:3]
    assert first.tolist() == [1, 2] and second.tolist() == [10, 20]
    mixed = data.ArrayDataset(nd.array([1, 2]), nd.ones((2, 2)))
    assert mixed[0][0] == 1 and isinstance(mixed[0][0], np.float32)
    assert isinstance(mixed[0][1], nd.NDArray)
    assert items(data.ArrayDataset(TEN, TEN))[2] == (2, 2)
    assert items(data.ArrayDataset([3, 4])) == [3, 4]


def test_samplers():
    assert list(data.SequentialSampler(3)) == [0, 1, 2]
    sampler = data.SequentialSampler(3, 2)
    assert list(sampler) == [2, 3, 4] and len(sampler) == 3
    assert list(data.SequentialSampler(3, -1)) == [-1, 0, 1]
    big = data.FilterSampler(lambda x: x > 5, TEN)
    assert list(big) == [6, 7, 8, 9] and len(big) == 4
    np.random.seed(0)
    shuffled = data.RandomSampler(5)
    assert list(shuffled) == [2, 0, 1, 3, 4] and len(shuffled) == 5  # as in MXNet
    assert sorted(shuffled) == list(range(5))


def test_interval_sampler():
    every = data.IntervalSampler(13, 3)
    assert list(every) == [0, 3, 6, 9, 12, 1, 4, 7, 10, 2, 5, 8, 11] and len(every) == 13
    once = data.IntervalSampler(13, 3, rollover=False)
    assert list(once) == [0, 3, 6, 9, 12] and len(once) == 5
    assert list(data.IntervalSampler(3, 3)) == list(data.IntervalSampler(3, 1)) == [0, 1, 2]


LAST = [
    ("keep", [[[0, 1, 2], [3, 4, 5], [6]]] * 3, [3, 3, 3]),
    ("discard", [[[0, 1, 2], [3, 4, 5]]] * 3, [2, 2, 2]),
    (
        "rollover",
        [
            [[0, 1, 2], [3, 4, 5]],
            [[6, 0, 1], [2, 3, 4]],
            [[5, 6, 0], [1, 2, 3], [4, 5, 6]],
        ],
        [2, 2, 3],
    ),
]


@pytest.mark.parametrize(("last_batch", "epochs", "lengths"), LAST)
def test_last_batch(last_batch, epochs, lengths):
    batches = data.BatchSampler(data.SequentialSampler(7), 3, last_batch)
    for wanted, length in zip(epochs, lengths):
        assert len(batches) == length and list(batches) == wanted


@pytest.mark.parametrize(("last_batch", "epochs", "_"), LAST)
def test_an_epoch_that_stops_early(last_batch, epochs, _):
    """What was saved has been handed out: the next epoch begins at the first number, as in MXNet."""
    batches = data.BatchSampler(data.SequentialSampler(7), 3, last_batch)
    assert list(batches) == epochs[0]
    epoch = iter(batches)
    assert next(epoch) == epochs[1][0]
    epoch.close()
    assert len(batches) == len(epochs[0]) and list(batches) == epochs[0]


@pytest.mark.parametrize(("last_batch", "epochs", "_"), LAST)
def test_loader_batches(last_batch, epochs, _):
    loader = data.DataLoader(TEN.take(7), 3, last_batch=last_batch)
    for wanted in epochs:
        assert [batch.tolist() for batch in loader] == wanted


def test_loader_with_samplers():
    assert [b.tolist() for b in data.DataLoader(TEN, 2, sampler=[3, 1, 2])] == [[3, 1], [2]]
    assert [b.tolist() for b in data.DataLoader(TEN, batch_sampler=[[3, 1], [2]])] == [[3, 1], [2]]
    assert list(data.DataLoader(data.SimpleDataset([]), 2)) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(data.DataLoader(TEN, 3, num_workers=-1)) == 4  # no workers, as in MXNet


BATCHES = [  # samples, type of the batch, its shape
    ([1, 2, 3], "int64", (3,)),
    ([1.0, 2.0], "float64", (2,)),
    ([[1, 2.0], [3, 4]], "float64", (2, 2)),
    (list(np.ones((4, 2), "float32")), "float32", (4, 2)),
    ([np.float32(1), np.float32(2)], "float32", (2,)),
    (list(np.ones((4, 2), "uint8")), "uint8", (4, 2)),
    ([True, False], "bool", (2,)),
    ([nd.ones((2,)), nd.zeros((2,))], "float32", (2, 2)),
    (nd.arange(4), "float32", (4, 1)),
]


@pytest.mark.parametrize(("samples", "dtype", "shape"), BATCHES)
def test_types_of_batches(samples, dtype, shape):
    batch = next(iter(data.DataLoader(data.SimpleDataset(samples), len(samples))))
    assert batch.dtype == np.dtype(dtype) and batch.shape == shape
    stacked = batchify.Stack()(list(samples))
    assert stacked.dtype == batch.dtype and stacked.tolist() == batch.tolist()


def test_tuples_become_lists():
    ((first, second), third), *_ = data.DataLoader(
        data.SimpleDataset([((1, 2.0), 3), ((4, 5.0), 6)]), 2
    )
    assert (first.tolist(), second.tolist(), third.tolist()) == ([1, 4], [2, 5], [3, 6])


def test_stack_type():
    assert batchify.Stack("float32")([1, 2]).dtype == np.float32
    assert batchify.Stack("int32")([nd.ones((2,))] * 2).dtype == np.int32


def test_pad():
    words = [[1, 2, 3], [4], [5, 6]]
    assert batchify.Pad()(words).tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    padded, lengths = batchify.Pad(val=-1, ret_length=True, dtype="float32")(words)
    assert padded.dtype == np.float32 and padded[1].tolist() == [4, -1, -1]
    assert lengths.tolist() == [3, 1, 2] and lengths.dtype == np.int32
    assert batchify.Pad(round_to=4)(words).shape == (3, 4)
    assert batchify.Pad(round_to=3)(words).shape == (3, 3)
    images = [nd.ones((2, 3)), nd.ones((1, 5))]
    out = batchify.Pad()(images)
    assert out.shape == (2, 2, 5) and out.sum().asscalar() == 11 and out.dtype == np.float32
    assert batchify.Pad(axis=0)([np.ones((2, 3)), np.ones((4, 3))]).shape == (2, 4, 3)
    assert batchify.Pad(axis=-1)([np.ones((2, 3)), np.ones((2, 1))]).shape == (2, 2, 3)
    assert batchify.Pad()([[], [1]]).tolist() == [[0], [1]]


@pytest.mark.parametrize(
    "group",
    [
        batchify.Group(batchify.Pad(), batchify.Stack(), batchify.AsList()),
        batchify.Tuple([batchify.Pad(), batchify.Stack(), batchify.List()]),
    ],
)
def test_group(group):
    samples = data.SimpleDataset([([1, 2], 0, "a"), ([3], 1, "b")])
    ((words, classes, names),) = data.DataLoader(samples, 2, batchify_fn=group)
    assert words.tolist() == [[1, 2], [3, 0]] and classes.tolist() == [0, 1]
    assert names == ["a", "b"]


@pytest.mark.parametrize("fn", [batchify.Stack(), batchify.Pad(), batchify.AsList()])
def test_batchify_can_be_pickled(fn):
    assert type(pickle.loads(pickle.dumps(fn))) is type(fn)


RAGGED = [np.ones(2), np.ones(3)]
SEQUENCE = data.SequentialSampler(7)
WRONG = [
    (lambda: TEN.shard(3, 3), AssertionError, "3 of 3"),
    (lambda: TEN.shard(3, -1), AssertionError, "-1 of 3"),
    (lambda: TEN.shard(0, 0), AssertionError, "out of bound"),
    (lambda: TEN.shard(3.0, 1), TypeError, "float"),
    (lambda: TEN.take(-1), ValueError, r"take\(-1\)"),
    (lambda: TEN.take(2.0), TypeError, "float"),
    (lambda: data.ArrayDataset(), AssertionError, "at least one"),
    (lambda: data.ArrayDataset([1, 2], [1]), AssertionError, "same length"),
    (lambda: data.Dataset()[0], NotImplementedError, None),
    (lambda: len(data.Dataset()), NotImplementedError, None),
    (lambda: list(data.Sampler()), NotImplementedError, None),
    (lambda: data.IntervalSampler(4, 5), AssertionError, "smaller than or equal to length 4"),
    (lambda: data.IntervalSampler(4, 0), AssertionError, "at least 1"),
    (lambda: data.BatchSampler(SEQUENCE, 3, "drop"), ValueError, "last_batch"),
    (lambda: data.BatchSampler(SEQUENCE, 0), ValueError, "at least 1"),
    (lambda: data.DataLoader(TEN), ValueError, "batch_size must be specified"),
    (lambda: data.DataLoader(TEN, 0), ValueError, "at least 1"),
    (lambda: data.DataLoader(TEN, 2, timeout=0), AssertionError, "timeout"),
    (lambda: data.DataLoader(TEN, 2, True, SEQUENCE), ValueError, "shuffle must not"),
    (lambda: data.DataLoader(TEN, 2, batch_sampler=[[1]]), ValueError, "batch_sampler is"),
    (lambda: list(data.DataLoader(data.SimpleDataset(RAGGED), 2)), ValueError, "batchify.Pad"),
    (lambda: list(data.DataLoader(data.SimpleDataset(["a"]), 2)), TypeError, "real numbers"),
    (lambda: list(data.DataLoader(data.SimpleDataset([{"a": 1}]), 2)), TypeError, "real numbers"),
    (lambda: batchify.Pad()([np.ones(2), np.ones((2, 2))]), ValueError, "numbers of axes"),
    (
        lambda: batchify.Pad(axis=0)([np.ones((1, 2)), np.ones((1, 3))]),
        ValueError,
        "axis 1 differs",
    ),
    (lambda: batchify.Pad(axis=1)(RAGGED), IndexError, None),
    (lambda: batchify.Group(batchify.Stack(), 3), AssertionError, "functions"),
    (lambda: batchify.Group(batchify.Stack())([(1, 2)]), AssertionError, "1 functions, .* 2"),
]


@pytest.mark.parametrize(("call", "error", "says"), WRONG)
def test_refusals(call, error, says):
    with pytest.raises(error, match=says):
        call()


# --- Whole batches --------------------------------------------------------------------------------

IMAGES = nd.array(np.arange(120).reshape(10, 3, 4), dtype="uint8")
NUMBERS = np.arange(10)


def one(x):
    return x.astype("float32").transpose((1, 0)) + 1


def with_batch(x):
    return one(x)


with_batch.on_batch = lambda x: x.astype("float32").transpose((0, 2, 1)) + 1


class Odd(data.ArrayDataset):
    def __getitem__(self, idx):
        return super().__getitem__(2 * idx + 1)

    def __len__(self):
        return 5


GATHERED = [  # datasets that give whole batches, and one more function that it takes
    data.ArrayDataset(IMAGES, NUMBERS),
    data.ArrayDataset(IMAGES, NUMBERS).shard(2, 1).take(3),
    data.ArrayDataset(IMAGES, NUMBERS).filter(lambda pair: pair[1] % 3),
    data.ArrayDataset(IMAGES, NUMBERS).transform_first(with_batch),
    data.ArrayDataset(IMAGES, NUMBERS).transform_first(with_batch).sample(data.RandomSampler(10)),
    data.ArrayDataset(IMAGES).transform_first(with_batch),
    data.ArrayDataset(data.ArrayDataset(IMAGES), NUMBERS.astype("float16")),
]


@pytest.mark.parametrize("dataset", GATHERED)
@pytest.mark.parametrize("numbers", [[0], [2, 0, 1], [-1, 1, 1], [np.int64(1), 0]])
def test_whole_batches(dataset, numbers):
    from minigluon.gluon.data.dataloader import default_batchify_fn, whole

    fast = whole(dataset, numbers, default_batchify_fn)
    slow = default_batchify_fn([dataset[i] for i in numbers])
    assert type(fast) is type(slow) and fast is not None
    for a, b in zip(*(([x] if isinstance(x, nd.NDArray) else x) for x in (fast, slow))):
        assert type(a) is type(b) is nd.NDArray and a.dtype == b.dtype and a.context == b.context
        assert a.shape == b.shape and (a.asnumpy() == b.asnumpy()).all()


@pytest.mark.parametrize(
    "dataset",
    [
        data.ArrayDataset(IMAGES, NUMBERS).transform_first(one),
        data.ArrayDataset(IMAGES, NUMBERS).transform(lambda x, y: (x, y)),
        data.ArrayDataset(IMAGES, list("abcdefghij")),
        data.ArrayDataset(IMAGES, data.SimpleDataset(NUMBERS)),
        Odd(IMAGES, NUMBERS),
        TEN,
    ],
)
def test_not_at_once(dataset):
    assert data.dataset.gather(dataset, [0, 1]) is None


def test_an_overridden_dataset_is_asked_for_samples():
    ((_, y),) = data.DataLoader(Odd(IMAGES, NUMBERS), 5)
    assert y.asnumpy().tolist() == [1, 3, 5, 7, 9]
    ((_, y),) = data.DataLoader(Odd(IMAGES, NUMBERS).take(3), 5)
    assert y.asnumpy().tolist() == [1, 3, 5]


def test_a_number_out_of_range():
    for n in (0, 1):
        with pytest.raises(IndexError):
            list(
                data.DataLoader(
                    data.ArrayDataset(IMAGES, NUMBERS), batch_sampler=[[0, 10]], num_workers=n
                )
            )


def test_samples_that_need_a_gradient():
    from minigluon import autograd

    x = nd.ones((4, 2))
    x.attach_grad()
    with autograd.record():
        (batch,) = data.DataLoader(x, 4)
        (batch * 3).sum().backward()
    assert x.grad.asnumpy().tolist() == [[3, 3]] * 4
