// Convolution and its gradients as products of matrices that are never written out: row m of the
// left matrix is the window of output place m, and its numbers are fetched from the picture when
// they are needed.
#include "mg_tile.cuh"

struct Frame {  // sizes of the picture, the window and the result; all groups have c channels, f
                // filters
    int n, c, h, w, f, r, s, p, q, stride_h, stride_w, dilate_h, dilate_w, pad_h, pad_w, groups;
};

__device__ __forceinline__ Frame frame(const int* s) {
    return {s[0], s[1], s[2],  s[3],  s[4],  s[5],  s[6],  s[7],
            s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]};
}

// Along one axis: the number of the picture that tap `t` of the window at `at` sees. BACK: the
// window that sees `at` by its tap `t`. -1 or less if there is none.
template <bool BACK>
__device__ __forceinline__ int seen(int at, int t, int stride, int dilate, int pad, int size) {
    int v = BACK ? at + pad - t * dilate : at * stride - pad + t * dilate;
    if (BACK && stride > 1) v = v % stride ? -1 : v / stride;
    return v < size ? v : -1;
}

// NCHW, float sums. BACK is the gradient of the picture: x is then that of the result, y that of
// the picture, `sizes` name them so, and `weight` has filters and channels exchanged. Neighbouring
// threads fetch neighbouring places. Bias and a ReLU ride along.
template <class T, bool BACK>
__global__ void __launch_bounds__(256)
    conv(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
         T* __restrict__ y, const int* __restrict__ sizes, int relu) {
    const Frame z = frame(sizes);
    const int group = blockIdx.z, window = z.r * z.s, k = z.c * window, places = z.p * z.q;
    const long long m = (long long)z.n * places, bm = blockIdx.x * 64ll;
    const int bn = blockIdx.y * 64;
    // the place that this thread fetches for
    const long long mine = bm + threadIdx.x % 64;
    const int image = (int)(mine / places), place = (int)(mine % places);
    const int top = place / z.q, left = place % z.q;
    const T* picture = x + ((long long)image * z.groups + group) * z.c * z.h * z.w;
    const T* filters = weight + (long long)group * z.f * k;
    float acc[4][4] = {};
    mg_blocked<true, false>(
        0, k,
        [&](int, int q) {
            if (mine >= m) return 0.f;
            const int channel = q / window, tap = q % window;
            const int row = seen<BACK>(top, tap / z.s, z.stride_h, z.dilate_h, z.pad_h, z.h);
            const int col = seen<BACK>(left, tap % z.s, z.stride_w, z.dilate_w, z.pad_w, z.w);
            if (row < 0 || col < 0) return 0.f;
            return mg_float(picture[((long long)channel * z.h + row) * z.w + col]);
        },
        [&](int r, int q) {
            return bn + r < z.f ? mg_float(filters[(long long)(bn + r) * k + q]) : 0.f;
        },
        acc);
    const long long at = bm + threadIdx.x % 16 * 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const int filter = bn + threadIdx.x / 16 * 4 + j;
        if (filter >= z.f) continue;
        const float offset = bias ? mg_float(bias[group * z.f + filter]) : 0.f;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            acc[j][i] += offset;
            if (relu) acc[j][i] = fmaxf(acc[j][i], 0.f);
        }
        auto to = [&](long long at) {
            return y + ((at / places * z.groups + group) * z.f + filter) * places + at % places;
        };
        if (places % 4 == 0) {  // four places lie side by side in one picture
            if (at < m) mg_four(to(at), acc[j], 4, true);
            continue;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (at + i < m) *to(at + i) = mg_to<T>(acc[j][i]);
    }
}

// The gradient of the weight: (filters, places) times (places, channels and taps). There are few
// numbers of it and long sums, so the places are shared out: part i of `span` places has sums of
// its own in part[i], (groups, f, k). The grid's third axis has the groups of the first part first.
template <class T>
__global__ void __launch_bounds__(256)
    conv_weight(const T* __restrict__ g, const T* __restrict__ x, float* __restrict__ part,
                const int* __restrict__ sizes, long long span) {
    const Frame z = frame(sizes);
    const int group = blockIdx.z % z.groups, window = z.r * z.s, k = z.c * window;
    const int places = z.p * z.q, bk = blockIdx.x * 64, bf = blockIdx.y * 64;
    const long long m = (long long)z.n * places, begin = blockIdx.z / z.groups * span;
    const long long end = begin + span < m ? begin + span : m;
    float acc[4][4] = {};
    mg_blocked<false, false>(
        begin, end,
        [&](int r, long long at) {
            if (bk + r >= k) return 0.f;
            const int channel = (bk + r) / window, tap = (bk + r) % window;
            const int image = (int)(at / places), place = (int)(at % places);
            const int row =
                seen<false>(place / z.q, tap / z.s, z.stride_h, z.dilate_h, z.pad_h, z.h);
            const int col =
                seen<false>(place % z.q, tap % z.s, z.stride_w, z.dilate_w, z.pad_w, z.w);
            if (row < 0 || col < 0) return 0.f;
            const long long plane = ((long long)image * z.groups + group) * z.c + channel;
            return mg_float(x[(plane * z.h + row) * z.w + col]);
        },
        [&](int r, long long at) {
            if (bf + r >= z.f) return 0.f;
            const long long plane = (at / places * z.groups + group) * z.f + bf + r;
            return mg_float(g[plane * places + at % places]);
        },
        acc);
    const int q = bk + threadIdx.x % 16 * 4, f = bf + threadIdx.x / 16 * 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        float* to = part + ((long long)blockIdx.z * z.f + f + j) * k + q;
        if (f + j < z.f) mg_four(to, acc[j], k - q, k % 4 == 0);
    }
}

// The sum of the parts, always in the same order.
template <class T>
__global__ void fold(const float* __restrict__ part, T* __restrict__ out, int parts,
                     long long size) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= size) return;
    float sum = 0.f;
    for (int k = 0; k < parts; ++k) sum += part[k * size + i];
    out[i] = mg_to<T>(sum);
}

// --- Groups of few filters ----------------------------------------------------------------------
// A tile of 64 filters would be nearly empty: depthwise convolution has one a group.

// NCHW, a thread a number of the result.
template <class T, bool BACK>
__global__ void __launch_bounds__(256, 4)
    conv_direct(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                T* __restrict__ y, const int* __restrict__ sizes, int relu) {
    const Frame z = frame(sizes);
    const int places = z.p * z.q, filters = z.groups * z.f;
    const long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= (long long)z.n * filters * places) return;
    const int out = (int)(i / places), place = (int)(i - (long long)out * places);
    const int filter = out % filters;
    const long long plane = (long long)(out / filters) * z.groups + filter / z.f;
    const T* picture = x + plane * z.c * z.h * z.w;
    const T* window = weight + (long long)filter * z.c * z.r * z.s;
    const int top = place / z.q, left = place % z.q;
    float sum = bias ? mg_float(bias[filter]) : 0.f;
    for (int r = 0; r < z.r; ++r) {
        const int row = seen<BACK>(top, r, z.stride_h, z.dilate_h, z.pad_h, z.h);
        if (row < 0) continue;
        for (int s = 0; s < z.s; ++s) {
            const int col = seen<BACK>(left, s, z.stride_w, z.dilate_w, z.pad_w, z.w);
            if (col < 0) continue;
#pragma unroll 1  // unrolled it takes half as many registers again
            for (int c = 0; c < z.c; ++c)
                sum = fmaf(mg_float(window[(c * z.r + r) * z.s + s]),
                           mg_float(picture[((long long)c * z.h + row) * z.w + col]), sum);
        }
    }
    y[i] = mg_to<T>(relu ? fmaxf(sum, 0.f) : sum);
}

// The gradient of such a weight: a block a number and part. The grid is (f k, groups, parts).
template <class T>
__global__ void __launch_bounds__(256)
    conv_weight_direct(const T* __restrict__ g, const T* __restrict__ x, float* __restrict__ part,
                       const int* __restrict__ sizes, long long span) {
    const Frame z = frame(sizes);
    const int window = z.r * z.s, k = z.c * window, places = z.p * z.q, group = blockIdx.y;
    const int f = blockIdx.x / k, channel = blockIdx.x % k / window, tap = blockIdx.x % window;
    const long long m = (long long)z.n * places, begin = blockIdx.z * span;
    const long long end = begin + span < m ? begin + span : m;
    float sum = 0.f;
    for (long long at = begin + threadIdx.x; at < end; at += 256) {
        const int place = (int)(at % places);
        const long long image = at / places * z.groups + group;
        const int row = seen<false>(place / z.q, tap / z.s, z.stride_h, z.dilate_h, z.pad_h, z.h);
        const int col = seen<false>(place % z.q, tap % z.s, z.stride_w, z.dilate_w, z.pad_w, z.w);
        if (row < 0 || col < 0) continue;
        sum = fmaf(mg_float(g[(image * z.f + f) * places + place]),
                   mg_float(x[((image * z.c + channel) * z.h + row) * z.w + col]), sum);
    }
    sum = mg_row<Sum>(sum);
    if (threadIdx.x == 0)
        part[((long long)blockIdx.z * z.groups + group) * gridDim.x + blockIdx.x] = sum;
}

// --- Tensor cores -------------------------------------------------------------------------------
// NHWC by tensor cores, one group; weight (f, r, s, c). c must be a multiple of 8: eight channels
// of a tap are one load of 16 bytes, of zeros outside the picture.
template <class T, bool BACK>
__global__ void __launch_bounds__(128)
    conv_tensor(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                T* __restrict__ y, const int* __restrict__ sizes, int relu) {
    __shared__ __align__(16) T as[2][64][MG_LD];
    __shared__ __align__(16) T bs[2][64][MG_LD];
    const Frame z = frame(sizes);
    const int k = z.r * z.s * z.c, places = z.p * z.q;
    const long long m = (long long)z.n * places, bm = blockIdx.x * 64ll;
    const int bn = blockIdx.y * 64, tid = threadIdx.x, q8 = (tid & 3) * 8;
    // the two places that this thread fetches for: rows tid / 4 and tid / 4 + 32
    int top[2], left[2];
    const T* picture[2];
    bool there[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const long long at = bm + (tid >> 2) + 32 * i;
        there[i] = at < m;
        const int place = (int)(at % places);
        top[i] = place / z.q;
        left[i] = place % z.q;
        picture[i] = x + (there[i] ? at / places * z.h * z.w * z.c : 0);
    }
    float acc[2][4][4] = {};
    auto load = [&](int t) {
        const int s = t & 1;
        const int at = t * 32 + q8, tap = at / z.c, channel = at % z.c;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int r = (tid >> 2) + 32 * i;
            const int row = seen<BACK>(top[i], tap / z.s, z.stride_h, z.dilate_h, z.pad_h, z.h);
            const int col = seen<BACK>(left[i], tap % z.s, z.stride_w, z.dilate_w, z.pad_w, z.w);
            const bool in_x = at < k && there[i] && row >= 0 && col >= 0;
            const bool in_w = at < k && bn + r < z.f;
            const long long from = ((long long)row * z.w + col) * z.c + channel;
            mg_cp_async16(&as[s][r][q8], picture[i] + (in_x ? from : 0), in_x);
            mg_cp_async16(&bs[s][r][q8], weight + (in_w ? (long long)(bn + r) * k + at : 0), in_w);
        }
    };
    mg_pipeline((k + 31) / 32, load, [&](int s) {
        mg_multiply(as[s], bs[s], mg_warp_row(), mg_warp_col(), tid & 31, acc);
    });
    mg_sums(acc, [&](int i, int j, float v) {
        const long long r = bm + i;
        const int f = bn + j;
        if (r >= m || f >= z.f) return;
        v += bias ? mg_float(bias[f]) : 0.f;
        if (relu) v = fmaxf(v, 0.f);
        y[r * z.f + f] = mg_to<T>(v);
    });
}

// The gradient of such a weight. In memory the filters of a place lie side by side, and its
// channels; the sum is over places, so the tiles are 32 places deep and multiplied the other way.
template <class T>
__global__ void __launch_bounds__(128)
    conv_weight_tensor(const T* __restrict__ g, const T* __restrict__ x, float* __restrict__ part,
                       const int* __restrict__ sizes, long long span) {
    __shared__ __align__(16) T as[2][32][MG_LD_DEEP];
    __shared__ __align__(16) T bs[2][32][MG_LD_DEEP];
    const Frame z = frame(sizes);
    const int k = z.r * z.s * z.c, places = z.p * z.q, tid = threadIdx.x, q8 = (tid & 7) * 8;
    const int bk = blockIdx.x * 64, bf = blockIdx.y * 64;
    const long long m = (long long)z.n * places, begin = blockIdx.z * span;
    const long long end = begin + span < m ? begin + span : m;
    // the eight channels of a tap, and the eight filters, that this thread fetches
    const int tap = (bk + q8) / z.c, channel = (bk + q8) % z.c;
    const bool in_k = bk + q8 < k, in_f = bf + q8 < z.f;
    float acc[2][4][4] = {};
    auto load = [&](int t) {
        const int s = t & 1;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int r = (tid >> 3) + 16 * i;
            const long long at = begin + t * 32ll + r;
            const int place = (int)(at % places);
            const int row =
                seen<false>(place / z.q, tap / z.s, z.stride_h, z.dilate_h, z.pad_h, z.h);
            const int col =
                seen<false>(place % z.q, tap % z.s, z.stride_w, z.dilate_w, z.pad_w, z.w);
            const bool in_g = at < end && in_f, in_x = at < end && in_k && row >= 0 && col >= 0;
            const long long from = ((at / places * z.h + row) * z.w + col) * z.c + channel;
            mg_cp_async16(&as[s][r][q8], g + (in_g ? at * z.f + bf + q8 : 0), in_g);
            mg_cp_async16(&bs[s][r][q8], x + (in_x ? from : 0), in_x);
        }
    };
    mg_pipeline((int)((end - begin + 31) / 32), load, [&](int s) {
        mg_multiply_deep(as[s], bs[s], mg_warp_row(), mg_warp_col(), tid & 31, acc);
    });
    mg_sums(acc, [&](int i, int j, float v) {
        const int f = bf + i, q = bk + j;
        if (f < z.f && q < k) part[((long long)blockIdx.z * z.f + f) * k + q] = v;
    });
}
