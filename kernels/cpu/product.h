// Products by tiles, or by OpenBLAS, in blocks so small that it reads the matrices where they lie.
#pragma once
#include "tiles.h"

// OpenBLAS's product C = A B + beta C of row-major matrices, as NumPy brings it along.
#ifndef BLAS_INT
#define BLAS_INT int64_t
#endif
typedef void (*gemm_t)(int, int, int, BLAS_INT, BLAS_INT, BLAS_INT, float, const float *, BLAS_INT, const float *, BLAS_INT,
                       float, float *, BLAS_INT);
enum { ROWS = 101, AS_IT_IS = 111, TURNED = 112 };

// Multiplications up to which OpenBLAS reads matrices where they lie; 0 where it always copies them first.
#ifndef IN_PLACE
#define IN_PLACE 0
#endif

static constexpr size DEPTH = 400;  // summed numbers of rows by rows, at most: measured, as the blocks' sides below

static int way(Matrix x) { return x.turned ? TURNED : AS_IT_IS; }

// C (m, n) = A (m, k) B (k, n) + beta C as OpenBLAS does it, which copies A and B; the rows of C are `step` numbers apart.
static void copied(gemm_t gemm, size m, size k, size n, Matrix a, Matrix b, float beta, float *c, size step) {
    gemm(ROWS, way(a), way(b), m, n, k, 1, a.numbers, a.step, b.numbers, b.step, beta, c, step);
}

// Whether blocks are quicker. Where each block of rows would read a B anew that no cache holds, copies are cheaper.
static bool by_blocks(size m, size k, size n, Matrix a, Matrix b) {
    return IN_PLACE && !(a.turned && b.turned) && (least(m, n) <= 256 || k * n <= CACHED);
}

// Whether tiles take the place of OpenBLAS's copies, which it always makes: they are as quick, measured with vectors of 256 bits, and
// need none of its threads.
static constexpr bool ALL_TILES = !IN_PLACE && VECTOR == 32;

// Whether tiles are quicker: where OpenBLAS copies, and where W^T is read once for a C that no cache holds.
static bool by_tiles(size m, size k, size n, Matrix a, Matrix b) {
    if (ALL_TILES) return 5 * m * n >= 3 * up(m, TALL) * up(n, WIDE);  // little of them lies outside of C
    if (!IN_PLACE) return false;
    if (m < 128 || k < 192 || n < 192 || (n % WIDE && n < 16 * WIDE)) return false;
    return !by_blocks(m, k, n, a, b) || (b.turned && n >= 2 * k && m * n >= CACHED / 2);
}

// The same, beta 0 or 1, in tiles where they pay, else in blocks, as large as they may be. With a matrix turned, OpenBLAS multiplies rows by rows, or columns by columns,
// and wants narrow blocks; else it wants long rows of C.
static void product(gemm_t gemm, size m, size k, size n, Matrix a, Matrix b, float beta, float *c, size step) {
    if (by_tiles(m, k, n, a, b) && tiled(m, k, n, a, b, beta, c, step)) return;
    if (!by_blocks(m, k, n, a, b)) return copied(gemm, m, k, n, a, b, beta, c, step);
    const size unit = a.turned || b.turned ? 32 : 64, rows = least(m, a.turned ? 64 : 32);
    const size depth = even(k, b.turned ? DEPTH : most(IN_PLACE / (rows * unit), 1));
    const size columns = b.turned ? unit : even(n, most(IN_PLACE / (rows * depth * unit), 1) * unit, unit);
    const size panel = b.turned ? columns : most(CACHED / 2 / (depth * columns), 1) * columns;  // columns that stay in the cache
    for (size at = 0; at < n; at += panel)
        for (size p = 0; p < k; p += depth)
            for (size i = 0; i < m; i += rows)
                for (size j = at; j < least(n, at + panel); j += columns)
                    gemm(ROWS, way(a), way(b), least(rows, m - i), least(columns, n - j), least(depth, k - p), 1, a.at(i, p),
                         a.step, b.at(p, j), b.step, p ? 1 : beta, c + i * step + j, step);
}

// B (k, n), by which many matrices of some m rows are multiplied: in strips, if products are made of tiles.
class Shared {
    size k, n;
    Matrix b;
    Strips strips;

   public:
    static bool pays(size m, size k, size n, Matrix b) { return ALL_TILES && m && by_tiles(m, k, n, b, b); }
    Shared(size m, size k, size n, Matrix b) : k(k), n(n), b(b), strips(pays(m, k, n, b) ? k : 0, n, b) {}
    void multiply(gemm_t gemm, size m, Matrix a, float beta, float *c, size step) const {
        if (!strips.multiply(m, a, beta, c, step)) product(gemm, m, k, n, a, b, beta, c, step);
    }
};

// B (n, m), the transpose of A (m, n), in squares that the compiler turns in registers; rows are `step` and `to` numbers apart.
static void transpose(size m, size n, const float *a, size step, float *b, size to) {
    constexpr size side = 16;
    for (size i = 0; i < m; i += side)
        for (size j = 0; j < n; j += side)
            if (i + side <= m && j + side <= n) {
                float square[side][side];
                for (size u = 0; u < side; u++)
                    for (size v = 0; v < side; v++) square[v][u] = a[(i + u) * step + j + v];
                for (size v = 0; v < side; v++) memcpy(b + (j + v) * to + i, square[v], sizeof square[v]);
            } else
                for (size v = j; v < least(j + side, n); v++)
                    for (size u = i; u < least(i + side, m); u++) b[v * to + u] = a[u * step + v];
}
