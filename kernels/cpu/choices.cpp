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

// A row of pixels, n of `channels` bytes each, mixed from two old ones each with weights of 11 bits.
static void mix_columns(size n, size channels, const int64_t *p, const int64_t *q, const int32_t *a, const int32_t *b,
                        const uint8_t *x, int32_t *y) {
    for (size j = 0; j < n; j++, y += channels) {
        const uint8_t *left = x + p[j] * channels, *right = x + q[j] * channels;
        for (size c = 0; c < channels; c++) y[c] = a[j] * left[c] + b[j] * right[c];
    }
}

// The smaller number; of two of which one is NaN, that one.
static inline float smaller(float a, float b) { return a < b || a != a ? a : b; }

// Boxes that were kept: corners, areas and classes, each in a row of its own.
struct Kept {
    std::vector<float> rows;
    size room, count = 0;
    Kept(size n) : rows(6 * n), room(n) {}
    float *row(int i) { return rows.data() + i * room; }
};

// Whether one of the boxes that were kept, from..to, is of class `id` (if any is) and overlaps box b by too much.
static inline bool covered(Kept &kept, size from, size to, const float *b, float area, float id, float limit, bool equal) {
    const float *x0 = kept.row(0), *y0 = kept.row(1), *x1 = kept.row(2), *y1 = kept.row(3), *areas = kept.row(4), *ids = kept.row(5);
    uint32_t any = 0;
    float b0 = -b[0], b1 = -b[1], b2 = b[2], b3 = b[3];
    TOTAL(|, any, j, to - from) {
        size k = from + j;
        float w = smaller(x1[k], b2) + smaller(-x0[k], b0), h = smaller(y1[k], b3) + smaller(-y0[k], b1);
        w = w > 0 ? w : 0, h = h > 0 ? h : 0;  // NaN too
        float common = w * h, both = areas[k] + area - common;
        float share = common / (both > 1e-45f ? both : 1e-45f);
        any |= (share > limit || (equal && share == limit)) && ids[k] == id;
    }
    return any;
}

extern "C" {

// Which of n boxes (corners), the best first, are kept: those of `alive` that no better one of their class covers.
void survivors(size n, float limit, size equal, const float *box, const float *ids, const uint8_t *alive, uint8_t *kept) {
    const size block = 64;
    Kept list(n);
    for (size i = 0; i < n; i++, box += 4) {
        float area = (box[2] - box[0]) * (box[3] - box[1]), id = ids ? ids[i] : 0;
        bool stays = alive[i];
        for (size at = 0; stays && at < list.count; at += block)
            stays = !covered(list, at, std::min(at + block, list.count), box, area, id, limit, equal);
        if ((kept[i] = stays)) {
            for (int c = 0; c < 4; c++) list.row(c)[list.count] = box[c];
            list.row(4)[list.count] = area, list.row(5)[list.count++] = id;
        }
    }
}

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

// A picture of bytes (…, width, channels) in the size (h, w): new row i is mixed from the old rows rp[i] and rq[i] with the
// weights ra[i] and rb[i], in columns likewise. A row that was mixed across serves the next new row as well.
void resize(size h, size w, size width, size channels, const int64_t *rp, const int64_t *rq, const int32_t *ra,
            const int32_t *rb, const int64_t *cp, const int64_t *cq, const int32_t *ca, const int32_t *cb, const uint8_t *x,
            uint8_t *y) {
    const size n = w * channels;
    std::vector<int32_t> upper(n), lower(n);
    size above = -1, below = -1;
    for (size i = 0; i < h; i++, y += n) {
        if (rp[i] == below) upper.swap(lower), std::swap(above, below);
        if (rp[i] != above) mix_columns(w, channels, cp, cq, ca, cb, x + (above = rp[i]) * width * channels, upper.data());
        if (rq[i] != below) mix_columns(w, channels, cp, cq, ca, cb, x + (below = rq[i]) * width * channels, lower.data());
        const int32_t *u = upper.data(), *l = lower.data(), a = ra[i], b = rb[i];
        EACH(j, n) {
            int32_t total = (((a * (u[j] >> 4)) >> 16) + ((b * (l[j] >> 4)) >> 16) + 2) >> 2;
            y[j] = total < 0 ? 0 : total > 255 ? 255 : total;
        }
    }
}

// The indices that sort each row, of equal numbers the lower index first. Keys go into buckets by their lowest byte, then by
// the next one: what an earlier round has put in order, a later one leaves so. A byte that all keys share needs no round.
void order(size rows, size cols, size ascend, const float *x, int64_t *index) {
    std::vector<uint64_t> keys(cols), next(cols);
    for (size i = 0; i < rows; i++, x += cols, index += cols) {
        size count[4][256] = {};
        for (size j = 0; j < cols; j++) {
            uint32_t key = ordered(x[j], !ascend);
            keys[j] = (uint64_t)key << 32 | (uint32_t)j;
            for (int b = 0; b < 4; b++) count[b][key >> 8 * b & 255]++;
        }
        for (int b = 0; b < 4; b++) {
            size at = 0, shift = 32 + 8 * b;
            if (count[b][keys[0] >> shift & 255] == cols) continue;
            for (size &c : count[b]) at += c, c = at - c;
            for (uint64_t key : keys) next[count[b][key >> shift & 255]++] = key;
            keys.swap(next);
        }
        for (size j = 0; j < cols; j++) index[j] = (uint32_t)keys[j];
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

// n of the `wide` columns of y (k, wide), which holds zeros, get those of the transposed CSR matrix times b (rows, wide).
void csr_undot(size rows, size n, size wide, const float *value, const int64_t *column, const int64_t *start, const float *b,
               float *y) {
    for (size i = 0; i < rows; i++, b += wide)
        for (size p = start[i]; p < start[i + 1]; p++) {
            float a = value[p], *row = y + column[p] * wide;
            EACH(j, n) row[j] += a * b[j];
        }
}

// Rows of b (rows, wide), n columns of them, added to rows of y.
void add_rows(size rows, size n, size wide, const int64_t *place, const float *b, float *y) {
    for (size i = 0; i < rows; i++, b += wide) {
        float *row = y + place[i] * wide;
        EACH(j, n) row[j] += b[j];
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
