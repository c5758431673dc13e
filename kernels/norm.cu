// Layer, group, instance and batch normalization, forwards and backwards.
#include "mg.cuh"

// y = (x - m) r gamma + beta for each row. COLUMNS: gamma belongs to the column (layer
// normalization), otherwise to row % groups (groups and instances). What a thread has read it keeps
// in shared memory, if there is any: the variance is that of the centred numbers.
template <class T, int V, bool COLUMNS>
__global__ void norm(const T* __restrict__ x, const float* __restrict__ gamma,
                     const float* __restrict__ beta, T* __restrict__ y, float* __restrict__ mean,
                     float* __restrict__ scale, long long rows, int cols, int groups, float eps,
                     int kept) {
    extern __shared__ __align__(16) unsigned char room[];
    const long long row = mg_row_number();
    if (row >= rows) return;
    const int n = cols / V;
    const Pack<T, V>* in = (const Pack<T, V>*)(x + row * cols);
    Pack<T, V>* out = (Pack<T, V>*)(y + row * cols);
    Pack<T, V>* mine = (Pack<T, V>*)room + (long long)threadIdx.y * n;
    float s = 0.f, q = 0.f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const Pack<T, V> p = in[i];
        if (kept) mine[i] = p;
#pragma unroll
        for (int j = 0; j < V; ++j) s += mg_float(p.at[j]);
    }
    const float m = mg_row<Sum>(s) / cols;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const Pack<T, V> p = kept ? mine[i] : in[i];
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float d = mg_float(p.at[j]) - m;
            q += d * d;
        }
    }
    const float r = rsqrtf(mg_row<Sum>(q) / cols + eps);
    const int group = (int)(row % groups);
    const float gain = COLUMNS ? 0.f : gamma[group], offset = COLUMNS ? 0.f : beta[group];
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        Pack<T, V> p = kept ? mine[i] : in[i];
        float u[V], w[V];
        if (COLUMNS) {
            mg_floats<V>(gamma + i * V, u);
            mg_floats<V>(beta + i * V, w);
        }
#pragma unroll
        for (int j = 0; j < V; ++j)
            p.at[j] = mg_to<T>((mg_float(p.at[j]) - m) * r * (COLUMNS ? u[j] : gain) +
                               (COLUMNS ? w[j] : offset));
        out[i] = p;
    }
    if (threadIdx.x == 0) {
        mean[row] = m;
        scale[row] = r;
    }
}

// dx = r (h - E h - xhat E(h xhat)) with h = g gamma. The shares of gamma and beta: COLUMNS, a sum
// a column over the rows that these threads have walked, kept in shared memory, each column by one
// thread; otherwise one number a row.
template <class T, int V, bool COLUMNS>
__global__ void norm_back(const T* __restrict__ g, const T* __restrict__ x,
                          const float* __restrict__ gamma, const float* __restrict__ mean,
                          const float* __restrict__ scale, T* __restrict__ dx,
                          float* __restrict__ by_gamma, float* __restrict__ by_beta, long long rows,
                          int cols, int groups) {
    extern __shared__ __align__(16) float sums[];
    const int n = cols / V;
    float* mine = sums + 2 * cols * threadIdx.y;
    if (COLUMNS)
        for (int i = threadIdx.x; i < n; i += blockDim.x)
#pragma unroll
            for (int j = 0; j < V; ++j) mine[i * V + j] = mine[cols + i * V + j] = 0.f;
    for (long long row = mg_row_number(); row < rows; row += gridDim.x * (long long)blockDim.y) {
        const Pack<T, V>* gs = (const Pack<T, V>*)(g + row * cols);
        const Pack<T, V>* xs = (const Pack<T, V>*)(x + row * cols);
        Pack<T, V>* out = (Pack<T, V>*)(dx + row * cols);
        const float m = mean[row], r = scale[row], gain = COLUMNS ? 1.f : gamma[row % groups];
        float a = 0.f, b = 0.f;  // sum h, sum h xhat
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const Pack<T, V> u = gs[i], p = xs[i];
            float w[V];
            if (COLUMNS) mg_floats<V>(gamma + i * V, w);
#pragma unroll
            for (int j = 0; j < V; ++j) {
                const float d = mg_float(u.at[j]), xhat = (mg_float(p.at[j]) - m) * r;
                const float h = COLUMNS ? d * w[j] : d;
                a += h;
                b += h * xhat;
                if (COLUMNS) {
                    mine[i * V + j] += d * xhat;
                    mine[cols + i * V + j] += d;
                }
            }
        }
        a = mg_row<Sum>(a);
        b = mg_row<Sum>(b);
        if (!COLUMNS && threadIdx.x == 0) {
            by_gamma[row] = b;
            by_beta[row] = a;
        }
        a /= cols;
        b /= cols;
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const Pack<T, V> u = gs[i], p = xs[i];
            Pack<T, V> o;
            float w[V];
            if (COLUMNS) mg_floats<V>(gamma + i * V, w);
#pragma unroll
            for (int j = 0; j < V; ++j) {
                const float xhat = (mg_float(p.at[j]) - m) * r;
                const float h = mg_float(u.at[j]) * (COLUMNS ? w[j] : 1.f);
                o.at[j] = mg_to<T>((h - a - xhat * b) * r * gain);
            }
            out[i] = o;
        }
    }
    if (COLUMNS)
        for (int i = threadIdx.x; i < n; i += blockDim.x)
#pragma unroll
            for (int j = 0; j < V; ++j) {
                by_gamma[mg_row_number() * cols + i * V + j] = mine[i * V + j];
                by_beta[mg_row_number() * cols + i * V + j] = mine[cols + i * V + j];
            }
}

// Batch normalization: data (n, c, l), a channel is x[:, c, :]. Two sums a channel: forwards those
// of x - k and its square, k being the channel's first number, which keeps them small; backwards
// those of g and g xhat. Block (channel, split); part is (2, splits, c).
template <class T, bool BACK>
__global__ void channel_sums(const T* __restrict__ g, const T* __restrict__ x,
                             const float* __restrict__ mean, const float* __restrict__ scale,
                             float* __restrict__ part, int n, int c, int l) {
    const int at = blockIdx.x;
    const float m = BACK ? mean[at] : mg_float(x[(long long)at * l]), r = BACK ? scale[at] : 1.f;
    const long long i0 = blockIdx.y * (long long)blockDim.x + threadIdx.x;
    long long image = i0 / l, inside = i0 % l;
    float a = 0.f, b = 0.f;
    while (image < n) {
        const long long i = (image * c + at) * l + inside;
        const float xhat = (mg_float(x[i]) - m) * r, u = BACK ? mg_float(g[i]) : xhat;
        a += u;
        b += u * xhat;
        for (inside += gridDim.y * (long long)blockDim.x; inside >= l && image < n; ++image)
            inside -= l;
    }
    a = mg_row<Sum>(a);
    b = mg_row<Sum>(b);
    if (threadIdx.x == 0) {
        part[blockIdx.y * c + at] = a;
        part[(gridDim.y + blockIdx.y) * c + at] = b;
    }
}

// The same where channels lie side by side, l = 1: 32 channels a block, 8 rows at a time.
template <class T, bool BACK>
__global__ void column_sums(const T* __restrict__ g, const T* __restrict__ x,
                            const float* __restrict__ mean, const float* __restrict__ scale,
                            float* __restrict__ part, int n, int c) {
    __shared__ float sums[2][8][33];
    const int at = blockIdx.x * 32 + threadIdx.x;
    float a = 0.f, b = 0.f;
    if (at < c) {
        const float m = BACK ? mean[at] : mg_float(x[at]), r = BACK ? scale[at] : 1.f;
        for (long long i = blockIdx.y * 8 + threadIdx.y; i < n; i += gridDim.y * 8) {
            const float xhat = (mg_float(x[i * c + at]) - m) * r;
            const float u = BACK ? mg_float(g[i * c + at]) : xhat;
            a += u;
            b += u * xhat;
        }
    }
    sums[0][threadIdx.y][threadIdx.x] = a;
    sums[1][threadIdx.y][threadIdx.x] = b;
    __syncthreads();
    if (threadIdx.y > 1 || at >= c) return;
    float total = 0.f;
    for (int k = 0; k < 8; ++k) total += sums[threadIdx.y][k][threadIdx.x];
    part[(threadIdx.y * gridDim.y + blockIdx.y) * c + at] = total;
}

// Mean, variance and 1/sigma of each channel from its sums, each number by one thread.
template <class T>
__global__ void batch_moments(const T* __restrict__ x, const float* __restrict__ part,
                              float* __restrict__ mean, float* __restrict__ scale,
                              float* __restrict__ var, int splits, int c, int l, float count,
                              float eps) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= c) return;
    float a = 0.f, b = 0.f;
    for (int k = 0; k < splits; ++k) {
        a += part[k * c + at];
        b += part[(splits + k) * c + at];
    }
    a /= count;
    const float v = fmaxf(b / count - a * a, 0.f);
    mean[at] = mg_float(x[(long long)at * l]) + a;
    var[at] = v;
    scale[at] = rsqrtf(v + eps);
}

// What the last walk needs: dx = f g + s (x - m) + o, and the gradients of gamma and beta. `mode`
// is 0 where the statistics were fixed.
template <class T>
__global__ void batch_factors(const float* __restrict__ part, const float* __restrict__ gamma,
                              const float* __restrict__ scale, const float* __restrict__ mode,
                              float* __restrict__ by_gamma, float* __restrict__ by_beta,
                              float* __restrict__ f, float* __restrict__ s, float* __restrict__ o,
                              int splits, int c, float count) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= c) return;
    float a = 0.f, b = 0.f;
    for (int k = 0; k < splits; ++k) {
        a += part[k * c + at];
        b += part[(splits + k) * c + at];
    }
    const float r = scale[at], gain = gamma[at] * r, t = mode[0] / count;
    by_gamma[at] = b;
    by_beta[at] = a;
    f[at] = gain;
    s[at] = -gain * t * b * r;
    o[at] = -gain * t * a;
}

// y = f g + s (x - m) + o with a number a channel; without g its term is left out.
template <class T, int V>
__global__ void batch_apply(const T* __restrict__ g, const T* __restrict__ x,
                            const float* __restrict__ f, const float* __restrict__ s,
                            const float* __restrict__ m, const float* __restrict__ o,
                            T* __restrict__ y, long long size, int c, int l) {
    const long long packs = size / V;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < packs;
         i += gridDim.x * (long long)blockDim.x) {
        const Pack<T, V> p = ((const Pack<T, V>*)x)[i];
        Pack<T, V> u, out;
        if (g) u = ((const Pack<T, V>*)g)[i];
        const long long k = i * V;
        const bool small = size < (1ll << 31);  // 32-bit division takes a quarter of the time
        const int first = small ? (int)((unsigned)k / (unsigned)l % (unsigned)c) : (int)(k / l % c);
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const int at = l == 1 ? first + j : first;
            float v = s[at] * (mg_float(p.at[j]) - m[at]) + o[at];
            if (g) v += f[at] * mg_float(u.at[j]);
            out.at[j] = mg_to<T>(v);
        }
        ((Pack<T, V>*)y)[i] = out;
    }
}
