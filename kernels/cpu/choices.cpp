// What NumPy has no vectors for: the first k of a row, and products with the few numbers of a CSR matrix; chapter 96l.
#include "loops.h"
#include <algorithm>
#include <functional>
#include <vector>

// A number's bits as an unsigned number of the same order. NaN is the largest, -0 is 0: as kernels/topk.cu has it.
static inline uint32_t ordered(float x, uint32_t ascend) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = bits == 0x80000000u ? 0 : bits;
    uint32_t up = x != x ? 0xffffffffu : bits >> 31 ? ~bits : bits | 0x80000000u;
    return ascend ? ~up : up;
}

extern "C" {

// The indices (rows, k) of the first k of each row in their order, of equal numbers the lower index first.
void topk(size rows, size cols, size k, size ascend, const float *x, int64_t *index) {
    const size block = 64, room = 2 * k + block;
    std::vector<uint64_t> found(room);
    for (size i = 0; i < rows; i++, x += cols, index += k) {
        size count = 0;
        uint64_t bound = 0;  // no key that is less can be one of the first k
        for (size from = 0; from < cols; from += block) {
            size to = from + block < cols ? from + block : cols;
            uint32_t least = bound >> 32, some = 0;
            TOTAL(|, some, j, to - from) some |= ordered(x[from + j], ascend) >= least;
            if (!some) continue;
            for (size j = from; j < to; j++) {
                uint64_t key = (uint64_t)ordered(x[j], ascend) << 32 | (uint32_t)~j;
                if (key > bound) found[count++] = key;
            }
            if (count + block > room) {
                std::nth_element(found.begin(), found.begin() + k - 1, found.begin() + count, std::greater<uint64_t>());
                count = k, bound = found[k - 1];
            }
        }
        std::partial_sort(found.begin(), found.begin() + k, found.begin() + count, std::greater<uint64_t>());
        for (size j = 0; j < k; j++) index[j] = (uint32_t)~found[j];
    }
}

// y (rows, n) = the rows of a CSR matrix times b (k, n).
void csr_dot(size rows, size n, const float *value, const int64_t *column, const float *b, const int64_t *start, float *y) {
    for (size i = 0; i < rows; i++, y += n) {
        if (n == 1) {
            float sum = 0;
            TOTAL(+, sum, p, start[i + 1] - start[i]) sum += value[start[i] + p] * b[column[start[i] + p]];
            y[0] = sum;
            continue;
        }
        memset(y, 0, n * sizeof(float));
        for (size p = start[i]; p < start[i + 1]; p++) {
            const float a = value[p], *row = b + column[p] * n;
            EACH(j, n) y[j] += a * row[j];
        }
    }
}

// y (k, n), which holds zeros, gets the transposed CSR matrix times b (rows, n).
void csr_undot(size rows, size n, const float *value, const int64_t *column, const int64_t *start, const float *b, float *y) {
    for (size i = 0; i < rows; i++, b += n)
        for (size p = start[i]; p < start[i + 1]; p++) {
            float a = value[p], *row = y + column[p] * n;
            EACH(j, n) row[j] += a * b[j];
        }
}

// Of a (rows, n) times b (k, n) transposed the numbers at the places of a CSR matrix.
void csr_pick(size rows, size n, const int64_t *column, const int64_t *start, const float *a, const float *b, float *value) {
    for (size i = 0; i < rows; i++, a += n)
        for (size p = start[i]; p < start[i + 1]; p++) {
            const float *row = b + column[p] * n;
            float sum = 0;
            TOTAL(+, sum, j, n) sum += a[j] * row[j];
            value[p] = sum;
        }
}
}
