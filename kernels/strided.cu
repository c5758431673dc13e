// C = A B for matrices that lie anyhow: a product for graphs, in which cuBLAS has no place.
#include "mg_tile.cuh"

// Block (x, y, z) makes 64 by 64 numbers of matrix z / parts: the part z % parts of their sums,
// `span` terms. One part goes to C, several go to `part` as float, to be added by `fold`. A matrix
// lies by its steps from one row, column and matrix to the next; A_ROWS: the rows of A lie side by
// side, B_COLS: the columns of B do. wide: C takes four numbers at once.
template <class T, bool A_ROWS, bool B_COLS>
__global__ void __launch_bounds__(256) strided(const T* __restrict__ a, const T* __restrict__ b,
                                               T* __restrict__ c, float* __restrict__ part,
                                               long long a_row, long long a_col,
                                               long long a_next, long long b_row, long long b_col,
                                               long long b_next, int m, int n, int k, int span,
                                               int parts, int wide) {
    const int bm = blockIdx.y * 64, bn = blockIdx.x * 64, z = blockIdx.z / parts;
    const int begin = blockIdx.z % parts * span, end = min(k, begin + span);
    a += z * a_next;
    b += z * b_next;
    float acc[4][4] = {};
    mg_blocked<B_COLS, A_ROWS>(
        begin, end,
        [&](int j, int q) { return bn + j < n ? mg_float(b[q * b_row + (bn + j) * b_col]) : 0.f; },
        [&](int i, int q) { return bm + i < m ? mg_float(a[(bm + i) * a_row + q * a_col]) : 0.f; },
        acc);
    const int col = bn + threadIdx.x % 16 * 4, row = bm + threadIdx.x / 16 * 4;
    const long long size = (long long)m * n;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const long long at = z * size + (row + j) * (long long)n + col;
        if (row + j >= m) break;
        if (parts == 1)
            mg_four(c + at, acc[j], n - col, wide);
        else
            mg_four(part + (blockIdx.z % parts) * (gridDim.z / parts) * size + at, acc[j], n - col,
                    n % 4 == 0);
    }
}
