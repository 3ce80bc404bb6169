/* Products of codewords by look-up, y[o] = sum_i T[i][code[o][i]]; see kernels/codebook/tables.py.
 *
 * Sixteen rows are the lanes of a vector, four such vectors a group. Of up to 16 codewords a table
 * is one register, and a lane holds the codes of 8 positions as 4 bits each: a permute reads only
 * the low 4 bits of its index, so nothing is unpacked.
 *
 *     codes of 16 rows    [ row 15: i7 .. i1 i0 | ... | row 0: i7 .. i1 i0 ]     8 positions
 *     T[i] of each lane   = permute(T[i], codes)              codes >>= 4 for the next position
 *     sum of each lane   += that
 *
 * That is a shift, a permute and an addition for 16 weights: the products are in the tables, which
 * 64 rows share. Of up to 256 codewords a code is a byte, and each is a load.
 *
 *     portable   a look-up a row
 *     avx2       half-vectors, a table is two registers and a blend; bytes as portable
 *     avx512     one permute each
 *
 * Every rung adds in the same order and so gives the same bits.
 */
#ifndef MINICOMP_TABLES_H
#define MINICOMP_TABLES_H

#include <stdint.h>
#include "../isa.h"

enum { TABLE_LANES = 16, TABLE_VECTORS = 4, TABLE_ROWS = 64, TABLE_CHUNK = 8 };

/* table[i] (K,) = sum_j x[j] book[i][j] (K,), d numbers j; book moves on by `step` a table. */
ALWAYS_INLINE void tables_plain(const float *RESTRICT book, long step, const float *RESTRICT x,
                                long n, long d, const long K, float *RESTRICT table) {
    for (long i = 0; i < n; i++, book += step, x += d, table += K) {
        for (long c = 0; c < K; c++) table[c] = x[0] * book[c];
        for (long j = 1; j < d; j++)
            for (long c = 0; c < K; c++) table[c] += x[j] * book[K * j + c];
    }
}

/* y[0..64) += the sums over n positions, a multiple of 8, of codes of 4 bits. */
static void table_sums4_portable(const uint32_t *code, const float *table, long n, float *y) {
    float sum[TABLE_ROWS] = {0};
    for (long i = 0; i < n; i += TABLE_CHUNK, code += TABLE_ROWS)
        for (int j = 0; j < TABLE_CHUNK; j++) {
            const float *t = table + TABLE_LANES * (i + j);
            for (int r = 0; r < TABLE_ROWS; r++) sum[r] += t[code[r] >> (4 * j) & 15];
        }
    for (int r = 0; r < TABLE_ROWS; r++) y[r] += sum[r];
}

/* y[0..64) += the sums over n positions of codes of a byte; tables of 256. */
static void table_sums8(const uint8_t *code, const float *table, long n, float *y) {
    float sum[TABLE_ROWS] = {0};
    for (long i = 0; i < n; i++, code += TABLE_ROWS, table += 256)
        for (int r = 0; r < TABLE_ROWS; r++) sum[r] += table[code[r]];
    for (int r = 0; r < TABLE_ROWS; r++) y[r] += sum[r];
}

#ifdef MINICOMP_X86
TARGET_AVX2 static void tables_avx2(const float *book, long step, const float *x, long n, long d,
                                    long K, float *table) {
    if (K == 16) tables_plain(book, step, x, n, d, 16, table);
    else tables_plain(book, step, x, n, d, 256, table);
}

TARGET_AVX512_WIDE static void tables_avx512(const float *book, long step, const float *x, long n,
                                             long d, long K, float *table) {
    if (K == 16) tables_plain(book, step, x, n, d, 16, table);
    else tables_plain(book, step, x, n, d, 256, table);
}

TARGET_AVX2 static void table_sums4_avx2(const uint32_t *code, const float *table, long n,
                                         float *y) {
    for (int half = 0; half < TABLE_ROWS; half += 32) { /* 32 rows: 4 sums and their codes */
        __m256 sum[4];
        UNROLL for (int v = 0; v < 4; v++) sum[v] = _mm256_setzero_ps();
        const uint32_t *c = code + half;
        for (long i = 0; i < n; i += TABLE_CHUNK, c += TABLE_ROWS) {
            __m256i index[4];
            UNROLL for (int v = 0; v < 4; v++)
                index[v] = _mm256_loadu_si256((const __m256i *)(c + 8 * v));
            for (int j = 0; j < TABLE_CHUNK; j++) {
                const float *t = table + TABLE_LANES * (i + j);
                const __m256 lo = _mm256_loadu_ps(t), hi = _mm256_loadu_ps(t + 8);
                UNROLL for (int v = 0; v < 4; v++) {
                    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index[v], 28));
                    sum[v] = _mm256_add_ps(
                        sum[v], _mm256_blendv_ps(_mm256_permutevar8x32_ps(lo, index[v]),
                                                 _mm256_permutevar8x32_ps(hi, index[v]), upper));
                    index[v] = _mm256_srli_epi32(index[v], 4);
                }
            }
        }
        UNROLL for (int v = 0; v < 4; v++) {
            float *out = y + half + 8 * v;
            _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), sum[v]));
        }
    }
}

TARGET_AVX512 static void table_sums4_avx512(const uint32_t *code, const float *table, long n,
                                             float *y) {
    __m512 sum[TABLE_VECTORS];
    UNROLL for (int v = 0; v < TABLE_VECTORS; v++) sum[v] = _mm512_setzero_ps();
    for (long i = 0; i < n; i += TABLE_CHUNK, code += TABLE_ROWS) {
        __m512i index[TABLE_VECTORS];
        UNROLL for (int v = 0; v < TABLE_VECTORS; v++)
            index[v] = _mm512_loadu_si512(code + TABLE_LANES * v);
        UNROLL for (int j = 0; j < TABLE_CHUNK; j++) {
            const __m512 t = _mm512_loadu_ps(table + TABLE_LANES * (i + j));
            UNROLL for (int v = 0; v < TABLE_VECTORS; v++) {
                sum[v] = _mm512_add_ps(sum[v], _mm512_permutexvar_ps(index[v], t));
                index[v] = _mm512_srli_epi32(index[v], 4);
            }
        }
    }
    UNROLL for (int v = 0; v < TABLE_VECTORS; v++) {
        float *out = y + TABLE_LANES * v;
        _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), sum[v]));
    }
}
#endif

static void tables(const float *book, long step, const float *x, long n, long d, long K,
                   float *table, int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) { tables_avx512(book, step, x, n, d, K, table); return; }
    if (level >= ISA_AVX2) { tables_avx2(book, step, x, n, d, K, table); return; }
#endif
    tables_plain(book, step, x, n, d, K, table);
}

/* One group of 64 rows, K codewords a table: 16 or 256. */
static void table_sums(const void *code, const float *table, long n, long K, float *y, int level) {
    if (K == 256) { table_sums8((const uint8_t *)code, table, n, y); return; }
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) {
        table_sums4_avx512((const uint32_t *)code, table, n, y);
        return;
    }
    if (level >= ISA_AVX2) { table_sums4_avx2((const uint32_t *)code, table, n, y); return; }
#endif
    table_sums4_portable((const uint32_t *)code, table, n, y);
}

#endif
