"""mx.image and mx.nd.image against MXNet 1.9.1 (golden_image.npz), files, augmenters."""

import io
import json
import random
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

import minigluon as mx
from minigluon import image

GOLDEN = np.load(Path(__file__).parent / "reference" / "golden_image.npz")
BYTES = GOLDEN["picture"]


def given(dtype="uint8"):
    return mx.nd.array(BYTES, dtype=dtype)


def png(a):
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(a).save(out, "png")
    return out.getvalue()


def answer(kind, *p):
    if kind == "resize":
        return image.imresize(given(p[3]), int(p[1]), int(p[2]), int(p[0]))
    if kind == "border":
        return image.copyMakeBorder(given(), 1, 2, 3, 4, int(p[0]))
    if kind == "lighting":
        return mx.nd.image.adjust_lighting(given(p[0]), (0.1, 0.2, 0.3))
    if kind == "rotate":
        x = given("float32").transpose((2, 0, 1))
        return image.imrotate(x, float(p[0].replace("m", "-")), p[1] == "1", p[2] == "1")
    return getattr(mx.nd.image, f"random_{kind}")(given(p[1]), float(p[0]), float(p[0]))


# MXNet's random_saturation takes only blue for grey: see the chapter.
@pytest.mark.parametrize("key", [k for k in GOLDEN.files if k[:3] not in ("sat", "pic", "che")])
def test_golden(key):
    y = answer(*key.replace("--", "-m").split("-"))
    assert y.shape == GOLDEN[key].shape and y.dtype == GOLDEN[key].dtype
    tolerance = {"hue": 1, "resize": 1e-4}.get(key.split("-")[0], 2e-3)
    np.testing.assert_allclose(y.asnumpy().astype(float), GOLDEN[key].astype(float), atol=tolerance)


def test_decode(tmp_path):
    buf = png(BYTES)
    for form in (buf, bytearray(buf), np.frombuffer(buf, "uint8")):
        assert (image.imdecode(form).asnumpy() == BYTES).all()
    assert (image.imdecode(buf, to_rgb=0).asnumpy() == BYTES[..., ::-1]).all()
    assert image.imdecode(buf, flag=0).shape == (9, 14, 1)
    alpha = np.dstack([BYTES, np.full((9, 14), 100, "uint8")])
    assert (image.imdecode(png(alpha)).asnumpy() == BYTES).all()
    (tmp_path / "a.png").write_bytes(buf)
    assert (image.imread(str(tmp_path / "a.png")).asnumpy() == BYTES).all()
    for bad in (b"abc", b"", buf[:60]):
        with pytest.raises(mx.MXNetError):
            image.imdecode(bad)
    with pytest.raises(ValueError, match="bytes"):
        image.imdecode("abc")
    with pytest.raises(mx.MXNetError, match="nope"):
        image.imread(str(tmp_path / "nope.png"))


def test_crops():
    x = given()
    assert image.scale_down((640, 480), (720, 120)) == (640, 106)
    assert image.scale_down((360, 1000), (480, 500)) == (360, 375)
    y, place = image.center_crop(x, (3, 2))
    assert place == (5, 3, 3, 2) and (y.asnumpy() == BYTES[3:5, 5:8]).all()
    assert image.center_crop(x, (20, 20))[0].shape == (20, 20, 3)
    assert image.resize_short(x, 5).shape == (5, 7, 3)
    assert image.fixed_crop(x, 1, 1, 30, 2).shape == (2, 13, 3)
    for _ in range(5):
        y, (left, top, w, h) = image.random_crop(x, (3, 2))
        assert (y.asnumpy() == BYTES[top : top + h, left : left + w]).all()
        assert image.random_size_crop(x, (3, 2), (0.1, 1), (0.5, 2))[0].shape == (2, 3, 3)
    one = image.copyMakeBorder(x, 1, 0, 1, 0, 0, values=(1, 2, 3))
    assert one[0, 0].tolist() == [1, 2, 3] and one.shape == (10, 15, 3)


def test_borders_of_one_colour():
    x = given()
    for kind, value, wanted in (
        ("uint8", 2.5, 2),
        ("uint8", 7.6, 8),
        ("uint8", 300, 255),
        ("uint8", -5, 0),
        ("int32", -3.5, -4),
        ("float32", 2.5, 2.5),
    ):
        y = image.copyMakeBorder(x.astype(kind), 1, 2, 3, 4, value=value).asnumpy()
        assert y.dtype == kind and y.shape == (12, 21, 3)
        assert (y[1:-2, 3:-4] == BYTES).all()
        y[1:-2, 3:-4] = wanted
        assert (y == np.asarray(wanted, kind)).all()
    for values, wanted in (((9,), [9, 0, 0]), ((1, 2, 3, 4), [1, 2, 3]), ((), [6, 6, 6])):
        y = image.copyMakeBorder(x, 1, 0, 0, 0, value=6, values=values)
        assert y[0, 5].asnumpy().tolist() == wanted
    same = image.copyMakeBorder(x, 0, 0, 0, 0)
    same[:] = 0
    for bad in (x[0], x.expand_dims(0)):
        with pytest.raises(mx.MXNetError, match="H, W, C"):
            image.copyMakeBorder(bad, 1, 1, 1, 1)
    with pytest.raises(mx.MXNetError, match="borders"):
        image.copyMakeBorder(x, 1, 1, -1, 1)
    assert (x.asnumpy() == BYTES).all()  # a border of no width is a copy too
    same = image.copyMakeBorder(x, 0, 0, 0, 0, 1)
    same[:] = 0
    assert (x.asnumpy() == BYTES).all()


def test_rotation_errors():
    x = given("float32").transpose((2, 0, 1))
    both = mx.nd.stack(x, x)
    turned = image.imrotate(both, mx.nd.array([30, -77]))
    assert np.allclose(turned[1].asnumpy(), image.imrotate(x, -77).asnumpy())
    assert image.random_rotate(both, (-5, 5)).shape == both.shape
    with pytest.raises(TypeError, match="float32"):
        image.imrotate(given(), 3)
    with pytest.raises(TypeError, match="scalar"):
        image.imrotate(x, mx.nd.array([1, 2]))
    with pytest.raises(ValueError, match="both"):
        image.imrotate(x, 3, True, True)


def test_augmenters():
    shape = (3, 4, 6)
    augs = image.CreateAugmenter(
        shape,
        resize=8,
        rand_crop=True,
        rand_resize=True,
        rand_mirror=True,
        mean=True,
        std=True,
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        hue=0.1,
        pca_noise=0.1,
        rand_gray=0.5,
        inter_method=10,
    )
    names = "Resize RandomSizedCrop HorizontalFlip Cast ColorJitter HueJitter Lighting RandomGray ColorNormalize"
    assert [type(a).__name__ for a in augs] == [
        n + "Aug" for n in (names + " ").replace("ColorJitter ", "ColorJitter ").split()
    ]
    x = given()
    for a in augs:
        x = a(x)
    assert x.shape == (4, 6, 3) and x.dtype == np.float32
    assert json.loads(image.ResizeAug(3).dumps()) == ["resizeaug", {"size": 3, "interp": 2}]
    assert image.SequentialAug([image.CastAug()]).dumps()[0] == "sequentialaug"
    f = given("float32")
    for a in (image.HueJitterAug(0), image.SaturationJitterAug(0), image.ContrastJitterAug(0)):
        assert np.allclose(a(f).asnumpy(), BYTES, atol=0.9)
    assert (image.HorizontalFlipAug(1.1)(given()).asnumpy() == BYTES[:, ::-1]).all()
    with pytest.raises(AssertionError):
        image.CreateAugmenter(shape, rand_resize=True)


def test_a_random_order_is_that_of_a_list_shuffled_in_place():
    steps = [mx.image.CastAug() for _ in range(4)]
    aug, order = mx.image.RandomOrderAug(list(steps)), list(steps)
    for shuffle in (lambda: random.shuffle(order), lambda: aug(mx.nd.zeros((2, 2, 3)))):
        random.seed(5)
        [shuffle() for _ in range(2)]
    assert [*map(id, aug.ts)] == [*map(id, order)]  # so MXNet has it


def test_symbol():
    y = mx.sym.image.normalize(mx.sym.image.to_tensor(mx.sym.var("data")), mean=0.5, std=0.5)
    assert [n["op"] for n in json.loads(y.tojson())["nodes"]] == [
        "null",
        "_image_to_tensor",
        "_image_normalize",
    ]
    assert mx.sym.load_json(y.tojson()).eval(data=given())[0].shape == (3, 9, 14)


def test_places_at_the_edge_of_a_pixel_and_means_of_a_half():
    tall = mx.nd.array(np.arange(120).reshape(120, 1, 1).repeat(2, 1), dtype="uint8")
    rows = image.imresize(tall, 2, 170, interp=0).asnumpy()[:, 0, 0]  # as MXNet 1.9.1 chooses them
    assert rows[17::17].tolist() == [11, 23, 36, 47, 59, 72, 83, 95, 107]
    for numbers, want in (([[1], [0]], 1), ([[5], [4]], 5)):
        square = mx.nd.array(np.array(numbers).repeat(2, 1)[..., None], dtype="uint8")
        assert image.imresize(square, 1, 1, interp=3).asnumpy().item() == want
    tall = mx.nd.array((np.arange(61) * 7 % 256).reshape(61, 1, 1), dtype="uint8")
    found = [image.imresize(tall, 1, 127, interp=i).asnumpy().ravel() for i in (0, 1, 3, 4)]
    assert [int(y.astype(int) @ np.arange(127)) for y in found] == [961702, 954176, 954779, 955710]


@pytest.mark.parametrize("interp", range(5))
def test_pictures_of_all_sizes_are_resized_to_the_last_bit(interp):
    rng, different = np.random.RandomState(5), []
    for i, expected in enumerate(GOLDEN["checksums"]):
        (H, W), (h, w) = rng.randint(3, 70, 2), rng.randint(2, 130, 2)
        h, w = (2 * H, 2 * W) if i % 3 == 0 else (h, w)
        x = rng.randint(0, 256, (H, W, (3, 1)[i % 2])).astype("uint8")
        if i // 2 % 5 == interp:
            y = image.imresize(mx.nd.array(x, dtype="uint8"), int(w), int(h), interp)
            if crc32(y.asnumpy().tobytes()) != expected:
                different.append((x.shape, h, w))
    assert not different


def test_pictures_under_the_names_of_operators(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    inner, file = mx.nd._internal, str(tmp_path / "a.png")
    read = inner._cvimread(filename=file, to_rgb=0)
    assert (read.asnumpy() == pixels[..., ::-1]).all()
    data = mx.nd.array(np.fromfile(file, "uint8"), dtype="uint8")
    assert (inner._cvimdecode(data).asnumpy() == pixels).all()
    small = inner._cvimresize(read, w=4, h=3)
    assert small.shape == (3, 4, 3) and (small == mx.image.imresize(read, 4, 3)).asnumpy().all()
    out = mx.nd.zeros((9, 11, 3), dtype="uint8")
    wide = inner._cvcopyMakeBorder(read, 1, 2, 3, 0, value=7, out=out)
    assert wide is out and (out.asnumpy()[1:-2, 3:] == read.asnumpy()).all() and out[0, 0, 0] == 7
