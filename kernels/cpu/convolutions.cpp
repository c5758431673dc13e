// Convolutions of pictures (n, c, h, w) as products without columns; chapter 96m_convolution_loops.
// A plane is laid out so that what one number of the window sees, in all places, is a run of memory, as in windows.cpp. A tile of
// results, some filters times some vectors of such a run, stays in registers while all numbers of all windows pass by.
#include <vector>

#include "helpers.h"
#include "product.h"

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 8
#elif defined(__AVX__)
#define LANES 8
#define ROWS 4
#elif defined(__aarch64__)
#define LANES 4
#define ROWS 8
#else
#define LANES 4
#define ROWS 4
#endif
enum { ACROSS = 3 };  // vectors of a tile: with ROWS filters, and what they are multiplied by, they fill the registers
typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

static constexpr size AT_ONCE = 1 << 17;  // numbers of pictures that are laid out at a time: half of a core's second cache

static inline size over(size a, size b) { return (a + b - 1) / b; }  // a / b, rounded up

// Memory of a thread, which the next piece uses again.
struct Memory {
    std::vector<float> numbers;
    float *get(size n) {
        if ((size)numbers.size() < n + 16) numbers.resize(n + 16);  // it may begin 15 numbers late, at a line of the cache
        return (float *)(((uintptr_t)numbers.data() + 63) / 64 * 64);
    }
};

// What is added up: `outer` times `inner` terms. The inner ones begin at x[i] and w[i], the outer ones are xs and ws apart, filters wf.
struct Terms {
    size outer, inner;
    const size *x, *w;
    size xs, ws, wf;
};

// A tile: y[f][j] = the sum of w[f] x[j] over all terms, or that added to y.
template <int F, int T>
static void tile(const Terms &terms, const float *x, const float *w, float *y, size step, bool more) {
    vec sum[F][T] = {};
    if (more)
        for (int f = 0; f < F; f++)
            for (int t = 0; t < T; t++) sum[f][t] = *(const vec *)(y + f * step + t * LANES);
    const size wf = terms.wf, inner = terms.inner;
    const size *xo = terms.x, *wo = terms.w;
    for (size o = 0; o < terms.outer; o++, x += terms.xs, w += terms.ws)
        for (size i = 0; i < inner; i++) {
            const float *a = x + xo[i], *b = w + wo[i];
            vec run[T];
            for (int t = 0; t < T; t++) run[t] = *(const vec *)(a + t * LANES);
#pragma GCC unroll 8
            for (int f = 0; f < F; f++)
#pragma GCC unroll 3
                for (int t = 0; t < T; t++) sum[f][t] += b[f * wf] * run[t];
        }
    for (int f = 0; f < F; f++)
        for (int t = 0; t < T; t++) *(vec *)(y + f * step + t * LANES) = sum[f][t];
}

typedef void (*tile_t)(const Terms &, const float *, const float *, float *, size, bool);
#define TILES(F) {tile<F, 1>, tile<F, 2>, tile<F, 3>}
static const tile_t tiles[][ACROSS] = {TILES(1), TILES(2), TILES(3), TILES(4),
#if ROWS == 8
                                       TILES(5), TILES(6), TILES(7), TILES(8),
#endif
};

// y (filters, vectors * LANES): so many filters, at most ROWS, on a run.
static void along(const Terms &terms, size filters, size vectors, const float *x, const float *w, float *y, size step, bool more) {
    const size pieces = over(vectors, ACROSS);
    for (size p = 0; p < pieces; p++) {
        const size from = vectors * p / pieces, to = vectors * (p + 1) / pieces;
        tiles[filters - 1][to - from - 1](terms, x + from * LANES, w, y + from * LANES, step, more);
    }
}

struct Shape {
    size n, c, h, w, f, oh, ow, kh, kw, sh, sw, dh, dw, ph, pw, groups;
};

// Results in rows and columns p, q, or steps further, and the terms that they are sums of.
struct Phase {
    size p, q;
    std::vector<size> x, w;
};

// One axis of a convolution, or of its adjoint: place i reads from number i * in - up on, and writes number i * out.
struct Axis {
    size read, written;  // how many numbers there are
    size in, out, up;    // steps, and how far place 0 reads before the first number
    size first, last;    // places
    size reach;          // how many places further a window reads
};

// A sum over windows, forwards or backwards: places of the pictures that are read are laid out, a phase for each remainder.
struct Plan {
    size n, groups, read, written;  // channels of a group
    Axis rows, columns;
    size ws, wf;  // from a channel that is read to the next in the weights, and from one that is written
    std::vector<Phase> phases;
    std::vector<std::pair<size, size>> laid;  // remainders that are read

    size pitch() const { return columns.last - columns.first + columns.reach; }

    // Where a remainder is laid, which is told by its number.
    size slot(size p, size q) {
        for (size i = 0; i < (size)laid.size(); i++)
            if (laid[i] == std::make_pair(p, q)) return i;
        laid.push_back({p, q});
        return laid.size() - 1;
    }
};

// A term's offset in the layout depends on how many rows that has: `x` holds slot, row and column until then.
static const size FIELD = 1 << 20;

static Plan convolution(const Shape &s) {
    Plan plan{s.n, s.groups, s.c / s.groups, s.f / s.groups,
              {s.h, s.oh, s.sh, 1, s.ph, 0, s.oh, (s.kh - 1) * s.dh / s.sh},
              {s.w, s.ow, s.sw, 1, s.pw, 0, s.ow, (s.kw - 1) * s.dw / s.sw},
              s.kh * s.kw, s.c / s.groups * s.kh * s.kw, {{0, 0, {}, {}}}, {}};
    for (size i = 0; i < s.kh; i++)
        for (size j = 0; j < s.kw; j++) {
            const size row = i * s.dh, column = j * s.dw, slot = plan.slot(row % s.sh, column % s.sw);
            plan.phases[0].x.push_back((slot * FIELD + row / s.sh) * FIELD + column / s.sw);
            plan.phases[0].w.push_back(i * s.kw + j);
        }
    return plan;
}

// Backwards: numbers of the picture whose remainder is p get what the taps with that remainder have seen.
static Plan adjoint(const Shape &s) {
    const size below = (s.kh - 1) * s.dh / s.sh, beside = (s.kw - 1) * s.dw / s.sw;
    const size top = s.ph / s.sh, left = s.pw / s.sw;
    Plan plan{s.n, s.groups, s.f / s.groups, s.c / s.groups,
              {s.oh, s.h, 1, s.sh, below, top, over(s.h + s.ph, s.sh), below},
              {s.ow, s.w, 1, s.sw, beside, left, over(s.w + s.pw, s.sw), beside},
              s.c / s.groups * s.kh * s.kw, s.kh * s.kw, {}, {{0, 0}}};
    for (size p = 0; p < s.sh; p++)
        for (size q = 0; q < s.sw; q++) {
            Phase phase{p - s.ph, q - s.pw, {}, {}};
            for (size i = 0; i < s.kh; i++)
                for (size j = 0; j < s.kw; j++)
                    if (i * s.dh % s.sh == p && j * s.dw % s.sw == q) {
                        phase.x.push_back((below - i * s.dh / s.sh) * FIELD + beside - j * s.dw / s.sw);
                        phase.w.push_back(i * s.kw + j);
                    }
            plan.phases.push_back(phase);
        }
    return plan;
}

// What a piece of the work is about: some pictures, or some rows of one, and some filters.
struct Piece {
    size group, image, images, first, last, from, to;
};

// A plane's remainder p, q into the layout, (rows, pitch), from place `first` on, with zeros around it.
static void lay(const Plan &plan, size p, size q, size first, size rows, const float *x, float *to) {
    const Axis &r = plan.rows, &c = plan.columns;
    const size pitch = plan.pitch(), from = c.first * c.in + q - c.up;
    const size begin = least(from < 0 ? over(-from, c.in) : 0, pitch), end = most(least(over(c.read - from, c.in), pitch), begin);
    for (size i = 0; i < rows; i++, to += pitch) {
        const size row = (first + i) * r.in + p - r.up;
        if (row < 0 || row >= r.read) {
            memset(to, 0, pitch * sizeof(float));
            continue;
        }
        const float *a = x + row * c.read + from;
        for (size j = 0; j < begin; j++) to[j] = 0;
        if (c.in == 1) EACH(j, end - begin) to[begin + j] = a[begin + j];
        else if (c.in == 2) EACH(j, end - begin) to[begin + j] = a[2 * (begin + j)];
        else for (size j = begin; j < end; j++) to[j] = a[j * c.in];
        for (size j = end; j < pitch; j++) to[j] = 0;
    }
}

// A run of results, (rows, pitch), into a plane: times `gain`, plus `shift`.
static void lift(const Plan &plan, const Phase &phase, size first, size rows, const float *from, float gain, float shift, float *y) {
    const Axis &r = plan.rows, &c = plan.columns;
    const size pitch = plan.pitch(), at = c.first * c.out + phase.q;
    const size begin = at < 0 ? over(-at, c.out) : 0, end = least(over(c.written - at, c.out), c.last - c.first);
    for (size i = 0; i < rows; i++, from += pitch) {
        const size row = (first + i) * r.out + phase.p;
        if (row < 0 || row >= r.written) continue;
        float *to = y + row * c.written + at;
        if (c.out > 1) for (size j = begin; j < end; j++) to[j * c.out] = from[j];
        else EACH(j, end - begin) to[begin + j] = from[begin + j] * gain + shift;
    }
}

// What is done with each filter's results, if there is anything.
struct After {
    const float *gain, *shift;
};

// Where a piece's numbers lie: a phase has `deep` rows, a run of results `vectors`, the last of which is not full.
struct Layout {
    size pitch, rows, deep, phase, plane, run, vectors, next;  // and the next picture is so far away
    bool as_it_is;  // one number is read for each result: nothing is laid out
    bool ends;      // but its last vector, for behind the last picture there is nothing to read
    Layout(const Plan &plan, const Piece &piece) {
        const Axis &r = plan.rows, &c = plan.columns;
        pitch = plan.pitch(), rows = piece.last - piece.first, deep = rows + r.reach, phase = deep * pitch;
        plane = (over((size)plan.laid.size() * phase, LANES) | 1) * LANES;  // an odd number of vectors: all sets of the cache
        run = rows * pitch - c.reach, vectors = over(run, LANES), next = plan.groups * plan.read * r.read * c.read;
        const bool plain = r.in == 1 && c.in == 1 && !r.up && !c.up && !r.reach && !c.reach && plan.laid.size() == 1;
        as_it_is = plain && !c.first && c.last == c.read && piece.last <= r.read;
        ends = as_it_is && run % LANES && piece.image + piece.images == plan.n && piece.group + 1 == plan.groups;
        if (as_it_is) plane = r.read * c.read;
    }
};

// Lay channels first..last of all pictures of a piece out; x is the first one.
static void lay_out(const Plan &plan, const Layout &l, const Piece &piece, size first, size last, const float *x, float *to) {
    for (size i = 0; i < piece.images; i++)
        for (size k = first; k < last; k++)
            for (size s = 0; s < (size)plan.laid.size(); s++)
                lay(plan, plan.laid[s].first, plan.laid[s].second, piece.first, l.deep,
                    x + i * l.next + k * plan.rows.read * plan.columns.read, to + (i * plan.read + k) * l.plane + s * l.phase);
}

// The results of a piece; `there` is its layout, if others have it, too.
static void carry_out(const Plan &plan, const Piece &piece, const float *there, const float *x, const float *w, const After &after, float *y) {
    static thread_local Memory laid, sums, end;
    const Layout l(plan, piece);
    const size results = plan.rows.written * plan.columns.written, full = (l.vectors - l.ends) * LANES, step = l.vectors * LANES;
    y += (piece.image * plan.groups + piece.group) * plan.written * results;
    w += piece.group * plan.read * plan.written * (least(plan.ws, plan.wf));
    if (l.as_it_is)
        there = x + piece.first * l.pitch;
    else if (!there) {
        float *to = laid.get(piece.images * plan.read * l.plane + ACROSS * LANES);
        lay_out(plan, l, piece, 0, plan.read, x, to);
        there = to;
    }
    float *last = l.ends ? end.get(piece.images * plan.read * LANES) : nullptr;
    for (size i = 0; last && i < piece.images; i++)
        for (size k = 0; k < plan.read; k++)
            memcpy(last + (i * plan.read + k) * LANES, there + i * l.next + k * l.plane + full, (l.run - full) * sizeof(float));
    std::vector<std::vector<size>> offsets;
    for (const Phase &p : plan.phases) {
        offsets.push_back(p.x);
        for (size &o : offsets.back()) o = o / FIELD / FIELD * l.phase + o / FIELD % FIELD * l.pitch + o % FIELD;
    }
    float *sum = sums.get(ROWS * step);
    for (size f = piece.from; f < piece.to; f += ROWS)
        for (size i = 0; i < piece.images; i++)
            for (size p = 0; p < (size)offsets.size(); p++) {
                const size filters = least(ROWS, piece.to - f);
                Terms terms{plan.read, (size)offsets[p].size(), offsets[p].data(), plan.phases[p].w.data(), l.plane, plan.ws, plan.wf};
                along(terms, filters, full / LANES, there + i * (l.as_it_is ? l.next : plan.read * l.plane), w + f * plan.wf, sum, step, false);
                terms.xs = LANES;
                if (last) along(terms, filters, 1, last + i * plan.read * LANES, w + f * plan.wf, sum + full, step, false);
                for (size k = 0; k < filters; k++) {
                    const size channel = piece.group * plan.written + f + k;
                    lift(plan, plan.phases[p], piece.first, l.rows, sum + k * step, after.gain ? after.gain[channel] : 1,
                         after.shift ? after.shift[channel] : 0, y + i * plan.groups * plan.written * results + (f + k) * results);
                }
            }
}

// The work in pieces: as much of the pictures as the cache holds, and the filters shared where that gives a thread too little.
static std::vector<Piece> pieces_of(const Plan &plan, size threads) {
    const size height = plan.rows.last - plan.rows.first, row = most(1, plan.read * plan.laid.size() * plan.pitch());
    const size all = row * (height + plan.rows.reach);
    size bands = 1, images = 1;
    if (all > AT_ONCE)
        bands = over(height, most(AT_ONCE / row - plan.rows.reach, least(height, 2 * (plan.rows.reach + 1))));
    else
        images = most(1, least(AT_ONCE / all, over(plan.n, threads)));
    const size count = plan.groups * over(plan.n, images) * bands;
    size parts = 1;
    const size blocks = over(plan.written, ROWS);
    while (parts < blocks && count * parts % threads && count * parts < 4 * threads) parts++;
    std::vector<Piece> found;
    for (size n = 0; n < plan.n; n += images)
        for (size g = 0; g < plan.groups; g++)
            for (size b = 0; b < bands; b++)
                for (size p = 0; p < parts; p++)
                    found.push_back({g, n, least(images, plan.n - n), plan.rows.first + height * b / bands,
                                     plan.rows.first + height * (b + 1) / bands, least(blocks * p / parts * ROWS, plan.written),
                                     least(blocks * (p + 1) / parts * ROWS, plan.written)});
    return found;
}

// All pieces; where the cores share filters, they share the layout, too.
static void all_of(share_t share, size threads, const Plan &plan, const float *x, const float *w, const After &after, float *y) {
    static thread_local Memory common;
    const std::vector<Piece> pieces = pieces_of(plan, threads);
    const size area = plan.rows.read * plan.columns.read, count = pieces.size(), none = -1;
    const auto begin = [&](const Piece &p) { return x + (p.image * plan.groups + p.group) * plan.read * area; };
    size parts = 1, numbers = 0, at = 0;  // pieces of the same pictures follow each other
    while (parts < count && pieces[parts].from > 0) parts++;
    std::vector<size> places(count, none);
    for (size i = 0; i < count; i++) {
        const Layout l(plan, pieces[i]);
        if (i % parts == 0) at = numbers, numbers += l.as_it_is ? 0 : pieces[i].images * plan.read * l.plane;
        if (parts > 1 && !l.as_it_is) places[i] = at;
    }
    float *to = parts > 1 && numbers ? common.get(numbers + ACROSS * LANES) : nullptr;
    if (to)
        shared(share, count, threads, [&](size i) {
            const size part = i % parts;
            if (places[i] != none)
                lay_out(plan, Layout(plan, pieces[i]), pieces[i], plan.read * part / parts, plan.read * (part + 1) / parts,
                        begin(pieces[i]), to + places[i]);
        });
    shared(share, count, threads, [&](size i) {
        carry_out(plan, pieces[i], places[i] == none ? nullptr : to + places[i], begin(pieces[i]), w, after, y);
    });
}

// The gradient of the weights. Here the channels are laid last: then a row of the window is a run of memory, in each place, and the
// terms are the places. Each share of the pictures has a sum of its own, (filters, window's rows, run): a run is `step` numbers long.
struct Across {
    Shape s;
    size c, f, cols, run, step, rows;  // channels and filters of a group; rows of the window, or all its numbers if it has gaps
    explicit Across(const Shape &s) : s(s), c(s.c / s.groups), f(s.f / s.groups) {
        cols = (s.ow - 1) * s.sw + (s.kw - 1) * s.dw + 1;
        const bool gaps = s.dw > 1;
        run = gaps ? c : s.kw * c, rows = gaps ? s.kh * s.kw : s.kh, step = over(run, LANES) * LANES;
    }
    size numbers() const { return s.f * rows * step; }  // of a share
    // Where a run begins in the layout.
    size at(size row) const { return s.dw > 1 ? (row / s.kw * s.dh * cols + row % s.kw * s.dw) * c : row * s.dh * cols * c; }
    // Where the sums have what belongs to a number of the window.
    size of(size i, size j) const { return s.dw > 1 ? (i * s.kw + j) * step : i * step + j * c; }

    // Rows of a picture, from `top` on, with zeros around them, into (rows, cols, c).
    void lay(const float *x, size top, size count, float *to) const {
        const size begin = least(s.pw, cols), end = most(least(s.w + s.pw, cols), begin);
        for (size i = 0; i < count; i++, to += cols * c) {
            const size row = top + i;
            const bool inside = row >= 0 && row < s.h;
            memset(to, 0, (inside ? begin : cols) * c * sizeof(float));
            if (!inside) continue;
            transpose(c, end - begin, x + row * s.w, s.h * s.w, to + begin * c, c);
            memset(to + end * c, 0, (cols - end) * c * sizeof(float));
        }
    }

    // What pictures first..last add to filters from..to of a group.
    void add(size group, size first, size last, size from, size to, const float *g, const float *x, float *sums) const {
        static thread_local Memory laid;
        const size reach = (s.kh - 1) * s.dh + 1, line = cols * c, all = (s.oh - 1) * s.sh + reach, results = s.oh * s.ow;
        const size band = least(s.oh, most((AT_ONCE / line - reach) / s.sh + 1, 1)), deep = least((band - 1) * s.sh + reach, all);
        const size images = band < s.oh ? 1 : most(1, least(AT_ONCE / (line * deep), last - first));
        float *there = laid.get(images * deep * line + ACROSS * LANES);
        std::vector<size> xo, wo;
        for (size j = 0; j < s.ow; j++) xo.push_back(j * s.sw * c), wo.push_back(j);
        bool more = false;
        for (size n = first; n < last; n += images)
            for (size top = 0; top < s.oh; top += band, more = true) {
                const size some = least(images, last - n), places = least(band, s.oh - top);
                for (size i = 0; i < some; i++)
                    lay(x + ((n + i) * s.c + group * c) * s.h * s.w, top * s.sh - s.ph, (places - 1) * s.sh + reach, there + i * deep * line);
                const Terms terms{places, s.ow, xo.data(), wo.data(), s.sh * line, s.ow, results};
                for (size k = from; k < to; k += ROWS)
                    for (size row = 0; row < rows; row++)
                        for (size i = 0; i < some; i++)
                            along(terms, least(ROWS, to - k), step / LANES, there + i * deep * line + at(row),
                                  g + ((n + i) * s.f + group * f + k) * results + top * s.ow,
                                  sums + ((group * f + k) * rows + row) * step, rows * step, more || i > 0);
            }
    }

    // The sum of all shares, of a filter, in the order of weights.
    void gather(size filter, size shares, const float *sums, float *w) const {
        const size each = rows * step;
        float *to = w + filter * c * s.kh * s.kw;
        for (size i = 0; i < s.kh; i++)
            for (size j = 0; j < s.kw; j++) {
                const float *a = sums + filter * each + of(i, j);
                for (size k = 0; k < c; k++) {
                    float sum = a[k];
                    for (size p = 1; p < shares; p++) sum += a[p * numbers() + k];
                    to[(k * s.kh + i) * s.kw + j] = sum;
                }
            }
    }
};

static const size LIGHT = 1 << 17;  // weights of which each thread may have sums of its own

extern "C" {
// w: the sum of g's numbers, each times what the filters' numbers saw.
void convolve_weight(void *share, size threads, const size *given, const float *g, const float *x, float *w) {
    const Across a(*(const Shape *)given);
    const size shares = a.numbers() <= LIGHT ? least(a.s.n, threads) : 1, blocks = over(a.f, ROWS);
    const size parts = least(blocks, over(2 * threads, shares * a.s.groups));
    std::vector<float> sums(shares * a.numbers());
    const size count = shares * a.s.groups * (shares > 1 && shares % threads == 0 ? 1 : parts), each = count / shares / a.s.groups;
    shared((share_t)share, count, threads, [&](size i) {
        const size part = i % each, group = i / each % a.s.groups, p = i / each / a.s.groups;
        a.add(group, a.s.n * p / shares, a.s.n * (p + 1) / shares, blocks * part / each * ROWS, least(blocks * (part + 1) / each * ROWS, a.f),
              g, x, sums.data() + p * a.numbers());
    });
    shared((share_t)share, blocks * a.s.groups, threads, [&](size i) {
        const size group = i / blocks, from = i % blocks * ROWS;
        for (size k = from; k < least(from + ROWS, a.f); k++) a.gather(group * a.f + k, shares, sums.data(), w);
    });
}

// y: each window of x times the filters w, times gain, plus shift.
void convolve(void *share, size threads, const size *given, const float *x, const float *w, const float *gain, const float *shift,
              float *y) {
    all_of((share_t)share, threads, convolution(*(const Shape *)given), x, w, {gain, shift}, y);
}

// x: what the windows' numbers get from g, the adjoint.
void convolve_data(void *share, size threads, const size *given, const float *g, const float *w, float *x) {
    all_of((share_t)share, threads, adjoint(*(const Shape *)given), g, w, {}, x);
}
}
