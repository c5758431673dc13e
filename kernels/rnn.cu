// Recurrent layers. What inputs give to all steps is one product, by cuBLAS; here is what a step
// adds. `cell` makes one step of one layer after the state's product; `sweep` makes all steps in
// one launch where the recurrent weights fit into a block's shared memory. Gates: LSTM i, f, g, o;
// GRU r, z, n.
#include "mg.cuh"

enum { RELU, TANH, LSTM, GRU };
#define GATES(M) ((M) == LSTM ? 4 : (M) == GRU ? 3 : 1)

__device__ __forceinline__ float logistic(float v) { return 1.f / (1.f + __expf(-v)); }

// One unit, one step: a[] are the shares of inputs, u[] those of the state, biases included. a[]
// become the gates, h and c the new state.
template <int M>
__device__ __forceinline__ void unit(float (&a)[4], const float (&u)[4], float& h, float& c) {
    if (M == RELU) h = a[0] = fmaxf(a[0] + u[0], 0.f);
    if (M == TANH) h = a[0] = tanhf(a[0] + u[0]);
    if (M == LSTM) {
#pragma unroll
        for (int g = 0; g < 4; ++g) a[g] = g == 2 ? tanhf(a[g] + u[g]) : logistic(a[g] + u[g]);
        c = a[1] * c + a[0] * a[2];
        h = a[3] * tanhf(c);
    }
    if (M == GRU) {
        a[0] = logistic(a[0] + u[0]);
        a[1] = logistic(a[1] + u[1]);
        a[2] = tanhf(a[2] + a[0] * u[2]);
        h = a[2] + a[1] * (h - a[2]);
    }
}

// The same unit backwards. a[] are its gates, u the state's share of a GRU's n, h and c the state
// before; dh is the gradient of the new state. a[] become the gradients of what inputs gave, u that
// of the state's share of n; dc and dh what goes to the state before past the product.
template <int M>
__device__ __forceinline__ void unit_back(float (&a)[4], float& u, float h, float c, float& dh,
                                          float& dc) {
    if (M == RELU) a[0] = a[0] > 0.f ? dh : 0.f;
    if (M == TANH) a[0] = dh * (1.f - a[0] * a[0]);
    if (M == LSTM) {
        const float i = a[0], f = a[1], g = a[2], o = a[3], y = tanhf(f * c + i * g);
        dc += dh * o * (1.f - y * y);
        a[0] = dc * g * i * (1.f - i);
        a[1] = dc * c * f * (1.f - f);
        a[2] = dc * i * (1.f - g * g);
        a[3] = dh * y * o * (1.f - o);
        dc *= f;
    }
    if (M == GRU) {
        const float r = a[0], z = a[1], n = a[2], dn = dh * (1.f - z) * (1.f - n * n);
        a[0] = dn * u * r * (1.f - r);
        a[1] = dh * (h - n) * z * (1.f - z);
        a[2] = dn;
        u = dn * r;
        dh *= z;
    } else {
        dh = 0.f;
    }
}

// What a layer keeps: of every step, the first state before the first. n is of a GRU, c of an LSTM;
// y is what an LSTM's projection multiplies, null without one. lengths may be null.
template <class T>
struct Layer {
    T *gates, *h, *c, *n, *y;
    const T *inner, *outer;  // biases of h2h and of i2h
    const int* lengths;
    int batch, hidden;
};

template <class T, int M>
__device__ __forceinline__ void shares(const Layer<T>& k, long long row, int j, float (&a)[4]) {
    const T* at = k.gates + row * GATES(M) * k.hidden + j;
#pragma unroll
    for (int g = 0; g < GATES(M); ++g)
        a[g] = mg_float(at[g * k.hidden]) + mg_float(k.outer[g * k.hidden + j]);
}

// Finish step t of unit j of sample b: the gates, and the new state unless the sequence has ended.
template <class T, int M>
__device__ __forceinline__ void finish(const Layer<T>& k, int t, int b, int j, float (&a)[4],
                                       float (&u)[4], float& h, float& c) {
    const long long row = (long long)t * k.batch + b, at = row * k.hidden + j;
    const long long next = at + (long long)k.batch * k.hidden;
    const float old_h = h, old_c = c;
#pragma unroll
    for (int g = 0; g < GATES(M); ++g) u[g] += mg_float(k.inner[g * k.hidden + j]);
    unit<M>(a, u, h, c);
    if (k.lengths && t >= k.lengths[b]) h = old_h, c = old_c;
    T* gates = k.gates + row * GATES(M) * k.hidden + j;
#pragma unroll
    for (int g = 0; g < GATES(M); ++g) gates[g * k.hidden] = mg_to<T>(a[g]);
    if (M == GRU) k.n[at] = mg_to<T>(u[2]);
    if (M == LSTM) k.c[next] = mg_to<T>(c);
    if (k.y)
        k.y[at] = mg_to<T>(h);
    else
        k.h[next] = mg_to<T>(h);
}

// One step: a thread a unit. `product` is the state before times its weights, (batch, gates
// hidden).
template <class T, int M>
__global__ void cell(T* gates, const T* __restrict__ product, const T* __restrict__ outer,
                     const T* __restrict__ inner, T* h, T* c, T* n, T* y,
                     const int* __restrict__ lengths, int t, int batch, int hidden) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= (long long)batch * hidden) return;
    const int b = (int)(i / hidden), j = (int)(i % hidden);
    const Layer<T> k = {gates, h, c, n, y, inner, outer, lengths, batch, hidden};
    const long long row = (long long)t * batch + b, at = row * hidden + j;
    float a[4], u[4];
    shares<T, M>(k, row, j, a);
#pragma unroll
    for (int g = 0; g < GATES(M); ++g)
        u[g] = mg_float(product[(b * (long long)GATES(M) + g) * hidden + j]);
    float old_h = M == GRU || lengths ? mg_float(h[at]) : 0.f;
    float old_c = M == LSTM ? mg_float(c[at]) : 0.f;
    finish<T, M>(k, t, b, j, a, u, old_h, old_c);
}

// What unit j of sample b needs of step t on the way back; gs are the gradients of that step's
// output.
template <class T, int M>
struct Saved {
    float a[4], u, h, c, g;
    __device__ __forceinline__ void load(const T* gates, const T* hs, const T* cs, const T* ns,
                                         const T* gs, int t, int b, int j, int batch, int hidden) {
        const long long row = (long long)t * batch + b, at = row * hidden + j;
#pragma unroll
        for (int k = 0; k < GATES(M); ++k)
            a[k] = mg_float(gates[row * GATES(M) * hidden + k * hidden + j]);
        u = M == GRU ? mg_float(ns[at]) : 0.f;
        h = M == GRU ? mg_float(hs[at]) : 0.f;
        c = M == LSTM ? mg_float(cs[at]) : 0.f;
        g = mg_float(gs[(long long)b * hidden + j]);
    }
    // dh comes with what later steps have sent, and leaves with what goes past the product.
    __device__ __forceinline__ void back(bool ended, float& dh, float& dc) {
        dh += g;
        if (ended) {
#pragma unroll
            for (int k = 0; k < 4; ++k) a[k] = 0.f;
            u = 0.f;
            return;
        }
        unit_back<M>(a, u, h, c, dh, dc);
    }
    __device__ __forceinline__ void store(T* da, T* du, long long row, int j, int hidden) const {
#pragma unroll
        for (int k = 0; k < GATES(M); ++k) {
            const long long at = (row * GATES(M) + k) * hidden + j;
            da[at] = mg_to<T>(a[k]);
            if (M == GRU) du[at] = mg_to<T>(k == 2 ? u : a[k]);
        }
    }
};

// One step back: `g` is the gradient of its output alone, (batch, hidden), `product` what the later
// step sent through the weights, null at the last. dh and dc, in float, are carried from step to
// step.
template <class T, int M>
__global__ void cell_back(const T* __restrict__ g, const T* __restrict__ product,
                          const T* __restrict__ gates, const T* __restrict__ h,
                          const T* __restrict__ c, const T* __restrict__ n,
                          const int* __restrict__ lengths, float* __restrict__ dh,
                          float* __restrict__ dc, T* __restrict__ da, T* __restrict__ du, int t,
                          int batch, int hidden) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= (long long)batch * hidden) return;
    const int b = (int)(i / hidden), j = (int)(i % hidden);
    Saved<T, M> s;
    s.load(gates, h, c, n, g, t, b, j, batch, hidden);
    float dh_here = dh[i] + (product ? mg_float(product[i]) : 0.f), dc_here = 0.f;
    if (M == LSTM) dc_here = dc[i];
    s.back(lengths && t >= lengths[b], dh_here, dc_here);
    s.store(da, du, (long long)t * batch + b, j, hidden);
    dh[i] = dh_here;
    if (M == LSTM) dc[i] = dc_here;
}

// --- All steps in one launch --------------------------------------------------------------------
// A block has ROWS samples for itself and needs no other block. Its threads are the columns of the
// weights while it multiplies, and units of its samples in between; no barrier is wider than the
// block. Rows in shared memory are padded to fours with zeros.

template <class T, int M, int ROWS>
__global__ void sweep(T* gates, const T* __restrict__ weight, const T* __restrict__ outer,
                      const T* __restrict__ inner, T* h, T* c, T* n,
                      const int* __restrict__ lengths, int steps, int batch, int hidden) {
    constexpr int G = GATES(M);
    extern __shared__ __align__(16) unsigned char room[];
    const int cols = G * hidden, pitch = (hidden + 3) / 4 * 4, col = threadIdx.x;
    float* state = (float*)room;                // (ROWS, pitch)
    float* products = state + ROWS * pitch;     // (ROWS, cols)
    T* columns = (T*)(products + ROWS * cols);  // (pitch, cols): the weight transposed
    for (int i = col; i < ROWS * pitch; i += blockDim.x) state[i] = 0.f;
    for (int i = col; i < (pitch - hidden) * cols; i += blockDim.x)
        columns[hidden * cols + i] = mg_to<T>(0.f);
    for (int i = col; i < cols * hidden; i += blockDim.x)
        columns[i % hidden * cols + i / hidden] = weight[i];
    __syncthreads();
    const int r = threadIdx.x / hidden, j = threadIdx.x % hidden, b = blockIdx.x * ROWS + r;
    const bool works = r < ROWS && b < batch;
    const Layer<T> k = {gates, h, c, n, nullptr, inner, outer, lengths, batch, hidden};
    float my_h = 0.f, my_c = 0.f;
    if (works) {
        my_h = mg_float(h[(long long)b * hidden + j]);
        if (M == LSTM) my_c = mg_float(c[(long long)b * hidden + j]);
        state[r * pitch + j] = my_h;
    }
    __syncthreads();
    for (int t = 0; t < steps; ++t) {
        float a[4], u[4];
        if (works) shares<T, M>(k, (long long)t * batch + b, j, a);  // on its way while we multiply
        if (col < cols) {
            float sum[ROWS] = {};
            for (int q = 0; q < pitch; q += 4) {
                float w[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) w[i] = mg_float(columns[(q + i) * cols + col]);
#pragma unroll
                for (int i = 0; i < ROWS; ++i) {
                    float s[4];
                    mg_floats<4>(state + i * pitch + q, s);
#pragma unroll
                    for (int l = 0; l < 4; ++l) sum[i] = fmaf(w[l], s[l], sum[i]);
                }
            }
#pragma unroll
            for (int i = 0; i < ROWS; ++i) products[i * cols + col] = sum[i];
        }
        __syncthreads();
        if (works) {
#pragma unroll
            for (int g = 0; g < G; ++g) u[g] = products[r * cols + g * hidden + j];
            finish<T, M>(k, t, b, j, a, u, my_h, my_c);
            state[r * pitch + j] = my_h;
        }
        __syncthreads();
    }
}

// The way back: thread (g, j) sums the share of gate g in the gradient of unit j's state.
template <class T, int M, int ROWS>
__global__ void sweep_back(const T* __restrict__ g, const T* __restrict__ weight,
                           const T* __restrict__ gates, const T* __restrict__ h,
                           const T* __restrict__ c, const T* __restrict__ n,
                           const int* __restrict__ lengths, float* __restrict__ dh,
                           float* __restrict__ dc, T* __restrict__ da, T* __restrict__ du,
                           int steps, int batch, int hidden) {
    constexpr int G = GATES(M);
    extern __shared__ __align__(16) unsigned char room[];
    const int cols = G * hidden, pitch = (hidden + 3) / 4 * 4, col = threadIdx.x;
    float* flow = (float*)room;                         // (ROWS, G, pitch): gradients of products
    float* parts = flow + ROWS * G * pitch;             // (G, ROWS, hidden): what they come to
    T* rows = (T*)(parts + (cols * ROWS + 3) / 4 * 4);  // (G, pitch, hidden): the weight
    for (int i = col; i < ROWS * G * pitch; i += blockDim.x) flow[i] = 0.f;
    for (int i = col; i < ROWS * cols; i += blockDim.x) parts[i] = 0.f;
    for (int i = col; i < G * pitch * hidden; i += blockDim.x) {
        const int q = i / hidden % pitch, gate = i / (hidden * pitch);
        rows[i] = q < hidden ? weight[(gate * hidden + q) * hidden + i % hidden] : mg_to<T>(0.f);
    }
    __syncthreads();
    const int r = threadIdx.x / hidden, j = threadIdx.x % hidden, b = blockIdx.x * ROWS + r;
    const bool works = r < ROWS && b < batch;
    const long long mine = (long long)b * hidden + j;
    float my_dh = works ? dh[mine] : 0.f, my_dc = M == LSTM && works ? dc[mine] : 0.f;
    Saved<T, M> s;
    const long long size = (long long)batch * hidden;
    if (works) s.load(gates, h, c, n, g + (steps - 1) * size, steps - 1, b, j, batch, hidden);
    for (int t = steps - 1; t >= 0; --t) {
        if (works) {
#pragma unroll
            for (int k = 0; k < G; ++k) my_dh += parts[(k * ROWS + r) * hidden + j];
            s.back(lengths && t >= lengths[b], my_dh, my_dc);
            s.store(da, du, (long long)t * batch + b, j, hidden);
#pragma unroll
            for (int k = 0; k < G; ++k)
                flow[(r * G + k) * pitch + j] = M == GRU && k == 2 ? s.u : s.a[k];
            if (t) s.load(gates, h, c, n, g + (t - 1) * size, t - 1, b, j, batch, hidden);
        }
        __syncthreads();
        if (col < cols) {
            const int gate = col / hidden, unit = col % hidden;
            float sum[ROWS] = {};
            for (int q = 0; q < pitch; q += 4) {
                float w[4];
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    w[i] = mg_float(rows[(gate * pitch + q + i) * hidden + unit]);
#pragma unroll
                for (int i = 0; i < ROWS; ++i) {
                    float d[4];
                    mg_floats<4>(flow + (i * G + gate) * pitch + q, d);
#pragma unroll
                    for (int l = 0; l < 4; ++l) sum[i] = fmaf(w[l], d[l], sum[i]);
                }
            }
#pragma unroll
            for (int i = 0; i < ROWS; ++i) parts[(gate * ROWS + i) * hidden + unit] = sum[i];
        }
        __syncthreads();
    }
    if (!works) return;
#pragma unroll
    for (int k = 0; k < G; ++k) my_dh += parts[(k * ROWS + r) * hidden + j];
    dh[mine] = my_dh;
    if (M == LSTM) dc[mine] = my_dc;
}

// --- All steps in one launch, with weights on all multiprocessors -------------------------------
// Block x keeps the weights of `units` units in shared memory from step to step; 64 threads a unit
// take 64 samples at a time. A step needs the states of all units, so between two steps all blocks
// meet. A launch makes the steps from `first` to `last` - 1.

#define SAMPLES 64
#define WIDTH 32

// Numbers of 64 samples, from column q0 on, 32 of each; rows are an odd number apart.
template <class T>
__device__ __forceinline__ void fetch(float* tile, const T* from, int rows, int cols, int q0) {
    __syncthreads();
    for (int i = threadIdx.x; i < SAMPLES * WIDTH; i += blockDim.x) {
        const int r = i / WIDTH, q = i % WIDTH;
        const bool inside = r < rows && q0 + q < cols;
        tile[r * (WIDTH + 1) + q] = inside ? mg_float(from[(long long)r * cols + q0 + q]) : 0.f;
    }
    __syncthreads();
}

template <class T, int M>
__global__ void __launch_bounds__(1024)
    persist(T* gates, const T* __restrict__ weight, const T* __restrict__ outer,
            const T* __restrict__ inner, T* h, T* c, T* n, const int* __restrict__ lengths,
            unsigned* meeting, int first, int last, int batch, int hidden, int units) {
    constexpr int G = GATES(M);
    extern __shared__ __align__(16) unsigned char room[];
    float* tile = (float*)room;                       // (64, 33)
    T* rows = (T*)(tile + SAMPLES * (WIDTH + 1));     // (G, units, hidden)
    const int r = threadIdx.x % SAMPLES, own = threadIdx.x / SAMPLES, begin = blockIdx.x * units;
    const int j = begin + own;
    for (int i = threadIdx.x; i < G * units * hidden; i += blockDim.x) {
        const int gate = i / hidden / units, unit = begin + i / hidden % units;
        if (unit < hidden) rows[i] = weight[((long long)gate * hidden + unit) * hidden + i % hidden];
    }
    const Layer<T> k = {gates, h, c, n, nullptr, inner, outer, lengths, batch, hidden};
    for (int t = first; t < last; ++t) {
        for (int b0 = 0; b0 < batch; b0 += SAMPLES) {
            const int b = b0 + r;
            const bool works = b < batch && j < hidden;
            const long long row = (long long)t * batch + b, at = row * hidden + j;
            float a[4], u[4] = {};
            if (works) shares<T, M>(k, row, j, a);
            for (int q0 = 0; q0 < hidden; q0 += WIDTH) {
                fetch(tile, h + ((long long)t * batch + b0) * hidden, batch - b0, hidden, q0);
                for (int q = 0; works && q < min(WIDTH, hidden - q0); ++q) {
                    const float state = tile[r * (WIDTH + 1) + q];
#pragma unroll
                    for (int g = 0; g < G; ++g)
                        u[g] = fmaf(mg_float(rows[(g * units + own) * hidden + q0 + q]), state, u[g]);
                }
            }
            if (works) {
                float old_h = M == GRU || lengths ? mg_float(h[at]) : 0.f;
                float old_c = M == LSTM ? mg_float(c[at]) : 0.f;
                finish<T, M>(k, t, b, j, a, u, old_h, old_c);
            }
        }
        if (t + 1 < last) mg_meet(meeting);
    }
}

// The way back: a block keeps the columns of its units. dh and dc, in float, are carried in memory;
// what step 0 sends through the weights is left to the caller.
template <class T, int M>
__global__ void __launch_bounds__(1024)
    persist_back(const T* __restrict__ g, const T* __restrict__ weight,
                 const T* __restrict__ gates, const T* __restrict__ h, const T* __restrict__ c,
                 const T* __restrict__ n, const int* __restrict__ lengths, float* dh, float* dc,
                 T* da, T* du, unsigned* meeting, int first, int last, int steps, int batch,
                 int hidden, int units) {
    constexpr int G = GATES(M);
    extern __shared__ __align__(16) unsigned char room[];
    float* tile = (float*)room;                       // (64, 33)
    T* columns = (T*)(tile + SAMPLES * (WIDTH + 1));  // (units, G hidden)
    const int rows = G * hidden, begin = blockIdx.x * units;
    const int r = threadIdx.x % SAMPLES, own = threadIdx.x / SAMPLES, j = begin + own;
    for (int i = threadIdx.x; i < units * rows; i += blockDim.x) {
        const int unit = i % units, row = i / units;
        if (begin + unit < hidden)
            columns[unit * rows + row] = weight[(long long)row * hidden + begin + unit];
    }
    const T* flow = M == GRU ? du : da;
    for (int t = last - 1; t >= first; --t) {
        for (int b0 = 0; b0 < batch; b0 += SAMPLES) {
            const int b = b0 + r;
            const bool works = b < batch && j < hidden;
            const long long i = (long long)b * hidden + j;
            float sum = 0.f;
            for (int q0 = 0; t + 1 < steps && q0 < rows; q0 += WIDTH) {
                fetch(tile, flow + ((t + 1ll) * batch + b0) * rows, batch - b0, rows, q0);
                for (int q = 0; works && q < min(WIDTH, rows - q0); ++q)
                    sum = fmaf(mg_float(columns[own * rows + q0 + q]), tile[r * (WIDTH + 1) + q], sum);
            }
            if (!works) continue;
            Saved<T, M> s;
            s.load(gates, h, c, n, g + (long long)t * batch * hidden, t, b, j, batch, hidden);
            float dh_here = dh[i] + sum, dc_here = M == LSTM ? dc[i] : 0.f;
            s.back(lengths && t >= lengths[b], dh_here, dc_here);
            s.store(da, du, (long long)t * batch + b, j, hidden);
            dh[i] = dh_here;
            if (M == LSTM) dc[i] = dc_here;
        }
        if (t > first) mg_meet(meeting);
    }
}
