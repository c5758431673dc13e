"""Every call that an operator makes of a GPU's array, made of CuPy as well: without a GPU it must fail there, not before.

CuPy's arrays can be made over ordinary memory. What is asked of them then either reaches the device, which is not
there, or fails in Python: a setting that CuPy lacks, a type that it refuses, a conversion that it does not make.
"""

import numpy as np
import pytest

import minigluon.ops
from minigluon import gpu_on_cpu
from minigluon.op import operators
from tests.cases import ROWS
from tests.standins import Duck, unwrap, wrap

cupy = pytest.importorskip("cupy", reason="no CuPy: pip install 'minigluon[cuda13]', no GPU needed")

minigluon.ops.load()
host = np.zeros(1 << 16, np.uint8)
pytestmark = pytest.mark.skipif(
    cupy.cuda.is_available(), reason="a GPU is there: `pytest -m gpu` computes on it"
)


def twin(x):
    """`x` with each array of the stand-in as one of CuPy, over memory that is not a device's."""
    if isinstance(x, Duck):
        memory = cupy.cuda.memory.UnownedMemory(host.ctypes.data, host.nbytes, host, 0)
        return cupy.ndarray(x.shape, x.dtype, cupy.cuda.memory.MemoryPointer(memory, 0))
    if isinstance(x, tuple | list):
        return type(x)([twin(part) for part in x])
    if isinstance(x, dict):
        return {k: twin(v) for k, v in x.items()}
    return x


def holds_duck(x):
    """Whether there is an array of the stand-in in `x`, however deep."""
    if isinstance(x, dict):
        x = list(x.values())
    return isinstance(x, Duck) or (isinstance(x, tuple | list) and any(map(holds_duck, x)))


def reaches_the_device(error):
    """Whether a call failed for want of a device or of its libraries."""
    text = f"{type(error).__name__} {error}"
    return "CUDA" in text or "Failure finding" in text or "libcu" in text or "NVRTC" in text


@pytest.fixture
def refusals(monkeypatch):
    """What CuPy has refused so far, as `call: why`."""
    found = []

    def ask(name, call):
        try:
            call()
        except Exception as error:
            if not reaches_the_device(error):
                found.append(f"{name}: {type(error).__name__}: {error}")

    ufunc, function = Duck.__array_ufunc__, Duck.__array_function__
    attribute, get, put = Duck.__getattr__, Duck.__getitem__, Duck.__setitem__

    def asked_ufunc(self, f, method, *inputs, **settings):
        ask(f"{f.__name__}.{method}", lambda: getattr(f, method)(*twin(inputs), **twin(settings)))
        return ufunc(self, f, method, *inputs, **settings)

    def asked_function(self, f, types, args, settings):
        brings = f.__name__ in ("array", "asarray")  # whose `like=` the dispatch has taken away
        like = {"like": twin(self)} if brings or not holds_duck([args, settings]) else {}
        ask(f"{f.__name__}{settings}", lambda: f(*twin(args), **twin(settings), **like))
        return function(self, f, types, args, settings)

    def asked_attribute(self, name):
        member = attribute(self, name)
        if not callable(member):
            return member

        def method(*args, **settings):
            ask(f".{name}", lambda: getattr(twin(self), name)(*twin(args), **twin(settings)))
            return member(*args, **settings)

        return method

    def asked_get(self, key):
        found = get(self, key)  # an index out of bounds ends a loop over an array: no refusal
        ask("[]", lambda: twin(self)[twin(key)])
        return found

    def asked_put(self, key, value):
        ask("[]=", lambda: twin(self).__setitem__(twin(key), twin(value)))
        put(self, key, value)

    monkeypatch.setattr(Duck, "__array_ufunc__", asked_ufunc)
    monkeypatch.setattr(Duck, "__array_function__", asked_function)
    monkeypatch.setattr(Duck, "__getattr__", asked_attribute)
    monkeypatch.setattr(Duck, "__getitem__", asked_get)
    monkeypatch.setattr(Duck, "__setitem__", asked_put)
    return found


def test_a_refusal_is_seen(refusals):
    x = gpu_on_cpu.asarray(np.ones(3, "float32"))
    np.add(x, x)
    assert refusals == []
    np.partition(x, 1, kind="introselect")
    assert len(refusals) == 1 and "kind" in refusals[0]


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_cupy_takes_every_call(row, refusals):
    from tests.test_ops import run_rules

    args = [wrap(a) for a in row.arrays]
    operators[row.op](*args, **row.settings)
    if row.differentiable:
        run_rules(row, wrap, unwrap)
    assert sorted(set(refusals)) == []
