"""Networks of the model zoo: MXNet's names and shapes, and the same logits from the same file."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import minigluon as mx
from minigluon.gluon.model_zoo import model_store, vision

SIDE = {
    "squeezenet1.1": 224,
    "alexnet": 224,
    "densenet121": 224,
    "vgg11_bn": 64,
    "inceptionv3": 299,
}
NAMES = ["resnet18_v1", "resnet50_v1", "resnet18_v2", "resnet50_v2", "vgg11_bn", "alexnet"]
NAMES += ["squeezenet1.1", "densenet121", "mobilenet0.25", "mobilenetv2_0.25", "inceptionv3"]
THERE = """
import json, sys
import numpy as np
np.bool = bool
import mxnet as mx
from mxnet.gluon.model_zoo import vision
folder, side = sys.argv[1], json.loads(sys.argv[3])
shapes = {}
for name in json.loads(sys.argv[2]):
    net = vision.get_model(name, classes=7)
    net.initialize(mx.init.Xavier())
    n = side.get(name, 64)
    x = mx.nd.array(np.random.RandomState(0).uniform(-1, 1, (2, 3, n, n)))
    np.save(f"{folder}/{name}.npy", net(x).asnumpy())
    net.save_parameters(f"{folder}/{name}.params")
    params = net.collect_params().items()
    shapes[name] = [[k[len(net.prefix):], list(p.shape)] for k, p in params]
json.dump(shapes, open(f"{folder}/shapes.json", "w"))
"""


def test_files_of_mxnet_load_and_give_the_same_logits(tmp_path, mxnet_python):
    command = [mxnet_python, "-c", THERE, str(tmp_path), json.dumps(NAMES), json.dumps(SIDE)]
    subprocess.run(command, check=True)
    shapes = json.loads((tmp_path / "shapes.json").read_text())
    for name in NAMES:
        net, n = vision.get_model(name, classes=7), SIDE.get(name, 64)
        net.load_parameters(str(tmp_path / f"{name}.params"))
        own = [[k.removeprefix(net.prefix), list(p.shape)] for k, p in net.collect_params().items()]
        assert own == shapes[name], name
        x = mx.nd.array(np.random.RandomState(0).uniform(-1, 1, (2, 3, n, n)))
        wanted = np.load(tmp_path / f"{name}.npy")
        error = np.abs(net(x).asnumpy() - wanted).max() / np.abs(wanted).max()
        assert error < 1e-4, (name, error)


GRAPHS = """
import json, sys
import numpy as np
np.bool = bool
import mxnet as mx
for name in json.loads(sys.argv[1]):
    graph = mx.gluon.model_zoo.vision.get_model(name)(mx.sym.var("data"))
    nodes = json.loads(graph.tojson())["nodes"]
    for n in nodes:
        print(name, n["name"], n["op"], [nodes[i]["name"] for i, *_ in n["inputs"]])
"""


def test_graphs_are_mxnets_node_by_node(mxnet_python):
    """So a feature that is asked for by its name in MXNet's graph is found in ours."""
    names = [n for n in vision._models if not n.startswith("mobilenetv3")]
    here = GRAPHS.replace("mxnet as mx", "minigluon as mx")
    found = [
        subprocess.run(
            [python, "-c", text, json.dumps(names)], check=True, capture_output=True, text=True
        )
        for python, text in ((sys.executable, here), (mxnet_python, GRAPHS))
    ]
    ours, theirs = (run.stdout.splitlines() for run in found)
    assert ours == theirs


def small(name, hybrid):
    """A network in double precision, and four pictures that leave it 2 × 2 numbers a channel."""
    mx.random.seed(0)
    side = {"thumbnail": True} if "resnet" in name else {}
    net = vision.get_model(name, classes=3, **side)
    net.initialize(mx.init.Xavier())
    net.cast("float64")
    net.hybridize(hybrid)
    n = 16 if side else 64
    x = mx.nd.random.normal(shape=(4, 3, n, n), dtype="float64")
    net(x)  # draws the parameters
    return net, x, mx.nd.array([0, 1, 2, 1])


def trained(name, hybrid, steps=2):
    """The parameters, and the losses, of a few steps from the same start."""
    net, x, y = small(name, hybrid)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    losses = []
    for _ in range(steps):
        with mx.autograd.record():
            value = loss(net(x), y)
        value.backward()
        trainer.step(4)
        losses.append(value.mean().asscalar())
    return [p.data().asnumpy() for p in net.collect_params().values()], losses


TRAINED = ["resnet18_v2", "mobilenetv2_0.25"]


@pytest.mark.parametrize("name", TRAINED)
def test_training_hybridized_is_training(name):
    (plain, losses), (fast, others) = trained(name, False), trained(name, True)
    np.testing.assert_allclose(others, losses, rtol=1e-8)
    for a, b in zip(plain, fast, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [*TRAINED, "mobilenetv3_small"])
def test_the_gradient_of_a_whole_network(name):
    """Along its gradient g a loss rises by |g|^2 a unit: all parameters in one number."""
    net, x, y = small(name, True)
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()

    def value():
        mx.random.seed(1)  # the same numbers are dropped each time
        with mx.autograd.record():
            return loss(net(x), y).sum()

    value().backward()
    learnt = [p for p in net.collect_params().values() if p.grad_req != "null"]
    grads, square = [p.grad().copy() for p in learnt], 0
    square = sum(float((g * g).sum().asscalar()) for g in grads)
    step, losses = 1e-9 / square**0.5, []  # no relu6 turns over on so short a way
    for sign in (1, -2):
        for p, g in zip(learnt, grads):
            p.set_data(p.data() + sign * step * g)
        losses.append(value().asscalar())
    assert abs((losses[0] - losses[1]) / (2 * step * square) - 1) < 1e-5


def test_all_names():
    assert len(vision._models) == 36 and vision.resnet152_v2.__name__ == "resnet152_v2"
    assert mx.gluon.model_zoo.get_model("ResNet18_v1").features
    with pytest.raises(ValueError, match="Model resnet19 is not supported"):
        vision.get_model("resnet19")
    with pytest.raises(AssertionError, match="Invalid number of layers: 19"):
        vision.get_resnet(1, 19)
    with pytest.raises(AssertionError, match="Unsupported SqueezeNet version"):
        vision.get_squeezenet("2.0")


def test_a_published_file_is_checked_and_kept(tmp_path, monkeypatch):
    source, root = tmp_path / "gluon" / "models", tmp_path / "cache"
    source.mkdir(parents=True)
    net = vision.mobilenet0_25(classes=2)
    net.initialize()
    net(mx.nd.ones((1, 3, 32, 32)))
    file = tmp_path / "net.params"
    net.save_parameters(str(file))
    digest = hashlib.sha1(file.read_bytes()).hexdigest()
    stem = f"mobilenet0.25-{digest[:8]}"
    with zipfile.ZipFile(source / f"{stem}.zip", "w") as archive:
        archive.write(file, f"{stem}.params")
    monkeypatch.setitem(model_store.SHA1, "mobilenet0.25", digest)
    monkeypatch.setattr(model_store, "_get_repo_file_url", lambda a, b: str(source / b))
    monkeypatch.setattr(
        model_store, "download", lambda url, path, overwrite: shutil.copy(url, path)
    )
    again = vision.mobilenet0_25(classes=2, pretrained=True, root=str(root))
    x = mx.nd.ones((1, 3, 32, 32))
    assert (again(x) == net(x)).asnumpy().all()
    assert [p.name for p in root.iterdir()] == [f"{stem}.params"]
    (source / f"{stem}.zip").unlink()  # from now on the cache must do
    vision.mobilenet0_25(classes=2, pretrained=True, root=str(root))
    model_store.purge(str(root))
    assert not [*root.iterdir()]
    with pytest.raises(ValueError, match="not available"):
        model_store.get_model_file("resnet1000")
