"""The table of operators against the real MXNet 1.9.1, where it is installed."""

import os

import pytest

from tests.reference.compare import compare
from tests.reference.exceptions import EXCEPTIONS


def test_agrees_with_mxnet():
    python = os.environ.get("MXNET_PYTHON")
    if not python:
        pytest.skip(
            "no MXNet to compare with: set MXNET_PYTHON to the Python of an environment with it"
        )
    found = compare(python)
    agreed = ("agree", "not in MXNet")
    assert not {n: v for n, v in found.items() if v not in agreed and n not in EXCEPTIONS}
    assert not [n for n in EXCEPTIONS if found.get(n) in agreed], "no exceptions any more"
