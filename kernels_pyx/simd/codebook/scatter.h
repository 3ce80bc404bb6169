/* The gradient of shared weights: out[j] = the sum of all g[i] with index[i] = j, i < n, j < k.
 *
 * Sums run in double. Additions to one place wait for each other, and equal indices are frequent
 * (most weights of a pruned layer are 0), so entry i adds to table i mod 8 of eight:
 *
 *     g        [ g7 | ... | g1 | g0 ]     eight floats, widened at once
 *     sums     table[index[i]][7 .. 0]    eight doubles, one cache line: lane l only meets lane l
 *     out[j] = ((t0 + t1) + (t2 + t3)) + ((t4 + t5) + (t6 + t7))        t = table[j]
 *
 * Every rung adds in this order and gives the same bits.
 *
 *     portable   8 times NumPy's bincount, 25 times where 9 of 10 entries have one index
 *     avx2       the widening is one instruction: 1.15 times portable
 *     avx512     entries of index 0 add up in a register, masked, without a table: 2.8 times
 *                portable where 9 of 10 are 0, else as avx2
 */
#ifndef MINICOMP_SCATTER_H
#define MINICOMP_SCATTER_H

#include "lookup.h"

enum { SCATTER_LANES = 8 };

#define SCATTER_PLAIN(bits) \
    static void scatter_plain##bits(const float *g, const uint##bits##_t *index, long n, \
                                    double *table) { \
        long i = 0; \
        for (; i + SCATTER_LANES <= n; i += SCATTER_LANES) \
            for (int l = 0; l < SCATTER_LANES; l++) \
                table[(long)index[i + l] * SCATTER_LANES + l] += g[i + l]; \
        for (int l = 0; i + l < n; l++) table[(long)index[i + l] * SCATTER_LANES + l] += g[i + l]; \
    }
SCATTER_PLAIN(8)
SCATTER_PLAIN(16)
SCATTER_PLAIN(32)

#ifdef MINICOMP_X86

TARGET_AVX2 static long scatter8_avx2(const float *g, const uint8_t *index, long n, double *table) {
    double wide[SCATTER_LANES];
    long i = 0;
    for (; i + SCATTER_LANES <= n; i += SCATTER_LANES) {
        _mm256_storeu_pd(wide, _mm256_cvtps_pd(_mm_loadu_ps(g + i)));
        _mm256_storeu_pd(wide + 4, _mm256_cvtps_pd(_mm_loadu_ps(g + i + 4)));
        for (int l = 0; l < SCATTER_LANES; l++)
            table[index[i + l] * SCATTER_LANES + l] += wide[l];
    }
    return i;
}

/* Index 0 adds up in the lanes of `zero`. Where at most 8 of 16 entries have another index, their
 * bits are walked; else all 16 are added, those of index 0 as +0 to row 0, which is overwritten at
 * the end. */
TARGET_AVX512 static long scatter8_avx512(const float *g, const uint8_t *index, long n,
                                          double *table) {
    double wide[2 * SCATTER_LANES];
    __m512d zero = _mm512_loadu_pd(table);
    long i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m128i c = _mm_loadu_si128((const __m128i *)(index + i));
        unsigned other = _mm_test_epi8_mask(c, c);
        const __m512d lo = _mm512_cvtps_pd(_mm256_loadu_ps(g + i));
        const __m512d hi = _mm512_cvtps_pd(_mm256_loadu_ps(g + i + 8));
        zero = _mm512_mask_add_pd(zero, (__mmask8)~other, zero, lo);
        zero = _mm512_mask_add_pd(zero, (__mmask8)(~other >> 8), zero, hi);
        if (other == 0) continue;
        if (__builtin_popcount(other) > 8) {
            _mm512_storeu_pd(wide, _mm512_maskz_mov_pd((__mmask8)other, lo));
            _mm512_storeu_pd(wide + 8, _mm512_maskz_mov_pd((__mmask8)(other >> 8), hi));
            for (int l = 0; l < 16; l++)
                table[index[i + l] * SCATTER_LANES + (l & 7)] += wide[l];
        } else {
            for (; other; other &= other - 1) {
                const int l = __builtin_ctz(other);
                table[index[i + l] * SCATTER_LANES + (l & 7)] += g[i + l];
            }
        }
    }
    _mm512_storeu_pd(table, zero);
    return i;
}
#endif

static void scatter8(const float *g, const uint8_t *index, long n, double *table, int level) {
    long i = 0;
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) i = scatter8_avx512(g, index, n, table);
    else if (level >= ISA_AVX2) i = scatter8_avx2(g, index, n, table);
#endif
    scatter_plain8(g + i, index + i, n - i, table); /* i is a multiple of 8 */
}

/* table: (k, 8) doubles, all 0; width: bytes of an index. Returns the largest index; does nothing
 * where that is not below k. */
static int64_t scatter(const float *g, const void *index, int width, long n, double *table, long k,
                       float *out, int level) {
    const int64_t top = lookup_top(index, width, n);
    if (top >= k) return top;
    if (width == 1) scatter8(g, (const uint8_t *)index, n, table, level);
    else if (width == 2) scatter_plain16(g, (const uint16_t *)index, n, table);
    else scatter_plain32(g, (const uint32_t *)index, n, table);
    for (long j = 0; j < k; j++, table += SCATTER_LANES)
        out[j] = (float)(((table[0] + table[1]) + (table[2] + table[3]))
                         + ((table[4] + table[5]) + (table[6] + table[7])));
    return top;
}

#endif
