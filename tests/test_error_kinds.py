"""Common mistakes raise the class of error that MXNet 1.9.1 raises: reference/errors.txt."""

import re

import pytest

import minigluon as mx
from tests.reference.golden_errors import blocks, outcome

COMMON, CASES = blocks()
STRICTER = "MXNet lets it pass, and computes something else"
OTHERWISE = {  # name -> why it is not MXNet's
    "dense bad activation": "the word itself is refused, before shapes are",
    "dict get constant clash": "MXNet's list has no shape; the values are compared here",
    "function twice": "MXNet refuses outputs that are inputs, and so the first call",
    "ctx text": "a context may be a text here",
    "loader ragged": "in MXNet, NumPy's type `object` is no key",
    "loader ragged workers": "in MXNet, NumPy's type `object` is no key",
    "loader batchify fails workers": "MXNet cannot send functions of functions to workers",
    "np mixed": "both kinds of array may be in a sum here",
} | dict.fromkeys(
    [
        "bn wrong channels",
        "trainer kv unknown",
        "backward head shape",
        "op unknown kw",
        "kv unknown",
        "custom register type",
    ],
    STRICTER,
)


@pytest.mark.parametrize("name", CASES)
def test_mistakes_raise_the_class_that_mxnet_raises(name):
    expected, code = CASES[name]
    found = outcome(mx, COMMON, code)
    kinds = ["no error"] if found is None else [c.__name__ for c in found.__mro__]
    kinds += ["error"] * (found is re.error)  # its name from Python 3.13 on: PatternError
    assert (expected in kinds) != (name in OTHERWISE), f"{expected} there, {kinds[0]} here"
