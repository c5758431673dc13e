// Recurrent layers: one call takes a batch through all steps, forwards or backwards.
// What is kept is C-contiguous, as in chapter 96d: gates (T, N, G H); h, c (T + 1, N, H); un (T, N, H). What comes and goes,
// x (T, N, I), out (T, N, H) and their gradients, may be parts of larger arrays: `step` and `row` are the distances of steps
// and of samples.
#include "product.h"

enum Mode { RELU, TANH, LSTM, GRU };
static constexpr int GATES[] = {1, 1, 4, 3};

// Steps whose inputs are multiplied together: so many that a product has some 16 rows, or all, where the weights would push each
// other out of the cache at every step. Inputs that do not lie in a row, step after step, are multiplied in each.
static size together(size T, size N, size weights, size step, size row) {
    if (step != N * row) return 1;
    return weights > CACHED ? T : N < 16 ? 16 / N : 1;
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

// x is null where the gates hold the inputs' share already. w_x: (G H, I), w_h: (G H, H); b_x, b_h: (G H). ends: the lengths,
// or null. work: G (H + I + 1 + N) H numbers.
template <int mode>
static void sweep(gemm_t gemm, size T, size N, size I, size H, const float *x, size x_step, size x_row, const float *w_x,
                  const float *w_h, const float *b_x, const float *b_h, float *gates, float *h, float *c, float *un, float *out,
                  size out_step, size out_row, const int32_t *ends, float *work) {
    const size G = GATES[mode] * H, many = together(T, N, G * (I + H), x_step, x_row);
    float *state = work, *inputs = state + G * H, *b = inputs + G * I, *share = b + G;
    const bool tiles = Shared::pays(N, H, G, {w_h, H, true});
    if (!tiles) transpose(G, H, w_h, H, state, G);
    if (!tiles && x) transpose(G, I, w_x, I, inputs, G);
    const Shared to_state(N, H, G, tiles ? Matrix{w_h, H, true} : Matrix{state, G});
    const Shared to_inputs(x ? N : 0, I, G, tiles ? Matrix{w_x, I, true} : Matrix{inputs, G});
    EACH(j, G) b[j] = b_x[j] + (mode == GRU && j >= 2 * H ? 0 : b_h[j]);  // a GRU's n: the state's bias goes with its share
    for (size t = 0; t < T; t++) {
        float *a = gates + t * N * G, *old = h + t * N * H, *now = old + N * H, *u = mode == GRU ? share : a;
        if (x && t % many == 0)
            to_inputs.multiply(gemm, least(many, T - t) * N, {x + t * x_step, x_row}, 0, a, G);
        to_state.multiply(gemm, N, {old, H}, mode == GRU ? 0 : 1, u, G);
        for (size n = 0; n < N; n++) {
            float *old_c = c + (t * N + n) * H, *new_c = old_c + N * H, *y = out + t * out_step + n * out_row;
            if (ends && t >= ends[n]) {
                memcpy(now + n * H, old + n * H, H * sizeof(float));
                if (mode == LSTM) memcpy(new_c, old_c, H * sizeof(float));
                memset(y, 0, H * sizeof(float));
            } else {
                step<mode>(H, a + n * G, u + n * G, b, b_h + 2 * H, old + n * H, old_c, un + (t * N + n) * H, now + n * H, new_c);
                memcpy(y, now + n * H, H * sizeof(float));
            }
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

// Rows of (rows, width), added up: first those of a step, so that long sums keep their digits.
static void add_rows(size rows, size width, const float *d, float *part, float *sum) {
    memcpy(part, d, width * sizeof(float));
    for (size n = 1; n < rows; n++) EACH(j, width) part[j] += d[n * width + j];
    EACH(j, width) sum[j] += part[j];
}

// W (G, K) = the sum over steps of D' X, of D (T N, G) and X (T, N, K): as many steps at once as suit a product.
static void weight_gradient(gemm_t gemm, size T, size N, size G, size K, const float *d, const float *x, size step, size row,
                            float *work, float *w) {
    if (step == N * row) return product(gemm, G, T * N, K, {d, G, true}, {x, row}, 0, w, K);
    const size many = most(1, 256 / N);
    for (size t = 0; t < T; t += many) {
        const size steps = least(many, T - t);
        for (size s = 0; s < steps; s++)
            for (size n = 0; n < N; n++) memcpy(work + (s * N + n) * K, x + (t + s) * step + n * row, K * sizeof(float));
        product(gemm, G, steps * N, K, {d + t * N * G, G, true}, {work, K}, t ? 1 : 0, w, K);
    }
}

// g: the output's gradient; dh, dc: (N, H), of the last states, afterwards of the first ones; d, du: (T, N, G H), for all but
// a GRU the same memory; db_x, db_h: the biases'. The weights' dw_x, dw_h and the inputs' dx are null where others take care.
// work: 2 G H + max(256, N) I numbers.
template <int mode>
static void sweep_back(gemm_t gemm, size T, size N, size I, size H, const float *x, size x_step, size x_row, const float *w_x,
                       const float *w_h, const float *gates, const float *h, const float *c, const float *un, const float *g,
                       size g_step, size g_row, float *dh, float *dc, float *d, float *du, float *dx, size dx_step, size dx_row,
                       float *dw_x, float *dw_h, float *db_x, float *db_h, const int32_t *ends, float *work) {
    const size G = GATES[mode] * H, many = together(T, N, G * (I + H), dx_step, dx_row);
    const Shared of_state(N, G, H, {w_h, H}), of_inputs(dx ? N : 0, G, I, {w_x, I});
    memset(db_x, 0, G * sizeof(float)), memset(db_h, 0, G * sizeof(float));
    for (size t = T - 1; t >= 0; t--) {
        float *d_t = d + t * N * G, *du_t = du + t * N * G;
        for (size n = 0; n < N; n++) {
            size at = (t * N + n) * H, next = at + N * H;
            if (ends && t >= ends[n]) {
                memset(d_t + n * G, 0, G * sizeof(float));
                memset(du_t + n * G, 0, G * sizeof(float));
            } else
                back<mode>(H, gates + (t * N + n) * G, un + at, h + at, h + next, c + at, c + next, g + t * g_step + n * g_row,
                           dh + n * H, dc + n * H, d_t + n * G, du_t + n * G);
        }
        of_state.multiply(gemm, N, {du_t, G}, 1, dh, H);
        if (dx && t % many == 0) of_inputs.multiply(gemm, least(many, T - t) * N, {d_t, G}, 0, dx + t * dx_step, dx_row);
        add_rows(N, G, d_t, work, db_x);
        if (mode == GRU) add_rows(N, G, du_t, work, db_h);
    }
    if (mode != GRU) memcpy(db_h, db_x, G * sizeof(float));
    if (dw_x) weight_gradient(gemm, T, N, G, I, d, x, x_step, x_row, work, dw_x);
    if (dw_h) weight_gradient(gemm, T, N, G, H, du, h, N * H, H, work, dw_h);
}

extern "C" {
#define BOTH(name, mode)                                                                                                          \
    void name(void *gemm, size T, size N, size I, size H, const float *x, size x_step, size x_row, const float *w_x,              \
              const float *w_h, const float *b_x, const float *b_h, float *gates, float *h, float *c, float *un, float *out,      \
              size out_step, size out_row, const int32_t *ends, float *work) {                                                    \
        sweep<mode>((gemm_t)gemm, T, N, I, H, x, x_step, x_row, w_x, w_h, b_x, b_h, gates, h, c, un, out, out_step, out_row,      \
                    ends, work);                                                                                                  \
    }                                                                                                                             \
    void name##_back(void *gemm, size T, size N, size I, size H, const float *x, size x_step, size x_row, const float *w_x,       \
                     const float *w_h, const float *gates, const float *h, const float *c, const float *un, const float *g,       \
                     size g_step, size g_row, float *dh, float *dc, float *d, float *du, float *dx, size dx_step, size dx_row,    \
                     float *dw_x, float *dw_h, float *db_x, float *db_h, const int32_t *ends, float *work) {                      \
        sweep_back<mode>((gemm_t)gemm, T, N, I, H, x, x_step, x_row, w_x, w_h, gates, h, c, un, g, g_step, g_row, dh, dc, d, du,  \
                         dx, dx_step, dx_row, dw_x, dw_h, db_x, db_h, ends, work);                                                \
    }
BOTH(rnn_relu, RELU)
BOTH(rnn_tanh, TANH)
BOTH(lstm, LSTM)
BOTH(gru, GRU)
}
