// Every PTX instruction that the kernels use, one tiny function each. On the CPU the runner
// supplies functions of the same names.
#pragma once
#ifndef MG_CPU_SHIM
// 16 bytes from global to shared memory, in the background; zeros where `valid` is false.
__device__ __forceinline__ void mg_cp_async16(void* smem, const void* gmem, bool valid) {
    const unsigned d = (unsigned)__cvta_generic_to_shared(smem);
    const int n = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(d), "l"(gmem), "r"(n));
}
__device__ __forceinline__ void mg_cp_async_commit() { asm volatile("cp.async.commit_group;\n"); }
template <int N>
__device__ __forceinline__ void mg_cp_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}
// Four 8 by 8 matrices of 16-bit numbers from shared memory, spread over the warp.
__device__ __forceinline__ void mg_ldmatrix_x4(unsigned (&r)[4], const void* smem) {
    const unsigned a = (unsigned)__cvta_generic_to_shared(smem);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
}
// The same matrices transposed.
__device__ __forceinline__ void mg_ldmatrix_x4_trans(unsigned (&r)[4], const void* smem) {
    const unsigned a = (unsigned)__cvta_generic_to_shared(smem);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
}
// d += a b, with a 16 by 16, b 16 by 8, by the tensor cores; sums in float.
__device__ __forceinline__ void mg_mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                            unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mg_mma_fp16(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                            unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
__device__ __forceinline__ void mg_mma(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                       unsigned b1, __nv_bfloat16) {
    mg_mma_bf16(d, a, b0, b1);
}
__device__ __forceinline__ void mg_mma(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                       unsigned b1, __half) {
    mg_mma_fp16(d, a, b0, b1);
}

// Tiles in shared memory: 64 rows of 32 numbers. Rows are 40 apart: 80 bytes, a multiple of 16, and
// eight rows lie in different banks for ldmatrix.
#define MG_LD 40

// All products of a warp's fragments: 16 columns of two times 16 rows with two times 16.
template <class T>
__device__ __forceinline__ void mg_fragments(const unsigned (&a)[2][4], const unsigned (&b)[2][4],
                                             float (&acc)[2][4][4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
            mg_mma(acc[i][j], a[i], b[j >> 1][(j & 1) * 2], b[j >> 1][(j & 1) * 2 + 1], T{});
}

// A warp's 32 by 32 part, at (wm, wn), of the product of a tile and the other transposed.
template <class T>
__device__ __forceinline__ void mg_multiply(const T (*as)[MG_LD], const T (*bs)[MG_LD], int wm,
                                            int wn, int lane, float (&acc)[2][4][4]) {
#pragma unroll
    for (int kk = 0; kk < 32; kk += 16) {
        unsigned a[2][4], b[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            mg_ldmatrix_x4(a[i], &as[wm + i * 16 + (lane & 15)][kk + (lane >> 4) * 8]);
            mg_ldmatrix_x4(
                b[i], &bs[wn + i * 16 + (lane >> 4) * 8 + (lane & 7)][kk + ((lane >> 3) & 1) * 8]);
        }
        mg_fragments<T>(a, b, acc);
    }
}

// Tiles that lie the other way: 32 rows of 64 numbers, 72 apart, the sum runs over the rows.
#define MG_LD_DEEP 72
template <class T>
__device__ __forceinline__ void mg_multiply_deep(const T (*as)[MG_LD_DEEP],
                                                 const T (*bs)[MG_LD_DEEP], int wm, int wn,
                                                 int lane, float (&acc)[2][4][4]) {
#pragma unroll
    for (int kk = 0; kk < 32; kk += 16) {
        const int high = (lane >> 4) * 8, middle = ((lane >> 3) & 1) * 8, row = kk + (lane & 7);
        unsigned a[2][4], b[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            mg_ldmatrix_x4_trans(a[i], &as[row + high][wm + i * 16 + middle]);
            mg_ldmatrix_x4_trans(b[i], &bs[row + middle][wn + i * 16 + high]);
        }
        mg_fragments<T>(a, b, acc);
    }
}
