// Windows on pictures: a filter a channel, and pooling, forwards and backwards; batch normalization; chapter 96k.
// A plane is laid out so that what one number of the window sees, in all places, is a run of memory: rows that are a step
// apart follow each other, columns too, and borders are filled. Then a window is a few runs, taken number by number.
// Arrays are float, C-contiguous: pictures (n, c, h, w), results (n, c, oh, ow). Threads share the channels, of which one has first..last.
#include <vector>

#include "helpers.h"

// run(first, last) for c channels in pieces, by at most `threads` threads.
template <class Run>
static void by_channels(void *share, size threads, size c, Run run) {
    const size pieces = threads < 2 ? 1 : c < 4 * threads ? c : 4 * threads;
    shared((share_t)share, pieces, threads, [=](size i) { run(c * i / pieces, c * (i + 1) / pieces); });
}

// The layout: a phase for each remainder (p, q) of rows and columns, (rows, pitch). Results are kept in rows of `pitch`, too.
struct Frame {
    size n, c, h, w, oh, ow, kh, kw, sh, sw, ph, pw, rows, pitch, phase, all, wide, run;
    explicit Frame(const size *given) {
        memcpy((void *)this, given, 12 * sizeof(size));
        rows = oh + (kh - 1) / sh, pitch = ow + (kw - 1) / sw, phase = rows * pitch, all = sh * sw * phase;
        wide = oh * pitch, run = wide - (pitch - ow);
    }
    // Where the run of the window's number (i, j) begins.
    size tap(size i, size j) const { return ((i % sh) * sw + j % sw) * phase + (i / sh) * pitch + j / sw; }
    // The columns of a phase that lie within the picture.
    size begin(size q) const { return within((pw - q + sw - 1) / sw); }
    size end(size q) const { return within((w + pw - q + sw - 1) / sw); }
    size within(size j) const { return j < 0 ? 0 : j < pitch ? j : pitch; }
    const float *in(const float *x, size i, size channel) const { return x + (i * c + channel) * h * w; }
    const float *out(const float *y, size i, size channel) const { return y + (i * c + channel) * oh * ow; }
    float *in(float *x, size i, size channel) const { return x + (i * c + channel) * h * w; }
    float *out(float *y, size i, size channel) const { return y + (i * c + channel) * oh * ow; }
};

// A plane into its layout, with `fill` around it.
static void lay(const Frame &f, const float *x, float fill, float *to) {
    for (size p = 0; p < f.sh; p++)
        for (size q = 0; q < f.sw; q++) {
            size begin = f.begin(q), end = f.end(q);
            for (size i = 0; i < f.rows; i++, to += f.pitch) {
                size row = i * f.sh + p - f.ph;
                bool inside = row >= 0 && row < f.h && begin < end;
                const float *from = x + row * f.w + q - f.pw;
                for (size j = 0; j < (inside ? begin : f.pitch); j++) to[j] = fill;
                if (!inside) continue;
                if (f.sw == 1) EACH(j, end - begin) to[begin + j] = from[begin + j];
                else if (f.sw == 2) EACH(j, end - begin) to[begin + j] = from[2 * (begin + j)];
                else for (size j = begin; j < end; j++) to[j] = from[j * f.sw];
                for (size j = end; j < f.pitch; j++) to[j] = fill;
            }
        }
}

// And back; what no window sees gets 0.
static void lift(const Frame &f, const float *from, float *x) {
    if (f.rows * f.sh - f.ph < f.h || f.pitch * f.sw - f.pw < f.w) memset(x, 0, f.h * f.w * sizeof(float));
    for (size p = 0; p < f.sh; p++)
        for (size q = 0; q < f.sw; q++) {
            size begin = f.begin(q), end = f.end(q);
            for (size i = 0; i < f.rows; i++, from += f.pitch) {
                size row = i * f.sh + p - f.ph;
                if (row < 0 || row >= f.h) continue;
                float *to = x + row * f.w + q - f.pw;
                if (f.sw == 1) EACH(j, end - begin) to[begin + j] = from[begin + j];
                else for (size j = begin; j < end; j++) to[j * f.sw] = from[j];
            }
        }
}

// A plane of results into rows of `pitch`, with zeros between; and back.
static void stretch(const Frame &f, const float *g, float *to) {
    for (size i = 0; i < f.oh; i++, g += f.ow, to += f.pitch) {
        EACH(j, f.ow) to[j] = g[j];
        for (size j = f.ow; j < f.pitch; j++) to[j] = 0;
    }
}

static void shrink(const Frame &f, const float *from, float bias, float *y) {
    for (size i = 0; i < f.oh; i++, from += f.pitch, y += f.ow) EACH(j, f.ow) y[j] = from[j] + bias;
}

// Runs of a layout, and what each is multiplied by.
struct Taps {
    std::vector<const float *> runs;
    std::vector<float> factors;
    void add(const float *run, float factor) { runs.push_back(run), factors.push_back(factor); }
    void clear() { runs.clear(), factors.clear(); }
};

// y = the weighted sum of T runs, added to what is there if `more`.
template <int T, bool more>
static void weigh(size n, const float *const *run, const float *w, float *y) {
    EACH(j, n) {
        float s = more ? y[j] : 0;
#pragma GCC unroll 25
        for (int t = 0; t < T; t++) s += w[t] * run[t][j];
        y[j] = s;
    }
}

template <bool more>
static void weigh(size T, size n, const float *const *run, const float *w, float *y) {
    switch (T) {
        case 0: if (!more) memset(y, 0, n * sizeof(float)); return;
        case 1: return weigh<1, more>(n, run, w, y);
        case 2: return weigh<2, more>(n, run, w, y);
        case 3: return weigh<3, more>(n, run, w, y);
        case 4: return weigh<4, more>(n, run, w, y);
        case 6: return weigh<6, more>(n, run, w, y);
        case 9: return weigh<9, more>(n, run, w, y);
        case 25: return weigh<25, more>(n, run, w, y);
    }
    size few = T < 9 ? T < 6 ? 4 : 6 : 9;
    weigh<more>(few, n, run, w, y), weigh<true>(T - few, n, run + few, w + few, y);
}

// y = the larger one of y and x; NaN is larger than all.
static void larger(size n, const float *x, float *y) { EACH(j, n) y[j] = x[j] > y[j] || x[j] != x[j] ? x[j] : y[j]; }

// The maximum of each window: of its columns first, which all windows that see them share. columns: (sw, wide).
static void highest(const Frame &f, const float *x, float *columns, float *best) {
    for (size q = 0; q < f.sw && q < f.kw; q++) {
        memcpy(columns + q * f.wide, x + f.tap(0, q), f.wide * sizeof(float));
        for (size i = 1; i < f.kh; i++) larger(f.wide, x + f.tap(i, q), columns + q * f.wide);
    }
    memcpy(best, columns, f.run * sizeof(float));
    for (size j = 1; j < f.kw; j++) larger(f.run, columns + (j % f.sw) * f.wide + j / f.sw, best);
}

extern "C" {

// y: each window of channel c times the filter w[c], (kh, kw), plus bias[c] if there is one.
void windows(void *share, size threads, const size *given, const float *x, const float *w, const float *bias, float *y) {
    const Frame f(given);
    by_channels(share, threads, f.c, [&](size first, size last) {
        std::vector<float> laid(f.all), out(f.wide);
        Taps taps;
        for (size c = first; c < last; c++) {
            taps.clear();
            for (size i = 0; i < f.kh; i++)
                for (size j = 0; j < f.kw; j++) taps.add(laid.data() + f.tap(i, j), w[(c * f.kh + i) * f.kw + j]);
            for (size n = 0; n < f.n; n++) {
                lay(f, f.in(x, n, c), 0, laid.data());
                weigh<false>(f.kh * f.kw, f.run, taps.runs.data(), taps.factors.data(), out.data());
                shrink(f, out.data(), bias ? bias[c] : 0, f.out(y, n, c));
            }
        }
    });
}

// x: each number of g, times the filter, on its window. Place j of a phase gets g's number j - d from a tap that begins at d.
void windows_data(void *share, size threads, const size *given, const float *g, const float *w, float *x) {
    const Frame f(given);
    by_channels(share, threads, f.c, [&](size first, size last) {
        std::vector<float> laid(f.all), wide(2 * f.phase);  // zeros before g, and behind it
        Taps taps;
        for (size c = first; c < last; c++)
            for (size n = 0; n < f.n; n++) {
                float *to = laid.data();
                stretch(f, f.out(g, n, c), wide.data() + f.phase);
                for (size p = 0; p < f.sh; p++)
                    for (size q = 0; q < f.sw; q++, to += f.phase) {
                        taps.clear();
                        for (size i = p; i < f.kh; i += f.sh)
                            for (size j = q; j < f.kw; j += f.sw)
                                taps.add(wide.data() + f.phase - i / f.sh * f.pitch - j / f.sw, w[(c * f.kh + i) * f.kw + j]);
                        weigh<false>(taps.runs.size(), f.phase, taps.runs.data(), taps.factors.data(), to);
                    }
                lift(f, laid.data(), f.in(x, n, c));
            }
    });
}

// w: the sum of g's numbers, each times what the filter's number saw.
void windows_weight(void *share, size threads, const size *given, const float *g, const float *x, float *w) {
    const Frame f(given);
    by_channels(share, threads, f.c, [&](size first, size last) {
        std::vector<float> laid(f.all), wide(f.wide);
        memset(w + first * f.kh * f.kw, 0, (last - first) * f.kh * f.kw * sizeof(float));
        for (size c = first; c < last; c++)
            for (size n = 0; n < f.n; n++) {
                lay(f, f.in(x, n, c), 0, laid.data());
                stretch(f, f.out(g, n, c), wide.data());
                for (size i = 0; i < f.kh; i++)
                    for (size j = 0; j < f.kw; j++) {
                        const float *run = laid.data() + f.tap(i, j), *h = wide.data();
                        float sum = 0;
                        TOTAL(+, sum, k, f.run) sum += h[k] * run[k];
                        w[(c * f.kh + i) * f.kw + j] += sum;
                    }
            }
    });
}

// y: the maximum of each window.
void maxima(void *share, size threads, const size *given, const float *x, float *y) {
    const Frame f(given);
    by_channels(share, threads, f.c, [&](size first, size last) {
        std::vector<float> laid(f.all), columns(f.sw * f.wide), best(f.wide);
        for (size c = first; c < last; c++)
            for (size n = 0; n < f.n; n++) {
                lay(f, f.in(x, n, c), -__FLT_MAX__, laid.data());
                highest(f, laid.data(), columns.data(), best.data());
                shrink(f, best.data(), 0, f.out(y, n, c));
            }
    });
}

// dx: each number of g where its window has its first maximum; it is taken out of g there. NaN is nobody's maximum.
void maxima_data(void *share, size threads, const size *given, const float *g, const float *x, float *dx) {
    const Frame f(given);
    by_channels(share, threads, f.c, [&](size first, size last) {
        std::vector<float> laid(f.all), out(f.all), columns(f.sw * f.wide), best(f.wide), wide(f.wide);
        for (size c = first; c < last; c++)
            for (size n = 0; n < f.n; n++) {
                lay(f, f.in(x, n, c), -__FLT_MAX__, laid.data());
                highest(f, laid.data(), columns.data(), best.data());
                stretch(f, f.out(g, n, c), wide.data());
                memset(out.data(), 0, f.all * sizeof(float));
                for (size i = 0; i < f.kh; i++)
                    for (size j = 0; j < f.kw; j++) {
                        const float *run = laid.data() + f.tap(i, j), *top = best.data();
                        float *left = wide.data(), *to = out.data() + f.tap(i, j);
                        EACH(k, f.run) {
                            bool won = run[k] == top[k];
                            to[k] += won ? left[k] : 0, left[k] = won ? 0 : left[k];
                        }
                    }
                lift(f, out.data(), f.in(dx, n, c));
            }
    });
}

// Batch normalization: a channel's numbers, n runs of `run` numbers, are read from memory once, and again from the cache.
// Sums are of differences to its first number, so that a mean far from zero keeps its digits; `rest` is what is rounded off it.
void channels(void *share, size threads, size n, size c, size run, float eps, const float *x, const float *gamma, const float *beta,
              float *y, float *mean, float *scale, float *var) {
    by_channels(share, threads, c, [=](size first, size last) {
        for (size k = first; k < last; k++) {
            double sum = 0, squares = 0;
            const float base = x[k * run];
            for (size i = 0; i < n; i++) {
                const float *a = x + (i * c + k) * run;
                float part = 0;
                TOTAL(+, part, j, run) part += a[j] - base;
                sum += part;
            }
            const double true_mean = base + sum / (n * run);
            const float m = (float)true_mean;
            const double rest = true_mean - m;
            for (size i = 0; i < n; i++) {
                const float *a = x + (i * c + k) * run;
                float part = 0;
                TOTAL(+, part, j, run) part += (a[j] - m) * (a[j] - m);
                squares += part;
            }
            const float v = (float)(squares / (n * run) - rest * rest), r = 1 / __builtin_sqrtf(v + eps), gain = gamma[k] * r;
            const float offset = (float)(beta[k] - rest * gain);
            mean[k] = m, scale[k] = r, var[k] = v;
            for (size i = 0; i < n; i++) {
                const float *a = x + (i * c + k) * run;
                float *to = y + (i * c + k) * run;
                EACH(j, run) to[j] = (a[j] - m) * gain + offset;
            }
        }
    });
}

// The same with a factor and a summand for each channel.
void scaled(void *share, size threads, size n, size c, size run, const float *x, const float *gain, const float *shift, float *y) {
    by_channels(share, threads, n * c, [=](size first, size last) {
        for (size k = first; k < last; k++) {
            const float a = gain[k % c], b = shift[k % c], *from = x + k * run;
            float *to = y + k * run;
            EACH(j, run) to[j] = from[j] * a + b;
        }
    });
}

// Its gradients, of x, gamma and beta. t: 1, or 0 where mean and scale are given numbers.
void channels_back(void *share, size threads, size n, size c, size run, float t, const float *g, const float *x, const float *gain,
                   const float *mean, const float *scale, float *dx, float *by_gamma, float *by_beta) {
    by_channels(share, threads, c, [=](size first, size last) {
        for (size k = first; k < last; k++) {
            const float m = mean[k], r = scale[k], factor = gain[k] * r;
            double sum = 0, along = 0;
            for (size i = 0; i < n; i++) {
                const float *h = g + (i * c + k) * run, *a = x + (i * c + k) * run;
                float p = 0, q = 0;
                TOTALS(p, q, j, run) p += h[j], q += h[j] * (a[j] - m);
                sum += p, along += q;
            }
            by_gamma[k] = (float)(along * r), by_beta[k] = (float)sum;
            const float share = t / (n * run), shift = share * by_beta[k], slope = share * r * by_gamma[k];
            for (size i = 0; i < n; i++) {
                const float *h = g + (i * c + k) * run, *a = x + (i * c + k) * run;
                float *to = dx + (i * c + k) * run;
                EACH(j, run) to[j] = factor * (h[j] - shift - slope * (a[j] - m));
            }
        }
    });
}
}
