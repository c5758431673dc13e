// What the loops share: the exponential and what follows from it, so plainly that the compiler makes vectors of it.
#pragma once
#include <cstdint>
#include <cstring>

typedef int64_t size;

// The places of a row, one after the other or many at once: no place depends on another one.
#define EACH(j, n) _Pragma("GCC ivdep") for (size j = 0; j < (n); j++)

// The same, with all terms added (or compared: `op` is + or max) into one number, in the order that suits vectors.
#define TOTAL(op, into, j, n) _Pragma(TEXT(omp simd reduction(op : into))) for (size j = 0; j < (n); j++)
#define TOTALS(a, b, j, n) _Pragma(TEXT(omp simd reduction(+ : a, b))) for (size j = 0; j < (n); j++)
#define TEXT(...) #__VA_ARGS__

// x, but at least `low` and at most `high`; NaN stays NaN.
static inline float within(float x, float low, float high) {
    x = x > high ? high : x;
    return x < low ? low : x;
}

// e^x - 1 = 2^n q + (2^n - 1) with x = n log 2 + r and q = e^r - 1, by Taylor's polynomial for |r| <= log(2) / 2;
// log 2 comes in two parts, of which the first has zeros at its end, so that n times it is exact. A float near 1.5 * 2^23
// has no room behind the point: adding that rounds x / log 2, and leaves n + 127 in the last bits, where 2^n wants it.
static inline float powers(float x, float *q) {
    const float shift = 12582912.0f + 127;
    float t = x * 1.44269504f + shift, n = t - shift;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 720 + r * (1.0f / 5040);
    p = 1.0f / 24 + r * (1.0f / 120 + r * p);
    p = 1.0f + r * (0.5f + r * (1.0f / 6 + r * p));
    *q = r * p;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits <<= 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

static inline float exp_of(float x) {
    float q, power = powers(within(x, -87.0f, 88.0f), &q);
    return power * q + power;
}

static inline float expm1_of(float x) {
    float q, power = powers(within(x, -87.0f, 88.0f), &q);
    return power * q + (power - 1);
}

static inline float sigmoid_of(float x) { return 1 / (1 + exp_of(-x)); }

// tanh x = (e^2x - 1) / (e^2x + 1), which keeps its digits where x is small.
static inline float tanh_of(float x) {
    float m = expm1_of(2 * within(x, -10.0f, 10.0f));
    return m / (m + 2);
}
