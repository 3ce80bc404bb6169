/* Decoding shared weights: out[i] = table[index[i]], n indices below k.
 *
 * Up to 256 centroids are one to sixteen registers of 16. A permute picks from two of them by the
 * low five bits of each lane's index; the bits above choose among the picks:
 *
 *     index of a lane      [ b7 b6 b5 | b4 b3 b2 b1 b0 ]
 *     picks[v]             = permutex2var(table[32 v ..], b4..b0)        up to eight
 *     b5, b6, b7           halve the picks, as masks, until one is left
 *
 *     portable   a load a weight
 *     avx2       up to 16 centroids: two permutes and a blend, 2 times portable; else as portable
 *     avx512     2.5 times portable up to 128 centroids, 1.4 times up to 256
 *
 * Hardware gathers are slower than plain loads on some processors and are not used. Indices of 16
 * and 32 bits run the portable rung. A table that is shorter than the registers is padded with
 * zeros, so that no index of 8 bits reads past it.
 */
#ifndef MINICOMP_LOOKUP_H
#define MINICOMP_LOOKUP_H

#include <stdint.h>
#include <string.h>
#include "../isa.h"

#define LOOKUP_TOP(bits) \
    static int64_t lookup_top##bits(const uint##bits##_t *index, long n) { \
        uint##bits##_t top = 0; \
        for (long i = 0; i < n; i++) top = index[i] > top ? index[i] : top; \
        return (int64_t)top; \
    }
LOOKUP_TOP(8)
LOOKUP_TOP(16)
LOOKUP_TOP(32)

#ifdef MINICOMP_X86
TARGET_AVX2 static int64_t lookup_top8_avx2(const uint8_t *index, long n) {
    __m256i top = _mm256_setzero_si256();
    uint8_t each[32];
    long i = 0;
    for (; i + 32 <= n; i += 32)
        top = _mm256_max_epu8(top, _mm256_loadu_si256((const __m256i *)(index + i)));
    _mm256_storeu_si256((__m256i *)each, top);
    const int64_t a = lookup_top8(each, 32), b = lookup_top8(index + i, n - i);
    return a > b ? a : b;
}
#endif

/* The largest of n indices of `width` bytes, -1 where there are none. */
static int64_t lookup_top(const void *index, int width, long n, int level) {
    if (n == 0) return -1;
#ifdef MINICOMP_X86
    if (width == 1 && level >= ISA_AVX2) return lookup_top8_avx2((const uint8_t *)index, n);
#endif
    return width == 1 ? lookup_top8((const uint8_t *)index, n)
         : width == 2 ? lookup_top16((const uint16_t *)index, n)
                      : lookup_top32((const uint32_t *)index, n);
}

#define LOOKUP_PLAIN(bits) \
    static void lookup_plain##bits(const float *RESTRICT table, \
                                   const uint##bits##_t *RESTRICT index, long n, \
                                   float *RESTRICT out) { \
        for (long i = 0; i < n; i++) out[i] = table[index[i]]; \
    }
LOOKUP_PLAIN(8)
LOOKUP_PLAIN(16)
LOOKUP_PLAIN(32)

#ifdef MINICOMP_X86

/* Up to 16 centroids: bit 3 of an index, as a sign, blends the halves. */
TARGET_AVX2 static long lookup8_avx2(const float *table, const uint8_t *index, long n, float *out) {
    const __m256 lo = _mm256_loadu_ps(table), hi = _mm256_loadu_ps(table + 8);
    long i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i c = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(index + i)));
        const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(c, 28));
        _mm256_storeu_ps(out + i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(lo, c),
                                                   _mm256_permutevar8x32_ps(hi, c), upper));
    }
    return i;
}

#ifdef __clang__
#define LOOKUP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LOOKUP_UNROLL _Pragma("GCC unroll 16")
#endif

/* 32 P centroids; P, a power of two, is a constant where this is inlined. */
ALWAYS_INLINE TARGET_AVX512 long lookup8_pairs(const float *table, const uint8_t *index, long n,
                                               float *out, const int P) {
    __m512 t[16], pick[8];
    LOOKUP_UNROLL for (int v = 0; v < 2 * P; v++) t[v] = _mm512_loadu_ps(table + 16 * v);
    long i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512i c = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(index + i)));
        LOOKUP_UNROLL for (int v = 0; v < P; v++)
            pick[v] = _mm512_permutex2var_ps(t[2 * v], c, t[2 * v + 1]);
        LOOKUP_UNROLL for (int step = 1; step < P; step *= 2) {
            const __mmask16 bit = _mm512_test_epi32_mask(c, _mm512_set1_epi32(32 * step));
            LOOKUP_UNROLL for (int v = 0; v + step < P; v += 2 * step)
                pick[v] = _mm512_mask_mov_ps(pick[v], bit, pick[v + step]);
        }
        _mm512_storeu_ps(out + i, pick[0]);
    }
    return i;
}

TARGET_AVX512 static long lookup8_avx512(const float *table, long k, const uint8_t *index, long n,
                                         float *out) {
    if (k <= 32) return lookup8_pairs(table, index, n, out, 1);
    if (k <= 64) return lookup8_pairs(table, index, n, out, 2);
    if (k <= 128) return lookup8_pairs(table, index, n, out, 4);
    return lookup8_pairs(table, index, n, out, 8);
}
#endif

static void lookup8(const float *table, long k, const uint8_t *index, long n, float *out,
                    int level) {
    float padded[256];
    long i = 0;
    k = k < 256 ? k : 256;
    memcpy(padded, table, sizeof(float) * k);
    memset(padded + k, 0, sizeof(float) * (256 - k));
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) i = lookup8_avx512(padded, k, index, n, out);
    else if (level >= ISA_AVX2 && k <= 16) i = lookup8_avx2(padded, index, n, out);
#endif
    lookup_plain8(padded, index + i, n - i, out + i);
}

/* width: bytes of an index. Returns the largest index; does nothing where that is not below k. */
static int64_t lookup(const float *table, long k, const void *index, int width, long n, float *out,
                      int level) {
    const int64_t top = lookup_top(index, width, n, level);
    if (top >= k) return top;
    if (width == 1) lookup8(table, k, (const uint8_t *)index, n, out, level);
    else if (width == 2) lookup_plain16(table, (const uint16_t *)index, n, out);
    else lookup_plain32(table, (const uint32_t *)index, n, out);
    return top;
}

#endif
