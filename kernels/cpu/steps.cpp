// Between the products of a training step: updates of weights, each in one walk over all that it reads and writes.
#include "loops.h"

// The gradient d of a weight w with its decay: without one an infinite weight has no share.
static inline float decayed(float d, float w, float wd) { return wd == 0 ? d : d + wd * w; }

extern "C" {

// mom' = momentum mom - lr d, w' = w + mom', where the clipped gradient is decayed: d = clip(rescale g) + wd w.
void momentum(size n, float *w, const float *g, float *mom, float lr, float momentum, float wd, float rescale,
              float clip) {
    EACH(j, n) {
        float m = momentum * mom[j] - lr * decayed(within(g[j] * rescale, -clip, clip), w[j], wd);
        mom[j] = m;
        w[j] += m;
    }
}

// Running means of d and d², where the decayed gradient is clipped: d = clip(rescale g + wd w); and a step against
// their ratio, from `keep` times the weight. What is new in a mean, 1 - beta, comes as `new1` and `new2`: in single
// precision 1 - 0.999f has lost three digits.
void adam(size n, float *w, const float *g, float *mean, float *var, float keep, float lr, float beta1, float new1,
          float beta2, float new2, float epsilon, float wd, float rescale, float clip) {
    EACH(j, n) {
        float v = keep * w[j], d = within(decayed(g[j] * rescale, v, wd), -clip, clip);
        float m = beta1 * mean[j] + new1 * d, s = beta2 * var[j] + new2 * (d * d);
        mean[j] = m;
        var[j] = s;
        w[j] = v - lr * m / (__builtin_sqrtf(s) + epsilon);
    }
}
}
