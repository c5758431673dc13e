// Pooling of pictures, (n, c, h, w): one thread a number of the result, forwards and backwards.
#include "mg.cuh"

enum { MAXIMUM, SUM, MEAN, MEAN_INSIDE };  // MEAN counts the border, MEAN_INSIDE does not

struct Window {  // sizes of a picture, a window, the result
    int h, w, r, s, p, q, stride_h, stride_w, pad_h, pad_w;
};

__device__ __forceinline__ Window window(const int* z) {
    return {z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7], z[8], z[9]};
}

// By what a mean divides: the numbers of the window that lie within the picture, or within its
// border.
template <int KIND>
__device__ __forceinline__ float count(const Window& z, int top, int left) {
    if (KIND < MEAN) return 1.f;
    const int ph = KIND == MEAN ? z.pad_h : 0, pw = KIND == MEAN ? z.pad_w : 0;
    const int rows = min(top + z.r, z.h + ph) - max(top, -ph);
    const int cols = min(left + z.s, z.w + pw) - max(left, -pw);
    return (float)max(rows * cols, 1);
}

template <class T, int KIND>
__global__ void pool(const T* __restrict__ x, T* __restrict__ y, const int* __restrict__ sizes,
                     long long total) {
    const Window z = window(sizes);
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < total;
         i += gridDim.x * (long long)blockDim.x) {
        const int q = (int)(i % z.q), p = (int)(i / z.q % z.p);
        const T* picture = x + i / z.q / z.p * z.h * z.w;
        const int top = p * z.stride_h - z.pad_h, left = q * z.stride_w - z.pad_w;
        float v = KIND == MAXIMUM ? MG_LOWEST : 0.f;
        for (int row = max(top, 0); row < min(top + z.r, z.h); ++row)
            for (int col = max(left, 0); col < min(left + z.s, z.w); ++col) {
                const float u = mg_float(picture[(long long)row * z.w + col]);
                v = KIND == MAXIMUM ? (u > v || u != u ? u : v) : v + u;
            }
        y[i] = mg_to<T>(v / count<KIND>(z, top, left));
    }
}

// dx gathers from the windows that cover it: no atomics. A maximum's gradient goes to the first
// place that has it, which is looked for again instead of being remembered.
template <class T, int KIND>
__global__ void pool_back(const T* __restrict__ g, const T* __restrict__ x, T* __restrict__ dx,
                          const int* __restrict__ sizes, long long total) {
    const Window z = window(sizes);
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < total;
         i += gridDim.x * (long long)blockDim.x) {
        const int col = (int)(i % z.w), row = (int)(i / z.w % z.h);
        const long long image = i / z.w / z.h;
        const T* picture = x + image * z.h * z.w;
        const T* share = g + image * z.p * z.q;
        const int y = row + z.pad_h, x0 = col + z.pad_w;  // in the picture with its border
        float v = 0.f;
        for (int p = max(y - z.r + z.stride_h, 0) / z.stride_h; p <= min(y / z.stride_h, z.p - 1);
             ++p)
            for (int q = max(x0 - z.s + z.stride_w, 0) / z.stride_w;
                 q <= min(x0 / z.stride_w, z.q - 1); ++q) {
                const int top = p * z.stride_h - z.pad_h, left = q * z.stride_w - z.pad_w;
                const float u = mg_float(share[(long long)p * z.q + q]);
                if (KIND != MAXIMUM) {
                    v += u / count<KIND>(z, top, left);
                    continue;
                }
                const float mine = mg_float(picture[(long long)row * z.w + col]);
                bool first = true;
                for (int a = max(top, 0); a < min(top + z.r, z.h) && first; ++a)
                    for (int b = max(left, 0); b < min(left + z.s, z.w) && first; ++b) {
                        const float other = mg_float(picture[(long long)a * z.w + b]);
                        const bool before = a < row || (a == row && b < col);
                        first = before ? other < mine : other <= mine;
                    }
                if (first) v += u;
            }
        dx[i] = mg_to<T>(v);
    }
}
