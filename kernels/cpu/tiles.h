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

template <size n>
struct Of {  // vectors of n numbers, which may lie anywhere
    typedef float Numbers __attribute__((vector_size(4 * n), aligned(4)));
    typedef int Places __attribute__((vector_size(4 * n)));
};
typedef Of<VECTOR / sizeof(float)>::Numbers Loose;

static constexpr size LONG = VECTOR / sizeof(float), WIDE = 2 * LONG;  // numbers of a vector, and columns of a tile
static constexpr size TALL = VECTOR == 32 ? 6 : 8;                    // rows: half of the registers hold a tile, or most of 16
static constexpr size DEEP = VECTOR == 64 ? 512 : 256;                // numbers that a strip sums at most: the first cache holds a strip of B
static constexpr size CACHED = VECTOR == 64 ? 1 << 18 : 1 << 17;      // numbers that a core's second cache holds

static inline size least(size a, size b) { return a < b ? a : b; }
static inline size most(size a, size b) { return a > b ? a : b; }

// The multiple of `unit` that is not below n.
static inline size up(size n, size unit) { return (n + unit - 1) / unit * unit; }

// n in equal pieces of at most `limit`.
static inline size even(size n, size limit) {
    size pieces = (n + limit - 1) / limit;
    return (n + pieces - 1) / pieces;
}

// n in equal pieces of at most `limit`, which is a multiple of `unit`, and so are they.
static inline size even(size n, size limit, size unit) { return up(even(n, limit), unit); }

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

// A square of n vectors of n numbers, turned: halves change places, then quarters, and so on.
template <size n, size apart = n / 2>
static inline void turn(typename Of<n>::Numbers *square) {
    if constexpr (apart > 0) {
        typename Of<n>::Places upper, lower;
        for (size j = 0; j < n; j++) upper[j] = j & apart ? j - apart + n : j, lower[j] = j & apart ? j + n : j + apart;
#pragma GCC unroll 16
        for (size i = 0; i < n; i++)
            if (!(i & apart)) {
                const typename Of<n>::Numbers a = square[i], b = square[i + apart];
                square[i] = __builtin_shuffle(a, b, upper), square[i + apart] = __builtin_shuffle(a, b, lower);
            }
        turn<n, apart / 2>(square);
    }
}

// The first k rows of x, `width` numbers of each, of which `there` are there, one after the other. Where a vector is longer than that,
// it takes some of the next row with it, which then comes to lie on top: so all but the last row may be read, and written.
template <size width>
static void strip(size k, size there, Matrix x, float *to) {
    constexpr size side = width % LONG ? 8 : LONG, over = width % side > 0;
    typedef typename Of<side>::Numbers Row;
    size p = 0;
    if (there == width && !x.turned) {
        for (; over && p + over < k; p++) *(Row *)(to + p * width) = *(const Row *)x.at(p, 0);
        for (; p < k; p++) memcpy(to + p * width, x.at(p, 0), width * sizeof(float));
    } else if (there == width)
        for (; p + side + over <= k; p += side)
            for (size q = 0; q < width; q += side) {
                Row square[side];
#pragma GCC unroll 16
                for (size u = 0; u < side; u++) square[u] = *(const Row *)x.at(p, u < width ? q + u : 0);
                turn<side>(square);
#pragma GCC unroll 16
                for (size v = 0; v < side; v++) *(Row *)(to + (p + v) * width + q) = square[v];
            }
    for (; p < k; p++)
        for (size u = 0; u < width; u++) to[p * width + u] = u < there ? *x.at(p, u) : 0;
}

static constexpr size GROUP = 8;  // strips of A that are copied together: of the lines of the cache that hold columns nothing is left over

// Rows of A, at most GROUP strips, k numbers of each, as strips of k columns of TALL.
static void strips_of(size k, size rows, Matrix a, float *to) {
    size p = 0;
    if (a.turned && rows == GROUP * TALL)
        for (; p + 1 < k; p++)
#pragma GCC unroll 8
            for (size q = 0; q < GROUP; q++) {
                typedef Of<8>::Numbers Column;
                *(Column *)(to + (q * k + p) * TALL) = *(const Column *)a.at(q * TALL, p);
            }
    for (size q = 0; q * TALL < rows; q++)
        strip<TALL>(k - p, least(TALL, rows - q * TALL), a.from(q * TALL, p).transpose(), to + (q * k + p) * TALL);
}

// Have the q-th part of the next strips on its way; there are `rows` more rows of A.
static void fetch_strips(size k, size rows, size q, Matrix a) {
    const size from = k * q / GROUP;
    if (a.turned)
        fetch(a.from(0, from), least(rows, GROUP * TALL), k * (q + 1) / GROUP - from);
    else if (rows > q * TALL)
        fetch(a.from(q * TALL, 0), least(rows - q * TALL, TALL), k);
}

// A tile of C, of which `rows` and `columns` are there, as the sum of k products of a column of a strip of A and a row of one of B.
template <size tall>
static void tile_of(size k, const float *a, const float *b, float *c, size step, bool add, size rows, size columns) {
    Vector sums[tall][2] = {};
    for (size i = 0; i < rows; i++) __builtin_prefetch(c + i * step, 1), __builtin_prefetch(c + i * step + LONG, 1);
#pragma GCC unroll 4
    for (size p = 0; p < k; p++, a += TALL, b += WIDE) {
        const Vector left = *(const Vector *)b, right = *(const Vector *)(b + LONG);
        __builtin_prefetch(a + 16 * TALL);
#pragma GCC unroll 8
        for (size i = 0; i < tall; i++) {
            const Vector x = a[i] - Vector{};  // the same number in each place
            sums[i][0] += x * left, sums[i][1] += x * right;
        }
    }
    if (columns == WIDE) {
#pragma GCC unroll 8
        for (size i = 0; i < tall; i++)
            for (size j = 0; j < 2 && i < rows; j++) {
                Loose *to = (Loose *)(c + i * step + j * LONG);
                *to = add ? *to + sums[i][j] : sums[i][j];
            }
        return;
    }
    float found[tall][WIDE];
    memcpy(found, sums, sizeof found);
    for (size i = 0; i < rows; i++)
        for (size j = 0; j < columns; j++) c[i * step + j] = (add ? c[i * step + j] : 0) + found[i][j];
}

// The last rows are often few: then no more than four are computed, which keep the registers' additions busy still.
static void tile(size k, const float *a, const float *b, float *c, size step, bool add, size rows, size columns) {
    (rows > 4 ? tile_of<TALL> : tile_of<4>)(k, a, b, c, step, add, rows, columns);
}

struct Free {
    void operator()(float *memory) { free(memory); }
};
typedef std::unique_ptr<float, Free> Owned;

// Memory for so many numbers, which begins where a line of the cache does; null where there is none.
static Owned memory_for(size numbers) { return Owned((float *)aligned_alloc(64, up(numbers, 16) * sizeof(float))); }

// Memory for a strip of B, and for as many of A as half of the cache holds; each thread keeps its own.
static float *strips() {
    static thread_local Owned memory = memory_for(WIDE * DEEP + CACHED / 2 + (TALL + 1) * DEEP + 16 * TALL);
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
                    const size here = least(TALL, m - i), from = depth * q / count, ahead = i + (GROUP - q % GROUP) * TALL;
                    if (j == 0 && q % GROUP == 0) strips_of(depth, least(GROUP * TALL, top + rows - i), a.from(i, p), mine);
                    if (j == 0 && ahead < top + rows) fetch_strips(depth, top + rows - ahead, q % GROUP, a.from(ahead, p));
                    if (next && b.turned) fetch(b.from(p, j + WIDE + next * q / count), depth, next * (q + 1) / count - next * q / count);
                    if (next && !b.turned) fetch(b.from(p + from, j + WIDE), depth * (q + 1) / count - from, next);
                    tile(depth, mine, of_b, c + i * step + j, step, add || p, here, columns);
                }
            }
        }
    return true;
}

// B (k, n) in strips, for many products: to copy it again would take as long as to multiply a few rows by it. Without rows, none.
class Strips {
    size k, n, deep;
    Owned memory;

   public:
    Strips(size k, size n, Matrix b) : k(k), n(n), deep(even(most(k, 1), DEEP)), memory(k ? memory_for(k * up(n, WIDE)) : nullptr) {
        float *to = memory.get();
        for (size p = 0; p < k && to; p += deep)
            for (size j = 0, depth = least(deep, k - p); j < n; j += WIDE, to += depth * WIDE)
                strip<WIDE>(depth, least(WIDE, n - j), b.from(p, j), to);
    }

    // C (m, n) = A B, or C + A B with `add`. The result tells whether there are strips, and memory for those of A.
    bool multiply(size m, Matrix a, bool add, float *c, size step) const {
        const float *of_b = memory.get();
        float *of_a = strips();
        if (!of_a || !of_b) return false;
        const size tall = even(m, CACHED / 2 / deep, TALL);
        for (size p = 0; p < k; p += deep, of_b += deep * up(n, WIDE))
            for (size top = 0, depth = least(deep, k - p); top < m; top += tall) {
                const size rows = least(tall, m - top);
                for (size i = 0; i < rows; i += GROUP * TALL)
                    strips_of(depth, least(GROUP * TALL, rows - i), a.from(top + i, p), of_a + i * depth);
                for (size j = 0; j < n; j += WIDE)
                    for (size i = 0; i < rows; i += TALL)
                        tile(depth, of_a + i * depth, of_b + j * depth, c + (top + i) * step + j, step, add || p, least(TALL, rows - i),
                             least(WIDE, n - j));
            }
        return true;
    }
};
