/* Sums of codes, and codes moved: through a table, beside others, to other channels.
 *
 * A sum needs no 64 bits. With m_i = h_i 2^16 + l_i, n >= 17, H = sum (q_i - z_i) h_i and
 * L = sum (q_i - z_i) l_i,
 *
 *   floor((sum (q_i - z_i) m_i + 2^(n-1)) / 2^n) = (H + 2^(n-17) + (L >> 16)) >> (n - 16)
 *
 * exactly, as floor(floor(t / a) / b) = floor(t / (a b)): two products of 32 bits for one of 64.
 * |q - z| < 2^8, h < 2^15, l < 2^16 and at most 64 inputs keep both below 2^30. Ties away from zero
 * are ties upward with 1 less where the sum is negative. Other n, which no scales of a net make,
 * take the 64 bits.
 *
 * Where l is signed, -2^15 <= l < 2^15, that holds too, and h and l of two inputs fit the halves of
 * a lane, of which one instruction multiplies and adds both.
 *
 *   portable, avx2, avx512   the same source, 64 entries at a time, for 4, 8, 16 lanes
 *   avx512, two inputs       in pairs of 16 bits, rule single
 *   table                    one load a code; avx512 with VBMI: two vpermi2b for 64 codes
 */
#ifndef MINICOMP_INT8_WIRING_H
#define MINICOMP_INT8_WIRING_H

#include <string.h>
#include "requantize.h"

enum { ADD_BLOCK = 64 };

typedef struct {
    long inputs;
    const int64_t *m;
    const float *factor;
    const int32_t *zero;
    int shift, zero_point, lo, hi, rounding;
} Adder;

ALWAYS_INLINE uint8_t add_saturated(const Adder *d, int64_t y) {
    y += d->zero_point;
    return (uint8_t)(y < d->lo ? d->lo : y > d->hi ? d->hi : y);
}

/* Entries at..at + n, n <= ADD_BLOCK, by the definition. */
static void add_wide(const Adder *d, const uint8_t *const *x, long at, long n, uint8_t *y) {
    const int64_t half = (int64_t)1 << d->shift >> 1;
    for (long k = 0; k < n; k++) {
        int64_t sum = 0;
        for (long i = 0; i < d->inputs; i++) sum += (x[i][at + k] - d->zero[i]) * d->m[i];
        if (d->rounding == ROUNDING_SINGLE || sum >= 0) sum = (sum + half) >> d->shift;
        else sum = -((half - sum) >> d->shift);
        y[k] = add_saturated(d, sum);
    }
}

/* Entries at..at + n, of which ADD_BLOCK are there. */
ALWAYS_INLINE void add_float(const Adder *d, const uint8_t *const *x, long at, uint8_t *y) {
    float sum[ADD_BLOCK] = {0};
    for (long i = 0; i < d->inputs; i++) {
        const float factor = d->factor[i];
        const int32_t zero = d->zero[i];
        const uint8_t *from = x[i] + at;
        for (int k = 0; k < ADD_BLOCK; k++) sum[k] += (float)(from[k] - zero) * factor;
    }
    for (int k = 0; k < ADD_BLOCK; k++) {
        float t = sum[k] < -1024.0f ? -1024.0f : sum[k]; /* whole: the same before rounding */
        t = t > 1024.0f ? 1024.0f : t;
        int32_t q = (int32_t)rintf(t) + d->zero_point;
        q = q < d->lo ? d->lo : q;
        y[k] = (uint8_t)(q > d->hi ? d->hi : q);
    }
}

ALWAYS_INLINE void add_narrow(const Adder *d, const uint8_t *const *x, long at, uint8_t *y) {
    const int n = d->shift - 16, away = d->rounding == ROUNDING_GEMMLOWP;
    const int32_t half = (int32_t)1 << (n - 1);
    int32_t high[ADD_BLOCK] = {0}, low[ADD_BLOCK] = {0};
    for (long i = 0; i < d->inputs; i++) {
        const int32_t h = (int32_t)(d->m[i] >> 16), l = (int32_t)(d->m[i] & 0xffff);
        const int32_t zero = d->zero[i];
        const uint8_t *from = x[i] + at;
        for (int k = 0; k < ADD_BLOCK; k++) {
            const int32_t q = from[k] - zero;
            high[k] += q * h;
            low[k] += q * l;
        }
    }
    for (int k = 0; k < ADD_BLOCK; k++) {
        const int32_t negative = away & (high[k] + (low[k] >> 16) < 0);
        int32_t q = ((high[k] + half + ((low[k] - negative) >> 16)) >> n) + d->zero_point;
        q = q < d->lo ? d->lo : q;
        y[k] = (uint8_t)(q > d->hi ? d->hi : q);
    }
}

#define ADD_RUNG(name, attribute)                                                                 \
    attribute static void add_block_##name(const Adder *d, const uint8_t *const *x, long at,      \
                                           uint8_t *y) {                                          \
        if (d->rounding == ROUNDING_FLOAT) add_float(d, x, at, y);                                \
        else add_narrow(d, x, at, y);                                                             \
    }

ADD_RUNG(portable, )
#ifdef MINICOMP_X86
ADD_RUNG(avx2, TARGET_AVX2)
ADD_RUNG(avx512, TARGET_AVX512_WIDE)
#else
#define add_block_avx2 add_block_portable
#define add_block_avx512 add_block_portable
#endif

/* Whether the factors of two inputs have halves of 16 bits each. */
static int add_in_pairs(const Adder *d) {
    int fit = d->inputs == 2 && d->rounding == ROUNDING_SINGLE;
    for (long i = 0; fit && i < 2; i++) fit = d->m[i] >= 0 && d->m[i] < 0x7fff8000;
    return fit;
}

#ifdef MINICOMP_X86
/* 32 entries of both inputs: the sum, saturated to 16 bits. */
TARGET_AVX512 ALWAYS_INLINE __m512i add_pairs_32(const Adder *d, const uint8_t *x, const uint8_t *y,
                                                 __m512i high, __m512i low) {
    const __m512i a = _mm512_sub_epi16(
        _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)x)),
        _mm512_set1_epi16((short)d->zero[0]));
    const __m512i b = _mm512_sub_epi16(
        _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)y)),
        _mm512_set1_epi16((short)d->zero[1]));
    const __m512i half = _mm512_set1_epi32((int32_t)1 << (d->shift - 17));
    const __m128i n = _mm_cvtsi32_si128(d->shift - 16);
    __m512i sum[2] = {_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)};
    UNROLL for (int i = 0; i < 2; i++) {
        const __m512i carried = _mm512_srai_epi32(_mm512_madd_epi16(sum[i], low), 16);
        sum[i] = _mm512_add_epi32(_mm512_madd_epi16(sum[i], high), half);
        sum[i] = _mm512_sra_epi32(_mm512_add_epi32(sum[i], carried), n);
    }
    return _mm512_packs_epi32(sum[0], sum[1]);
}

/* Entries at..at + 64 of two inputs. */
TARGET_AVX512 static void add_block_pairs(const Adder *d, const uint8_t *const *x, long at,
                                          uint8_t *y) {
    int16_t low[2], high[2];
    for (int i = 0; i < 2; i++) {
        low[i] = (int16_t)(d->m[i] & 0xffff);
        high[i] = (int16_t)((d->m[i] - low[i]) >> 16);
    }
    const __m512i l = _mm512_set1_epi32((uint16_t)low[0] | low[1] * 65536);
    const __m512i h = _mm512_set1_epi32((uint16_t)high[0] | high[1] * 65536);
    const __m512i z = _mm512_set1_epi16((short)d->zero_point);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const __m512i a = _mm512_adds_epi16(add_pairs_32(d, x[0] + at, x[1] + at, h, l), z);
    const __m512i b = _mm512_adds_epi16(add_pairs_32(d, x[0] + at + 32, x[1] + at + 32, h, l), z);
    const __m512i q = _mm512_permutexvar_epi64(order, _mm512_packus_epi16(a, b));
    _mm512_storeu_si512(y, _mm512_min_epu8(_mm512_max_epu8(q, _mm512_set1_epi8((char)d->lo)),
                                           _mm512_set1_epi8((char)d->hi)));
}
#else
#define add_block_pairs add_block_portable
#endif

/* Entries at..at + n of the sum, to y. */
static void add_codes(const Adder *d, const uint8_t *const *x, long at, long n, uint8_t *y,
                      int level) {
    void (*const block)(const Adder *, const uint8_t *const *, long, uint8_t *) =
        level >= ISA_AVX512 && add_in_pairs(d) ? add_block_pairs
        : level >= ISA_AVX512 ? add_block_avx512
        : level >= ISA_AVX2 ? add_block_avx2 : add_block_portable;
    const int wide = d->rounding != ROUNDING_FLOAT && (d->shift < 17 || d->shift > 46);
    for (long k = 0; k < n; k += ADD_BLOCK, y += ADD_BLOCK) {
        const long left = n - k < ADD_BLOCK ? n - k : ADD_BLOCK;
        if (wide) {
            add_wide(d, x, at + k, left, y);
        } else if (left == ADD_BLOCK) {
            block(d, x, at + k, y);
        } else { /* the last few, one by one of themselves: a block of copies each */
            uint8_t room[64][ADD_BLOCK], codes[ADD_BLOCK];
            const uint8_t *few[64];
            for (long i = 0; i < d->inputs; i++) {
                memset(room[i], 0, ADD_BLOCK);
                few[i] = (const uint8_t *)memcpy(room[i], x[i] + at + k, (size_t)left);
            }
            block(d, few, 0, codes);
            memcpy(y, codes, (size_t)left);
        }
    }
}

/* ---------------------------------------------------------------------------------- codes moved */

ALWAYS_INLINE void look_up_any(const uint8_t *x, long n, const uint8_t *table, uint8_t *y) {
    for (long k = 0; k < n; k++) y[k] = table[x[k]];
}

#ifdef MINICOMP_X86
/* Bits 0..6 of a code choose among 128 entries in two registers, bit 7 between two such halves. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))
static void look_up_vbmi(const uint8_t *x, long n, const uint8_t *table, uint8_t *y) {
    const __m512i a = _mm512_loadu_si512(table), b = _mm512_loadu_si512(table + 64);
    const __m512i c = _mm512_loadu_si512(table + 128), d = _mm512_loadu_si512(table + 192);
    for (long k = 0; k < n; k += 64) {
        const __mmask64 m = n - k >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - k)) - 1;
        const __m512i at = _mm512_maskz_loadu_epi8(m, x + k);
        const __m512i low = _mm512_permutex2var_epi8(a, at, b);
        const __m512i high = _mm512_permutex2var_epi8(c, at, d);
        _mm512_mask_storeu_epi8(y + k, m, _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(at), high));
    }
}
#endif

/* y[k] = table[x[k]]; y may be x. */
static void look_up(const uint8_t *x, long n, const uint8_t *table, uint8_t *y, int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512 && __builtin_cpu_supports("avx512vbmi")) {
        look_up_vbmi(x, n, table, y);
        return;
    }
#endif
    (void)level;
    look_up_any(x, n, table, y);
}

/* C channels of P pixels, through a table, to pixels of D channels. */
static void place_codes(const uint8_t *x, long P, long C, const uint8_t *table, uint8_t *y, long D,
                        int level) {
    if (C == D) look_up(x, P * C, table, y, level);
    else for (long p = 0; p < P; p++) look_up(x + p * C, C, table, y + p * D, level);
}

ALWAYS_INLINE void shuffle_pixels(const uint8_t *x, long P, long C, long G, uint8_t *RESTRICT y) {
    const long each = C / G;
    for (long p = 0; p < P; p++, x += C, y += C)
        for (long k = 0; k < each; k++)
            for (long g = 0; g < G; g++) y[k * G + g] = x[g * each + k];
}

/* Channels (g, k) of P pixels to places (k, g). With G known the compiler interleaves vectors. */
static void shuffle_codes(const uint8_t *x, long P, long C, long G, uint8_t *y) {
    if (G == 2) shuffle_pixels(x, P, C, 2, y);
    else if (G == 3) shuffle_pixels(x, P, C, 3, y);
    else if (G == 4) shuffle_pixels(x, P, C, 4, y);
    else shuffle_pixels(x, P, C, G, y);
}

#endif
