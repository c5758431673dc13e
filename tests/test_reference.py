"""The table of operators against the real MXNet 1.9.1, where it is installed."""

from tests.reference import programs
from tests.reference.compare import compare
from tests.reference.exceptions import EXCEPTIONS


def test_agrees_with_mxnet(mxnet_python):
    found = compare(mxnet_python)
    agreed = ("agree", "not in MXNet")
    assert not {n: v for n, v in found.items() if v not in agreed and n not in EXCEPTIONS}
    assert not [n for n in EXCEPTIONS if found.get(n) in agreed], "no exceptions any more"


def test_random_programs_agree_with_mxnet(mxnet_python):
    found = programs.compare(mxnet_python, count=300)
    assert not {n: v for n, v in found.items() if v != "agree" and not programs.reason(v)}
