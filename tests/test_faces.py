"""What `from … import *` brings."""

import pytest

import minigluon as mx


def star(module):
    scope = {}
    exec(f"from {module} import *", scope)
    return scope.keys() - {"__builtins__"}


def test_gluon():
    classes = {"Block", "HybridBlock", "Parameter", "ParameterDict", "Constant", "Trainer"}
    found = star("minigluon.gluon")
    assert classes | {"DeferredInitializationError", "nn", "loss", "data", "parameter"} <= found
    assert not {"CLASSES", "PARTS", "importlib"} & found


def test_package():
    found = star("minigluon")
    assert {"nd", "gluon", "autograd", "init", "cpu", "MXNetError"} <= found
    assert not {"MODULES", "MEMBERS"} & found


def test_ndarray():
    found = star("minigluon.ndarray")
    assert {"NDArray", "array", "dot", "relu", "contrib", "random"} <= found
    assert not [n for n in found if n.startswith("_")]
    assert not {"Namespace", "PLACES", "space"} & found


def test_contrib():
    found = star("minigluon.ndarray.contrib")
    assert {"foreach", "while_loop", "cond", "isfinite", "div_sqrt_dim"} <= found
    assert not {"relu", "array", "PLACES"} & found


def test_contrib_knows_what_it_has():
    with pytest.raises(AttributeError, match="did you mean 'foreach'"):
        mx.nd.contrib.forech
    assert "while_loop" in dir(mx.nd.contrib)
