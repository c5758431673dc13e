"""Products in blocks against NumPy's: kernels/cpu/products.cpp and helpers.cpp, chapter 96h_product_loops."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigluon.ops.product_loops as loops
from minigluon import native
from minigluon.cores import alone, core_matmul, matmul, spread

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.loops
BLOCKS = "-DIN_PLACE=1000000" in native.blas_flags()
TILING = native.missing() is None and loops.tiling()
needs_blocks = pytest.mark.skipif(
    not (BLOCKS or TILING),
    reason="products are NumPy's on this processor: neither blocks nor tiles",
)


def draw(*shape):
    return RNG.standard_normal(shape, dtype="float32")


def laid(a, way):
    """The same numbers, lying in another way."""
    if way == "columns":
        return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    if way == "part":
        return np.pad(a, [(0, 0)] * (a.ndim - 2) + [(1, 2), (3, 4)])[..., 1:-2, 3:-4]
    if way == "part of columns":
        return laid(a.swapaxes(-1, -2), "part").swapaxes(-1, -2)
    if way == "every other":  # BLAS cannot have it so
        return np.repeat(a, 2, -1)[..., ::2]
    return a[::-1].copy()[::-1] if way == "backwards" else a


def close(found, a, b):
    want = np.matmul(a.astype("d"), b.astype("d"))
    assert found.shape == want.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, want, atol=2e-5 * a.shape[-1] ** 0.5, rtol=1e-4)


SHAPES = [
    (2, 1000, 700),
    (33, 401, 100),
    (64, 784, 256),
    (257, 300, 40),
    (300, 1024, 256),
    (100, 1024, 1030),
    (500, 500, 500),
    (300, 1000, 300),
    (1100, 31, 33),
    (10_000, 2, 60),
    (14, 2000, 14),  # of its pieces one is narrow
    (16, 2000, 18),
    (300, 700, 600),  # tiles, whatever lies how
    (131, 193, 1060),  # tiles for a layer
]
WAYS = ["rows", "columns", "part", "part of columns"]


@pytest.mark.parametrize("multiply", [core_matmul, matmul])
@pytest.mark.parametrize("right", WAYS)
@pytest.mark.parametrize("left", WAYS)
def test_products_agree_however_matrices_lie(left, right, multiply):
    for m, k, n in SHAPES:
        a, b = laid(draw(m, k), left), laid(draw(k, n), right)
        close(multiply(a, b), a, b)
        out = laid(draw(m, n), "part")
        assert multiply(a, b, out) is out
        close(out, a, b)


@needs_blocks
@pytest.mark.parametrize("way", WAYS)
def test_blocks_are_used(way):
    a, b = laid(draw(64, 300), way), laid(draw(300, 100), "columns" if way == "rows" else "rows")
    close(loops.blocked(a, b), a, b)
    assert native.by_numpy(lambda: loops.blocked(a, b)) is None


@needs_blocks
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_a_bias_comes_with_the_product(relu, down, threads):
    for m, k, n in (
        (64, 784, 256),
        (256, 64, 784),
        (300, 70, 65),
        (300, 700, 300),
        (131, 193, 1060),
    ):
        a, b, bias = draw(m, k), draw(n, k).T, draw(m if down else n)
        a[3, 5] = np.nan
        want = a.astype("d") @ b + (bias[:, None] if down else bias)
        found = loops.blocked(a, b, None, threads, bias, (2 if down else 1) + 4 * relu)
        want = np.where(want < 0, 0, want) if relu else want
        np.testing.assert_allclose(found, want, atol=2e-5 * k**0.5, rtol=1e-4)


@needs_blocks
def test_a_bias_that_does_not_suit_is_left_alone():
    a, b, out = draw(64, 300), draw(300, 100), np.full((64, 100), 7, "f")
    for bias in (draw(64), draw(1), draw(100, 1), draw(100).astype("d"), draw(200)[::2], out[3]):
        assert loops.blocked(a, b, out, 1, bias, 1) is None
    assert loops.blocked(draw(2, 64, 300), draw(2, 300, 100), None, 1, draw(100), 1) is None
    assert (out == 7).all()


STACKS = [
    ((3,), (3,)),
    ((3,), ()),
    ((), (4,)),
    ((1, 5), (2, 1)),
    ((2, 1, 2), (3, 1)),
    ((2, 2, 2, 2, 1, 1), (1, 1, 1, 2, 1, 3)),
]


@pytest.mark.parametrize(("left", "right"), STACKS)
@pytest.mark.parametrize("way", [*WAYS, "every other", "backwards"])
def test_stacks_agree(left, right, way):
    a, b = laid(draw(*left, 40, 300), way), laid(draw(*right, 300, 96), way)
    close(core_matmul(a, b), a, b)
    stack = np.broadcast_shapes(left, right)
    out = np.empty((*stack[:-1], 2 * stack[-1], 40, 96), "f")[..., ::2, :, :] if stack else None
    close(core_matmul(a, b, out), a, b)


@needs_blocks
def test_a_stack_of_seven_axes_goes_by_blocks_and_one_of_nine_does_not():
    a, b = draw(1, 2, 1, 1, 1, 1, 40, 300), draw(300, 96)
    assert loops.blocked(a, b) is not None
    many = a[None]
    assert loops.blocked(many, b) is None
    close(core_matmul(many, b), many, b)


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(*[st.integers(1, 140)] * 3),
    ways=st.tuples(*[st.sampled_from([*WAYS, "every other", "backwards"])] * 2),
    threads=st.integers(1, 5),
)
def test_any_shape(sides, ways, threads):
    m, k, n = sides
    a, b = laid(draw(m, 9 * k), ways[0]), laid(draw(9 * k, n), ways[1])
    found = loops.blocked(a, b, None, threads)
    close(core_matmul(a, b) if found is None else found, a, b)


@needs_blocks
def test_what_does_not_suit_is_left_alone():
    a, b = draw(64, 300), draw(300, 100)
    for x, y in (
        (a.astype("d"), b),
        (a, b.astype("d")),
        (a.astype("f2"), b.astype("f2")),
        (a.astype(">f4"), b),
        (a, a.T),  # BLAS computes one half of it
        (laid(a, "every other"), b),
        (a[:1], b),
        (a[:2], b),  # too small
        (np.empty((0, 300), "f"), b),
        *[(draw(2000, 2000), draw(2000, 2000))] * BLOCKS,  # OpenBLAS's threads in each of ours
        *[(draw(3, 400), draw(400, 900))] * TILING,  # half of each tile would be for nothing
    ):
        assert loops.blocked(x, y, None, 2) is None
        np.testing.assert_allclose(core_matmul(x, y), np.matmul(x, y), rtol=1e-3, atol=1e-3)
    for out in (np.empty((64, 100)), np.empty((100, 64), "f").T, np.empty((64, 200), "f")[:, ::2]):
        assert loops.blocked(a, b, out) is None
        close(core_matmul(a, b, out).astype("f"), a, b)


def test_a_result_over_its_factors_is_right():
    memory = draw(300, 300)
    a = memory.copy()
    found = core_matmul(memory[:200], memory[:, :200].copy()[:300], memory[100:, :200])
    close(found.copy(), a[:200], a[:, :200])
    square = draw(300, 300)
    old, b = square.copy(), draw(300, 300)
    close(core_matmul(square, b, square).copy(), old, b)


@pytest.mark.parametrize("multiply", [core_matmul, matmul])
def test_what_does_not_fit_raises_as_in_numpy_and_leaves_the_result(multiply):
    a, b, out = draw(64, 300), draw(301, 100), np.full((64, 100), 7, "f")
    with pytest.raises(ValueError, match="mismatch in its core dimension"):
        multiply(a, b, out)
    with pytest.raises(ValueError, match="mismatch|broadcast"):
        multiply(a, draw(300, 99), out)
    locked = out.copy()
    locked.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        multiply(a, draw(300, 100), locked)
    assert (out == 7).all()


def test_stacks_that_do_not_fit_raise():
    with pytest.raises(ValueError):
        core_matmul(draw(2, 64, 300), draw(3, 300, 100))
    with pytest.raises(ValueError):
        core_matmul(draw(2, 64, 300), draw(2, 300, 100), np.empty((3, 64, 100), "f"))


@pytest.mark.parametrize("multiply", [core_matmul, matmul])
def test_nan_and_infinity_go_where_they_belong(multiply):
    a, b = draw(64, 900), draw(900, 100)
    a[5, 850], b[3, 7] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        found, want = multiply(a, b), a.astype("d") @ b.astype("d")
    assert (np.isnan(found) == np.isnan(want)).all() and (np.isinf(found) == np.isinf(want)).all()


def test_results_do_not_depend_on_what_lies_in_the_result():
    a, b = draw(64, 900), draw(900, 100)
    close(core_matmul(a, b, np.full((64, 100), np.nan, "f")), a, b)


@needs_blocks
def test_a_product_is_the_same_every_time():
    a, b = draw(256, 784), draw(784, 100)
    first = loops.blocked(a, b, None, 3)
    assert all((loops.blocked(a, b, None, 3) == first).all() for _ in range(20))


@needs_blocks
def test_many_threads_ask_at_once():
    cases = [(draw(64, 500), draw(500, 40 + i)) for i in range(6)]
    wrong = []

    def ask(a, b):
        want = a.astype("d") @ b
        for _ in range(60):
            if not np.allclose(loops.blocked(a, b, None, 4), want, atol=1e-3):
                wrong.append(a.shape)

    threads = [threading.Thread(target=ask, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_within_spread_work_a_product_has_one_core():
    if alone.threads < 2:
        pytest.skip("one core: nothing is spread")
    assert spread(lambda i: loops.threads(), range(4)) == [1] * 4
    assert loops.threads() == alone.threads > 1


def run(code, **environment):
    """What a program prints in a process of its own."""
    told = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.split()


BEGIN = """
import os, numpy as np, minigluon.ops.product_loops as loops
from minigluon.cores import matmul
a, b = np.ones((64, 500), "f"), np.ones((500, 100), "f")
"""


@needs_blocks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_has_helpers_of_its_own():
    code = """
for generation in range(3):
    assert (loops.blocked(a, b, None, 3) == 500).all()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        break
print("right", flush=True)
os._exit(0)
"""
    assert run(BEGIN + code) == ["right"] * 4


@needs_blocks
def test_other_processors_go_numpys_way():
    code = "print(loops.blocked(a, b) is None, loops.tiling(), (matmul(a, b) == 500).all())"
    assert run(BEGIN + code, OPENBLAS_CORETYPE="Haswell") == [str(not TILING), str(TILING), "True"]


@pytest.mark.skipif(not TILING, reason="products are not all made of tiles on this processor")
def test_few_multiplications_and_small_stacks():
    a, b = draw(48, 64), draw(64, 64)
    assert loops.blocked(a, b) is None  # a call would cost more
    stack = draw(3, 48, 64), draw(3, 64, 64)
    close(loops.blocked(*stack), *stack)
    for m in (3, 4, 6, 16, 100):  # rows that fill tiles, more or less
        a, b = draw(m, 700), draw(700, 300)
        found = loops.blocked(a, b, None, 2)
        assert (found is None) == (m == 3)
        close(core_matmul(a, b), a, b)
    a, b = draw(600, 700), draw(700, 400)
    assert loops.SHORT < 2 * a.size * b.shape[1] < loops.SHORT * 10
    close(loops.blocked(a, b, None, 2), a, b)  # longer ones, too


TILES = """
#include <cstdio>
#include <vector>
#include "tiles.h"
int main() {
    int wrong = 0, seed = 1;
    auto draw = [&](size n) {
        std::vector<float> found(n);
        for (float &x : found) x = (seed = seed * 16807LL % 2147483647) % 2001 / 1000.0f - 1;
        return found;
    };
    const size sides[][3] = {{1, 1, 1}, {8, 16, 32}, {7, 17, 33}, {9, 513, 31}, {300, 40, 70}, {13, 1100, 65}, {530, 600, 5}};
    for (auto [m, k, n] : sides)
        for (int way = 0; way < 16; way++) {
            const bool turn_a = way & 1, turn_b = way & 2, add = way & 4, strips_too = way & 8;
            const size step_a = (turn_a ? m : k) + 3, step_b = (turn_b ? k : n) + 1, step = n + 2;
            auto a = draw(step_a * (turn_a ? k : m)), b = draw(step_b * (turn_b ? n : k)), c = draw(step * m), before = c;
            Matrix x{a.data(), step_a, turn_a}, y{b.data(), step_b, turn_b};
            wrong += strips_too ? !Strips(k, n, y).multiply(m, x, add, c.data(), step) : !tiled(m, k, n, x, y, add, c.data(), step);
            for (size i = 0; i < m; i++)
                for (size j = 0; j < step; j++) {
                    double sum = add || j >= n ? before[i * step + j] : 0;
                    for (size p = 0; p < k && j < n; p++) sum += (double)*x.at(i, p) * *y.at(p, j);
                    wrong += !(sum - c[i * step + j] < 1e-3 && c[i * step + j] - sum < 1e-3);
                }
        }
    printf("%d", wrong);
}
"""


@pytest.mark.parametrize(
    "flags",
    [
        ["-march=native"],
        ["-mavx", "-mfma"],
        [],
        ["-D__AVX512F__", "-Wno-psabi"],  # vectors of 512 bits, in pieces
        ["-fsanitize=address,undefined"],
        ["-mavx", "-fsanitize=address,undefined"],
    ],
    ids=str,
)
def test_tiles_are_sums_of_products(flags, tmp_path):
    """For vectors of each length that this processor has, and under the sanitizer that finds reads beyond an array's end."""
    folder = Path(loops.__file__).parents[2] / "kernels" / "cpu"
    (tmp_path / "tiles.cpp").write_text(TILES)
    command = ["g++", "-O2", "-std=c++17", f"-I{folder}", *flags]
    made = subprocess.run(
        [*command, tmp_path / "tiles.cpp", "-o", tmp_path / "tiles"], capture_output=True, text=True
    )
    if made.returncode and flags:
        pytest.skip(f"this compiler does not know {flags}")
    assert made.returncode == 0, made.stderr
    told = subprocess.run([tmp_path / "tiles"], capture_output=True, text=True, timeout=100)
    if told.returncode == -4:
        pytest.skip("this processor has no such vectors")
    assert (told.returncode, told.stdout) == (0, "0"), told.stderr[:2000]


STRESS = """
#include "helpers.cpp"
#include <cstdio>
#include <vector>
int main() {
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < 3; caller++)
        callers.emplace_back([&] {
            for (int job = 0; job < 2000; job++) {
                std::vector<int> hits(1 + job % 7);
                share([](void *hits, size i) { (*(std::vector<int> *)hits)[i]++; }, &hits, hits.size(), 1 + job % 4);
                for (int hit : hits) wrong += hit != 1;
            }
        });
    for (auto &caller : callers) caller.join();
    printf("%d", wrong.load());
}
"""


@pytest.mark.parametrize("flags", [[], ["-fsanitize=thread"]], ids=["plain", "thread sanitizer"])
def test_each_piece_is_carried_out_once(flags, tmp_path):
    """Also under the sanitizer that finds memory which two threads use at once."""
    folder = Path(loops.__file__).parents[2] / "kernels" / "cpu"
    (tmp_path / "stress.cpp").write_text("#include <thread>\n" + STRESS)
    program = tmp_path / "stress"
    command = ["g++", "-O1", "-g", "-std=c++17", "-pthread", f"-I{folder}", *flags]
    made = subprocess.run(
        [*command, tmp_path / "stress.cpp", "-o", program], capture_output=True, text=True
    )
    if made.returncode and flags:
        pytest.skip("this compiler has no thread sanitizer")
    assert made.returncode == 0, made.stderr
    told = subprocess.run([program], capture_output=True, text=True, timeout=100)
    if flags and "unexpected memory mapping" in told.stderr:
        pytest.skip("the thread sanitizer does not run on this system")
    assert (told.returncode, told.stdout) == (0, "0"), told.stderr[:2000]
