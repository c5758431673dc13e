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
