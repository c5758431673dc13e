// Softmax, its logarithm, their gradients, and cross-entropy without the probabilities in memory.
#include "mg.cuh"

// The row's maximum m and the sum of exp(v - m), by one walk: a new maximum rescales the sum.
struct Online {
    float m = MG_LOWEST, s = 0.f;
    __device__ __forceinline__ void take(float v) {
        if (v > m) {
            s *= __expf(m - v);
            m = v;
        }
        s += __expf(v - m);
    }
    __device__ __forceinline__ void row() {
        const float top = mg_row<Max>(m);
        s = mg_row<Sum>(s * __expf(m - top));
        m = top;
    }
};

// Each thread keeps what it has read in shared memory, if there is any, and reads the row once.
template <class T, int V, bool LOG>
__global__ void softmax(const T* __restrict__ x, T* __restrict__ y, long long rows, int cols,
                        float scale, int kept) {
    extern __shared__ __align__(16) unsigned char room[];
    const long long row = mg_row_number();
    if (row >= rows) return;
    const int n = cols / V;
    const Pack<T, V>* in = (const Pack<T, V>*)(x + row * cols);
    Pack<T, V>* out = (Pack<T, V>*)(y + row * cols);
    Pack<T, V>* mine = (Pack<T, V>*)room + (long long)threadIdx.y * n;
    Online o;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const Pack<T, V> p = in[i];
        if (kept) mine[i] = p;
#pragma unroll
        for (int j = 0; j < V; ++j) o.take(mg_float(p.at[j]) * scale);
    }
    o.row();
    const float shift = LOG ? o.m + __logf(o.s) : o.m, factor = 1.f / o.s;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        Pack<T, V> p = kept ? mine[i] : in[i];
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float v = mg_float(p.at[j]) * scale - shift;
            p.at[j] = mg_to<T>(LOG ? v : __expf(v) * factor);
        }
        out[i] = p;
    }
}

// dx = y (g - sum g y) scale, or with LOG dx = (g - exp(y) sum g) scale.
template <class T, int V, bool LOG>
__global__ void softmax_back(const T* __restrict__ g, const T* __restrict__ y, T* __restrict__ dx,
                             long long rows, int cols, float scale) {
    const long long row = mg_row_number();
    if (row >= rows) return;
    const int n = cols / V;
    const Pack<T, V>* gs = (const Pack<T, V>*)(g + row * cols);
    const Pack<T, V>* ys = (const Pack<T, V>*)(y + row * cols);
    Pack<T, V>* out = (Pack<T, V>*)(dx + row * cols);
    float s = 0.f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const Pack<T, V> a = gs[i], b = ys[i];
#pragma unroll
        for (int j = 0; j < V; ++j) s += mg_float(a.at[j]) * (LOG ? 1.f : mg_float(b.at[j]));
    }
    s = mg_row<Sum>(s);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const Pack<T, V> a = gs[i], b = ys[i];
        Pack<T, V> p;
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const float u = mg_float(a.at[j]), v = mg_float(b.at[j]);
            p.at[j] = mg_to<T>((LOG ? u - __expf(v) * s : v * (u - s)) * scale);
        }
        out[i] = p;
    }
}

// loss = ln sum exp(x) - x[label]. A label that is no class is clipped, and the first one but -1 is
// noted: whether there is one, its bits, the number of classes.
template <class T, int V>
__global__ void cross_entropy(const T* __restrict__ x, const float* __restrict__ label,
                              T* __restrict__ loss, int* __restrict__ note, long long rows,
                              int cols) {
    const long long row = mg_row_number();
    if (row >= rows) return;
    const int n = cols / V;
    const Pack<T, V>* in = (const Pack<T, V>*)(x + row * cols);
    Online o;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const Pack<T, V> p = in[i];
#pragma unroll
        for (int j = 0; j < V; ++j) o.take(mg_float(p.at[j]));
    }
    o.row();
    if (threadIdx.x) return;
    const float c = label[row];
    const bool usual = c >= -1.f && c < cols && c == floorf(c);
    if (!usual && atomicCAS(note, 0, 1) == 0) {
        note[1] = __float_as_int(c);
        note[2] = cols;
    }
    const float picked = mg_float(x[row * cols + (int)fminf(fmaxf(c, 0.f), cols - 1.f)]);
    loss[row] = mg_to<T>(o.m - picked + __logf(o.s));
}

// dx = g (exp(x - lse) - [label]), where lse = loss + x[label].
template <class T, int V>
__global__ void cross_entropy_back(const T* __restrict__ g, const T* __restrict__ x,
                                   const T* __restrict__ loss, const float* __restrict__ label,
                                   T* __restrict__ dx, long long rows, int cols) {
    const long long row = mg_row_number();
    if (row >= rows) return;
    const int n = cols / V;
    const int c = (int)fminf(fmaxf(label[row], 0.f), cols - 1.f);
    const float lse = mg_float(loss[row]) + mg_float(x[row * cols + c]);
    const float factor = g ? mg_float(g[row]) : 1.f;
    const Pack<T, V>* in = (const Pack<T, V>*)(x + row * cols);
    Pack<T, V>* out = (Pack<T, V>*)(dx + row * cols);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        Pack<T, V> p = in[i];
#pragma unroll
        for (int j = 0; j < V; ++j)
            p.at[j] = mg_to<T>(factor * (__expf(mg_float(p.at[j]) - lse) - (i * V + j == c)));
        out[i] = p;
    }
}
