/* Sums and scalings per channel of M rows of C channels, float32: what batch normalisation needs.
 *
 * Sums run in double, so that they do not depend on how many rows there are. One source, compiled
 * for each rung; the compiler finds the lanes, and memory is the limit.
 */
#ifndef MINICOMP_NORM_H
#define MINICOMP_NORM_H

#include "../isa.h"

/* s[c] = sum of g, q[c] = sum of g (x - shift[c]), over the rows; s and q start at 0. */
ALWAYS_INLINE void norm_sums_any(const float *g, const float *x, const float *shift, long M, long C,
                                 double *RESTRICT s, double *RESTRICT q) {
    for (long i = 0; i < M; i++, g += C, x += C)
        for (long c = 0; c < C; c++) {
            const double v = g[c];
            s[c] += v;
            q[c] += v * ((double)x[c] - (double)shift[c]);
        }
}

/* s[c] = sum of x - shift[c], q[c] = sum of its square. */
ALWAYS_INLINE void norm_moments_any(const float *x, const float *shift, long M, long C,
                                    double *RESTRICT s, double *RESTRICT q) {
    for (long i = 0; i < M; i++, x += C)
        for (long c = 0; c < C; c++) {
            const double v = (double)x[c] - (double)shift[c];
            s[c] += v;
            q[c] += v * v;
        }
}

/* y = x a[c] + b[c] */
ALWAYS_INLINE void norm_affine_any(const float *x, const float *a, const float *b, long M, long C,
                                   float *RESTRICT y) {
    for (long i = 0; i < M; i++, x += C, y += C)
        for (long c = 0; c < C; c++) y[c] = x[c] * a[c] + b[c];
}

/* y = g a[c] + x b[c] + d[c] */
ALWAYS_INLINE void norm_blend_any(const float *g, const float *x, const float *a, const float *b,
                                  const float *d, long M, long C, float *RESTRICT y) {
    for (long i = 0; i < M; i++, g += C, x += C, y += C)
        for (long c = 0; c < C; c++) y[c] = g[c] * a[c] + x[c] * b[c] + d[c];
}

#ifdef MINICOMP_X86
#define NORM_RUNG(TARGET, rung) \
    TARGET static void norm_sums_##rung(const float *g, const float *x, const float *shift, \
                                        long M, long C, double *s, double *q) { \
        norm_sums_any(g, x, shift, M, C, s, q); \
    } \
    TARGET static void norm_moments_##rung(const float *x, const float *shift, long M, long C, \
                                           double *s, double *q) { \
        norm_moments_any(x, shift, M, C, s, q); \
    } \
    TARGET static void norm_affine_##rung(const float *x, const float *a, const float *b, long M, \
                                          long C, float *y) { \
        norm_affine_any(x, a, b, M, C, y); \
    } \
    TARGET static void norm_blend_##rung(const float *g, const float *x, const float *a, \
                                         const float *b, const float *d, long M, long C, \
                                         float *y) { \
        norm_blend_any(g, x, a, b, d, M, C, y); \
    }
NORM_RUNG(TARGET_AVX2, avx2)
NORM_RUNG(TARGET_AVX512, avx512)
#define NORM_CALL(level, name, ...) \
    if ((level) >= ISA_AVX512) name##_avx512(__VA_ARGS__); \
    else if ((level) >= ISA_AVX2) name##_avx2(__VA_ARGS__); \
    else name##_any(__VA_ARGS__)
#else
#define NORM_CALL(level, name, ...) name##_any(__VA_ARGS__)
#endif

static void norm_sums(const float *g, const float *x, const float *shift, long M, long C, double *s,
                      double *q, int level) {
    NORM_CALL(level, norm_sums, g, x, shift, M, C, s, q);
}
static void norm_moments(const float *x, const float *shift, long M, long C, double *s, double *q,
                         int level) {
    NORM_CALL(level, norm_moments, x, shift, M, C, s, q);
}
static void norm_affine(const float *x, const float *a, const float *b, long M, long C, float *y,
                        int level) {
    NORM_CALL(level, norm_affine, x, a, b, M, C, y);
}
static void norm_blend(const float *g, const float *x, const float *a, const float *b,
                       const float *d, long M, long C, float *y, int level) {
    NORM_CALL(level, norm_blend, g, x, a, b, d, M, C, y);
}

#endif
