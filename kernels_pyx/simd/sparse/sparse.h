/* Products of sparse weights, W (O, I), float32; layouts: kernels/sparse/lanes.py and rows.py.
 *
 * One column, y = W x. Sixteen rows are the lanes of a vector. A step takes at most one weight of
 * each row, all from the same 16 columns, which begin at base:
 *
 *     entries of a step   [ c15 o15 | ... | c1 o1 | c0 o0 ]   o: column - base, 4 bits; c: code
 *     x                   [ x[base + 15] ...      x[base] ]
 *     x of each lane      = permute(x, o)                     no gather: 16 floats, one register
 *     w of each lane      = permute(table, c)                 16 centroids are another
 *     sum of each lane   += w * x
 *
 *     portable   16 scalar steps
 *     avx2       half-vectors; 16 floats are two registers and a blend        4 times portable
 *     avx512     one permute each; up to 64 centroids are four registers      11 times portable
 *
 * Many columns, Y = W X: the columns are the lanes, a weight is broadcast, and the weights of a
 * row follow each other as relative index (gap and code in one entry) or as CSR. Rows are cut into
 * blocks of columns, so that the rows of X that a block meets stay in L1.
 *
 *     portable   sums of 64 columns in memory
 *     avx2       32 columns in 4 registers                                    2 times portable
 *     avx512     64 columns in 4 registers                                    4 times portable
 *
 * Every rung multiplies, rounds and adds in the same order and so gives the same bits; a fused
 * multiply-add would be no quicker where loads are the limit.
 */
#ifndef MINICOMP_SPARSE_H
#define MINICOMP_SPARSE_H

#include <stdint.h>
#include "../isa.h"

enum { SPARSE_LANES = 16, SPARSE_PANEL = 64 };
/* An entry: 8 bits, 16 bits, or a float32 with its place (8 bits) or column. */
enum { SPARSE_BYTE, SPARSE_WORD, SPARSE_VALUE };

/* --- one column --- */

typedef struct {
    const uint8_t *byte;  /* (steps, 16) offset | code << 4, or the offset beside a value */
    const uint16_t *word; /* (steps, 16) offset | code << 4 */
    const float *value;   /* (steps, 16) */
    const int32_t *base;  /* (steps,) */
    const float *table;   /* (k,) padded to a multiple of 16 */
    long k;
} Lanes;

/* sum[0..16) over steps from..to-1: even steps and odd steps apart, then added. */
ALWAYS_INLINE void lanes_plain(const Lanes *p, int kind, long from, long to, const float *x,
                               float *sum) {
    float part[2][SPARSE_LANES] = {{0}};
    for (long s = from; s < to; s++) {
        const float *window = x + p->base[s];
        float *a = part[(s - from) & 1];
        for (int l = 0; l < SPARSE_LANES; l++) {
            const long i = s * SPARSE_LANES + l;
            const unsigned e = kind == SPARSE_WORD ? p->word[i] : p->byte[i];
            a[l] += (kind == SPARSE_VALUE ? p->value[i] : p->table[e >> 4]) * window[e & 15];
        }
    }
    for (int l = 0; l < SPARSE_LANES; l++) sum[l] = part[0][l] + part[1][l];
}

static void lanes_portable(const Lanes *p, int kind, long from, long to, const float *x,
                           float *sum) {
    if (kind == SPARSE_BYTE) lanes_plain(p, SPARSE_BYTE, from, to, x, sum);
    else if (kind == SPARSE_WORD) lanes_plain(p, SPARSE_WORD, from, to, x, sum);
    else lanes_plain(p, SPARSE_VALUE, from, to, x, sum);
}

#ifdef MINICOMP_X86

/* The float of 16 that the low 4 bits of each index name: bit 3, as a sign, blends halves. */
ALWAYS_INLINE TARGET_AVX2 __m256 pick16_avx2(__m256 lo, __m256 hi, __m256i index) {
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(lo, index),
                            _mm256_permutevar8x32_ps(hi, index), upper);
}

ALWAYS_INLINE TARGET_AVX2 void lanes_steps_avx2(const Lanes *p, int kind, long from, long to,
                                                const float *x, float *sum) {
    const __m256 t0 = _mm256_loadu_ps(p->table), t1 = _mm256_loadu_ps(p->table + 8);
    __m256 part[2][2];
    for (int i = 0; i < 4; i++) part[i / 2][i % 2] = _mm256_setzero_ps();
    for (long s = from; s < to; s++) {
        const __m256 lo = _mm256_loadu_ps(x + p->base[s]), hi = _mm256_loadu_ps(x + p->base[s] + 8);
        for (int h = 0; h < 2; h++) {
            const long i = s * SPARSE_LANES + 8 * h;
            const __m256i e =
                kind == SPARSE_WORD
                    ? _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p->word + i)))
                    : _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p->byte + i)));
            const __m256i c = _mm256_srli_epi32(e, 4);
            const __m256 w = kind == SPARSE_VALUE  ? _mm256_loadu_ps(p->value + i)
                             : kind == SPARSE_BYTE ? pick16_avx2(t0, t1, c)
                                                   : _mm256_i32gather_ps(p->table, c, 4);
            const int odd = (s - from) & 1;
            part[odd][h] = _mm256_add_ps(part[odd][h], _mm256_mul_ps(w, pick16_avx2(lo, hi, e)));
        }
    }
    for (int h = 0; h < 2; h++)
        _mm256_storeu_ps(sum + 8 * h, _mm256_add_ps(part[0][h], part[1][h]));
}

TARGET_AVX2 static void lanes_avx2(const Lanes *p, int kind, long from, long to, const float *x,
                                   float *sum) {
    if (kind == SPARSE_BYTE) lanes_steps_avx2(p, SPARSE_BYTE, from, to, x, sum);
    else if (kind == SPARSE_WORD) lanes_steps_avx2(p, SPARSE_WORD, from, to, x, sum);
    else lanes_steps_avx2(p, SPARSE_VALUE, from, to, x, sum);
}

typedef struct {
    __m512 t0, t1, t2, t3;
} Table512;

/* One step: w * x of its 16 lanes.
 * permutexvar reads the low 4 bits of an index, permutex2var the low 5. */
ALWAYS_INLINE TARGET_AVX512 __m512 lanes_step_avx512(const Lanes *p, int kind, long size,
                                                     const Table512 *t, long s, const float *x) {
    const long i = s * SPARSE_LANES;
    const __m512i e =
        kind == SPARSE_WORD
            ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p->word + i)))
            : _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p->byte + i)));
    const __m512i c = _mm512_srli_epi32(e, 4);
    __m512 w;
    if (kind == SPARSE_VALUE) w = _mm512_loadu_ps(p->value + i);
    else if (size <= 16) w = _mm512_permutexvar_ps(c, t->t0);
    else if (size <= 32) w = _mm512_permutex2var_ps(t->t0, c, t->t1);
    else if (size <= 64)
        w = _mm512_mask_blend_ps(_mm512_test_epi32_mask(c, _mm512_set1_epi32(32)),
                                 _mm512_permutex2var_ps(t->t0, c, t->t1),
                                 _mm512_permutex2var_ps(t->t2, c, t->t3));
    else w = _mm512_i32gather_ps(c, p->table, 4);
    return _mm512_mul_ps(w, _mm512_permutexvar_ps(e, _mm512_loadu_ps(x + p->base[s])));
}

ALWAYS_INLINE TARGET_AVX512 void lanes_steps_avx512(const Lanes *p, int kind, long size, long from,
                                                    long to, const float *x, float *sum) {
    Table512 t;
    t.t0 = t.t1 = t.t2 = t.t3 = _mm512_setzero_ps();
    if (kind != SPARSE_VALUE) t.t0 = _mm512_loadu_ps(p->table);
    if (kind == SPARSE_WORD && p->k > 16) t.t1 = _mm512_loadu_ps(p->table + 16);
    if (kind == SPARSE_WORD && p->k > 32) t.t2 = _mm512_loadu_ps(p->table + 32);
    if (kind == SPARSE_WORD && p->k > 48) t.t3 = _mm512_loadu_ps(p->table + 48);
    __m512 even = _mm512_setzero_ps(), odd = even;
    long s = from;
    for (; s + 1 < to; s += 2) {
        even = _mm512_add_ps(even, lanes_step_avx512(p, kind, size, &t, s, x));
        odd = _mm512_add_ps(odd, lanes_step_avx512(p, kind, size, &t, s + 1, x));
    }
    if (s < to) even = _mm512_add_ps(even, lanes_step_avx512(p, kind, size, &t, s, x));
    _mm512_storeu_ps(sum, _mm512_add_ps(even, odd));
}

TARGET_AVX512 static void lanes_avx512(const Lanes *p, int kind, long from, long to, const float *x,
                                       float *sum) {
    if (kind == SPARSE_BYTE) lanes_steps_avx512(p, SPARSE_BYTE, 16, from, to, x, sum);
    else if (kind == SPARSE_VALUE) lanes_steps_avx512(p, SPARSE_VALUE, 0, from, to, x, sum);
    else if (p->k <= 32) lanes_steps_avx512(p, SPARSE_WORD, 32, from, to, x, sum);
    else if (p->k <= 64) lanes_steps_avx512(p, SPARSE_WORD, 64, from, to, x, sum);
    else lanes_steps_avx512(p, SPARSE_WORD, 4096, from, to, x, sum);
}
#else
#define lanes_avx2 lanes_portable
#define lanes_avx512 lanes_portable
#endif

/* Group g: y[row[16 g + l]] = the sum of lane l; a lane without a row has row -1. */
static void lanes_group(const Lanes *p, int kind, const int64_t *start, const int32_t *row, long g,
                        const float *x, float *y, int level) {
    float sum[SPARSE_LANES];
    if (level >= ISA_AVX512) lanes_avx512(p, kind, start[g], start[g + 1], x, sum);
    else if (level >= ISA_AVX2) lanes_avx2(p, kind, start[g], start[g + 1], x, sum);
    else lanes_portable(p, kind, start[g], start[g + 1], x, sum);
    for (int l = 0; l < SPARSE_LANES; l++)
        if (row[SPARSE_LANES * g + l] >= 0) y[row[SPARSE_LANES * g + l]] = sum[l];
}

/* --- many columns --- */

typedef struct {
    const uint8_t *byte;  /* gap - 1 | code << gap_bits */
    const uint16_t *word; /* the same in 16 bits */
    const float *value;   /* with column: CSR */
    const int32_t *column;
    const float *table;
    int gap_bits;
} Entries;

/* The weight of entry j; *col moves from the column of the entry before to its own. */
ALWAYS_INLINE float entry_at(const Entries *p, int kind, long j, long *col) {
    if (kind == SPARSE_VALUE) {
        *col = p->column[j];
        return p->value[j];
    }
    const unsigned e = kind == SPARSE_WORD ? p->word[j] : p->byte[j];
    *col += (long)(e & ((1u << p->gap_bits) - 1)) + 1;
    return p->table[e >> p->gap_bits];
}

/* y[0..n) += the entries from..to-1 times their rows of X, n <= 64 columns.
 * col: the column before the first entry. */
ALWAYS_INLINE void panel_plain(const Entries *p, int kind, long from, long to, long col,
                               const float *X, long ldx, float *RESTRICT y, long n) {
    for (long j = from; j < to; j++) {
        const float w = entry_at(p, kind, j, &col);
        const float *x = X + col * ldx;
        for (long i = 0; i < n; i++) y[i] += w * x[i];
    }
}

/* The same for one column, of stride ldx: the sum stays in a register. */
ALWAYS_INLINE void panel_column(const Entries *p, int kind, long from, long to, long col,
                                const float *X, long ldx, float *y) {
    float sum = *y;
    for (long j = from; j < to; j++) {
        const float w = entry_at(p, kind, j, &col);
        sum += w * X[col * ldx];
    }
    *y = sum;
}

static void panel_one(const Entries *p, int kind, long from, long to, long col, const float *X,
                      long ldx, float *y) {
    if (kind == SPARSE_BYTE) panel_column(p, SPARSE_BYTE, from, to, col, X, ldx, y);
    else if (kind == SPARSE_WORD) panel_column(p, SPARSE_WORD, from, to, col, X, ldx, y);
    else panel_column(p, SPARSE_VALUE, from, to, col, X, ldx, y);
}

static void panel_portable(const Entries *p, int kind, long from, long to, long col, const float *X,
                           long ldx, float *y, long n) {
    if (kind == SPARSE_BYTE) panel_plain(p, SPARSE_BYTE, from, to, col, X, ldx, y, n);
    else if (kind == SPARSE_WORD) panel_plain(p, SPARSE_WORD, from, to, col, X, ldx, y, n);
    else panel_plain(p, SPARSE_VALUE, from, to, col, X, ldx, y, n);
}

#ifdef MINICOMP_X86

ALWAYS_INLINE TARGET_AVX2 void panel_32_avx2(const Entries *p, int kind, long from, long to,
                                             long col, const float *X, long ldx, float *y) {
    __m256 a0 = _mm256_loadu_ps(y), a1 = _mm256_loadu_ps(y + 8);
    __m256 a2 = _mm256_loadu_ps(y + 16), a3 = _mm256_loadu_ps(y + 24);
    for (long j = from; j < to; j++) {
        const __m256 w = _mm256_set1_ps(entry_at(p, kind, j, &col));
        const float *x = X + col * ldx;
        a0 = _mm256_add_ps(a0, _mm256_mul_ps(w, _mm256_loadu_ps(x)));
        a1 = _mm256_add_ps(a1, _mm256_mul_ps(w, _mm256_loadu_ps(x + 8)));
        a2 = _mm256_add_ps(a2, _mm256_mul_ps(w, _mm256_loadu_ps(x + 16)));
        a3 = _mm256_add_ps(a3, _mm256_mul_ps(w, _mm256_loadu_ps(x + 24)));
    }
    _mm256_storeu_ps(y, a0);
    _mm256_storeu_ps(y + 8, a1);
    _mm256_storeu_ps(y + 16, a2);
    _mm256_storeu_ps(y + 24, a3);
}

ALWAYS_INLINE TARGET_AVX2 void panel_kind_avx2(const Entries *p, int kind, long from, long to,
                                               long col, const float *X, long ldx, float *y,
                                               long n) {
    long i = 0;
    for (; i + 32 <= n; i += 32) panel_32_avx2(p, kind, from, to, col, X + i, ldx, y + i);
    if (i < n) panel_plain(p, kind, from, to, col, X + i, ldx, y + i, n - i);
}

TARGET_AVX2 static void panel_avx2(const Entries *p, int kind, long from, long to, long col,
                                   const float *X, long ldx, float *y, long n) {
    if (kind == SPARSE_BYTE) panel_kind_avx2(p, SPARSE_BYTE, from, to, col, X, ldx, y, n);
    else if (kind == SPARSE_WORD) panel_kind_avx2(p, SPARSE_WORD, from, to, col, X, ldx, y, n);
    else panel_kind_avx2(p, SPARSE_VALUE, from, to, col, X, ldx, y, n);
}

/* Columns past n are masked out of loads and stores: m0..m3 are the masks of 16 columns each. */
ALWAYS_INLINE TARGET_AVX512 void panel_64_avx512(const Entries *p, int kind, long from, long to,
                                                 long col, const float *X, long ldx, float *y,
                                                 __mmask16 m0, __mmask16 m1, __mmask16 m2,
                                                 __mmask16 m3) {
    __m512 a0 = _mm512_maskz_loadu_ps(m0, y), a1 = _mm512_maskz_loadu_ps(m1, y + 16);
    __m512 a2 = _mm512_maskz_loadu_ps(m2, y + 32), a3 = _mm512_maskz_loadu_ps(m3, y + 48);
    for (long j = from; j < to; j++) {
        const __m512 w = _mm512_set1_ps(entry_at(p, kind, j, &col));
        const float *x = X + col * ldx;
        a0 = _mm512_add_ps(a0, _mm512_mul_ps(w, _mm512_maskz_loadu_ps(m0, x)));
        a1 = _mm512_add_ps(a1, _mm512_mul_ps(w, _mm512_maskz_loadu_ps(m1, x + 16)));
        a2 = _mm512_add_ps(a2, _mm512_mul_ps(w, _mm512_maskz_loadu_ps(m2, x + 32)));
        a3 = _mm512_add_ps(a3, _mm512_mul_ps(w, _mm512_maskz_loadu_ps(m3, x + 48)));
    }
    _mm512_mask_storeu_ps(y, m0, a0);
    _mm512_mask_storeu_ps(y + 16, m1, a1);
    _mm512_mask_storeu_ps(y + 32, m2, a2);
    _mm512_mask_storeu_ps(y + 48, m3, a3);
}

ALWAYS_INLINE TARGET_AVX512 void panel_kind_avx512(const Entries *p, int kind, long from, long to,
                                                   long col, const float *X, long ldx, float *y,
                                                   long n) {
    const uint64_t m = n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1;
    if (n == 64) panel_64_avx512(p, kind, from, to, col, X, ldx, y, 0xffff, 0xffff, 0xffff, 0xffff);
    else if (n > 16)
        panel_64_avx512(p, kind, from, to, col, X, ldx, y, (__mmask16)m, (__mmask16)(m >> 16),
                        (__mmask16)(m >> 32), (__mmask16)(m >> 48));
    else panel_64_avx512(p, kind, from, to, col, X, ldx, y, (__mmask16)m, 0, 0, 0);
}

TARGET_AVX512 static void panel_avx512(const Entries *p, int kind, long from, long to, long col,
                                       const float *X, long ldx, float *y, long n) {
    if (kind == SPARSE_BYTE) panel_kind_avx512(p, SPARSE_BYTE, from, to, col, X, ldx, y, n);
    else if (kind == SPARSE_WORD) panel_kind_avx512(p, SPARSE_WORD, from, to, col, X, ldx, y, n);
    else panel_kind_avx512(p, SPARSE_VALUE, from, to, col, X, ldx, y, n);
}
#else
#define panel_avx2 panel_portable
#define panel_avx512 panel_portable
#endif

/* Rows from_row..to_row-1 of Y (O, N), all blocks of `width` columns of W.
 * start: (blocks, O), and one more. */
static void sparse_rows(const Entries *p, int kind, const int32_t *start, long blocks, long width,
                        long O, long from_row, long to_row, const float *X, long N, float *Y,
                        int level) {
    for (long i = from_row * N; i < to_row * N; i++) Y[i] = 0;
    for (long n0 = 0; n0 < N; n0 += SPARSE_PANEL) {
        const long n = N - n0 < SPARSE_PANEL ? N - n0 : SPARSE_PANEL;
        for (long b = 0; b < blocks; b++)
            for (long o = from_row; o < to_row; o++) {
                const int32_t *at = start + b * O + o;
                const long col = b * width - 1;
                float *y = Y + o * N + n0;
                if (n == 1) panel_one(p, kind, at[0], at[1], col, X + n0, N, y);
                else if (level >= ISA_AVX512)
                    panel_avx512(p, kind, at[0], at[1], col, X + n0, N, y, n);
                else if (level >= ISA_AVX2) panel_avx2(p, kind, at[0], at[1], col, X + n0, N, y, n);
                else panel_portable(p, kind, at[0], at[1], col, X + n0, N, y, n);
            }
    }
}

#endif
