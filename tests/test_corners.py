"""Corners of the interface that only the comparison of generated calls with MXNet 1.9.1 has found: reference/corners.txt."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import minigluon as mx
from minigluon import mxnet
from tests.reference import golden_corners

COMMON, PROGRAMS = golden_corners.programs()
GOLDEN = json.loads((Path(golden_corners.__file__).parent / "corners.json").read_text())


@pytest.fixture
def installed():
    mxnet.install()
    yield mx
    mxnet.uninstall()


def agree(a, b):
    """Whether two results of JSON are equal, numbers within 1e-4."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(agree, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(agree(a[k], b[k]) for k in a)
    if isinstance(a, float) or isinstance(b, float):
        return type(a) in (int, float) and bool(np.isclose(a, b, rtol=1e-4, atol=1e-6))
    return a == b and type(a) is type(b)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_mxnet_computes(name, installed):
    found, expected = golden_corners.result(installed, COMMON, PROGRAMS[name]), GOLDEN[name]
    if isinstance(expected, dict) and expected.keys() == {"error"}:
        kinds = [c.__name__ for c in getattr(found, "__mro__", ())]
        assert expected["error"] in kinds, found
    else:
        assert agree(expected, found), f"{expected} there, {found} here"


def test_the_results_are_those_of_mxnet(mxnet_python, tmp_path):
    written = tmp_path / "corners.json"
    subprocess.run(
        [mxnet_python, golden_corners.__file__, str(written)], check=True, capture_output=True
    )
    found = json.loads(written.read_text())
    assert [n for n in PROGRAMS if not agree(found[n], GOLDEN[n])] == []
