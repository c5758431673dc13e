// Recurrent layers: one call takes a batch through all steps, forwards or backwards.
// Arrays are float, C-contiguous, as chapter 96d keeps them: gates (T, N, G H); h, c (T + 1, N, H); un (T, N, H).
#include "loops.h"

// OpenBLAS's product C = A B + beta C of row-major matrices, as NumPy brings it along.
#ifndef BLAS_INT
#define BLAS_INT int64_t
#endif
typedef void (*gemm_t)(int, int, int, BLAS_INT, BLAS_INT, BLAS_INT, float, const float *, BLAS_INT, const float *, BLAS_INT,
                       float, float *, BLAS_INT);
enum { ROWS = 101, AS_IT_IS = 111 };

enum Mode { RELU, TANH, LSTM, GRU };
static constexpr int GATES[] = {1, 1, 4, 3};

// C (m, n) = A (m, k) B (k, n) + beta C in `pieces` blocks of columns: OpenBLAS reads small matrices where they lie.
static void product(gemm_t gemm, size pieces, size m, size k, size n, const float *a, const float *b, float beta, float *c) {
    size w = n / pieces;
    for (size i = 0; i < n; i += w)
        gemm(ROWS, AS_IT_IS, AS_IT_IS, m, w, k, 1, a, k, b + i, n, beta, c + i, n);
}

// One sample's step. a: what the inputs give to the gates, later the gates; u: what the state gives (RNN, LSTM: within a).
template <int mode>
static void step(size H, float *a, const float *u, const float *b, const float *b_n, const float *h, const float *c,
                 float *un, float *new_h, float *new_c) {
    EACH(j, H) {
        if (mode == RELU || mode == TANH) {
            float s = a[j] + b[j];
            new_h[j] = mode == TANH ? tanh_of(s) : s < 0 ? 0 : s;  // NaN stays NaN
        } else if (mode == LSTM) {
            float i = sigmoid_of(a[j] + b[j]), f = sigmoid_of(a[H + j] + b[H + j]);
            float g = tanh_of(a[2 * H + j] + b[2 * H + j]), o = sigmoid_of(a[3 * H + j] + b[3 * H + j]);
            a[j] = i, a[H + j] = f, a[2 * H + j] = g, a[3 * H + j] = o;
            float s = f * c[j] + i * g;
            new_c[j] = s, new_h[j] = o * tanh_of(s);
        } else {
            float r = sigmoid_of(a[j] + u[j] + b[j]), z = sigmoid_of(a[H + j] + u[H + j] + b[H + j]);
            float share = u[2 * H + j] + b_n[j], n = tanh_of(a[2 * H + j] + b[2 * H + j] + r * share);
            a[j] = r, a[H + j] = z, a[2 * H + j] = n, un[j] = share;
            new_h[j] = n + z * (h[j] - n);
        }
    }
}

// weight: (H, G H), the transposed one; b: the biases, of a GRU's n that of the inputs, b_n that of the state.
// ends: the lengths, or null; work: (N, G H), for a GRU.
template <int mode>
static void sweep(gemm_t gemm, size T, size N, size H, size pieces, float *gates, const float *weight,
                  const float *b, const float *b_n, float *h, float *c, float *un, float *work, const int32_t *ends) {
    const size G = GATES[mode] * H;
    for (size t = 0; t < T; t++) {
        float *a = gates + t * N * G, *old = h + t * N * H, *now = old + N * H, *u = mode == GRU ? work : a;
        product(gemm, pieces, N, H, G, old, weight, mode == GRU ? 0 : 1, u);
        for (size n = 0; n < N; n++) {
            float *old_c = c + (t * N + n) * H, *new_c = old_c + N * H;
            if (ends && t >= ends[n]) {
                memcpy(now + n * H, old + n * H, H * sizeof(float));
                if (mode == LSTM) memcpy(new_c, old_c, H * sizeof(float));
            } else
                step<mode>(H, a + n * G, u + n * G, b, b_n, old + n * H, old_c, un + (t * N + n) * H, now + n * H, new_c);
        }
    }
}

// The same step backwards. g: the output's gradient; d, du: those of the inputs' and the state's share of the gates;
// dh becomes what goes on beside the product, dc the gradient of the old c.
template <int mode>
static void back(size H, const float *a, const float *un, const float *h, const float *new_h, const float *c,
                 const float *new_c, const float *g, float *dh, float *dc, float *d, float *du) {
    EACH(j, H) {
        float e = dh[j] + g[j];
        if (mode == RELU || mode == TANH) {
            d[j] = mode == TANH ? e * (1 - new_h[j] * new_h[j]) : new_h[j] > 0 ? e : 0;
            dh[j] = 0;
        } else if (mode == LSTM) {
            float i = a[j], f = a[H + j], k = a[2 * H + j], o = a[3 * H + j], y = tanh_of(new_c[j]);
            float s = dc[j] + e * o * (1 - y * y);
            d[j] = s * k * i * (1 - i), d[H + j] = s * c[j] * f * (1 - f);
            d[2 * H + j] = s * i * (1 - k * k), d[3 * H + j] = e * y * o * (1 - o);
            dc[j] = s * f, dh[j] = 0;
        } else {
            float r = a[j], z = a[H + j], n = a[2 * H + j], dn = e * (1 - z) * (1 - n * n);
            float dr = dn * un[j] * r * (1 - r), dz = e * (h[j] - n) * z * (1 - z);
            d[j] = du[j] = dr, d[H + j] = du[H + j] = dz, d[2 * H + j] = dn, du[2 * H + j] = dn * r;
            dh[j] = e * z;
        }
    }
}

// g: (T, N, H); weight: (G H, H); d, du: (T, N, G H), for all but a GRU the same memory; dh, dc: (N, H), of the last states,
// afterwards of the first ones.
template <int mode>
static void sweep_back(gemm_t gemm, size T, size N, size H, size pieces, const float *gates,
                       const float *weight, const float *h, const float *c, const float *un, const float *g, float *dh,
                       float *dc, float *d, float *du, const int32_t *ends) {
    const size G = GATES[mode] * H;
    for (size t = T - 1; t >= 0; t--) {
        float *d_t = d + t * N * G, *du_t = du + t * N * G;
        for (size n = 0; n < N; n++) {
            size at = (t * N + n) * H, next = at + N * H;
            if (ends && t >= ends[n]) {
                memset(d_t + n * G, 0, G * sizeof(float));
                memset(du_t + n * G, 0, G * sizeof(float));
            } else
                back<mode>(H, gates + (t * N + n) * G, un + at, h + at, h + next, c + at, c + next, g + at, dh + n * H, dc + n * H,
                           d_t + n * G, du_t + n * G);
        }
        product(gemm, pieces, N, G, H, du_t, weight, 1, dh);
    }
}

extern "C" {
#define BOTH(name, mode)                                                                                                      \
    void name(void *gemm, size T, size N, size H, size pieces, float *gates, const float *weight,      \
              const float *b, const float *b_n, float *h, float *c, float *un, float *work, const int32_t *ends) {            \
        sweep<mode>((gemm_t)gemm, T, N, H, pieces, gates, weight, b, b_n, h, c, un, work, ends);                 \
    }                                                                                                                         \
    void name##_back(void *gemm, size T, size N, size H, size pieces, const float *gates,              \
                     const float *weight, const float *h, const float *c, const float *un, const float *g, float *dh,         \
                     float *dc, float *d, float *du, const int32_t *ends) {                                                   \
        sweep_back<mode>((gemm_t)gemm, T, N, H, pieces, gates, weight, h, c, un, g, dh, dc, d, du, ends);        \
    }
BOTH(rnn_relu, RELU)
BOTH(rnn_tanh, TANH)
BOTH(lstm, LSTM)
BOTH(gru, GRU)
}
