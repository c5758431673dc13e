"""Five ideas about how blocks follow each other, and fifty networks are a table of numbers."""

# Written from chapters/88_model_zoo.ipynb: edit the chapter, then run `minigluon export`.

import re

from minigluon.gluon.model_zoo.vision import densenet, mobilenet, resnet, squeezenet, vgg
from minigluon.gluon.model_zoo.vision.alexnet import AlexNet, alexnet

__all__ = [
    "AlexNet",
    "MODELS",
    "MODULES",
    "alexnet",
    "densenet",
    "get_model",
    "mobilenet",
    "resnet",
    "squeezenet",
    "vgg",
]


# --- All by name ----------------------------------------------------------------------------------

MODULES = (resnet, vgg, squeezenet, densenet, mobilenet)
for module in MODULES:
    globals().update({n: getattr(module, n) for n in module.__all__ if not n.isupper()})
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
