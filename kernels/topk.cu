// The first k of each row, in order: a block of 256 threads a row. A radix select finds the k-th
// key eight bits at a time; what lies before it is collected and sorted in shared memory.
#include "mg.cuh"

typedef unsigned long long Key;

// A number's bits as an unsigned number of the same order. NaN is the largest, -0 is 0.
__device__ __forceinline__ unsigned ordered(float v, int ascend) {
    unsigned bits = __float_as_uint(v);
    if (bits == 0x80000000u) bits = 0;  // by its bits, for sums would lose numbers below 1e-38
    const unsigned up = v != v ? 0xffffffffu : bits >> 31 ? ~bits : bits | 0x80000000u;
    return ascend ? ~up : up;
}

// index and value are (rows, k), of which value may be null. k <= size, a power of two. The dynamic
// shared memory has `size` keys and, if `staged`, room for the bits of a row, which is then read
// once.
template <class T>
__global__ void __launch_bounds__(256)
    topk(const T* __restrict__ x, int* __restrict__ index, T* __restrict__ value, int cols, int k,
         int size, int ascend, int staged) {
    extern __shared__ __align__(8) unsigned char room[];
    __shared__ int counts[256];
    __shared__ int digit, left, whole, found;
    Key* chosen = (Key*)room;
    unsigned* bits = (unsigned*)(chosen + size);
    const T* row = x + blockIdx.x * (long long)cols;
    const int tid = threadIdx.x;
    // no two keys are equal: of equal numbers the lower index comes first
    auto key = [&](int i) {
        const unsigned high = staged ? bits[i] : ordered(mg_float(row[i]), ascend);
        return (Key)high << 32 | (unsigned)~i;
    };
    if (staged)
        for (int i = tid; i < cols; i += 256) bits[i] = ordered(mg_float(row[i]), ascend);
    for (int i = tid; i < size; i += 256) chosen[i] = 0;
    if (tid == 0) found = 0;
    Key bound = 0;  // the digits of the k-th key, as far as they are known
    int need = k;   // how many are wanted of the keys that begin with them
    for (int shift = 56;; shift -= 8) {
        counts[tid] = 0;
        __syncthreads();
        for (int i = tid; i < cols; i += 256) {
            const Key c = key(i);
            if (shift == 56 || c >> (shift + 8) == bound >> (shift + 8))
                atomicAdd(&counts[c >> shift & 255], 1);
        }
        __syncthreads();
        if (tid < 32) {  // eight bins a lane, the highest first
            int mine = 0, before;
            for (int j = 0; j < 8; ++j) mine += counts[255 - tid * 8 - j];
            int upto = mine;
            for (int o = 1; o < 32; o <<= 1) {
                const int v = __shfl_up_sync(MG_ALL, upto, o);
                if (tid >= o) upto += v;
            }
            before = upto - mine;
            if (before < need && need <= upto) {
                int bin = 255 - tid * 8;
                while (before + counts[bin] < need) before += counts[bin--];
                digit = bin;
                left = need - before;
                whole = counts[bin] == left;
            }
        }
        __syncthreads();
        bound |= (Key)digit << shift;
        need = left;
        if (whole || shift == 0) break;  // all that begin so belong to the first k
    }
    for (int i = tid; i < cols; i += 256) {
        const Key c = key(i);
        if (c >= bound) chosen[atomicAdd(&found, 1)] = c;
    }
    __syncthreads();
    for (int run = 2; run <= size; run <<= 1)  // a bitonic network, the largest first
        for (int reach = run / 2; reach > 0; reach >>= 1) {
            for (int i = tid; i < size / 2; i += 256) {
                const int a = 2 * i - (i & (reach - 1)), b = a + reach;
                const Key u = chosen[a], v = chosen[b];
                if ((u < v) == ((a & run) == 0)) {
                    chosen[a] = v;
                    chosen[b] = u;
                }
            }
            __syncthreads();
        }
    for (int i = tid; i < k; i += 256) {
        const int at = (int)~(unsigned)chosen[i];
        index[blockIdx.x * (long long)k + i] = at;
        if (value) value[blockIdx.x * (long long)k + i] = row[at];
    }
}
