// A tile of 64 by 64 numbers of a product, by whoever can say which number lies where. The caller
// tells with a function what to fetch, so that a matrix need not exist.
#pragma once
#include "mg.cuh"
#include "mg_ptx.cuh"

// --- 256 threads, float -------------------------------------------------------------------------

// 64 rows of 16 numbers into shared memory. Neighbouring threads ask for neighbouring rows or for
// neighbours in a row, whichever lie side by side in global memory.
template <bool ROWS, class F>
__device__ __forceinline__ void mg_stage(float (*to)[68], F number) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int row = ROWS ? threadIdx.x % 64 : threadIdx.x / 16 + 16 * i;
        const int at = ROWS ? threadIdx.x / 64 + 4 * i : threadIdx.x % 16;
        to[at][row] = number(row, at);
    }
}

// acc[j][i] += sum of a(m, q) b(n, q) over q from begin to end, with m = 4 (thread % 16) + i and
// n = 4 (thread / 16) + j: 8 numbers from shared memory, two loads, serve 16 multiplications.
template <bool A_ROWS, bool B_ROWS, class Q, class A, class B>
__device__ __forceinline__ void mg_blocked(Q begin, Q end, A a, B b, float (&acc)[4][4]) {
    __shared__ __align__(16) float as[16][68];
    __shared__ __align__(16) float bs[16][68];
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    for (Q q0 = begin; q0 < end; q0 += 16) {
        mg_stage<A_ROWS>(as, [&](int m, int q) { return q0 + q < end ? a(m, q0 + q) : 0.f; });
        mg_stage<B_ROWS>(bs, [&](int n, int q) { return q0 + q < end ? b(n, q0 + q) : 0.f; });
        __syncthreads();
#pragma unroll
        for (int q = 0; q < 16; ++q) {
            float u[4], v[4];
            mg_floats<4>(&as[q][tx * 4], u);
            mg_floats<4>(&bs[q][ty * 4], v);
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) acc[j][i] = fmaf(u[i], v[j], acc[j][i]);
        }
        __syncthreads();
    }
}

// Four numbers side by side, of which `room` are inside: one store if rows allow it.
template <class T>
__device__ __forceinline__ void mg_four(T* to, const float (&v)[4], long long room, bool wide) {
    if (wide && room >= 4) {
        *(Pack<T, 4>*)to = {mg_to<T>(v[0]), mg_to<T>(v[1]), mg_to<T>(v[2]), mg_to<T>(v[3])};
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < room) to[i] = mg_to<T>(v[i]);
}

// --- 128 threads, tensor cores ------------------------------------------------------------------

// While one stage is multiplied, the copies of the next are on their way.
template <class L, class M>
__device__ __forceinline__ void mg_pipeline(int steps, L load, M multiply) {
    load(0);
    mg_cp_async_commit();
    for (int t = 0; t < steps; ++t) {
        if (t + 1 < steps) {
            load(t + 1);
            mg_cp_async_commit();
            mg_cp_async_wait<1>();
        } else {
            mg_cp_async_wait<0>();
        }
        __syncthreads();
        multiply(t & 1);
        __syncthreads();
    }
}

// A warp's part of the tile begins at (mg_warp_row, mg_warp_col), 32 by 32.
__device__ __forceinline__ int mg_warp_row() { return (threadIdx.x >> 6) * 32; }
__device__ __forceinline__ int mg_warp_col() { return (threadIdx.x >> 5 & 1) * 32; }

// Calls f(row, column, sum) for each number of the tile that this thread holds.
template <class F>
__device__ __forceinline__ void mg_sums(const float (&acc)[2][4][4], F f) {
    const int lane = threadIdx.x & 31, wm = mg_warp_row(), wn = mg_warp_col();
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int h = 0; h < 4; ++h)
                f(wm + i * 16 + (lane >> 2) + (h >> 1) * 8, wn + j * 8 + (lane & 3) * 2 + (h & 1),
                  acc[i][j][h]);
}
