// Between the products of a training step: updates of weights, a layer's bias and relu, and the way back through them,
// each in one walk over all that it reads and writes.
#include "helpers.h"

// The gradient d of a weight w with its decay: without one an infinite weight has no share.
static inline float decayed(float d, float w, float wd) { return wd == 0 ? d : d + wd * w; }

static const size PIECE = 1 << 14;  // numbers that a core updates at a time

// run(at, count) for n numbers, piece by piece, by at most `threads` cores.
template <class Run>
static void pieces(void *share, size threads, size n, Run run) {
    shared((share_t)share, (n + PIECE - 1) / PIECE, threads, [=](size i) { run(i * PIECE, n - i * PIECE < PIECE ? n - i * PIECE : PIECE); });
}

// The bits of a float, and the float of bits.
static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static const uint32_t BIAS = 112u << 23;  // between the exponents of half and of single precision

// The bits of the half that is nearest to x, the even one of two. Halves below 2^-14 lie as far apart as floats above 1/2;
// NaN keeps its upper bits, and stays NaN where these are 0.
static inline uint16_t half_of(float x) {
    uint32_t bits = bits_of(x), u = bits & 0x7fffffff, moved = u - BIAS;
    uint32_t normal = (moved + 0xfff + (moved >> 13 & 1)) >> 13;
    normal = normal < 0x7c00 ? normal : 0x7c00;
    uint32_t small = bits_of(float_of(u) + 0.5f) - bits_of(0.5f);
    uint32_t nan = u >> 13 & 0x3ff;
    nan = 0x7c00 | (nan ? nan : 1);
    uint32_t half = u < 0x38800000 ? small : normal;
    return (bits >> 16 & 0x8000) | (u > 0x7f800000 ? nan : half);
}

// The float of a half's bits.
static inline float single_of(uint16_t half) {
    uint32_t u = half & 0x7fff, sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t small = bits_of((int32_t)u * 0x1p-24f);
    uint32_t large = (u << 13) + (u < 0x7c00 ? BIAS : 2 * BIAS);
    return float_of(sign | (u < 0x400 ? small : large));
}

extern "C" {

// w' = w - lr d, where the clipped gradient is decayed: d = clip(rescale g) + wd w.
void descend(void *share, size threads, size n, float *weights, const float *gradients, float lr, float wd, float rescale, float clip) {
    pieces(share, threads, n, [=](size at, size count) {
        float *w = weights + at;
        const float *g = gradients + at;
        EACH(j, count) w[j] -= lr * decayed(within(g[j] * rescale, -clip, clip), w[j], wd);
    });
}

// y = x, but 0 where x is below; NaN stays NaN.
void rectify(void *share, size threads, size n, const float *x, float *y) {
    pieces(share, threads, n, [=](size at, size count) {
        const float *from = x + at;
        float *to = y + at;
        EACH(j, count) to[j] = from[j] < 0 ? 0 : from[j];
    });
}

// mom' = momentum mom - lr d, w' = w + mom', with the same d.
void momentum(void *share, size threads, size n, float *weights, const float *gradients, float *momenta, float lr, float momentum, float wd,
              float rescale, float clip) {
    pieces(share, threads, n, [=](size at, size count) {
        float *w = weights + at, *mom = momenta + at;
        const float *g = gradients + at;
        EACH(j, count) {
            float m = momentum * mom[j] - lr * decayed(within(g[j] * rescale, -clip, clip), w[j], wd);
            mom[j] = m;
            w[j] += m;
        }
    });
}

// Running means of d and d², where the decayed gradient is clipped: d = clip(rescale g + wd w); and a step against
// their ratio, from `keep` times the weight. What is new in a mean, 1 - beta, comes as `new1` and `new2`: in single
// precision 1 - 0.999f has lost three digits.
void adam(void *share, size threads, size n, float *weights, const float *gradients, float *means, float *variances, float keep, float lr,
          float beta1, float new1, float beta2, float new2, float epsilon, float wd, float rescale, float clip) {
    pieces(share, threads, n, [=](size at, size count) {
        float *w = weights + at, *mean = means + at, *var = variances + at;
        const float *g = gradients + at;
        EACH(j, count) {
            float v = keep * w[j], d = within(decayed(g[j] * rescale, v, wd), -clip, clip);
            float m = beta1 * mean[j] + new1 * d, s = beta2 * var[j] + new2 * (d * d);
            mean[j] = m;
            var[j] = s;
            w[j] = v - lr * m / (__builtin_sqrtf(s) + epsilon);
        }
    });
}

// y + b, b with a number for each column, or for each row of a `turned` matrix; with `relu` nothing below 0. NaN stays.
void add_bias(size rows, size cols, size turned, size relu, float *y, const float *b) {
    const float least = relu ? 0 : -__builtin_inff();
    for (size i = 0; i < rows; i++, y += cols) {
        if (turned)
            EACH(j, cols) { float v = y[j] + b[i]; y[j] = v < least ? least : v; }
        else
            EACH(j, cols) { float v = y[j] + b[j]; y[j] = v < least ? least : v; }
    }
}
}

// g times 1 where y is above 0, times 0 elsewhere: NaN and infinity become NaN there. 1 or 0 is made of bits, since GCC 12
// takes `y > 0 ? g : g * 0` for `y > 0 ? g : 0` where it makes vectors.
static inline float passed_of(float g, float y) {
    uint32_t bits = -(uint32_t)(y > 0) & 0x3f800000;
    float one;
    memcpy(&one, &bits, sizeof one);
    return g * one;
}

static const size TILE = 1024, RUN = 64, LANES = 16;

// Columns of `d`, at most TILE of them, and their sums: by runs of rows, so that no sum is one of many small terms.
static void passed_columns(size rows, size cols, size stride, const float *g, const float *y, float *d, float *sums) {
    float total[TILE] = {0};
    for (size from = 0; from < rows; from += RUN) {
        float part[TILE] = {0};
        for (size i = from; i < rows && i < from + RUN; i++) {
            const float *gi = g + i * stride, *yi = y + i * stride;
            float *di = d + i * stride;
            EACH(j, cols) { float v = passed_of(gi[j], yi[j]); di[j] = v; part[j] += v; }
        }
        EACH(j, cols) total[j] += part[j];
    }
    memcpy(sums, total, cols * sizeof *sums);
}

// A row of `d`, and its sum: as many sums as a vector has places.
static float passed_row(size cols, const float *g, const float *y, float *d) {
    float total[LANES] = {0}, sum = 0;
    size whole = cols - cols % LANES;
    for (size j = 0; j < whole; j += LANES)
        EACH(k, LANES) { float v = passed_of(g[j + k], y[j + k]); d[j + k] = v; total[k] += v; }
    for (size j = whole; j < cols; j++) sum += d[j] = passed_of(g[j], y[j]);
    for (size k = 0; k < LANES; k++) sum += total[k];
    return sum;
}

extern "C" {

// The gradient of relu, whose result was y, and its sums over the columns, or over the rows of a `turned` matrix: in `count` pieces of
// rows, each of which has sums of its own over columns.
void passed_sums(void *share, size threads, size count, size rows, size cols, size turned, const float *gradient, const float *result,
                 float *data, float *total) {
    shared((share_t)share, count, threads, [=](size piece) {
        const size from = rows * piece / count, to = rows * (piece + 1) / count;
        const float *g = gradient + from * cols, *y = result + from * cols;
        float *d = data + from * cols, *sums = turned ? total : total + piece * cols;
        if (turned)
            for (size i = from; i < to; i++, g += cols, y += cols, d += cols) sums[i] = passed_row(cols, g, y, d);
        else
            for (size j = 0; j < cols; j += TILE)
                passed_columns(to - from, cols - j < TILE ? cols - j : TILE, cols, g + j, y + j, d + j, sums + j);
    });
}

void passed(size n, const float *g, const float *y, float *d) { EACH(j, n) d[j] = passed_of(g[j], y[j]); }
}

// x P(x²) / Q(x²), the quotient of the chapter on special functions, up to 4, from where on it is 1.
static inline float erf_of(float x) {
    x = within(x, -4.0f, 4.0f);
    float t = x * x;
    float p = ((((1.987552790e-6f * t + 2.842360795e-4f) * t + 3.872444361e-3f) * t + 5.306786182e-2f) * t +
               1.933032621e-1f) * t + 1.128379142f;
    float q = ((((3.741083817e-5f * t + 1.182768951e-3f) * t + 1.518550055e-2f) * t + 1.152483271e-1f) * t +
               5.046431682e-1f) * t + 1.0f;
    return within(x * p / q, -1.0f, 1.0f);
}

// The remainder of x / d with the sign of d. With q near x / d, x - q d fits a float where q is no large number, and one
// rounding gives it; a quotient is never rounded below a whole number, so q may be one too many, not too few.
static inline float remainder_of(float x, float d) {
    float q = __builtin_floorf(x / d), r = __builtin_fmaf(-q, d, x);
    return __builtin_copysignf(1.0f, d) * r < 0 ? r + d : r;
}

// How far the quotient is from what is no large number, or d from what has room around it: not below 1 then.
static inline float oddness_of(float x, float d) {
    float far = __builtin_fabsf(x / d) * (1.0f / 4194304), large = __builtin_fabsf(d) * 1e-30f, small = 1e-30f / __builtin_fabsf(d);
    return far + large + small;
}

static float odd_remainder(float x, float d) {
    float r = __builtin_fmodf(x, d);
    r = r != 0 && (r < 0) != (d < 0) ? r + d : r;
    return d == 0 ? 0 : r;
}

static const float ROOT = 0.707106781f, PEAK = 0.398942280f;  // of a half; 1 / sqrt(2 pi)

extern "C" {

// scale x above 0, slope (e^x - 1) below.
void elu(size n, float scale, float slope, const float *x, float *y) {
    EACH(j, n) { float v = x[j], bend = slope * expm1_of(v); y[j] = v > 0 ? scale * v : bend; }
}

// The nearest whole number, halves away from zero: the largest number below 1/2 rounds it up where it has to be.
void round_all(size n, const float *x, float *y) {
    EACH(j, n) y[j] = __builtin_truncf(x[j] + __builtin_copysignf(0.49999997f, x[j]));
}

// -1, 0 or 1; 0 for NaN.
void sign(size n, const float *x, float *y) { EACH(j, n) y[j] = (x[j] > 0) - (x[j] < 0); }

// A parabola up to the bend, then a straight line.
void smooth_l1(size n, float bend, float curvature, const float *x, float *y) {
    EACH(j, n) {
        float far = __builtin_fabsf(x[j]), inside = far > bend ? bend : far;
        y[j] = (far - 0.5f * inside) * inside * curvature;
    }
}

// No square of a float is too large for a double.
void hypot_all(size n, const float *a, const float *b, float *y) {
    EACH(j, n) {
        double square = (double)a[j] * a[j] + (double)b[j] * b[j];
        bool far = __builtin_fabsf(a[j]) == __builtin_inff() || __builtin_fabsf(b[j]) == __builtin_inff();
        y[j] = far ? __builtin_inff() : (float)__builtin_sqrt(square);
    }
}

// y = x mod m, with m for each x, or `one` for all; runs that hold a number out of the ordinary go one by one.
void modulo(size n, size one, const float *x, const float *m, float *y) {
    const size run = 1024;
    for (size from = 0; from < n; from += run, x += run, y += run, m += one ? 0 : run) {
        size some = from + run < n ? run : n - from;
        uint32_t odd = 0;
        const float d = m[0];
        if (one)
            TOTAL(|, odd, j, some) { y[j] = remainder_of(x[j], d); odd |= !(oddness_of(x[j], d) < 1); }
        else
            TOTAL(|, odd, j, some) { y[j] = remainder_of(x[j], m[j]); odd |= !(oddness_of(x[j], m[j]) < 1); }
        for (size j = 0; odd && j < some; j++) y[j] = odd_remainder(x[j], one ? d : m[j]);
    }
}

// Single precision as the bits of half precision, and back.
void halve(size n, const float *x, uint16_t *y) { EACH(j, n) y[j] = half_of(x[j]); }
void widen(size n, const uint16_t *x, float *y) { EACH(j, n) y[j] = single_of(x[j]); }

void erf_all(size n, const float *x, float *y) { EACH(j, n) y[j] = erf_of(x[j]); }

// x Φ(x), and its derivative Φ(x) + x φ(x). Beyond 20 the second term is nothing, and x - x is, too: but NaN at infinity.
void gelu(size n, const float *x, float *y) { EACH(j, n) y[j] = (erf_of(x[j] * ROOT) + 1) * x[j] * 0.5f; }

void gelu_slope(size n, const float *x, float *y) {
    EACH(j, n) {
        float bell = exp_of(-0.5f * x[j] * x[j]) * within(x[j], -20.0f, 20.0f) * PEAK;
        y[j] = bell + (erf_of(x[j] * ROOT) * 0.5f + 0.5f) + (x[j] - x[j]);
    }
}
}
