"""The table of operators against the real MXNet 1.9.1, where it is installed."""

from tests.reference.compare import compare
from tests.reference.exceptions import EXCEPTIONS


def test_agrees_with_mxnet(mxnet_python):
    found = compare(mxnet_python)
    agreed = ("agree", "not in MXNet")
    assert not {n: v for n, v in found.items() if v not in agreed and n not in EXCEPTIONS}
    assert not [n for n in EXCEPTIONS if found.get(n) in agreed], "no exceptions any more"
