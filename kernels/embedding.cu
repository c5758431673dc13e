// The gradient of a table of rows: equal indices lie side by side after a sort, so a row's sum is
// one warp's work, in a fixed order, without atomics.
#include "mg.cuh"

// out[to[r]] = sum of g[order[k]] over the run of equal keys that starts at r. A warp (threadIdx.y)
// whose r is not the start of a run has nothing to do.
template <class T, int V>
__global__ void sum_runs(const T* __restrict__ g, const long long* __restrict__ order,
                         const long long* __restrict__ keys, const long long* __restrict__ to,
                         T* __restrict__ out, long long count, int cols) {
    const long long r = mg_row_number();
    if (r >= count) return;
    const long long key = keys[r];
    if (r > 0 && keys[r - 1] == key) return;
    const int n = cols / V;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < n; i += gridDim.y * blockDim.x) {
        float sum[V] = {};
        for (long long k = r; k < count && keys[k] == key; ++k) {
            const Pack<T, V> p = ((const Pack<T, V>*)(g + order[k] * cols))[i];
#pragma unroll
            for (int j = 0; j < V; ++j) sum[j] += mg_float(p.at[j]);
        }
        Pack<T, V> p;
#pragma unroll
        for (int j = 0; j < V; ++j) p.at[j] = mg_to<T>(sum[j]);
        ((Pack<T, V>*)(out + to[r] * cols))[i] = p;
    }
}

// The same for graphs, in which nothing can be sorted: out[r] = sum of g[k] over all k with
// keys[k] == r. A warp for a row of the table, and 128 loads of it, looks at all keys, 32 at a time.
template <class T, int V>
__global__ void sum_found(const T* __restrict__ g, const long long* __restrict__ keys,
                          T* __restrict__ out, long long size, long long count, int cols) {
    const long long r = mg_row_number();
    if (r >= size) return;
    const int n = cols / V, first = blockIdx.y * 128 + threadIdx.x;
    float sum[4][V] = {};
    for (long long k0 = 0; k0 < count; k0 += 32) {
        const bool mine = k0 + threadIdx.x < count && keys[k0 + threadIdx.x] == r;
        for (unsigned found = __ballot_sync(MG_ALL, mine); found; found &= found - 1) {
            const T* row = g + (k0 + __ffs(found) - 1) * cols;
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                if (first + 32 * s >= n) continue;
                const Pack<T, V> p = ((const Pack<T, V>*)row)[first + 32 * s];
#pragma unroll
                for (int j = 0; j < V; ++j) sum[s][j] += mg_float(p.at[j]);
            }
        }
    }
#pragma unroll
    for (int s = 0; s < 4; ++s) {
        if (first + 32 * s >= n) continue;
        Pack<T, V> p;
#pragma unroll
        for (int j = 0; j < V; ++j) p.at[j] = mg_to<T>(sum[s][j]);
        ((Pack<T, V>*)(out + r * cols))[first + 32 * s] = p;
    }
}
