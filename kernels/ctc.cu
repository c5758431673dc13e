// Connectionist temporal classification: a block a sequence, rows of states in shared memory. The
// sweep from the start and the one from the end run at the same time, in two blocks.
#include "mg.cuh"

#define FAR (-1e30f)  // the logarithm of what is never

// lse = ln sum exp(z) of each step of each sequence.
template <class T>
__global__ void ctc_rows(const T* __restrict__ z, float* __restrict__ lse, long long rows,
                         int classes) {
    const long long row = mg_row_number();
    if (row >= rows) return;
    const T* in = z + row * classes;
    float top = MG_LOWEST, sum = 0.f;
    for (int i = threadIdx.x; i < classes; i += blockDim.x) top = fmaxf(top, mg_float(in[i]));
    top = mg_row<Max>(top);
    for (int i = threadIdx.x; i < classes; i += blockDim.x) sum += __expf(mg_float(in[i]) - top);
    sum = mg_row<Sum>(sum);
    if (threadIdx.x == 0) lse[row] = top + __logf(sum);
}

// All walks along the states (blank, letter, blank, …) of sequence blockIdx.x, from the start or,
// where blockIdx.y is 1, from the end: `walks` (2, batch, most, S), their logarithms. Those are
// sums of thousands of terms and want double; their differences, of which exponentials are taken,
// do not.
template <class T>
__global__ void ctc_sweep(const T* __restrict__ z, const float* __restrict__ lse,
                          const int* __restrict__ states, const int* __restrict__ last,
                          const int* __restrict__ lengths, double* __restrict__ walks,
                          double* __restrict__ totals, T* __restrict__ losses, int most, int batch,
                          int classes, int S, int blank) {
    extern __shared__ double room[];
    const int n = blockIdx.x, way = blockIdx.y ? 1 : -1;
    const int steps = lengths ? lengths[n] : most;
    double *before = room + 2, *after = before + S + 4;  // two numbers on either side are never
    int* letter = (int*)(after + S + 2);
    for (int s = threadIdx.x; s < 2 * (S + 4); s += blockDim.x) room[s] = FAR;
    for (int s = threadIdx.x; s < S; s += blockDim.x) letter[s] = states[(long long)n * S + s];
    __syncthreads();
    if (threadIdx.x == 0) before[blockIdx.y ? last[n] : 0] = 0;  // where a walk begins
    __syncthreads();
    const long long sweep = blockIdx.y * (long long)batch + n;
    for (int i = 0; i < steps; ++i) {
        const int t = blockIdx.y ? steps - 1 - i : i;
        const long long row = (long long)t * batch + n;
        for (int s = threadIdx.x; s < S; s += blockDim.x) {
            const int later = blockIdx.y ? s + 2 : s, sooner = later - 2;
            const bool jump = sooner >= 0 && later < S && letter[later] != blank &&
                              letter[later] != letter[sooner];
            const double step = (double)mg_float(z[row * classes + letter[s]]) - lse[row];
            const double a = before[s], b = before[s + way], c = jump ? before[s + 2 * way] : FAR;
            const double m = fmax(fmax(a, b), c);
            const float sum = expf((float)(a - m)) + expf((float)(b - m)) + expf((float)(c - m));
            const double v = m < FAR / 2 ? FAR : m + logf(sum) + step;
            after[s] = walks[(sweep * most + t) * S + s] = v;
        }
        __syncthreads();
        double* other = before;
        before = after;
        after = other;
    }
    if (blockIdx.y || threadIdx.x) return;
    const double end = before[last[n]], shorter = before[last[n] - 1], m = fmax(end, shorter);
    const float sum = expf((float)(end - m)) + expf((float)(shorter - m));
    const bool never = m < FAR / 2;
    totals[n] = never ? FAR : m + logf(sum);
    losses[n] = mg_to<T>(never ? __int_as_float(0x7f800000) : -(float)totals[n]);
}

// g = softmax(z) - the probability that a walk is in a state with this letter: a block a row.
template <class T>
__global__ void ctc_back(const T* __restrict__ z, const float* __restrict__ lse,
                         const int* __restrict__ states, const int* __restrict__ lengths,
                         const double* __restrict__ walks, const double* __restrict__ totals,
                         T* __restrict__ g, int steps, int batch, int classes, int S, int blank) {
    extern __shared__ float share[];
    const int n = blockIdx.x % batch, t = blockIdx.x / batch;
    const long long row = blockIdx.x;
    const T* in = z + row * classes;
    T* out = g + row * classes;
    if ((lengths && t >= lengths[n]) || totals[n] < FAR / 2) {
        for (int c = threadIdx.x; c < classes; c += blockDim.x) out[c] = mg_to<T>(0.f);
        return;
    }
    int* letter = (int*)(share + S);
    const long long from = ((long long)n * steps + t) * S,
                    back = from + (long long)batch * steps * S;
    const float norm = lse[row];
    float blanks = 0.f;
    for (int s = threadIdx.x; s < S; s += blockDim.x) {
        letter[s] = states[(long long)n * S + s];
        const double step = (double)mg_float(in[letter[s]]) - norm;  // both walks have counted it
        const float v = (float)(walks[from + s] + walks[back + s] - step - totals[n]);
        share[s] = expf(v > 0.f ? 0.f : v);
        if (letter[s] == blank) blanks += share[s];
    }
    blanks = mg_row<Sum>(blanks);
    for (int c = threadIdx.x; c < classes; c += blockDim.x)
        out[c] = mg_to<T>(__expf(mg_float(in[c]) - norm) - (c == blank ? blanks : 0.f));
    __syncthreads();
    // the first state of a letter adds up for all of them, always in the same order
    for (int s = 2 * threadIdx.x + 1; s < S; s += 2 * blockDim.x) {
        const int mine = letter[s];
        bool first = mine != blank;
        for (int q = 1; q < s; q += 2) first = first && letter[q] != mine;
        if (!first) continue;
        float sum = 0.f;
        for (int q = s; q < S; q += 2) sum += letter[q] == mine ? share[q] : 0.f;
        out[mine] = mg_to<T>(__expf(mg_float(in[mine]) - norm) - sum);
    }
}
