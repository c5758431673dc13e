"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb, chapters/88b_late_networks.ipynb: edit the chapter, then run `minigluon export`.

import re

from minigluon.gluon.model_zoo import vision
from minigluon.gluon.model_zoo.vision import (
    densenet,
    inception,
    mobilenet,
    mobilenetv3,
    resnet,
    squeezenet,
    vgg,
)
from minigluon.gluon.model_zoo.vision.alexnet import AlexNet, alexnet
from minigluon.gluon.model_zoo.vision.inception import Inception3, inception_v3
from minigluon.gluon.model_zoo.vision.mobilenetv3 import (
    MobileNetV3,
    get_mobilenet_v3,
    mobilenet_v3_large,
    mobilenet_v3_small,
)

__all__ = [
    "AlexNet",
    "Inception3",
    "MODELS",
    "MODULES",
    "MobileNetV3",
    "alexnet",
    "densenet",
    "get_mobilenet_v3",
    "get_model",
    "inception",
    "inception_v3",
    "mobilenet",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mobilenetv3",
    "resnet",
    "squeezenet",
    "vgg",
    "vision",
]


# --- All by name ----------------------------------------------------------------------------------

MODULES = (resnet, vgg, squeezenet, densenet, mobilenet)
for module in MODULES:
    found = {n: getattr(module, n) for n in module.__all__}
    shown = {n: v for n, v in found.items() if callable(v)}  # no tables
    globals().update(shown)
    globals().setdefault("__all__", []).extend(shown)  # for `import *`
MODELS = re.compile(r"(resnet|vgg|squeezenet|densenet|mobilenet)(\d|_v2_)")
_models = {
    n.replace("squeezenet1_", "squeezenet1.").replace("mobilenet_v2_", "mobilenetv2_"): f
    for n, f in globals().items()
    if MODELS.match(n)
}
_models = {re.sub(r"(mobilenet(?:v2_)?\d)_", r"\1.", n): f for n, f in _models.items()}
_models["alexnet"] = alexnet


def get_model(name, **kwargs):
    """The network of a name, such as 'resnet18_v2'; ValueError for one that is not known."""
    if name.lower() not in _models:
        raise ValueError(f"Model {name} is not supported. Available options are {sorted(_models)}")
    return _models[name.lower()](**kwargs)


# --- By name --------------------------------------------------------------------------------------

vision._models["inceptionv3"] = inception_v3
vision._models["mobilenetv3_large"] = mobilenet_v3_large
vision._models["mobilenetv3_small"] = mobilenet_v3_small
