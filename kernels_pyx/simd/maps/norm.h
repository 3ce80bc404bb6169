/* Sums and scalings per channel of M rows of C channels, float32: what batch normalisation needs.
 *
 * Sums run in double, so that they do not depend on how many rows there are. One source, compiled
 * for each rung; the compiler finds the lanes, and memory is the limit. So a rectifier behind the
 * normalisation costs nothing in the same pass: y = min(max(x a + b, 0), top). Its cotangent is g
 * where x a + b lies strictly between 0 and top, which is computed again, to the same bits, where
 * to keep and read it would be a pass over memory. `gate` says whether there is one.
 */
#ifndef MINICOMP_NORM_H
#define MINICOMP_NORM_H

#include "../isa.h"

/* A rectifier behind x a + b: a, b (C,); a == 0: none. */
typedef struct { const float *a, *b; float top; } Gate;

ALWAYS_INLINE float norm_through(float g, float x, float a, float b, float top) {
    const float y = x * a + b;
    return y > 0.0f && y < top ? g : 0.0f;
}

/* R rows at once, so that what belongs to a channel is loaded once for them; a channel's sum still
 * takes one row after the other. `each(R)` is the body of a pass over the channels, for rows i to
 * i + R - 1. */
#define NORM_ROWS(M, C, each) \
    long i = 0; \
    for (; i + 4 <= (M); i += 4) \
        for (long c = 0; c < (C); c++) each(4); \
    for (; i < (M); i++) \
        for (long c = 0; c < (C); c++) each(1);

/* s[c] = sum of g, q[c] = sum of g (x - shift[c]), over the rows; s and q start at 0. */
ALWAYS_INLINE void norm_sums_any(const float *g, const float *x, const float *shift, Gate gate,
                                 long M, long C, double *RESTRICT s, double *RESTRICT q,
                                 const int GATE) {
#define EACH(R) { \
    const float a = GATE ? gate.a[c] : 0.0f, b = GATE ? gate.b[c] : 0.0f; \
    const double off = shift[c]; \
    double sum = s[c], product = q[c]; \
    UNROLL for (long at = i * C + c, r = 0; r < R; r++, at += C) { \
        const double v = GATE ? norm_through(g[at], x[at], a, b, gate.top) : g[at]; \
        sum += v; \
        product += v * ((double)x[at] - off); \
    } \
    s[c] = sum; \
    q[c] = product; \
}
    NORM_ROWS(M, C, EACH)
#undef EACH
}

/* s[c] = sum of x - shift[c], q[c] = sum of its square. */
ALWAYS_INLINE void norm_moments_any(const float *x, const float *shift, long M, long C,
                                    double *RESTRICT s, double *RESTRICT q) {
#define EACH(R) { \
    const double off = shift[c]; \
    double sum = s[c], square = q[c]; \
    UNROLL for (long at = i * C + c, r = 0; r < R; r++, at += C) { \
        const double v = (double)x[at] - off; \
        sum += v; \
        square += v * v; \
    } \
    s[c] = sum; \
    q[c] = square; \
}
    NORM_ROWS(M, C, EACH)
#undef EACH
}

/* y = x a[c] + b[c], or that between 0 and top; NaN stays NaN. */
ALWAYS_INLINE void norm_affine_any(const float *x, const float *a, const float *b, long M, long C,
                                   float top, float *RESTRICT y, const int GATE) {
#define EACH(R) { \
    const float by = a[c], plus = b[c]; \
    UNROLL for (long at = i * C + c, r = 0; r < R; r++, at += C) { \
        float v = x[at] * by + plus; \
        if (GATE) { \
            v = v < 0.0f ? 0.0f : v; \
            v = v > top ? top : v; \
        } \
        y[at] = v; \
    } \
}
    NORM_ROWS(M, C, EACH)
#undef EACH
}

/* y = g a[c] + x b[c] + d[c], of the cotangent g that the gate lets through */
ALWAYS_INLINE void norm_blend_any(const float *g, const float *x, const float *a, const float *b,
                                  const float *d, Gate gate, long M, long C, float *RESTRICT y,
                                  const int GATE) {
#define EACH(R) { \
    const float ga = GATE ? gate.a[c] : 0.0f, gb = GATE ? gate.b[c] : 0.0f; \
    const float of_g = a[c], of_x = b[c], plus = d[c]; \
    UNROLL for (long at = i * C + c, r = 0; r < R; r++, at += C) { \
        const float v = GATE ? norm_through(g[at], x[at], ga, gb, gate.top) : g[at]; \
        y[at] = v * of_g + x[at] * of_x + plus; \
    } \
}
    NORM_ROWS(M, C, EACH)
#undef EACH
}

#define NORM_RUNG(TARGET, rung) \
    TARGET static void norm_sums_##rung(const float *g, const float *x, const float *shift, \
                                        Gate gate, long M, long C, double *s, double *q) { \
        if (gate.a) norm_sums_any(g, x, shift, gate, M, C, s, q, 1); \
        else norm_sums_any(g, x, shift, gate, M, C, s, q, 0); \
    } \
    TARGET static void norm_moments_##rung(const float *x, const float *shift, long M, long C, \
                                           double *s, double *q) { \
        norm_moments_any(x, shift, M, C, s, q); \
    } \
    TARGET static void norm_affine_##rung(const float *x, const float *a, const float *b, \
                                          int gated, long M, long C, float top, float *y) { \
        if (gated) norm_affine_any(x, a, b, M, C, top, y, 1); \
        else norm_affine_any(x, a, b, M, C, top, y, 0); \
    } \
    TARGET static void norm_blend_##rung(const float *g, const float *x, const float *a, \
                                         const float *b, const float *d, Gate gate, long M, \
                                         long C, float *y) { \
        if (gate.a) norm_blend_any(g, x, a, b, d, gate, M, C, y, 1); \
        else norm_blend_any(g, x, a, b, d, gate, M, C, y, 0); \
    }
NORM_RUNG(, portable)
#ifdef MINICOMP_X86
NORM_RUNG(TARGET_AVX2, avx2)
NORM_RUNG(TARGET_AVX512, avx512)
#define NORM_CALL(level, name, ...) \
    if ((level) >= ISA_AVX512) name##_avx512(__VA_ARGS__); \
    else if ((level) >= ISA_AVX2) name##_avx2(__VA_ARGS__); \
    else name##_portable(__VA_ARGS__)
#else
#define NORM_CALL(level, name, ...) name##_portable(__VA_ARGS__)
#endif

static void norm_sums(const float *g, const float *x, const float *shift, Gate gate, long M, long C,
                      double *s, double *q, int level) {
    NORM_CALL(level, norm_sums, g, x, shift, gate, M, C, s, q);
}
static void norm_moments(const float *x, const float *shift, long M, long C, double *s, double *q,
                         int level) {
    NORM_CALL(level, norm_moments, x, shift, M, C, s, q);
}
static void norm_affine(const float *x, const float *a, const float *b, int gated, long M, long C,
                        float top, float *y, int level) {
    NORM_CALL(level, norm_affine, x, a, b, gated, M, C, top, y);
}
static void norm_blend(const float *g, const float *x, const float *a, const float *b,
                       const float *d, Gate gate, long M, long C, float *y, int level) {
    NORM_CALL(level, norm_blend, g, x, a, b, d, gate, M, C, y);
}

#endif
