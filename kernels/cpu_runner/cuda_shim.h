// Enough of CUDA C++ to run an (almost) unchanged .cu file on the CPU, one OS thread, threads of a
// block = fibers. The Python side (minigluon/cuda_on_cpu.py) includes this before the .cu text and
// rewrites only `__shared__` declarations.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include "cuda_types.h"

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#undef __align__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define MG_CPU_SHIM 1
#define __CUDA_ARCH__ 900

#define MG_RT \
    __attribute__((no_sanitize("thread")))  // runtime code: never instrumented in check mode

namespace mg {
struct Thread {
    uint3 t;
    unsigned tid, lane, warp;
};
extern Thread* cur;
extern uint3 g_bid;
extern dim3 g_bdim, g_gdim;
MG_RT inline uint3 tidx() { return cur->t; }
MG_RT inline uint3 bidx() { return g_bid; }
MG_RT inline dim3 bdim() { return g_bdim; }
MG_RT inline dim3 gdim() { return g_gdim; }
struct Slot {
    int id = -1;
};
void* smem(Slot& s, size_t bytes, size_t elem, const char* name);  // one __shared__ variable
void* dyn_smem();
int sync(int kind, int pred, int line);  // 0 plain, 1 count, 2 and, 3 or
enum { SHFL, BALLOT, SYNCWARP, ANY, ALL, REDUCE, MMA };
struct Ex {
    const uint64_t* v;
    unsigned who;
};
Ex exchange(unsigned mask, uint64_t v, int op,
            int line);                   // all lanes of mask meet; returns everybody's value
uint64_t dead_lane(int lane, int line);  // value read from a lane that did not take part
void note_atomic(const void* p, size_t n, void* pc);
void fence(int level);

template <class T>
MG_RT inline T shfl(unsigned mask, T v, int src, int line) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "");
    uint64_t b = 0;
    std::memcpy(&b, &v, sizeof(T));
    Ex e = exchange(mask, b, SHFL, line);
    uint64_t r = (e.who >> src & 1) ? e.v[src] : dead_lane(src, line);
    T out;
    std::memcpy(&out, &r, sizeof(T));
    return out;
}
template <class T>
MG_RT inline T shfl_idx(unsigned m, T v, int s, int w, int line) {
    int l = cur->lane;
    return shfl(m, v, (l & ~(w - 1)) | (s & (w - 1)), line);
}
template <class T>
MG_RT inline T shfl_up(unsigned m, T v, unsigned d, int w, int line) {
    int l = cur->lane, s = l - (int)d;
    return shfl(m, v, s < (l & ~(w - 1)) ? l : s, line);
}
template <class T>
MG_RT inline T shfl_down(unsigned m, T v, unsigned d, int w, int line) {
    int l = cur->lane, s = l + (int)d;
    return shfl(m, v, s > (l | (w - 1)) ? l : s, line);
}
template <class T>
MG_RT inline T shfl_xor(unsigned m, T v, int x, int w, int line) {
    int l = cur->lane, s = l ^ x;
    return shfl(m, v, s > (l | (w - 1)) ? l : s, line);
}
MG_RT inline unsigned ballot(unsigned m, int p, int line) {
    Ex e = exchange(m, p != 0, BALLOT, line);
    unsigned r = 0;
    for (int i = 0; i < 32; ++i)
        if ((e.who >> i & 1) && e.v[i]) r |= 1u << i;
    return r;
}
template <class T, class F>
MG_RT inline T warp_reduce(unsigned m, T v, F f, int line) {
    Ex e = exchange(m, (uint64_t)v, REDUCE, line);
    T r{};
    bool first = true;
    for (int i = 0; i < 32; ++i)
        if (e.who >> i & 1) {
            r = first ? (T)e.v[i] : f(r, (T)e.v[i]);
            first = false;
        }
    return r;
}
template <class T, class F>
MG_RT inline T rmw(T* p, void* pc, F f) {
    note_atomic(p, sizeof(T), pc);
    T old = *p;
    *p = f(old);
    return old;
}

// launching: arguments come as an array of pointers, exactly as cuLaunchKernel takes them
template <class F, class... A, size_t... I>
MG_RT inline void call(F f, void** a, void (*)(A...), std::index_sequence<I...>) {
    f(*reinterpret_cast<std::remove_cv_t<A>*>(a[I])...);
}
template <class... A>
MG_RT inline void call(void (*f)(A...), void** a) {
    call(f, a, f, std::index_sequence_for<A...>{});
}
template <class T>
inline void desc1(char* o) {
    if constexpr (std::is_pointer_v<T>) {
        using E = std::remove_pointer_t<T>;
        if (std::is_const_v<E>) strcat(o, "c");
        if constexpr (std::is_void_v<E>)
            strcat(o, "v1");
        else
            desc1<std::remove_cv_t<E>>(o);
        strcat(o, "*");
    } else {
        char b[16];
        char k = std::is_same_v<T, bool>            ? 'b'
                 : std::is_same_v<T, __half>        ? 'f'
                 : std::is_same_v<T, __nv_bfloat16> ? 'B'
                 : std::is_floating_point_v<T>      ? 'f'
                 : std::is_integral_v<T>            ? (std::is_signed_v<T> ? 'i' : 'u')
                                                    : 's';
        snprintf(b, sizeof b, "%c%d", k, (int)sizeof(T));
        strcat(o, b);
    }
}
template <class... A>
inline void desc(void (*)(A...), char* o) {
    ((desc1<std::remove_cv_t<A>>(o), strcat(o, ",")), ...);
}
}  // namespace mg

#define threadIdx (mg::tidx())
#define blockIdx (mg::bidx())
#define blockDim (mg::bdim())
#define gridDim (mg::gdim())
#define warpSize 32
#define __syncthreads() ((void)mg::sync(0, 0, __LINE__))
#define __syncthreads_count(p) mg::sync(1, (p), __LINE__)
#define __syncthreads_and(p) mg::sync(2, (p), __LINE__)
#define __syncthreads_or(p) mg::sync(3, (p), __LINE__)
#define MG_PICK(_1, _2, _3, _4, N, ...) N
#define __shfl_sync(...) MG_PICK(__VA_ARGS__, mg_s4, mg_s3)(shfl_idx, __VA_ARGS__)
#define __shfl_up_sync(...) MG_PICK(__VA_ARGS__, mg_s4, mg_s3)(shfl_up, __VA_ARGS__)
#define __shfl_down_sync(...) MG_PICK(__VA_ARGS__, mg_s4, mg_s3)(shfl_down, __VA_ARGS__)
#define __shfl_xor_sync(...) MG_PICK(__VA_ARGS__, mg_s4, mg_s3)(shfl_xor, __VA_ARGS__)
#define mg_s3(f, m, v, s) mg::f(m, v, s, 32, __LINE__)
#define mg_s4(f, m, v, s, w) mg::f(m, v, s, w, __LINE__)
#define __ballot_sync(m, p) mg::ballot(m, p, __LINE__)
#define __any_sync(m, p) (mg::ballot(m, p, __LINE__) != 0)
#define __all_sync(m, p) (mg::ballot(m, !(p), __LINE__) == 0)
#define __syncwarp(...) \
    ((void)mg::exchange(mg::mask_or_full(__VA_ARGS__), 0, mg::SYNCWARP, __LINE__))
namespace mg {
inline unsigned mask_or_full(unsigned m = 0xffffffffu) { return m; }
}  // namespace mg
#define __reduce_add_sync(m, v) \
    mg::warp_reduce(m, v, [](auto a, auto b) { return a + b; }, __LINE__)
#define __reduce_max_sync(m, v) \
    mg::warp_reduce(m, v, [](auto a, auto b) { return a > b ? a : b; }, __LINE__)
#define __reduce_min_sync(m, v) \
    mg::warp_reduce(m, v, [](auto a, auto b) { return a < b ? a : b; }, __LINE__)
#define __threadfence_block() mg::fence(0)
#define __threadfence() mg::fence(1)

#ifdef MG_CHECK
#define MG_ATOM                    \
    MG_RT __attribute__((noinline, \
                         unused)) static  // so that the return address is the kernel's line
#else
#define MG_ATOM inline
#endif
#define MG_ATOMIC(T)                                                                     \
    MG_ATOM T atomicAdd(T* p, T v) {                                                     \
        return mg::rmw(p, __builtin_return_address(0), [=](T o) { return (T)(o + v); }); \
    }                                                                                    \
    MG_ATOM T atomicExch(T* p, T v) {                                                    \
        return mg::rmw(p, __builtin_return_address(0), [=](T) { return v; });            \
    }
#define MG_ATOMIC_I(T)                                                                       \
    MG_ATOMIC(T)                                                                             \
    MG_ATOM T atomicSub(T* p, T v) {                                                         \
        return mg::rmw(p, __builtin_return_address(0), [=](T o) { return (T)(o - v); });     \
    }                                                                                        \
    MG_ATOM T atomicMax(T* p, T v) {                                                         \
        return mg::rmw(p, __builtin_return_address(0), [=](T o) { return o > v ? o : v; });  \
    }                                                                                        \
    MG_ATOM T atomicMin(T* p, T v) {                                                         \
        return mg::rmw(p, __builtin_return_address(0), [=](T o) { return o < v ? o : v; });  \
    }                                                                                        \
    MG_ATOM T atomicAnd(T* p, T v) {                                                         \
        return mg::rmw(p, __builtin_return_address(0), [=](T o) { return (T)(o & v); });     \
    }                                                                                        \
    MG_ATOM T atomicOr(T* p, T v) {                                                          \
        return mg::rmw(p, __builtin_return_address(0), [=](T o) { return (T)(o | v); });     \
    }                                                                                        \
    MG_ATOM T atomicCAS(T* p, T c, T v) {                                                    \
        return mg::rmw(p, __builtin_return_address(0), [=](T o) { return o == c ? v : o; }); \
    }
MG_ATOMIC(float)
MG_ATOMIC(double) MG_ATOMIC_I(int) MG_ATOMIC_I(unsigned)
    MG_ATOMIC_I(unsigned long long) MG_ATOM __half atomicAdd(__half* p, __half v) {
    return mg::rmw(p, __builtin_return_address(0), [=](__half o) { return __hadd(o, v); });
}
MG_ATOM __half2 atomicAdd(__half2* p, __half2 v) {
    return mg::rmw(p, __builtin_return_address(0), [=](__half2 o) { return __hadd2(o, v); });
}
MG_ATOM __nv_bfloat16 atomicAdd(__nv_bfloat16* p, __nv_bfloat16 v) {
    return mg::rmw(p, __builtin_return_address(0), [=](__nv_bfloat16 o) { return __hadd(o, v); });
}
MG_ATOM unsigned atomicInc(unsigned* p, unsigned m) {
    return mg::rmw(p, __builtin_return_address(0), [=](unsigned o) { return o >= m ? 0u : o + 1; });
}

// intrinsics: the "approximate" ones are exact here, so comparisons against the GPU need a
// tolerance
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1.f / sqrtf(x); }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline double rsqrt(double x) { return 1. / sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __saturatef(float x) { return x < 0.f ? 0.f : x > 1.f ? 1.f : x; }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
inline int __float_as_int(float f) {
    int i;
    memcpy(&i, &f, 4);
    return i;
}
inline unsigned __float_as_uint(float f) {
    unsigned i;
    memcpy(&i, &f, 4);
    return i;
}
inline float __int_as_float(int i) {
    float f;
    memcpy(&f, &i, 4);
    return f;
}
inline float __uint_as_float(unsigned i) {
    float f;
    memcpy(&f, &i, 4);
    return f;
}
inline long long __double_as_longlong(double d) {
    long long i;
    memcpy(&i, &d, 8);
    return i;
}
inline double __longlong_as_double(long long i) {
    double d;
    memcpy(&d, &i, 8);
    return d;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
inline int __float2int_rz(float x) { return (int)x; }
template <class T>
inline T __ldg(const T* p) {
    return *p;
}
template <class T>
inline T __ldcs(const T* p) {
    return *p;
}
template <class T>
inline void __stcs(T* p, T v) {
    *p = v;
}
using std::erf;
using std::exp;
using std::fma;
using std::isinf;
using std::isnan;
using std::log;
using std::max;
using std::min;
using std::sqrt;
using std::tanh;
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
// ---- the PTX instructions of mg_ptx.cuh: same names, same fragment layouts
// ------------------------------------------------
namespace mg {
struct Cp {
    void* d;
    const void* s;
    bool ok;
    int group;
};
struct CpQ {
    Cp q[256];
    int n = 0, group = 0;
};
CpQ& cpq();  // of the current thread; emptied at the start of each block
}  // namespace mg
inline void mg_copy16(void* d, const void* s) { *(uint4*)d = *(const uint4*)s; }
inline void mg_zero16(void* d) { *(uint4*)d = make_uint4(0, 0, 0, 0); }
MG_RT inline void mg_cp_async16(void* d, const void* s, bool ok) {
    mg::CpQ& c = mg::cpq();
    if (c.n == 256) abort();
    c.q[c.n++] = {d, s, ok, c.group};
}
MG_RT inline void mg_cp_async_commit() { ++mg::cpq().group; }
template <int N>
MG_RT inline void mg_cp_async_wait() {  // nothing is copied before the wait that guarantees it
    mg::CpQ& c = mg::cpq();
    int k = 0;
    for (int i = 0; i < c.n; ++i)
        if (c.q[i].group < c.group - N) {
            if (c.q[i].ok)
                mg_copy16(c.q[i].d, c.q[i].s);
            else
                mg_zero16(c.q[i].d);
        } else
            c.q[k++] = c.q[i];
    c.n = k;
}
inline unsigned mg_ld4(const char* p) { return *(const unsigned*)p; }
MG_RT inline void mg_ldmatrix_x4(unsigned (&r)[4], const void* smem) {
    mg::Ex e = mg::exchange(0xffffffffu, (uint64_t)smem, mg::MMA, __LINE__);
    const char* row[4];
    int l = mg::cur->lane;
    for (int j = 0; j < 4; ++j) row[j] = (const char*)e.v[j * 8 + l / 4];
    for (int j = 0; j < 4; ++j) r[j] = mg_ld4(row[j] + (l & 3) * 4);
}
inline unsigned short mg_ld2(const char* p) { return *(const unsigned short*)p; }
MG_RT inline void mg_ldmatrix_x4_trans(unsigned (&r)[4], const void* smem) {
    mg::Ex e = mg::exchange(0xffffffffu, (uint64_t)smem, mg::MMA, __LINE__);
    int l = mg::cur->lane, at = (l >> 2) * 2;  // this lane gets rows 2 (l % 4) and the next, column l / 4
    for (int j = 0; j < 4; ++j) {
        const char* row = (const char*)e.v[j * 8 + (l & 3) * 2];
        const char* next = (const char*)e.v[j * 8 + (l & 3) * 2 + 1];
        r[j] = mg_ld2(row + at) | (unsigned)mg_ld2(next + at) << 16;
    }
}
MG_RT inline float mg_bf(uint64_t v, int i) {
    return __uint_as_float((unsigned)(v >> 16 * i & 0xffff) << 16);
}
template <class F>
MG_RT inline void mg_mma_of(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, F number) {
    int l = mg::cur->lane, g = l >> 2, t = l & 3;
    float A[2][16], B[2][16];  // rows g and g+8 of A; columns 2t and 2t+1 of B
    auto pack = [](unsigned lo, unsigned hi) { return (uint64_t)hi << 32 | lo; };
    mg::Ex e = mg::exchange(0xffffffffu, pack(a[0], a[2]), mg::MMA, __LINE__);
    for (int q = 0; q < 4; ++q)
        for (int i = 0; i < 4; ++i) A[0][q * 2 + (i & 1) + (i >> 1) * 8] = number(e.v[g * 4 + q], i);
    e = mg::exchange(0xffffffffu, pack(a[1], a[3]), mg::MMA, __LINE__);
    for (int q = 0; q < 4; ++q)
        for (int i = 0; i < 4; ++i) A[1][q * 2 + (i & 1) + (i >> 1) * 8] = number(e.v[g * 4 + q], i);
    e = mg::exchange(0xffffffffu, pack(b0, b1), mg::MMA, __LINE__);
    for (int n = 0; n < 2; ++n)
        for (int q = 0; q < 4; ++q)
            for (int i = 0; i < 4; ++i)
                B[n][q * 2 + (i & 1) + (i >> 1) * 8] = number(e.v[(2 * t + n) * 4 + q], i);
    for (int h = 0; h < 2; ++h)
        for (int n = 0; n < 2; ++n) {
            float s = 0;
            for (int k = 0; k < 16; ++k) s += A[h][k] * B[n][k];
            d[h * 2 + n] += s;
        }
}
MG_RT inline void mg_mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    mg_mma_of(d, a, b0, b1, mg_bf);
}
MG_RT inline float mg_fp(uint64_t v, int i) {
    const uint16_t bits = (uint16_t)(v >> 16 * i);
    __half h;
    memcpy(&h, &bits, 2);
    return __half2float(h);
}
MG_RT inline void mg_mma_fp16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    mg_mma_of(d, a, b0, b1, mg_fp);
}
#ifndef INFINITY_ALLOWED
#undef INFINITY  // NVRTC has neither of them: use __int_as_float(0x7f800000)
#undef NAN
#endif
