"""gluon.data.vision.transforms on one picture, on a batch, hybridized."""

import numpy as np
import pytest

import minigluon as mx
from minigluon.gluon.data.vision import transforms as T

BATCH = mx.nd.array(np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3)), dtype="uint8")
SHAPES = [
    (T.Resize((5, 4)), (4, 5, 3)),
    (T.Resize(6, keep_ratio=True), (6, 8, 3)),
    (T.CenterCrop((5, 4)), (4, 5, 3)),
    (T.CenterCrop(20), (20, 20, 3)),
    (T.CropResize(1, 2, 4, 5), (5, 4, 3)),
    (T.CropResize(1, 2, 4, 5, (7, 6), 1), (6, 7, 3)),
    (T.RandomCrop(8), (8, 8, 3)),
    (T.RandomCrop(20, pad=4), (20, 20, 3)),
    (T.RandomResizedCrop((5, 4)), (4, 5, 3)),
    (T.RandomFlipLeftRight(), (12, 16, 3)),
    (T.RandomFlipTopBottom(), (12, 16, 3)),
    (T.RandomBrightness(0.3), (12, 16, 3)),
    (T.RandomContrast(0.3), (12, 16, 3)),
    (T.RandomSaturation(0.3), (12, 16, 3)),
    (T.RandomHue(0.3), (12, 16, 3)),
    (T.RandomColorJitter(0.1, 0.2, 0.3, 0.4), (12, 16, 3)),
    (T.RandomLighting(0.1), (12, 16, 3)),
    (T.RandomGray(1.0), (12, 16, 3)),
    (T.RandomApply(T.Resize(4), 1.0), (4, 4, 3)),
    (T.HybridRandomApply(T.RandomFlipLeftRight(), 0.5), (12, 16, 3)),
    (T.ToTensor(), (3, 12, 16)),
    (T.Cast("float16"), (12, 16, 3)),
]


@pytest.mark.parametrize(("transform", "shape"), SHAPES, ids=lambda v: type(v).__name__)
def test_shapes(transform, shape):
    assert transform(BATCH[0]).shape == shape
    assert transform(BATCH).shape == (2, *shape)
    if isinstance(transform, mx.gluon.HybridBlock) and not isinstance(transform, T.RandomGray):
        transform.hybridize()
        assert transform(BATCH).shape == (2, *shape)


def test_compose():
    steps = T.Compose([T.Resize(6), T.ToTensor(), T.Normalize((0.1, 0.2, 0.3), 0.5)])
    assert type(steps[0]).__name__ == "HybridSequential"
    y = steps(BATCH)
    assert y.dtype == np.float32 and np.allclose(y[1].asnumpy(), steps(BATCH[1]).asnumpy())
    x = BATCH.asnumpy().transpose(0, 3, 1, 2) / 255
    found = T.Compose([T.ToTensor(), T.Normalize(0.5, 0.25)])(BATCH).asnumpy()
    assert np.allclose(found, (x - 0.5) / 0.25, atol=1e-6)
    assert (
        T.Compose([T.CenterCrop(8), T.ToTensor(), T.Cast("float16")])(BATCH[0]).dtype == np.float16
    )
    assert T.HybridCompose([T.ToTensor(), T.Cast()])(BATCH).shape == (2, 3, 12, 16)
    with pytest.raises(ValueError, match="Hybrid"):
        T.HybridCompose([T.CenterCrop(3)])


def test_rotation():
    x = T.ToTensor()(BATCH)
    assert T.Rotate(30)(x).shape == x.shape and T.RandomRotation((-5, 5))(x[0]).shape == x[0].shape
    assert T.RandomRotation((-5, 5), rotate_with_proba=0.0)(x) is x
    with pytest.raises(TypeError, match="float32"):
        T.Rotate(30)(BATCH)
    for limits, p in (((1, -1), 1), ((-1, 1), 2)):
        with pytest.raises(ValueError, match="should be|must be"):
            T.RandomRotation(limits, rotate_with_proba=p)


def test_in_a_dataset():
    data = mx.gluon.data.ArrayDataset(BATCH, np.arange(2)).transform_first(T.ToTensor())
    assert data[1][0].shape == (3, 12, 16) and data[1][1] == 1


PIPES = [  # transforms, whether a loader may give them a whole batch
    ([T.ToTensor(), T.Normalize(0.3, 0.2)], True),
    ([T.Resize((9, 7)), T.ToTensor(), T.Cast("float16")], True),
    ([T.Resize(6), T.CropResize(1, 1, 4, 3, (5, 5)), T.ToTensor()], True),
    ([T.CenterCrop(5), T.ToTensor()], False),
    ([T.RandomFlipLeftRight(), T.ToTensor()], False),
    ([T.Resize(6, interpolation=10), T.ToTensor()], False),
]


@pytest.mark.parametrize("steps, at_once", PIPES)
def test_whole_batches_are_the_same(steps, at_once):
    pipe = T.Compose(steps)
    assert (pipe.on_batch is not None) == at_once
    x = mx.nd.array(np.random.default_rng(0).integers(0, 256, (7, 8, 10, 3)), dtype="uint8")
    data = mx.gluon.data.ArrayDataset(x, list(range(7))).transform_first(pipe)
    calls = []
    handle = pipe.register_forward_hook(lambda *_: calls.append(1))
    assert pipe.on_batch is None  # a hook hears of each picture
    handle.detach()
    if at_once:
        (y, labels), *_ = mx.gluon.data.DataLoader(data, 7)
        singly = np.stack([pipe(each).asnumpy() for each in x])
        assert np.array_equal(y.asnumpy(), singly) and labels.asnumpy().tolist() == list(range(7))
        assert y.dtype == pipe(x[0]).dtype


def test_a_subclass_is_given_single_pictures():
    class Mine(T.ToTensor):
        def hybrid_forward(self, F, x):
            return super().hybrid_forward(F, x) + 1

    assert T.Compose([Mine()]).on_batch is None and Mine().on_batch is None
