// Products of matrices by tiles of the result that stay in registers until they are done.
#pragma once
#include <cstdlib>
#include <memory>
#include "loops.h"

#if defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
typedef float Vector __attribute__((vector_size(VECTOR)));
typedef float Loose __attribute__((vector_size(VECTOR), aligned(4)));  // one that lies anywhere

static constexpr size LONG = VECTOR / sizeof(float), WIDE = 2 * LONG;  // numbers of a vector, and columns of a tile
static constexpr size TALL = VECTOR == 32 ? 6 : 8;                    // rows: half of the registers hold a tile, or most of 16
static constexpr size DEEP = 512, CACHED = 1 << 18;  // numbers that a strip sums at most, and that a core's cache holds

static inline size least(size a, size b) { return a < b ? a : b; }
static inline size most(size a, size b) { return a > b ? a : b; }

// n in equal pieces of at most `limit`.
static inline size even(size n, size limit) {
    size pieces = (n + limit - 1) / limit;
    return (n + pieces - 1) / pieces;
}

// n in equal pieces of at most `limit`, which is a multiple of `unit`, and so are they.
static inline size even(size n, size limit, size unit) { return (even(n, limit) + unit - 1) / unit * unit; }

// A matrix whose rows are `step` numbers apart; or one given by its columns, if it is turned.
struct Matrix {
    const float *numbers;
    size step;
    bool turned = false;
    const float *at(size i, size j) const { return numbers + (turned ? j * step + i : i * step + j); }
    Matrix from(size i, size j) const { return {at(i, j), step, turned}; }
    Matrix transpose() const { return {numbers, step, !turned}; }
};

// Have the first rows and columns of a matrix on their way into the cache.
static void fetch(Matrix x, size rows, size columns) {
    if (x.turned) return fetch(x.transpose(), columns, rows);
    for (size i = 0; i < rows; i++)
        for (size j = 0; j < columns; j += 64 / sizeof(float)) __builtin_prefetch(x.at(i, j), 0, 2);
}

// The first k rows of x, `width` numbers of each, of which n are there, one after the other.
template <size width>
static void strip(size k, size n, Matrix x, float *to) {
    constexpr size side = 16, across = width < side ? width : side;
    size p = 0;
    if (!x.turned && n == width)
        for (; p < k; p++) memcpy(to + p * width, x.at(p, 0), width * sizeof(float));
    else if (n == width && width % across == 0)  // turned, in squares that the compiler turns in registers
        for (; p + side <= k; p += side)
            for (size q = 0; q < width; q += across) {
                float square[side][across];
                for (size u = 0; u < across; u++)
                    for (size v = 0; v < side; v++) square[v][u] = x.numbers[(q + u) * x.step + p + v];
                for (size v = 0; v < side; v++) memcpy(to + (p + v) * width + q, square[v], sizeof square[v]);
            }
    for (; p < k; p++)
        for (size u = 0; u < width; u++) to[p * width + u] = u < n ? *x.at(p, u) : 0;
}

// A tile of C, of which `rows` and `columns` are there, as the sum of k products of a column of a strip of A and a row of one of B.
static void tile(size k, const float *a, const float *b, float *c, size step, bool add, size rows, size columns) {
    Vector sums[TALL][2] = {};
    for (size i = 0; i < rows; i++) __builtin_prefetch(c + i * step, 1), __builtin_prefetch(c + i * step + LONG, 1);
#pragma GCC unroll 4
    for (size p = 0; p < k; p++, a += TALL, b += WIDE) {
        const Vector left = *(const Vector *)b, right = *(const Vector *)(b + LONG);
        __builtin_prefetch(a + 16 * TALL);
#pragma GCC unroll 8
        for (size i = 0; i < TALL; i++) {
            const Vector x = a[i] - Vector{};  // the same number in each place
            sums[i][0] += x * left, sums[i][1] += x * right;
        }
    }
    if (rows == TALL && columns == WIDE) {
        for (size i = 0; i < TALL; i++)
            for (size j = 0; j < 2; j++) {
                Loose *to = (Loose *)(c + i * step + j * LONG);
                *to = add ? *to + sums[i][j] : sums[i][j];
            }
        return;
    }
    float found[TALL][WIDE];
    memcpy(found, sums, sizeof found);
    for (size i = 0; i < rows; i++)
        for (size j = 0; j < columns; j++) c[i * step + j] = (add ? c[i * step + j] : 0) + found[i][j];
}

// Memory for a strip of B, and for as many of A as half of the cache holds; each thread keeps its own.
static float *strips() {
    struct Free {
        void operator()(float *memory) { free(memory); }
    };
    constexpr size numbers = WIDE * DEEP + CACHED / 2 + TALL * DEEP + 16 * TALL;
    static thread_local std::unique_ptr<float, Free> memory((float *)aligned_alloc(64, numbers * sizeof(float) / 64 * 64 + 64));
    return memory.get();
}

// C (m, n) = A (m, k) B (k, n), or C + A B with `add`; the rows of C are `step` numbers apart. While a tile is computed, what the
// next ones read is on its way. The result tells whether there was memory for it.
static bool tiled(size m, size k, size n, Matrix a, Matrix b, bool add, float *c, size step) {
    const size deep = even(k, DEEP), tall = even(m, CACHED / 2 / deep, TALL);
    float *of_b = strips(), *of_a = of_b + WIDE * DEEP;
    if (!of_b) return false;
    for (size p = 0; p < k; p += deep)
        for (size top = 0; top < m; top += tall) {
            const size depth = least(deep, k - p), rows = least(tall, m - top), count = (rows + TALL - 1) / TALL;
            for (size j = 0; j < n; j += WIDE) {
                const size columns = least(WIDE, n - j), next = least(WIDE, n - j - columns);
                strip<WIDE>(depth, columns, b.from(p, j), of_b);
                for (size q = 0, i = top; q < count; q++, i += TALL) {
                    float *mine = of_a + q * TALL * depth;
                    const size here = least(TALL, m - i), from = depth * q / count;
                    if (j == 0) strip<TALL>(depth, here, a.from(i, p).transpose(), mine);
                    if (j == 0 && q + 1 < count) fetch(a.from(i + TALL, p), least(TALL, m - i - TALL), depth);
                    if (next && b.turned) fetch(b.from(p, j + WIDE + next * q / count), depth, next * (q + 1) / count - next * q / count);
                    if (next && !b.turned) fetch(b.from(p + from, j + WIDE), depth * (q + 1) / count - from, next);
                    tile(depth, mine, of_b, c + i * step + j, step, add || p, here, columns);
                }
            }
        }
    return true;
}
