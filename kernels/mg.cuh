// What the kernels share: half types, wide loads, sums over a row's threads.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define MG_ALL 0xffffffffu
#define MG_LOWEST (-3.402823466e38f)  // NVRTC knows neither FLT_MAX nor INFINITY

// Storage is float, __half or __nv_bfloat16; arithmetic is float.
template <class T>
__device__ __forceinline__ float mg_float(T v) {
    return (float)v;
}
template <>
__device__ __forceinline__ float mg_float(__half v) {
    return __half2float(v);
}
template <>
__device__ __forceinline__ float mg_float(__nv_bfloat16 v) {
    return __bfloat162float(v);
}
template <class T>
__device__ __forceinline__ T mg_to(float v) {
    return (T)v;
}
template <>
__device__ __forceinline__ __half mg_to<__half>(float v) {
    return __float2half(v);
}
template <>
__device__ __forceinline__ __nv_bfloat16 mg_to<__nv_bfloat16>(float v) {
    return __float2bfloat16(v);
}

// V numbers that one instruction loads or stores; the address must be a multiple of their size.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

// V floats, by loads of 16 bytes where V is a multiple of 4.
template <int V>
__device__ __forceinline__ void mg_floats(const float* p, float (&out)[V]) {
    constexpr int W = V % 4 ? 1 : 4;
#pragma unroll
    for (int i = 0; i < V / W; ++i) {
        const Pack<float, W> w = ((const Pack<float, W>*)p)[i];
#pragma unroll
        for (int j = 0; j < W; ++j) out[i * W + j] = w.at[j];
    }
}

struct Sum {
    static __device__ __forceinline__ float none() { return 0.f; }
    static __device__ __forceinline__ float of(float a, float b) { return a + b; }
};
struct Max {
    static __device__ __forceinline__ float none() { return MG_LOWEST; }
    static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
};

template <class F>
__device__ __forceinline__ float mg_warp(float v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = F::of(v, __shfl_xor_sync(MG_ALL, v, o));
    return v;
}

// All threads of a row get the total. A row is one warp (blockDim.x == 32, several rows a block) or
// one block (blockDim.x a larger multiple of 32, blockDim.y == 1).
template <class F>
__device__ __forceinline__ float mg_row(float v) {
    v = mg_warp<F>(v);
    if (blockDim.x == 32) return v;
    __shared__ float part[32];
    const int lane = threadIdx.x & 31;
    __syncthreads();  // somebody may still read the last total
    if (lane == 0) part[threadIdx.x >> 5] = v;
    __syncthreads();
    v = lane < (int)(blockDim.x >> 5) ? part[lane] : F::none();
    return mg_warp<F>(v);
}

__device__ __forceinline__ long long mg_row_number() {
    return blockIdx.x * (long long)blockDim.y + threadIdx.y;
}

// All blocks of a cooperative launch wait for one another. `count` is 0 before the launch and only
// grows. Where blocks run one after the other, as on the CPU, there must be one.
__device__ __forceinline__ void mg_meet(unsigned* count) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();  // what this block has written is there before it is counted
        const unsigned ticket = atomicAdd(count, 1u);
        const unsigned all = (ticket / gridDim.x + 1) * gridDim.x;
        while (*(volatile unsigned*)count < all) {
        }
        __threadfence();  // and what others have written is read anew
    }
    __syncthreads();
}
