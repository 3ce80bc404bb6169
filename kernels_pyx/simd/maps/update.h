/* Elementwise passes of a training step, float32: ReLU's cotangent, SGD. One source, compiled for
 * each rung: the compiler finds the lanes, and memory is the limit.
 */
#ifndef MINICOMP_UPDATE_H
#define MINICOMP_UPDATE_H

#include "../isa.h"

/* dx = g where y > 0, else 0; without a branch: signs are as good as random. */
ALWAYS_INLINE void relu_dx_any(const float *g, const float *y, long n, float *RESTRICT dx) {
    for (long i = 0; i < n; i++) {
        const float v = g[i];
        dx[i] = y[i] > 0.0f ? v : 0.0f;
    }
}

/* v = momentum v + (g + decay w);  w = w - lr v */
ALWAYS_INLINE void sgd_any(float *RESTRICT w, float *RESTRICT v, const float *g, long n, float lr,
                           float momentum, float decay) {
    for (long i = 0; i < n; i++) {
        v[i] = momentum * v[i] + (g[i] + decay * w[i]);
        w[i] -= lr * v[i];
    }
}

#ifdef MINICOMP_X86
#define UPDATE_RUNG(TARGET, rung) \
    TARGET static void relu_dx_##rung(const float *g, const float *y, long n, float *dx) { \
        relu_dx_any(g, y, n, dx); \
    } \
    TARGET static void sgd_##rung(float *w, float *v, const float *g, long n, float lr, \
                                  float momentum, float decay) { \
        sgd_any(w, v, g, n, lr, momentum, decay); \
    }
UPDATE_RUNG(TARGET_AVX2, avx2)
UPDATE_RUNG(TARGET_AVX512, avx512)
#define UPDATE_CALL(level, name, ...) \
    if ((level) >= ISA_AVX512) name##_avx512(__VA_ARGS__); \
    else if ((level) >= ISA_AVX2) name##_avx2(__VA_ARGS__); \
    else name##_any(__VA_ARGS__)
#else
#define UPDATE_CALL(level, name, ...) name##_any(__VA_ARGS__)
#endif

static void update_relu_dx(const float *g, const float *y, long n, float *dx, int level) {
    UPDATE_CALL(level, relu_dx, g, y, n, dx);
}
static void update_sgd(float *w, float *v, const float *g, long n, float lr, float momentum,
                       float decay, int level) {
    UPDATE_CALL(level, sgd, w, v, g, n, lr, momentum, decay);
}

#endif
