// The vector and half types of CUDA, as far as the kernels use them: no toolkit is needed.
#pragma once
#include <cstdint>
#include <cstring>

#define MG_VECTOR(T, E, A2, A4)                                  \
    struct alignas(A2) T##2 { E x, y; };                         \
    struct T##3 { E x, y, z; };                                  \
    struct alignas(A4) T##4 { E x, y, z, w; };                   \
    inline T##2 make_##T##2(E x, E y) { return {x, y}; }         \
    inline T##3 make_##T##3(E x, E y, E z) { return {x, y, z}; } \
    inline T##4 make_##T##4(E x, E y, E z, E w) { return {x, y, z, w}; }
MG_VECTOR(float, float, 8, 16)
MG_VECTOR(double, double, 16, 16)
MG_VECTOR(int, int, 8, 16)
MG_VECTOR(uint, unsigned, 8, 16)
#undef MG_VECTOR

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct __half {
    _Float16 v;
};
struct alignas(4) __half2 {
    __half x, y;
};
struct __nv_bfloat16 {
    uint16_t v;
};
inline float __half2float(__half x) { return (float)x.v; }
inline __half __float2half(float x) { return {(_Float16)x}; }
inline __half __hadd(__half a, __half b) { return __float2half((float)a.v + (float)b.v); }
inline __half2 __hadd2(__half2 a, __half2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }
inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t bits = (uint32_t)x.v << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}
inline __nv_bfloat16 __float2bfloat16(float x) {  // to nearest, ties to even
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return {0x7fff};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline __nv_bfloat16 __hadd(__nv_bfloat16 a, __nv_bfloat16 b) {
    return __float2bfloat16(__bfloat162float(a) + __bfloat162float(b));
}
