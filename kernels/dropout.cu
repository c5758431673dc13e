// Dropout whose mask is never stored: a number's fate is a function of the key and of its place.
#include "mg.cuh"

// Philox 4x32-10 of Salmon et al., 2011: four random words for a counter of 128 bits.
__device__ __forceinline__ void philox(unsigned key0, unsigned key1, unsigned long long counter,
                                       unsigned (&out)[4]) {
    unsigned a = (unsigned)counter, b = (unsigned)(counter >> 32), c = 0, d = 0;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned h0 = __umulhi(0xD2511F53u, a), l0 = 0xD2511F53u * a;
        const unsigned h1 = __umulhi(0xCD9E8D57u, c), l1 = 0xCD9E8D57u * c;
        a = h1 ^ b ^ key0;
        c = h0 ^ d ^ key1;
        b = l1;
        d = l0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

// y = x scale where the word of the place is at least `bound`, else 0. Four numbers a counter; V is
// 4 or 1, and does not change which numbers stay.
template <class T, int V>
__global__ void dropout(const T* __restrict__ x, T* __restrict__ y,
                        const unsigned* __restrict__ key, long long n, unsigned bound,
                        float scale) {
    const unsigned key0 = key[0], key1 = key[1];
    const long long quads = (n + 3) / 4;
    for (long long q = blockIdx.x * (long long)blockDim.x + threadIdx.x; q < quads;
         q += gridDim.x * (long long)blockDim.x) {
        unsigned word[4];
        philox(key0, key1, (unsigned long long)q, word);
        if (V == 4) {
            Pack<T, 4> p = ((const Pack<T, 4>*)x)[q];
#pragma unroll
            for (int j = 0; j < 4; ++j)
                p.at[j] = mg_to<T>(word[j] >= bound ? mg_float(p.at[j]) * scale : 0.f);
            ((Pack<T, 4>*)y)[q] = p;
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (q * 4 + j < n)
                    y[q * 4 + j] =
                        mg_to<T>(word[j] >= bound ? mg_float(x[q * 4 + j]) * scale : 0.f);
        }
    }
}
