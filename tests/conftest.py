"""What several test modules share."""

import os

import pytest


@pytest.fixture
def mxnet_python():
    """The Python of an environment with MXNet 1.9.1; the test is skipped aloud where there is none."""
    python = os.environ.get("MXNET_PYTHON")
    if not python:
        pytest.skip(
            "no MXNet to compare with: set MXNET_PYTHON to the Python of an environment with it"
        )
    return python
