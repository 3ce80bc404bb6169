/* Which interval of a line a number falls into: the count of edges below it.
 *
 *   out[i] = #{j : edge[j] < x[i]}     edge ascending, m of them; of a NaN m, it sorts last
 *
 * Up to 64 edges each is compared with a block of numbers: no branch, no dependence between
 * numbers, so the compiler fills its vectors (4, 8 or 16 floats by rung). Beyond that, halving the
 * edges takes fewer steps than comparing with all. All rungs compare the same floats and are equal
 * bit for bit.
 *
 *   portable   4 comparisons an instruction (SSE2, NEON)
 *   avx2       8                                   1.6 times portable at 15 edges
 *   avx512     16                                  2.1 times
 */
#ifndef MINICOMP_KMEANS_H
#define MINICOMP_KMEANS_H

#include <stdint.h>
#include "../isa.h"

enum { KMEANS_BLOCK = 256, KMEANS_COUNTED = 64 };

ALWAYS_INLINE void kmeans_count(const float *RESTRICT x, const float *RESTRICT edge, long m,
                                uint16_t *RESTRICT out) {
    int32_t below[KMEANS_BLOCK];
    for (long i = 0; i < KMEANS_BLOCK; i++) below[i] = 0;
    for (long j = 0; j < m; j++) {
        const float e = edge[j];
        for (long i = 0; i < KMEANS_BLOCK; i++) below[i] += !(e >= x[i]);
    }
    for (long i = 0; i < KMEANS_BLOCK; i++) out[i] = (uint16_t)below[i];
}

static void kmeans_count_portable(const float *x, const float *edge, long m, uint16_t *out) {
    kmeans_count(x, edge, m, out);
}

/* A search without branches: `at` edges are known to lie below v, `left` are undecided. */
static void kmeans_search(const float *x, long n, const float *edge, long m, uint16_t *out) {
    for (long i = 0; i < n; i++) {
        const float v = x[i];
        long at = 0, left = m;
        while (left > 1) {
            const long half = left / 2;
            at += !(edge[at + half - 1] >= v) ? half : 0;
            left -= half;
        }
        out[i] = (uint16_t)(at + (m > 0 && !(edge[at] >= v)));
    }
}

#ifdef MINICOMP_X86
TARGET_AVX2
static void kmeans_count_avx2(const float *x, const float *edge, long m, uint16_t *out) {
    kmeans_count(x, edge, m, out);
}
#ifdef __clang__
TARGET_AVX512
#else /* gcc stays at 8 lanes unless told */
__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
static void kmeans_count_avx512(const float *x, const float *edge, long m, uint16_t *out) {
    kmeans_count(x, edge, m, out);
}
#else
#define kmeans_count_avx2 kmeans_count_portable
#define kmeans_count_avx512 kmeans_count_portable
#endif

static void kmeans_nearest(const float *x, long n, const float *edge, long m, uint16_t *out,
                           int level) {
    long i = 0;
    if (m <= KMEANS_COUNTED)
        for (; i + KMEANS_BLOCK <= n; i += KMEANS_BLOCK) {
            if (level >= ISA_AVX512) kmeans_count_avx512(x + i, edge, m, out + i);
            else if (level >= ISA_AVX2) kmeans_count_avx2(x + i, edge, m, out + i);
            else kmeans_count_portable(x + i, edge, m, out + i);
        }
    kmeans_search(x + i, n - i, edge, m, out + i);
}

#endif
