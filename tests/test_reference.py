"""The table of operators against the real MXNet 1.9.1, where it is installed."""

import pytest

from tests.reference import programs
from tests.reference.compare import NUMBERS, compare, compare_edges
from tests.reference.exceptions import EDGES, EXCEPTIONS, mxnet_overflows


def test_agrees_with_mxnet(mxnet_python):
    found = compare(mxnet_python)
    agreed = ("agree", "not in MXNet")
    if mxnet_overflows():
        found = {n: v for n, v in found.items() if "quantized_fully_connected" not in n}
    assert not {n: v for n, v in found.items() if v not in agreed and n not in EXCEPTIONS}
    assert not [n for n in EXCEPTIONS if found.get(n) in agreed], "no exceptions any more"


def test_random_programs_agree_with_mxnet(mxnet_python):
    found = programs.compare(mxnet_python, count=300)
    assert not {n: v for n, v in found.items() if v != "agree" and not programs.reason(v)}


@pytest.mark.parametrize("kind", NUMBERS)
def test_agrees_with_mxnet_at_the_edges(mxnet_python, kind):
    found = compare_edges(mxnet_python, kind)
    differ = [
        f"{name} {kind}: {one}"
        for name, one in found.items()
        if one not in ("agree", "not in MXNet")
        and not one.startswith("MXNet raises")
        and (name, kind) not in EDGES
    ]
    assert differ == []
    assert not [n for n, k in EDGES if k == kind and found[n] == "agree"], "no exceptions any more"
