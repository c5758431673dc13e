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


@pytest.fixture
def by_numpy():
    """A function that calls another one without the loops of kernels/cpu."""
    from minigluon.native import by_numpy

    return by_numpy


@pytest.fixture
def called(monkeypatch):
    """The names of the loops of kernels/cpu that were called."""
    from minigluon.native import Loops

    names, plain = [], Loops.__call__

    def call(self, name, *args):
        names.append(name)
        return plain(self, name, *args)

    monkeypatch.setattr(Loops, "__call__", call)  # the class stays: it tells whether there are any
    return names


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU that CuPy can use")
    config.addinivalue_line("markers", "loops: needs the loops of kernels/cpu, so a C++ compiler")
    config.addinivalue_line("markers", "slow: takes minutes; runs with `-m slow` only")


def pytest_collection_modifyitems(config, items):
    if "slow" not in (config.getoption("-m") or ""):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run it with -m slow"))
    from minigluon.native import missing

    if reason := missing():
        for item in items:
            if item.get_closest_marker("loops"):
                item.add_marker(pytest.mark.skip(reason=reason))
    keep_one_of_those_for_a_gpu(config, items)


def keep_one_of_those_for_a_gpu(config, items):
    """Without a GPU one skipped test says so for all the thousands; the others are not even listed."""
    from minigluon.context import num_gpus

    marked = [item for item in items if item.get_closest_marker("gpu")]
    if len(marked) > 1 and num_gpus() == 0:
        config.hook.pytest_deselected(items=marked[1:])
        left_out = {*marked[1:]}
        items[:] = [item for item in items if item not in left_out]
