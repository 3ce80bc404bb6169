/* One column times N:M weights, y = W x, W (O, I), float32: of every m consecutive weights of a row
 * n are kept. Contract and layout: minicomp/kernels/sparse/nm.py.
 *
 * Sixteen rows are the lanes of a vector, as in sparse.h. All of them keep n weights in every
 * block, so a window of x, as many blocks as fit 16 columns, serves a fixed number of steps:
 * nothing says where a step begins, and no lane ever waits.
 *
 *     window, 2:4          x[16 v .. 16 v + 15], four blocks, eight steps
 *     places of a step     [ p15 | ... | p1 | p0 ]   column in the window, 4 bits: one word
 *     x of each lane       = permute(x, p)           no gather: 16 floats, one register
 *     sum of each lane    += w * x
 *
 * Even lanes lie in the low half of the word, odd lanes in the high one, so that broadcasting it
 * and shifting each 32-bit lane by 4 (l / 2) unpacks all sixteen; permute reads the low 4 bits.
 *
 *     portable   16 scalar lanes
 *     avx2       half-vectors; 16 floats are two registers and a blend       3 times portable
 *     avx512     one permute                                                 5 times portable
 *
 * Even and odd steps are summed apart, then added: the same order on every rung, so the same bits.
 */
#ifndef MINICOMP_NM_H
#define MINICOMP_NM_H

#include "sparse.h"

typedef struct {
    const float *value;    /* (groups, windows, steps, 16) */
    const uint64_t *place; /* (groups, windows, steps) */
    long windows, steps, width; /* width: columns of a window */
} NM;

static void nm_portable(const NM *p, long g, const float *x, float *sum) {
    float part[2][SPARSE_LANES] = {{0}};
    for (long s = 0; s < p->windows * p->steps; s++) {
        const long i = g * p->windows * p->steps + s;
        const float *window = x + s / p->steps * p->width, *w = p->value + i * SPARSE_LANES;
        for (int l = 0; l < SPARSE_LANES; l++) {
            const int place = (int)(p->place[i] >> (4 * ((l & 1) * 8 + l / 2)) & 15);
            part[s & 1][l] += w[l] * window[place];
        }
    }
    for (int l = 0; l < SPARSE_LANES; l++) sum[l] = part[0][l] + part[1][l];
}

#ifdef MINICOMP_X86

TARGET_AVX2 static void nm_avx2(const NM *p, long g, const float *x, float *sum) {
    const __m256i shift[2] = {_mm256_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12),
                              _mm256_setr_epi32(16, 16, 20, 20, 24, 24, 28, 28)};
    const uint64_t *place = p->place + g * p->windows * p->steps;
    const float *w = p->value + g * p->windows * p->steps * SPARSE_LANES;
    __m256 part[2][2];
    for (int i = 0; i < 4; i++) part[i / 2][i % 2] = _mm256_setzero_ps();
    for (long v = 0, s = 0; v < p->windows; v++) {
        const __m256 lo = _mm256_loadu_ps(x + v * p->width);
        const __m256 hi = _mm256_loadu_ps(x + v * p->width + 8);
        for (long i = 0; i < p->steps; i++, s++, w += SPARSE_LANES) {
            const __m256i word = _mm256_set1_epi64x((long long)place[s]);
            for (int h = 0; h < 2; h++) {
                const __m256 picked = pick16_avx2(lo, hi, _mm256_srlv_epi32(word, shift[h]));
                part[s & 1][h] = _mm256_add_ps(
                    part[s & 1][h], _mm256_mul_ps(_mm256_loadu_ps(w + 8 * h), picked));
            }
        }
    }
    for (int h = 0; h < 2; h++)
        _mm256_storeu_ps(sum + 8 * h, _mm256_add_ps(part[0][h], part[1][h]));
}

/* w * x of the 16 lanes of a step. */
ALWAYS_INLINE TARGET_AVX512 __m512 nm_step_avx512(__m512 window, uint64_t place, const float *w,
                                                  __m512i shift) {
    const __m512i at = _mm512_srlv_epi32(_mm512_set1_epi64((long long)place), shift);
    return _mm512_mul_ps(_mm512_loadu_ps(w), _mm512_permutexvar_ps(at, window));
}

TARGET_AVX512 static void nm_avx512(const NM *p, long g, const float *x, float *sum) {
    const __m512i shift =
        _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    const uint64_t *place = p->place + g * p->windows * p->steps;
    const float *w = p->value + g * p->windows * p->steps * SPARSE_LANES;
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (long v = 0; v < p->windows; v++) {
        const __m512 window = _mm512_loadu_ps(x + v * p->width);
        long i = 0;
        for (; i + 1 < p->steps; i += 2, place += 2, w += 2 * SPARSE_LANES) {
            even = _mm512_add_ps(even, nm_step_avx512(window, place[0], w, shift));
            odd = _mm512_add_ps(odd, nm_step_avx512(window, place[1], w + SPARSE_LANES, shift));
        }
        if (i < p->steps) { /* an odd number of steps: the next window's first is an odd one */
            const __m512 last = _mm512_add_ps(even, nm_step_avx512(window, *place, w, shift));
            even = odd, odd = last;
            place++, w += SPARSE_LANES;
        }
    }
    /* a sum of two has no order, so that it does not matter which of them is which */
    _mm512_storeu_ps(sum, _mm512_add_ps(even, odd));
}
#else
#define nm_avx2 nm_portable
#define nm_avx512 nm_portable
#endif

/* Rows 16 g .. 16 g + 15 of y, those that there are. x: windows * width + 16 floats. */
static void nm_group(const NM *p, long g, long O, const float *x, float *y, int level) {
    float sum[SPARSE_LANES];
    if (level >= ISA_AVX512) nm_avx512(p, g, x, sum);
    else if (level >= ISA_AVX2) nm_avx2(p, g, x, sum);
    else nm_portable(p, g, x, sum);
    for (long l = 0; l < SPARSE_LANES && SPARSE_LANES * g + l < O; l++)
        y[SPARSE_LANES * g + l] = sum[l];
}

#endif
