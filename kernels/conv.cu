// Convolution as a product of matrices that is never written out: row m of the left matrix is the
// window of output place m, and its numbers are fetched from the picture when they are needed.
#include "mg.cuh"
#include "mg_ptx.cuh"

struct Frame {  // sizes of the picture, the window and the result; all groups have c channels, f
                // filters
    int n, c, h, w, f, r, s, p, q, stride_h, stride_w, dilate_h, dilate_w, pad_h, pad_w, groups;
};

__device__ __forceinline__ Frame frame(const int* s) {
    return {s[0], s[1], s[2],  s[3],  s[4],  s[5],  s[6],  s[7],
            s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]};
}

// NCHW, float sums. The tile is that of `blocked` in matmul.cu; neighbouring threads fetch
// neighbouring places. Bias and a ReLU ride along.
template <class T>
__global__ void __launch_bounds__(256)
    conv(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
         T* __restrict__ y, const int* __restrict__ sizes, int relu) {
    __shared__ float as[16][68];
    __shared__ float bs[16][68];
    const Frame z = frame(sizes);
    const int group = blockIdx.z, window = z.r * z.s, k = z.c * window, places = z.p * z.q;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const long long m = (long long)z.n * places, bm = blockIdx.x * 64ll;
    const int bn = blockIdx.y * 64;
    // the place that this thread fetches for
    const long long mine = bm + threadIdx.x % 64;
    const int image = (int)(mine / places), place = (int)(mine % places);
    const int top = place / z.q * z.stride_h - z.pad_h, left = place % z.q * z.stride_w - z.pad_w;
    const T* picture = x + ((long long)image * z.groups + group) * z.c * z.h * z.w;
    const T* filters = weight + (long long)group * z.f * k;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < k; k0 += 16) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int at = threadIdx.x / 64 + 4 * i, q = k0 + at;
            float v = 0.f;
            if (mine < m && q < k) {
                const int channel = q / window, tap = q % window;
                const int row = top + tap / z.s * z.dilate_h, col = left + tap % z.s * z.dilate_w;
                if (row >= 0 && row < z.h && col >= 0 && col < z.w)
                    v = mg_float(picture[((long long)channel * z.h + row) * z.w + col]);
            }
            as[at][threadIdx.x % 64] = v;
        }
#pragma unroll
        for (int i = threadIdx.x; i < 64 * 16; i += 256) {
            const int r = i / 16, q = i % 16;
            const bool inside = k0 + q < k && bn + r < z.f;
            bs[q][r] = inside ? mg_float(filters[(long long)(bn + r) * k + k0 + q]) : 0.f;
        }
        __syncthreads();
#pragma unroll
        for (int q = 0; q < 16; ++q) {
            float u[4], v[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                u[i] = as[q][tx * 4 + i];
                v[i] = bs[q][ty * 4 + i];
            }
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) acc[i][j] = fmaf(u[i], v[j], acc[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const int filter = bn + ty * 4 + j;
        if (filter >= z.f) continue;
        const float offset = bias ? mg_float(bias[group * z.f + filter]) : 0.f;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const long long at = bm + tx * 4 + i;
            if (at >= m) continue;
            float v = acc[i][j] + offset;
            if (relu) v = fmaxf(v, 0.f);
            const long long channel = (at / places * z.groups + group) * z.f + filter;
            y[channel * places + at % places] = mg_to<T>(v);
        }
    }
}

// NHWC by tensor cores, one group; weight (f, r, s, c). c must be a multiple of 8: eight channels
// of a tap are one load of 16 bytes, of zeros outside the picture.
template <class T>
__global__ void __launch_bounds__(128)
    conv_tensor(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                T* __restrict__ y, const int* __restrict__ sizes, int relu) {
    __shared__ __align__(16) T as[2][64][MG_LD];
    __shared__ __align__(16) T bs[2][64][MG_LD];
    const Frame z = frame(sizes);
    const int k = z.r * z.s * z.c, places = z.p * z.q, steps = (k + 31) / 32;
    const long long m = (long long)z.n * places, bm = blockIdx.x * 64ll;
    const int bn = blockIdx.y * 64, tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int wm = (warp >> 1) * 32, wn = (warp & 1) * 32, q8 = (tid & 3) * 8;
    // the two places that this thread fetches for: rows tid / 4 and tid / 4 + 32
    int top[2], left[2];
    const T* picture[2];
    bool there[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const long long at = bm + (tid >> 2) + 32 * i;
        there[i] = at < m;
        const int place = (int)(at % places);
        top[i] = place / z.q * z.stride_h - z.pad_h;
        left[i] = place % z.q * z.stride_w - z.pad_w;
        picture[i] = x + (there[i] ? at / places * z.h * z.w * z.c : 0);
    }
    float acc[2][4][4] = {};
    auto load = [&](int t) {
        const int s = t & 1;
        const int at = t * 32 + q8, tap = at / z.c, channel = at % z.c;
        const int dr = tap / z.s * z.dilate_h, ds = tap % z.s * z.dilate_w;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int r = (tid >> 2) + 32 * i, row = top[i] + dr, col = left[i] + ds;
            const bool in_x = at < k && there[i] && row >= 0 && row < z.h && col >= 0 && col < z.w;
            const bool in_w = at < k && bn + r < z.f;
            const long long from = ((long long)row * z.w + col) * z.c + channel;
            mg_cp_async16(&as[s][r][q8], picture[i] + (in_x ? from : 0), in_x);
            mg_cp_async16(&bs[s][r][q8], weight + (in_w ? (long long)(bn + r) * k + at : 0), in_w);
        }
        mg_cp_async_commit();
    };
    load(0);
    for (int t = 0; t < steps; ++t) {
        if (t + 1 < steps) {
            load(t + 1);
            mg_cp_async_wait<1>();
        } else {
            mg_cp_async_wait<0>();
        }
        __syncthreads();
        mg_multiply(as[t & 1], bs[t & 1], wm, wn, lane, acc);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int h = 0; h < 4; ++h) {
                const long long r = bm + wm + i * 16 + (lane >> 2) + (h >> 1) * 8;
                const int f = bn + wn + j * 8 + (lane & 3) * 2 + (h & 1);
                if (r >= m || f >= z.f) continue;
                float v = acc[i][j][h] + (bias ? mg_float(bias[f]) : 0.f);
                if (relu) v = fmaxf(v, 0.f);
                y[r * z.f + f] = mg_to<T>(v);
            }
}
