// Rows in one walk: softmax, cross-entropy and normalizations, forwards and backwards; chapter 96i.
// Arrays are float, C-contiguous, (rows, cols); a row stays in the cache from its first sum to its result.
#include "arrays.h"
#include "loops.h"

// e^x for x <= 0, exactly 0 where a float with all its digits has no room.
static inline float power_of(float x) {
    float q, power = powers(x, &q), e = power * q + power;
    return x < -87.0f ? 0.0f : e;
}

static float highest(size n, const float *x) {
    float top = x[0];
    TOTAL(max, top, j, n) top = x[j] > top ? x[j] : top;
    return top;
}

// The exponentials of (x - top) scale, into y, and their sum.
static float shares(size n, float top, float scale, const float *x, float *y) {
    float total = 0;
    TOTAL(+, total, j, n) {
        float e = power_of((x[j] - top) * scale);
        y[j] = e, total += e;
    }
    return total;
}

static float total_of_shares(size n, float top, float scale, const float *x) {
    float total = 0;
    TOTAL(+, total, j, n) total += power_of((x[j] - top) * scale);
    return total;
}

// y = (x - m) r gamma + beta with a row's mean m and r = 1 / deviation; gamma and beta are numbers of the columns, or of the rows.
template <bool columns>
static void norm(size rows, size cols, float eps, const float *gamma, const float *beta, const float *x, float *y, float *mean,
                 float *scale) {
    for (size i = 0; i < rows; i++, x += cols, y += cols) {
        float sum = 0, squares = 0;
        TOTAL(+, sum, j, cols) sum += x[j];
        float m = sum / cols;
        TOTAL(+, squares, j, cols) squares += (x[j] - m) * (x[j] - m);
        float r = 1 / __builtin_sqrtf(squares / cols + eps);
        mean[i] = m, scale[i] = r;
        EACH(j, cols) y[j] = (x[j] - m) * r * gamma[columns ? j : i] + beta[columns ? j : i];
    }
}

// With z = (x - m) r and h = g gamma: dx = r (h - mean h - z mean (h z)). The sums of g z and g over rows (added to what is
// there) or columns go into by_gamma and by_beta.
template <bool columns>
static void norm_back(size rows, size cols, float *by_gamma, float *by_beta, const float *gamma, const float *g, const float *x,
                      const float *mean, const float *scale, float *dx) {
    for (size i = 0; i < rows; i++, g += cols, x += cols, dx += cols) {
        float m = mean[i], r = scale[i], a = columns ? 1 : gamma[i], sum = 0, along = 0;
        TOTALS(sum, along, j, cols) {
            float z = (x[j] - m) * r, h = columns ? g[j] * gamma[j] : g[j];
            sum += h, along += h * z;
            if (columns) by_gamma[j] += g[j] * z, by_beta[j] += g[j];
        }
        if (!columns) by_gamma[i] = along, by_beta[i] = sum;
        sum /= cols, along /= cols;
        EACH(j, cols) dx[j] = r * a * ((columns ? g[j] * gamma[j] : g[j]) - sum - (x[j] - m) * r * along);
    }
}

extern "C" {

void softmax(size rows, size cols, float scale, const float *x, float *y) {
    for (size i = 0; i < rows; i++, x += cols, y += cols) {
        float share = 1 / shares(cols, highest(cols, x), scale, x, y);
        EACH(j, cols) y[j] *= share;
    }
}

void log_softmax(size rows, size cols, float scale, const float *x, float *y) {
    for (size i = 0; i < rows; i++, x += cols, y += cols) {
        float top = highest(cols, x), away = __builtin_logf(total_of_shares(cols, top, scale, x));
        EACH(j, cols) y[j] = (x[j] - top) * scale - away;
    }
}

// dx = y (g - sum g y) scale.
void softmax_back(size rows, size cols, float scale, const float *g, const float *y, float *dx) {
    for (size i = 0; i < rows; i++, g += cols, y += cols, dx += cols) {
        float mean = 0;
        TOTAL(+, mean, j, cols) mean += g[j] * y[j];
        EACH(j, cols) dx[j] = y[j] * (g[j] - mean) * scale;
    }
}

// dx = (g - e^y sum g) scale.
void log_softmax_back(size rows, size cols, float scale, const float *g, const float *y, float *dx) {
    for (size i = 0; i < rows; i++, g += cols, y += cols, dx += cols) {
        float total = 0;
        TOTAL(+, total, j, cols) total += g[j];
        EACH(j, cols) dx[j] = (g[j] - power_of(y[j]) * total) * scale;
    }
}

// The loss of each row, and what the way back needs: the row's maximum (or 0, where no exponential comes near a float's
// limits, so that none has to be taken off) and the sum of its exponentials.
void cross_entropy(size rows, size cols, const float *x, const int64_t *label, float *top, float *total, float *loss) {
    const float calm = 60;
    for (size i = 0; i < rows; i++, x += cols) {
        float sum = 0, far = 0;
        _Pragma("omp simd reduction(+ : sum) reduction(max : far)") for (size j = 0; j < cols; j++) {
            float q, power = powers(x[j], &q), away = __builtin_fabsf(x[j]);
            sum += power * q + power;  // nonsense where `far` will be more than calm
            far = away > far ? away : far;
        }
        top[i] = 0, total[i] = sum;
        if (far < calm && sum == sum) {
            loss[i] = __builtin_logf(sum / exp_of(x[label[i]]));
            continue;
        }
        top[i] = highest(cols, x), total[i] = total_of_shares(cols, top[i], 1, x);
        loss[i] = __builtin_logf(total[i]) + (top[i] - x[label[i]]);
    }
}

// dx = g (softmax - one-hot).
void cross_entropy_back(size rows, size cols, const float *x, const int64_t *label, const float *top, const float *total,
                        const float *g, float *dx) {
    for (size i = 0; i < rows; i++, x += cols, dx += cols) {
        float share = g[i] / total[i], high = top[i];
        EACH(j, cols) dx[j] = power_of(x[j] - high) * share;
        dx[label[i]] -= g[i];
    }
}

// The classes that labels name, whole numbers or floats; false if there are more than MOST, or one that is no class.
static constexpr size MOST = 4096;
static bool read(const Array &label, size rows, size classes, int64_t *into) {
    const bool floats = row_of(label, 'f', 4), ints = row_of(label, 'i', 4), longs = row_of(label, 'i', 8);
    if (rows > MOST || !(floats || ints || longs)) return false;
    for (size i = 0; i < rows; i++) {
        const float number = floats ? ((const float *)label.data)[i] : 0;
        if (floats && !(number >= 0 && number < classes)) return false;  // NaN is none
        into[i] = floats ? (int64_t)number : ints ? ((const int32_t *)label.data)[i] : ((const int64_t *)label.data)[i];
        if (into[i] < 0 || into[i] >= classes || (floats && into[i] != number)) return false;
    }
    return true;
}

// Cross-entropy of a few rows, for which the way from Python to C is the longer part: arrays describe themselves. `kept`: (3, rows).
// The result tells whether all was as it should be; else nothing is written.
int few_losses(void *data, void *labels, void *kept) {
    const Array &x = told(data), &label = told(labels), &to = told(kept);
    const size rows = length(to, 1), cols = length(x, 1);
    int64_t classes[MOST];
    if (!row_of(x, 'f', 4) || !read(label, rows, cols, classes)) return 0;
    float *memory = (float *)to.data;
    cross_entropy(rows, cols, (const float *)x.data, classes, memory, memory + rows, memory + 2 * rows);
    return 1;
}

int few_losses_back(void *data, void *labels, void *kept, void *gradient, void *result) {
    const Array &x = told(data), &label = told(labels), &from = told(kept), &g = told(gradient), &dx = told(result);
    const size rows = length(from, 1), cols = length(x, 1);
    int64_t classes[MOST];
    if (!row_of(x, 'f', 4) || !row_of(from, 'f', 4) || !row_of(g, 'f', 4) || !read(label, rows, cols, classes)) return 0;
    const float *memory = (const float *)from.data;
    cross_entropy_back(rows, cols, (const float *)x.data, classes, memory, memory + rows, (const float *)g.data, (float *)dx.data);
    return 1;
}

// The sum of a row, NaN counted as 0: by runs, so that no sum is one of many small terms.
void nansum(size rows, size cols, const float *x, float *y) {
    const size run = 1024;
    for (size i = 0; i < rows; i++, x += cols) {
        double total = 0;
        for (size from = 0; from < cols; from += run) {
            float sum = 0;
            TOTAL(+, sum, j, from + run < cols ? run : cols - from) sum += x[from + j] == x[from + j] ? x[from + j] : 0;
            total += sum;
        }
        y[i] = total;
    }
}

// The product of a row; with `skip` NaN counts as 1.
void prod(size rows, size cols, size skip, const float *x, float *y) {
    for (size i = 0; i < rows; i++, x += cols) {
        float product = 1;
        if (skip)
            TOTAL(*, product, j, cols) product *= x[j] == x[j] ? x[j] : 1;
        else
            TOTAL(*, product, j, cols) product *= x[j];
        y[i] = product;
    }
}

// Sums of each row's first numbers, eight rows at a time: a sum waits for the one before it, but not for other rows'. A tile
// of the rows is summed elsewhere: rows of 2^k numbers would drive one another out of the cache.
void cumsum(size rows, size cols, const float *x, float *y) {
    const size wide = 128;
    float tile[8][wide + 16] = {};
    for (size i = 0; i < rows; i += 8, x += 8 * cols, y += 8 * cols) {
        size some = rows - i < 8 ? rows - i : 8;
        float sums[8];
        for (size at = 0; at < cols; at += wide) {
            size n = cols - at < wide ? cols - at : wide;
            for (size r = 0; r < some; r++) memcpy(tile[r], x + r * cols + at, n * sizeof(float));
            if (at == 0)
                for (size r = 0; r < 8; r++) sums[r] = tile[r][0];
            for (size j = at == 0; j < n; j++)
                for (size r = 0; r < 8; r++) tile[r][j] = sums[r] += tile[r][j];
            for (size r = 0; r < some; r++) memcpy(y + r * cols + at, tile[r], n * sizeof(float));
        }
    }
}

#define BOTH(name, columns)                                                                                                    \
    void name##_norm(size rows, size cols, float eps, const float *gamma, const float *beta, const float *x, float *y,         \
                     float *mean, float *scale) {                                                                              \
        norm<columns>(rows, cols, eps, gamma, beta, x, y, mean, scale);                                                        \
    }                                                                                                                          \
    void name##_norm_back(size rows, size cols, float *by_gamma, float *by_beta, const float *gamma, const float *g,           \
                          const float *x, const float *mean, const float *scale, float *dx) {                                  \
        norm_back<columns>(rows, cols, by_gamma, by_beta, gamma, g, x, mean, scale, dx);                                       \
    }
BOTH(layer, true)
BOTH(group, false)
}
