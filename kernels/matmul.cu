// C = A B^T in four steps: one thread a number, tiles in shared memory, blocks in registers, tensor
// cores. A is (m, k), B (n, k), C (m, n): the product of a dense layer.
#include "mg_tile.cuh"

// Each number of C by one thread, which reads 2k numbers: m n 2k in all.
template <class T>
__global__ void naive(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ c, int m,
                      int n, int k) {
    const int j = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y * blockDim.y + threadIdx.y;
    if (i >= m || j >= n) return;
    float sum = 0.f;
    for (int q = 0; q < k; ++q)
        sum += mg_float(a[(long long)i * k + q]) * mg_float(b[(long long)j * k + q]);
    c[(long long)i * n + j] = mg_to<T>(sum);
}

// 32 by 32 numbers of C a block; what its threads share is read once: m n 2k / 32.
template <class T>
__global__ void tiled(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ c, int m,
                      int n, int k) {
    __shared__ float as[32][33];
    __shared__ float bs[32][33];
    const int x = threadIdx.x, y = threadIdx.y;
    const int row = blockIdx.y * 32 + y, other = blockIdx.x * 32 + y, col = blockIdx.x * 32 + x;
    float sum = 0.f;
    for (int k0 = 0; k0 < k; k0 += 32) {
        const bool inside = k0 + x < k;
        as[y][x] = inside && row < m ? mg_float(a[(long long)row * k + k0 + x]) : 0.f;
        bs[y][x] = inside && other < n ? mg_float(b[(long long)other * k + k0 + x]) : 0.f;
        __syncthreads();
#pragma unroll
        for (int q = 0; q < 32; ++q) sum += as[y][q] * bs[x][q];
        __syncthreads();
    }
    if (row < m && col < n) c[(long long)row * n + col] = mg_to<T>(sum);
}

// 64 by 64 a block, 4 by 4 a thread: 8 numbers from shared memory serve 16 multiplications.
template <class T>
__global__ void __launch_bounds__(256) blocked(const T* __restrict__ a, const T* __restrict__ b,
                                               T* __restrict__ c, int m, int n, int k) {
    const int bm = blockIdx.y * 64, bn = blockIdx.x * 64;
    float acc[4][4] = {};
    mg_blocked<false, false>(
        0, k,
        [&](int r, int q) { return bn + r < n ? mg_float(b[(long long)(bn + r) * k + q]) : 0.f; },
        [&](int r, int q) { return bm + r < m ? mg_float(a[(long long)(bm + r) * k + q]) : 0.f; },
        acc);
    const int q = bn + threadIdx.x % 16 * 4, r = bm + threadIdx.x / 16 * 4;
#pragma unroll
    for (int j = 0; j < 4; ++j)
        if (r + j < m) mg_four(c + (r + j) * (long long)n + q, acc[j], n - q, n % 4 == 0);
}

// The same tile by tensor cores. 128 threads; k must be a multiple of 8, for loads are 16 bytes
// wide.
template <class T>
__global__ void __launch_bounds__(128) tensor(const T* __restrict__ a, const T* __restrict__ b,
                                              T* __restrict__ c, int m, int n, int k) {
    __shared__ __align__(16) T as[2][64][MG_LD];
    __shared__ __align__(16) T bs[2][64][MG_LD];
    const int tid = threadIdx.x, bm = blockIdx.y * 64, bn = blockIdx.x * 64;
    float acc[2][4][4] = {};
    auto load = [&](int t) {
        const int s = t & 1;
#pragma unroll
        for (int i = tid; i < 256; i += 128) {
            const int r = i >> 2, q = (i & 3) * 8, at = t * 32 + q;
            const bool in_a = at < k && bm + r < m, in_b = at < k && bn + r < n;
            mg_cp_async16(&as[s][r][q], a + (in_a ? (long long)(bm + r) * k + at : 0), in_a);
            mg_cp_async16(&bs[s][r][q], b + (in_b ? (long long)(bn + r) * k + at : 0), in_b);
        }
    };
    mg_pipeline((k + 31) / 32, load, [&](int s) {
        mg_multiply(as[s], bs[s], mg_warp_row(), mg_warp_col(), tid & 31, acc);
    });
    mg_sums(acc, [&](int r, int q, float v) {
        if (bm + r < m && bn + q < n) c[(long long)(bm + r) * n + bn + q] = mg_to<T>(v);
    });
}
