// Products of matrices, and of stacks of them, on one core: chapter 96h_product_loops.
#include <cstdlib>
#include "arrays.h"
#include "helpers.h"
#include "product.h"

static constexpr int MOST = 8;  // axes

static bool floats(const Array &x) {
    return x.axes >= 2 && x.axes <= MOST && holds(x, 'f', 4);
}

// Whether BLAS takes such matrices: the numbers of each row lie side by side, or those of each column.
static bool lies(const Array &x, Matrix &matrix) {
    const size rows = length(x, 2), columns = length(x, 1), down = stride(x, 2), across = stride(x, 1);
    const bool straight = across == 4 && down >= 4 * columns && down % 4 == 0;
    matrix = Matrix{(const float *)x.data, (straight ? down : across) / 4, !straight};
    return straight || (down == 4 && across >= 4 * rows && across % 4 == 0);
}

// Whether the memory of two arrays may overlap.
static bool meet(const Array &x, const Array &y) {
    auto end = [](const Array &z, bool last) {
        char *at = z.data + (last ? z.itemsize : 0);
        for (int i = 1; i <= z.axes; i++)
            if ((stride(z, i) > 0) == last) at += (length(z, i) - 1) * stride(z, i);
        return at;
    };
    return end(x, false) < end(y, true) && end(y, false) < end(x, true);
}

// Whether axes of a stack fit: those of the result, or 1, which meets all of them.
static bool fits(const Array &x, const Array &result) {
    for (int i = 3; i <= most(x.axes, result.axes); i++)
        if (length(x, i) != 1 && length(x, i) != length(result, i)) return false;
    return true;
}

static constexpr size PAGE = 1024;  // numbers: rows so far apart, or a multiple of it, push each other out of the cache

// Whether it pays to turn a B that is given by its columns: k n steps, which save a twentieth of m k n, or a fifth of them.
static bool turning(size m, size k, size n, size step) { return k * n <= 2 * CACHED && m >= (step % PAGE ? 256 : 64); }

// Whether OpenBLAS's way is better than blocks, even if matrices are turned first: they are large, or lie a page apart.
static bool whole(size m, size k, size n, Matrix a, Matrix b) {
    if (by_tiles(m, k, n, a, b)) return false;
    if (!b.turned || a.turned) return !by_blocks(m, k, n, a, b);
    return !turning(m, k, n, b.step) && (!by_blocks(m, k, n, a, b) || (m > 64 && b.step % PAGE == 0));
}

// What is done to a product when it is there: a bias is added, one for each column, or each row, and nothing below 0 remains.
struct Finish {
    const float *bias = nullptr;
    bool down = false, relu = false;  // `down`: each row has one
    Finish from(size i, size j) const { return {bias ? bias + (down ? i : j) : nullptr, down, relu}; }
};

template <bool down, bool relu>
static void finish(size m, size n, float *c, size step, const float *bias) {
    for (size i = 0; i < m; i++, c += step) {
        const float one = bias[down ? i : 0];
        EACH(j, n) {
            const float sum = c[j] + (down ? one : bias[j]);
            c[j] = relu && sum < 0 ? 0 : sum;  // NaN stays NaN
        }
    }
}

static void finish(size m, size n, float *c, size step, Finish end) {
    if (!end.bias) return;
    const auto all = end.down ? end.relu ? finish<true, true> : finish<true, false> : end.relu ? finish<false, true> : finish<false, false>;
    all(m, n, c, step, end.bias);
}

// C = A B on this core. A piece of a product of tiles is one, however narrow: OpenBLAS would start threads in each of ours.
static void one(gemm_t gemm, size m, size k, size n, Matrix a, Matrix b, float *c, size step, Finish end) {
    if ((ALL_TILES || by_tiles(m, k, n, a, b)) && tiled(m, k, n, a, b, false, c, step)) return finish(m, n, c, step, end);
    const size apart = n % PAGE ? n : n + 16;
    const bool turn = b.turned && !a.turned && turning(m, k, n, b.step);
    float *turned = turn ? (float *)malloc(k * apart * sizeof(float)) : nullptr;
    if (turned) {
        transpose(n, k, b.numbers, b.step, turned, apart);
        b = {turned, apart};
    }
    if (whole(m, k, n, a, b))
        copied(gemm, m, k, n, a, b, 0, c, step);
    else
        product(gemm, m, k, n, a, b, 0, c, step);
    free(turned);
    finish(m, n, c, step, end);
}

static constexpr size LASTING = 1 << 25;  // multiplications from which there are more pieces, so that no core waits long for another one

// C = A B on several cores: each piece is a stretch of C's rows, or of its columns. Blocks are cut into many; tiles into few equal
// ones, since each of these copies all of the other matrix.
static void cut(share_t share, int threads, gemm_t gemm, size m, size k, size n, Matrix a, Matrix b, float *c, size step, Finish end) {
    const size sides = most(m, n), unit = m < n ? ALL_TILES ? WIDE : 64 : ALL_TILES ? TALL : 16, units = (sides + unit - 1) / unit;
    const size pieces = !ALL_TILES ? units : least(units, m * k * n > LASTING ? 2 * threads : threads);
    shared(share, pieces, threads, [=](size i) {
        const size at = units * i / pieces * unit, stretch = least(units * (i + 1) / pieces * unit, sides) - at;
        if (m >= n)
            one(gemm, stretch, k, n, a.from(at, 0), b, c + at * step, step, end.from(at, 0));
        else
            one(gemm, m, k, stretch, a, b.from(0, at), c + at, step, end.from(0, at));
    });
}

// One product of a stack after the other: `at` counts through it.
static void stack(gemm_t gemm, size m, size k, size n, const Array &x, const Array &y, const Array &z, Matrix a, Matrix b, size step) {
    size at[MOST] = {};
    for (int axis = 0; axis <= z.axes;) {
        char *places[] = {x.data, y.data, z.data};
        for (int i = 3; i <= z.axes; i++)
            places[0] += at[i - 1] * stride(x, i), places[1] += at[i - 1] * stride(y, i), places[2] += at[i - 1] * stride(z, i);
        one(gemm, m, k, n, {(float *)places[0], a.step, a.turned}, {(float *)places[1], b.step, b.turned}, (float *)places[2], step, {});
        for (axis = 3; axis <= z.axes && ++at[axis - 1] == length(z, axis); axis++) at[axis - 1] = 0;
    }
}

extern "C" {
int tiling() { return ALL_TILES; }

// C = A B on `threads` cores, a stack on one, if it pays: products of more than `few` multiplications each. Arrays describe
// themselves, in capsules. The result tells whether it has been done; what does not suit is left as it was. Called with
// Python's lock, which is free meanwhile. `ending`: 0, or 1 for a `bias` of each column and 2 for one of each row, and 4 more for relu.
int product(void *gemm, void *share, size few, size threads, int ending, void *a, void *b, void *c, void *bias) {
    const Array &x = told(a), &y = told(b), &z = told(c);
    const size m = length(x, 2), k = length(x, 1), n = length(y, 1);
    if (!(IN_PLACE || ALL_TILES) || least(m, least(k, n)) < 2 || m * k * n <= few) return 0;
    if (k != length(y, 2) || length(z, 2) != m || length(z, 1) != n || !fits(x, z) || !fits(y, z)) return 0;
    if (!floats(x) || !floats(y) || !floats(z) || !(z.flags & WRITABLE)) return 0;
    Matrix left, right, into;
    if (!lies(x, left) || !lies(y, right) || !lies(z, into) || into.turned || meet(x, y) || meet(x, z) || meet(y, z)) return 0;
    for (int i = 3; i <= z.axes; i++)
        if (length(z, i) == 0) return 0;
    if (!gemm || (ALL_TILES && !by_tiles(m, k, n, left, right))) return 0;
    Finish end;
    if (ending) {
        const Array &v = told(bias);
        end = {(const float *)v.data, (ending & 2) != 0, (ending & 4) != 0};
        if (z.axes > 2 || v.axes != 1 || v.shape[0] != (end.down ? m : n) || !row_of(v, 'f', 4) || meet(v, z)) return 0;
    }
    if (threads > 1 && whole(m, k, n, left, right)) return 0;  // OpenBLAS would start threads of its own in each of ours
    void *state = PyEval_SaveThread();
    if (z.axes > 2)
        stack((gemm_t)gemm, m, k, n, x, y, z, left, right, into.step);
    else if (threads > 1)
        cut((share_t)share, threads, (gemm_t)gemm, m, k, n, left, right, (float *)z.data, into.step, end);
    else
        one((gemm_t)gemm, m, k, n, left, right, (float *)z.data, into.step, end);
    PyEval_RestoreThread(state);
    return 1;
}
}
