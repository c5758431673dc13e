"""Readers of files meet damaged ones: a little in each run, more with `-m slow`."""

import pytest

from tests.fuzz.mutate import fuzz


def test_a_little():
    counts = fuzz(3, seed=1)
    assert all(count > 50 for count in counts.values()), counts


@pytest.mark.slow
def test_much():
    counts = fuzz(120, seed=2)
    assert sum(counts.values()) > 20000, counts
