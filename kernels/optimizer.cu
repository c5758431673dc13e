// One step of an optimizer for all parameters of a network, in one launch.
#include "mg.cuh"

enum { SGD, MOMENTUM, ADAM };

// Block b works on the numbers from begin[b] on of tensor which[b], `chunk` of them at most.
// `arrays` is a table of addresses: weights, gradients, states, each `tensors` long; `rates` has
// the learning rate and the decay of each tensor. A negative `clip` does not clip.
template <class T, int STEP>
__global__ void update(const unsigned long long* __restrict__ arrays,
                       const long long* __restrict__ sizes, const int* __restrict__ which,
                       const long long* __restrict__ begin, const float* __restrict__ rates,
                       int tensors, int chunk, float rescale, float clip, float beta1, float beta2,
                       float epsilon) {
    const int t = which[blockIdx.x];
    const long long first = begin[blockIdx.x], last = min(sizes[t], first + chunk);
    T* w = (T*)arrays[t];
    const T* g = (const T*)arrays[tensors + t];
    T* s = STEP > SGD ? (T*)arrays[2 * tensors + t] : nullptr;
    T* q = STEP > MOMENTUM ? (T*)arrays[3 * tensors + t] : nullptr;
    const float lr = rates[2 * t], wd = rates[2 * t + 1];
    for (long long i = first + threadIdx.x; i < last; i += blockDim.x) {
        const float x = mg_float(w[i]);
        float d = mg_float(g[i]) * rescale;
        if (STEP == ADAM) {  // the decay is part of what is clipped
            d += wd * x;
            if (clip >= 0.f) d = fminf(fmaxf(d, -clip), clip);
            const float m = beta1 * mg_float(s[i]) + (1.f - beta1) * d;
            const float v = beta2 * mg_float(q[i]) + (1.f - beta2) * d * d;
            s[i] = mg_to<T>(m);
            q[i] = mg_to<T>(v);
            w[i] = mg_to<T>(x - lr * m / (sqrtf(v) + epsilon));
        } else {
            if (clip >= 0.f) d = fminf(fmaxf(d, -clip), clip);
            d = lr * (d + wd * x);
            if (STEP == MOMENTUM) {
                const float m = beta1 * mg_float(s[i]) - d;
                s[i] = mg_to<T>(m);
                w[i] = mg_to<T>(x + m);
            } else {
                w[i] = mg_to<T>(x - d);
            }
        }
    }
}
