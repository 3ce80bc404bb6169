/* Depthwise convolution of codes of one image, channels last: one filter for each channel.
 *
 *   x (H, W, C) u8   w (KH, KW, C) s8   ->   y (Ho, Wo, C) u8
 *
 * A product instruction sums over what lies side by side in a lane of 32 bits, and a depthwise
 * filter sums over rows and columns only. So Q rows of the window, Q = 4 for vpdpbusd, 2 for
 * vpmaddwd, are interleaved first, column by column, and a lane holds Q rows of one channel:
 *
 *   row 0   | a0 a1 a2 ... |                     lane of channel 0      1             2
 *   row 1   | b0 b1 b2 ... |   -> unpack twice   | a0 b0 c0 d0 | a1 b1 c1 d1 | a2 b2 c2 d2 | ...
 *   row 2   | c0 c1 c2 ... |                       times w of 4 rows and one column, + acc
 *   row 3   | d0 d1 d2 ... |
 *
 * An interleaved column serves KW output pixels. unpack works within 128 bits: of V channels,
 * V = 64 in AVX-512 and 32 in AVX2, vector k = 0..3 gets those of number 16 l + 4 k + i, i = 0..3,
 * l the lane of 128 bits. Weights, offsets and requantizers are packed in that order (Python twin),
 * and the codes return to their places four at a time, by one vpermd.
 *
 *   portable   V = 16 channels of a pixel at a time, in their natural order; Q = 1
 *   avx2       V = 32, Q = 2: u8 and s8 widened to 16 bits, in which vpmaddwd is exact
 *              (vpmaddubsw saturates at 255 127 2)
 *   avx512     V = 64, Q = 2
 *   vnni       V = 64, Q = 4: a 3 x 3 filter takes 3 instructions where it took 9 products
 *
 * Where a block of 64 has at most 16 channels, 4 rows of them fill NV = 1 vector of the 4, in the
 * order of channels; of at most 32 they fill NV = 2, lanes of 128 bits in the order 0 4 2 6,
 * 1 5 3 7 of four channels each.
 *
 * Rows and columns around the map are made of its zero point as they are interleaved; no padded
 * copy exists.
 */
#ifndef MINICOMP_INT8_DEPTHWISE_H
#define MINICOMP_INT8_DEPTHWISE_H

#include <string.h>
#include "requantize.h"

enum {
    DEPTHWISE_STRIP = 96, /* units of 4 vectors in a strip of interleaved columns: 24 KB, half L1 */
    DEPTHWISE_UNIT = 256, /* bytes of a unit in the widest rung */
    DEPTHWISE_PIXELS = 16, /* whose sums wait until they are requantized at a time */
    DEPTHWISE_BAND = 32,   /* output pixels of a band of rows, at least */
};

typedef struct {
    long H, W, C, KH, KW, sh, sw, ph, pw, Ho, Wo;
    int zero_point;        /* of x */
    const void *weight;    /* (blocks, KW, G, V, Q), G = ceil(KH / Q); int8, or int16 where Q = 2 */
    const int32_t *offset; /* (blocks V,) */
    Requant r;             /* of blocks V channels */
    int32_t *sums;         /* where sums go, (Ho, Wo, C), or NULL: codes go to y */
} Depthwise;

/* The room in bytes that a block needs. */
static long depthwise_room(long KH, long KW) {
    return DEPTHWISE_UNIT * (KH * KW > DEPTHWISE_STRIP ? KH * KW : DEPTHWISE_STRIP);
}

/* Row i of the map, NULL where there is none. */
ALWAYS_INLINE const uint8_t *depthwise_row(const Depthwise *d, const uint8_t *x, long i) {
    return i < 0 || i >= d->H ? NULL : x + i * d->W * d->C;
}

/* The sums of P pixels, n channels of a block from c0 on, as sums: groups of four channels, which
 * lie in the order of the block, return to their places. Pixels are V entries apart, those of `to`
 * C. */
ALWAYS_INLINE void depthwise_put(const Depthwise *d, const int32_t *acc, long P, long c0, long n,
                                 int32_t *to, const int V, const int NV) {
    static const int pairs[8] = {0, 4, 2, 6, 1, 5, 3, 7};
    for (long p = 0; p < P; p++, acc += V, to += d->C)
        for (long g = 0; 4 * g < n; g++) {
            const long place = 4 * (NV == 1 ? g : NV == 2 ? pairs[g] : V / 16 * (g % 4) + g / 4);
            for (long i = 0; i < 4 && 4 * g + i < n; i++)
                to[4 * g + i] = acc[place + i] + d->offset[c0 + place + i];
        }
}

/* ------------------------------------------------------------------------------------- portable */

ALWAYS_INLINE void depthwise_taps(const uint8_t *from, const int8_t *w, int32_t *RESTRICT acc) {
    for (int c = 0; c < 16; c++) acc[c] += from[c] * w[c];
}

static void depthwise_block_portable(const Depthwise *d, const uint8_t *x, long block, long first,
                                     long end, uint8_t *y) {
    const long c0 = 16 * block, n = d->C - c0 < 16 ? d->C - c0 : 16;
    const int8_t *w = (const int8_t *)d->weight + c0 * d->KH * d->KW;
    uint8_t outside[16], few[16] = {0};
    int32_t acc[16];
    long to = first * d->Wo * d->C + c0;
    memset(outside, d->zero_point, sizeof outside);
    for (long i = first; i < end; i++)
        for (long j = 0; j < d->Wo; j++, to += d->C) {
            memset(acc, 0, sizeof acc);
            for (long k = 0; k < d->KH; k++) {
                const uint8_t *row = depthwise_row(d, x, i * d->sh - d->ph + k);
                for (long b = 0; b < d->KW; b++) {
                    const long at = j * d->sw - d->pw + b;
                    const uint8_t *from = outside;
                    if (row && at >= 0 && at < d->W) {
                        from = row + at * d->C + c0;
                        if (n < 16) from = (const uint8_t *)memcpy(few, from, (size_t)n);
                    }
                    depthwise_taps(from, w + (b * d->KH + k) * 16, acc);
                }
            }
            if (d->sums) {
                depthwise_put(d, acc, 1, c0, n, d->sums + to, 16, 4);
            } else {
                const Accumulators a = {acc, 16, d->offset, 1, n, c0, y + to, d->C};
                requantize(&a, &d->r, ISA_PORTABLE);
            }
        }
}

#ifdef MINICOMP_X86
#define DEPTHWISE_ALIGNED __attribute__((aligned(64))) /* a vector lies in one cache line */

/* How many output pixels a strip of columns serves. */
ALWAYS_INLINE long depthwise_run(const Depthwise *d, long G) {
    const long columns = DEPTHWISE_STRIP / G;
    return columns < d->KW ? 1 : (columns - d->KW) / d->sw + 1;
}

/* ----------------------------------------------------------------------------------------- avx2 */

TARGET_AVX2 ALWAYS_INLINE __m256i depthwise_load_avx2(const uint8_t *p, long n) {
    uint8_t few[32] = {0};
    if (n == 32) return _mm256_loadu_si256((const __m256i *)p);
    return _mm256_loadu_si256((const __m256i *)memcpy(few, p, (size_t)n));
}

/* Interleaves `columns` columns from `left` on, in pairs of rows from `top` on. */
TARGET_AVX2 static void depthwise_strip_avx2(const Depthwise *d, const uint8_t *x, long top,
                                             long left, long columns, long n, __m256i *to) {
    const __m256i outside = _mm256_set1_epi8((char)d->zero_point), zero = _mm256_setzero_si256();
    const long G = (d->KH + 1) / 2;
    for (long g = 0; g < G; g++) {
        const uint8_t *r0 = depthwise_row(d, x, top + 2 * g);
        const uint8_t *r1 = depthwise_row(d, x, top + 2 * g + 1);
        for (long t = 0; t < columns; t++) {
            const long at = (left + t) * d->C;
            const int in = left + t >= 0 && left + t < d->W;
            const __m256i a = in && r0 ? depthwise_load_avx2(r0 + at, n) : outside;
            const __m256i b = in && r1 ? depthwise_load_avx2(r1 + at, n) : outside;
            const __m256i lo = _mm256_unpacklo_epi8(a, b), hi = _mm256_unpackhi_epi8(a, b);
            __m256i *out = to + (t * G + g) * 4;
            _mm256_storeu_si256(out, _mm256_unpacklo_epi8(lo, zero));
            _mm256_storeu_si256(out + 1, _mm256_unpackhi_epi8(lo, zero));
            _mm256_storeu_si256(out + 2, _mm256_unpacklo_epi8(hi, zero));
            _mm256_storeu_si256(out + 3, _mm256_unpackhi_epi8(hi, zero));
        }
    }
}

/* P neighbouring pixels of 32 channels; the windows of two of them are `step` units apart. */
TARGET_AVX2 ALWAYS_INLINE void depthwise_pixels_avx2(const __m256i *x, const __m256i *w, long units,
                                                     long step, int32_t *acc, const int P) {
    __m256i sum[2][4];
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int k = 0; k < 4; k++)
            sum[p][k] = _mm256_setzero_si256();
    for (long u = 0; u < units; u++)
        UNROLL for (int k = 0; k < 4; k++) {
            const __m256i tap = _mm256_loadu_si256(w + 4 * u + k);
            UNROLL for (int p = 0; p < P; p++)
                sum[p][k] = _mm256_add_epi32(sum[p][k], _mm256_madd_epi16(
                    _mm256_loadu_si256(x + 4 * (p * step + u) + k), tap));
        }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int k = 0; k < 4; k++)
            _mm256_storeu_si256((__m256i *)(acc + 32 * p + 8 * k), sum[p][k]);
}

/* The codes of P pixels of a block, n channels of it, in the order of channels; pixels are C bytes
 * apart. */
TARGET_AVX2 static void depthwise_store_avx2(const Depthwise *d, const int32_t *acc, long P,
                                             long block, long n, uint8_t *y, long to) {
    if (d->sums) {
        depthwise_put(d, acc, P, 32 * block, n, d->sums + to, 32, 4);
        return;
    }
    y += to;
    const __m256i back = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    DEPTHWISE_ALIGNED uint8_t codes[32 * DEPTHWISE_PIXELS];
    const Accumulators a = {acc, 32, d->offset, P, 32, 32 * block, codes, 32};
    requantize(&a, &d->r, ISA_AVX2);
    for (long p = 0; p < P; p++, y += d->C) {
        __m256i *at = (__m256i *)(codes + 32 * p);
        const __m256i in_order = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(at), back);
        if (n == 32) {
            _mm256_storeu_si256((__m256i *)y, in_order);
        } else {
            _mm256_storeu_si256(at, in_order);
            memcpy(y, at, (size_t)n);
        }
    }
}

TARGET_AVX2 static void depthwise_block_avx2(const Depthwise *d, const uint8_t *x, long block,
                                             long first, long end, uint8_t *y, void *room) {
    const long c0 = 32 * block, n = d->C - c0 < 32 ? d->C - c0 : 32, G = (d->KH + 1) / 2;
    const long units = d->KW * G, run = depthwise_run(d, G), step = d->sw * G;
    const __m256i *w = (const __m256i *)d->weight + block * units * 4;
    __m256i *strip = (__m256i *)room;
    DEPTHWISE_ALIGNED int32_t acc[32 * DEPTHWISE_PIXELS];
    long held = 0; /* pixels in acc, which lie one after the other in y, the first at `to` */
    long to = first * d->Wo * d->C + c0;
    for (long i = first; i < end; i++)
        for (long j0 = 0; j0 < d->Wo; j0 += run) {
            const long m = d->Wo - j0 < run ? d->Wo - j0 : run;
            depthwise_strip_avx2(d, x + c0, i * d->sh - d->ph, j0 * d->sw - d->pw,
                                 (m - 1) * d->sw + d->KW, n, strip);
            for (long j = 0, P; j < m; j += P) {
                const __m256i *seen = strip + 4 * j * step;
                P = m - j < 2 ? 1 : 2;
                if (held + P > DEPTHWISE_PIXELS) {
                    depthwise_store_avx2(d, acc, held, block, n, y, to);
                    to += held * d->C;
                    held = 0;
                }
                if (P == 2) depthwise_pixels_avx2(seen, w, units, step, acc + 32 * held, 2);
                else depthwise_pixels_avx2(seen, w, units, step, acc + 32 * held, 1);
                held += P;
            }
        }
    depthwise_store_avx2(d, acc, held, block, n, y, to);
}

/* ------------------------------------------------------------------------------ avx512 and vnni */

/* acc + x w: a lane holds 4 rows in bytes, or 2 in 16 bits. Written as an instruction, since gcc
 * moves and spills the accumulators of its intrinsic. */
TARGET_AVX512 ALWAYS_INLINE __m512i depthwise_dot(__m512i acc, __m512i x, __m512i w, const int Q) {
    if (Q == 2) return _mm512_add_epi32(acc, _mm512_madd_epi16(x, w));
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}

/* How many vectors of 16 lanes hold the n channels of a block. */
ALWAYS_INLINE int depthwise_vectors(long n) { return n <= 16 ? 1 : n <= 32 ? 2 : 4; }

/* 16 channels of Q rows, in a lane each: 1 vector. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_unit_1(const __m512i *row, __m512i *to, const int Q) {
    __m128i v[4];
    UNROLL for (int q = 0; q < Q; q++) v[q] = _mm512_castsi512_si128(row[q]);
    if (Q == 2) {
        const __m256i both = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_unpacklo_epi8(v[0], v[1])), _mm_unpackhi_epi8(v[0], v[1]),
            1);
        _mm512_storeu_si512(to, _mm512_cvtepu8_epi16(both));
        return;
    }
    /* rows to lanes of 128 bits; four channels of each row to one; bytes of a channel together */
    const __m512i fours = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m512i rows = _mm512_inserti32x4(row[0], v[1], 1);
    rows = _mm512_inserti32x4(rows, v[2], 2);
    rows = _mm512_permutexvar_epi32(fours, _mm512_inserti32x4(rows, v[3], 3));
    _mm512_storeu_si512(to, _mm512_shuffle_epi8(rows, bytes));
}

/* 32 channels: 2 vectors. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_unit_2(const __m512i *row, __m512i *to, const int Q) {
    if (Q == 2) {
        const __m256i a = _mm512_castsi512_si256(row[0]), b = _mm512_castsi512_si256(row[1]);
        const __m512i lo = _mm512_cvtepu8_epi16(_mm256_unpacklo_epi8(a, b));
        const __m512i hi = _mm512_cvtepu8_epi16(_mm256_unpackhi_epi8(a, b));
        _mm512_storeu_si512(to, _mm512_shuffle_i64x2(lo, hi, 0x88));
        _mm512_storeu_si512(to + 1, _mm512_shuffle_i64x2(lo, hi, 0xdd));
        return;
    }
    const __m512i ac = _mm512_inserti64x4(row[0], _mm512_castsi512_si256(row[2]), 1);
    const __m512i bd = _mm512_inserti64x4(row[1], _mm512_castsi512_si256(row[3]), 1);
    const __m512i lo = _mm512_unpacklo_epi8(ac, bd), hi = _mm512_unpackhi_epi8(ac, bd);
    const __m512i ab = _mm512_shuffle_i64x2(lo, hi, 0x44), cd = _mm512_shuffle_i64x2(lo, hi, 0xee);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi16(ab, cd));
    _mm512_storeu_si512(to + 1, _mm512_unpackhi_epi16(ab, cd));
}

/* 64 channels: 4 vectors. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_unit_4(const __m512i *row, __m512i *to, const int Q) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i lo = _mm512_unpacklo_epi8(row[0], row[1]);
    const __m512i hi = _mm512_unpackhi_epi8(row[0], row[1]);
    if (Q == 2) {
        _mm512_storeu_si512(to, _mm512_unpacklo_epi8(lo, zero));
        _mm512_storeu_si512(to + 1, _mm512_unpackhi_epi8(lo, zero));
        _mm512_storeu_si512(to + 2, _mm512_unpacklo_epi8(hi, zero));
        _mm512_storeu_si512(to + 3, _mm512_unpackhi_epi8(hi, zero));
        return;
    }
    const __m512i lo2 = _mm512_unpacklo_epi8(row[2], row[3]);
    const __m512i hi2 = _mm512_unpackhi_epi8(row[2], row[3]);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi16(lo, lo2));
    _mm512_storeu_si512(to + 1, _mm512_unpackhi_epi16(lo, lo2));
    _mm512_storeu_si512(to + 2, _mm512_unpacklo_epi16(hi, hi2));
    _mm512_storeu_si512(to + 3, _mm512_unpackhi_epi16(hi, hi2));
}

/* Interleaves `columns` columns from `left` on, Q rows from `top` on in a lane. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_strip_avx512(const Depthwise *d, const uint8_t *x,
                                                        long top, long left, long columns,
                                                        __mmask64 mask, __m512i *to, const int Q,
                                                        const int NV) {
    const __m512i outside = _mm512_set1_epi8((char)d->zero_point);
    const long G = (d->KH + Q - 1) / Q;
    for (long g = 0; g < G; g++) {
        const uint8_t *row[4];
        __m512i v[4];
        for (int q = 0; q < Q; q++) row[q] = depthwise_row(d, x, top + Q * g + q);
        for (long t = 0; t < columns; t++) {
            const int in = left + t >= 0 && left + t < d->W;
            UNROLL for (int q = 0; q < Q; q++) {
                const uint8_t *from = row[q] + (left + t) * d->C;
                if (!in || !row[q]) v[q] = outside;
                else if (NV == 4) v[q] = _mm512_maskz_loadu_epi8(mask, from);
                else if (NV == 2)
                    v[q] = _mm512_castsi256_si512(_mm256_maskz_loadu_epi8((__mmask32)mask, from));
                else v[q] = _mm512_castsi128_si512(_mm_maskz_loadu_epi8((__mmask16)mask, from));
            }
            __m512i *out = to + (t * G + g) * NV;
            if (NV == 1) depthwise_unit_1(v, out, Q);
            else if (NV == 2) depthwise_unit_2(v, out, Q);
            else depthwise_unit_4(v, out, Q);
        }
    }
}

/* P neighbouring pixels of 16 NV channels: a column is loaded once for all pixels that see it. KW
 * and sw are constants where this is inlined for the usual filters. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_pixels_avx512(const __m512i *x, const __m512i *w, long G,
                                                         int32_t *acc, const int P, const int KW,
                                                         const int sw, const int Q, const int NV) {
    UNROLL for (int k = 0; k < NV; k++) {
        __m512i sum[4];
        UNROLL for (int p = 0; p < P; p++) sum[p] = _mm512_setzero_si512();
        for (long g = 0; g < G; g++)
            UNROLL for (int t = 0; t < (P - 1) * sw + KW; t++) {
                const __m512i column = _mm512_loadu_si512(x + NV * (t * G + g) + k);
                UNROLL for (int p = 0; p < P; p++)
                    if (t - p * sw >= 0 && t - p * sw < KW)
                        sum[p] = depthwise_dot(sum[p], column, _mm512_loadu_si512(
                            w + 4 * ((t - p * sw) * G + g) + k), Q);
            }
        UNROLL for (int p = 0; p < P; p++)
            _mm512_storeu_si512(acc + 64 * p + 16 * k, sum[p]);
    }
}

/* P pixels, 4 or 1; the windows of two neighbours are sw columns apart. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_some_avx512(const __m512i *x, const __m512i *w, long G,
                                                       int32_t *acc, long P, int KW, int sw,
                                                       const int Q, const int NV) {
    if (P == 1) depthwise_pixels_avx512(x, w, G, acc, 1, KW, 1, Q, NV);
    else if (KW == 3 && sw == 1) depthwise_pixels_avx512(x, w, G, acc, 4, 3, 1, Q, NV);
    else if (KW == 3 && sw == 2) depthwise_pixels_avx512(x, w, G, acc, 4, 3, 2, Q, NV);
    else if (KW == 5 && sw == 1) depthwise_pixels_avx512(x, w, G, acc, 4, 5, 1, Q, NV);
    else depthwise_pixels_avx512(x, w, G, acc, 4, 5, 2, Q, NV);
}

/* The codes of P pixels of a block of n channels in their order; pixels are C bytes apart. */
TARGET_AVX512 ALWAYS_INLINE void depthwise_store_avx512(const Depthwise *d, const int32_t *acc,
                                                        long P, long block, long n, uint8_t *y,
                                                        long to, const int NV) {
    DEPTHWISE_ALIGNED uint8_t codes[64 * DEPTHWISE_PIXELS];
    if (d->sums) {
        depthwise_put(d, acc, P, 64 * block, n, d->sums + to, 64, NV);
        return;
    }
    y += to;
    Accumulators a = {acc, 64, d->offset, P, 16 * NV, 64 * block, codes, 64};
    if (NV == 1) { /* in their order */
        a.n = n, a.y = y, a.ym = d->C;
        requantize(&a, &d->r, ISA_AVX512);
        return;
    }
    requantize(&a, &d->r, ISA_AVX512);
    if (NV == 2) {
        const __m256i back = _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
        const __mmask32 mask = (__mmask32)(((__mmask64)1 << n) - 1);
        for (long p = 0; p < P; p++)
            _mm256_mask_storeu_epi8(y + p * d->C, mask, _mm256_permutevar8x32_epi32(
                _mm256_loadu_si256((const __m256i *)(codes + 64 * p)), back));
        return;
    }
    const __m512i back = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __mmask64 mask = n == 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
    for (long p = 0; p < P; p++)
        _mm512_mask_storeu_epi8(y + p * d->C, mask, _mm512_permutexvar_epi32(
            back, _mm512_loadu_si512(codes + 64 * p)));
}

TARGET_AVX512 ALWAYS_INLINE void depthwise_block_512(const Depthwise *d, const uint8_t *x,
                                                     long block, long first, long end, uint8_t *y,
                                                     void *room, const int Q, const int NV) {
    const long c0 = 64 * block, n = d->C - c0 < 64 ? d->C - c0 : 64, G = (d->KH + Q - 1) / Q;
    const long units = d->KW * G, run = depthwise_run(d, G), step = d->sw * G;
    const __mmask64 mask = n == 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
    const __m512i *w = (const __m512i *)d->weight + block * units * 4;
    const int usual = (d->KW == 3 || d->KW == 5) && d->sw <= 2;
    __m512i *strip = (__m512i *)room;
    DEPTHWISE_ALIGNED int32_t acc[64 * DEPTHWISE_PIXELS];
    long held = 0; /* pixels in acc, which lie one after the other in y, the first at `to` */
    long to = first * d->Wo * d->C + c0;
    for (long i = first; i < end; i++)
        for (long j0 = 0; j0 < d->Wo; j0 += run) {
            const long m = d->Wo - j0 < run ? d->Wo - j0 : run;
            depthwise_strip_avx512(d, x + c0, i * d->sh - d->ph, j0 * d->sw - d->pw,
                                   (m - 1) * d->sw + d->KW, mask, strip, Q, NV);
            for (long j = 0, P; j < m; j += P) {
                const __m512i *seen = strip + NV * j * step;
                P = m - j < 4 || !usual ? 1 : 4;
                if (held + P > DEPTHWISE_PIXELS) {
                    depthwise_store_avx512(d, acc, held, block, n, y, to, NV);
                    to += held * d->C;
                    held = 0;
                }
                depthwise_some_avx512(seen, w, G, acc + 64 * held, P, (int)d->KW, (int)d->sw, Q,
                                      NV);
                held += P;
            }
        }
    depthwise_store_avx512(d, acc, held, block, n, y, to, NV);
}
TARGET_AVX512 ALWAYS_INLINE void depthwise_any_512(const Depthwise *d, const uint8_t *x, long block,
                                                   long first, long end, uint8_t *y, void *room,
                                                   const int Q) {
    const int NV = depthwise_vectors(d->C - 64 * block);
    if (NV == 1) depthwise_block_512(d, x, block, first, end, y, room, Q, 1);
    else if (NV == 2) depthwise_block_512(d, x, block, first, end, y, room, Q, 2);
    else depthwise_block_512(d, x, block, first, end, y, room, Q, 4);
}
TARGET_AVX512 static void depthwise_block_avx512(const Depthwise *d, const uint8_t *x, long block,
                                                 long first, long end, uint8_t *y, void *room) {
    depthwise_any_512(d, x, block, first, end, y, room, 2);
}
TARGET_VNNI static void depthwise_block_vnni(const Depthwise *d, const uint8_t *x, long block,
                                             long first, long end, uint8_t *y, void *room) {
    depthwise_any_512(d, x, block, first, end, y, room, 4);
}
#endif

/* How many rows of output are computed at a time: few, so that one block finds in the nearest cache
 * what the block before it has read, whose bytes share its lines. */
static long depthwise_rows(const Depthwise *d) {
    return d->Wo >= DEPTHWISE_BAND ? 1 : (DEPTHWISE_BAND + d->Wo - 1) / d->Wo;
}

/* Rows first..end of the output of an image, packed in `blocks` blocks of V channels for `level`.
 */
static void depthwise_band(const Depthwise *d, const uint8_t *x, long blocks, long first, long end,
                           uint8_t *y, void *room, int level) {
    for (long b = 0; b < blocks; b++) {
#ifdef MINICOMP_X86
        if (level >= ISA_VNNI) depthwise_block_vnni(d, x, b, first, end, y, room);
        else if (level >= ISA_AVX512) depthwise_block_avx512(d, x, b, first, end, y, room);
        else if (level >= ISA_AVX2) depthwise_block_avx2(d, x, b, first, end, y, room);
        else
#endif
            depthwise_block_portable(d, x, b, first, end, y);
    }
    (void)room, (void)level;
}

#endif
