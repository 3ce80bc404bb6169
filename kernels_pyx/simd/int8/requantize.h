/* From int32 accumulators to codes: y = clip(round(acc M) + z, lo, hi), M = M0 2^-n, by three rules
 * (see minicomp/kernels/int8/requantize.py). Channels are the lanes.
 *
 *   single     q = (acc M0 + 2^(n-1)) >> n
 *   gemmlowp   h = (acc 2^max(31-n, 0) M0 + 2^30) >> 31,  q = h 2^-max(n-31, 0) to nearest
 *   float      q = rint(float(acc) M), M a float
 *
 * A product of 32 bits has 64, and an instruction makes those of every other lane:
 *
 *   acc        | a0  a1 | a2  a3 | ...         pairs of lanes
 *   even       |  a0 M0 |  a2 M0 |             vpmuldq takes the low halves
 *   odd        |  a1 M0 |  a3 M0 |             of acc and M0 shifted down by 32
 *   q          | q0  q1 | q2  q3 |             low halves of even, of odd moved up, blended
 *
 * which holds as q fits 32 bits: it does for n >= 31, as |acc| < 2^31; below, where |M| >= 1, acc
 * is first clamped to n bits, which makes a q of 2^29 and more, so saturated anyway.
 *
 * What looks different from the reference and is the same:
 *   - the doubling high product of gemmlowp rounds ties away from zero and truncates: adding 2^30 -
 *     1 and 2^31 - 1 to a negative one before an arithmetic shift comes to adding 2^30;
 *   - with the zero point added before its rounding shift, ties go away from zero for sums that are
 *     positive, so upward, and a negative sum gives no code above 0 either way.
 *
 *   portable   one channel at a time
 *   avx2       8 lanes; the arithmetic shift of 64 bits is a logical one of a number moved up
 *   avx512     16 lanes, tails by masks
 */
#ifndef MINICOMP_INT8_REQUANTIZE_H
#define MINICOMP_INT8_REQUANTIZE_H

#include <math.h>
#include <stdint.h>
#include "../isa.h"

enum { ROUNDING_SINGLE, ROUNDING_GEMMLOWP, ROUNDING_FLOAT }; /* requantize.ROUNDINGS */

/* Of O channels. zero_first: whether the zero point is added before rounding. */
typedef struct {
    const int32_t *m0, *shift;
    const float *factor;
    const uint8_t *lo, *hi;
    int zero_point, rounding, zero_first;
} Requant;

/* Rows of accumulators, am apart: n channels, the first of which is number o of r and offset, which
 * is added to them; to codes at y, ym apart. */
typedef struct {
    const int32_t *acc; long am;
    const int32_t *offset; /* or 0 */
    long rows, n, o;
    uint8_t *y; long ym;
} Accumulators;

/* ------------------------------------------------------------------------------------ portable */

static inline int64_t requant_single(int64_t acc, int64_t m0, int n) {
    return (acc * m0 + ((int64_t)1 << (n - 1))) >> n;
}

static inline int64_t requant_gemmlowp(int64_t acc, int64_t m0, int n, int first) {
    const int right = n > 31 ? n - 31 : 0;
    if (n < 31) {
        const int64_t most = ((int64_t)1 << n) - 1;
        acc = (acc > most ? most : acc < -most - 1 ? -most - 1 : acc) * ((int64_t)1 << (31 - n));
    }
    const int64_t h = (acc * m0 + (1 << 30)) >> 31, half = ((int64_t)1 << right) >> 1;
    return h < 0 && !first ? -((half - h) >> right) : (h + half) >> right;
}

static inline uint8_t requantize_one(const Requant *r, int32_t acc, long o) {
    int64_t q;
    if (r->rounding == ROUNDING_FLOAT) {
        float t = (float)acc * r->factor[o];
        if (r->zero_first) t += (float)r->zero_point;
        t = t < -1024.0f ? -1024.0f : t > 1024.0f ? 1024.0f : t;
        q = (int64_t)lrintf(t) - (r->zero_first ? r->zero_point : 0);
    } else if (r->rounding == ROUNDING_SINGLE) {
        q = requant_single(acc, r->m0[o], r->shift[o]);
    } else {
        q = requant_gemmlowp(acc, r->m0[o], r->shift[o], r->zero_first);
    }
    q += r->zero_point;
    return (uint8_t)(q < r->lo[o] ? r->lo[o] : q > r->hi[o] ? r->hi[o] : q);
}

/* Channels c..n of all rows. */
static void requant_rest(const Accumulators *a, const Requant *r, long c) {
    for (long m = 0; m < a->rows; m++)
        for (long i = c; i < a->n; i++) {
            const int32_t offset = a->offset ? a->offset[a->o + i] : 0;
            a->y[m * a->ym + i] = requantize_one(r, a->acc[m * a->am + i] + offset, a->o + i);
        }
}

#ifdef MINICOMP_X86

/* ---------------------------------------------------------------------------------------- avx2 */

/* What 8 channels need, whatever the row. */
typedef struct {
    __m256i m0, odd, most, left, right, half, n, n_odd, half64, half64_odd, sign, sign_odd;
    __m256 factor, first;
} Lanes8;

TARGET_AVX2 ALWAYS_INLINE void requant_lanes_8(Lanes8 *k, const Requant *r, long o) {
    const __m256i one = _mm256_set1_epi32(1), one64 = _mm256_set1_epi64x(1);
    const __m256i low = _mm256_set1_epi64x(0xffffffff), top = _mm256_set1_epi64x(INT64_MIN);
    const __m256i all = _mm256_set1_epi32(31), zero = _mm256_setzero_si256();
    const __m256i n = _mm256_loadu_si256((const __m256i *)(r->shift + o));
    k->m0 = _mm256_loadu_si256((const __m256i *)(r->m0 + o));
    k->odd = _mm256_srli_epi64(k->m0, 32);
    k->most = _mm256_sub_epi32(_mm256_sllv_epi32(one, _mm256_min_epi32(n, all)), one);
    k->left = _mm256_max_epi32(_mm256_sub_epi32(all, n), zero);
    k->right = _mm256_max_epi32(_mm256_sub_epi32(n, all), zero);
    k->half = _mm256_srli_epi32(_mm256_sllv_epi32(one, k->right), 1);
    k->n = _mm256_and_si256(n, low);
    k->n_odd = _mm256_srli_epi64(n, 32);
    k->half64 = _mm256_sllv_epi64(one64, _mm256_sub_epi64(k->n, one64));
    k->half64_odd = _mm256_sllv_epi64(one64, _mm256_sub_epi64(k->n_odd, one64));
    k->sign = _mm256_srlv_epi64(top, k->n);
    k->sign_odd = _mm256_srlv_epi64(top, k->n_odd);
    k->factor = _mm256_loadu_ps(r->factor + o);
    k->first = _mm256_set1_ps(r->zero_first ? (float)r->zero_point : 0.0f);
}

/* (x + half) >> n: x + 2^63 is not negative, so that a logical shift will do. */
TARGET_AVX2 ALWAYS_INLINE __m256i requant_shift_8(__m256i x, __m256i half, __m256i n,
                                                  __m256i sign) {
    x = _mm256_xor_si256(_mm256_add_epi64(x, half), _mm256_set1_epi64x(INT64_MIN));
    return _mm256_sub_epi64(_mm256_srlv_epi64(x, n), sign);
}

TARGET_AVX2 ALWAYS_INLINE __m256i requant_8(__m256i v, const Lanes8 *k, const int rounding,
                                            const int first) {
    if (rounding == ROUNDING_FLOAT) {
        __m256 t = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(v), k->factor), k->first);
        t = _mm256_min_ps(_mm256_max_ps(t, _mm256_set1_ps(-1024)), _mm256_set1_ps(1024));
        return _mm256_cvtps_epi32(t);
    }
    v = _mm256_min_epi32(v, k->most);
    v = _mm256_max_epi32(v, _mm256_xor_si256(k->most, _mm256_set1_epi32(-1)));
    if (rounding == ROUNDING_GEMMLOWP) v = _mm256_sllv_epi32(v, k->left);
    __m256i even = _mm256_mul_epi32(v, k->m0);
    __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(v, 32), k->odd);
    if (rounding == ROUNDING_SINGLE) {
        even = requant_shift_8(even, k->half64, k->n, k->sign);
        odd = requant_shift_8(odd, k->half64_odd, k->n_odd, k->sign_odd);
        return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    }
    const __m256i nudge = _mm256_set1_epi64x(1 << 30), one = _mm256_set1_epi32(1);
    even = _mm256_srli_epi64(_mm256_add_epi64(even, nudge), 31);
    odd = _mm256_slli_epi64(_mm256_add_epi64(odd, nudge), 1); /* up by 32 and down by 31 */
    const __m256i h = _mm256_blend_epi32(even, odd, 0xaa);
    const __m256i a = first ? h : _mm256_abs_epi32(h), last = _mm256_sub_epi32(k->right, one);
    const __m256i up = _mm256_srlv_epi32(_mm256_and_si256(a, k->half), last); /* 0 or 1 */
    if (first) return _mm256_add_epi32(_mm256_srav_epi32(a, k->right), up);
    return _mm256_sign_epi32(_mm256_add_epi32(_mm256_srlv_epi32(a, k->right), up), h);
}

TARGET_AVX2 ALWAYS_INLINE void requant_each_8(const Accumulators *a, const Requant *r,
                                              const int rounding, const int first) {
    const __m256i z = _mm256_set1_epi32(rounding == ROUNDING_FLOAT && first ? 0 : r->zero_point);
    long c = 0;
    for (; c + 8 <= a->n; c += 8) {
        const long o = a->o + c;
        Lanes8 k;
        requant_lanes_8(&k, r, o);
        const __m256i lo = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(r->lo + o)));
        const __m256i hi = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(r->hi + o)));
        const __m256i least = _mm256_sub_epi32(lo, z), most = _mm256_sub_epi32(hi, z);
        const __m256i offset = a->offset ? _mm256_loadu_si256((const __m256i *)(a->offset + o))
                                         : _mm256_setzero_si256();
        for (long m = 0; m < a->rows; m++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(a->acc + m * a->am + c));
            v = requant_8(_mm256_add_epi32(v, offset), &k, rounding, first);
            v = _mm256_add_epi32(_mm256_min_epi32(_mm256_max_epi32(v, least), most), z);
            const __m128i two = _mm_packs_epi32(_mm256_castsi256_si128(v),
                                                _mm256_extracti128_si256(v, 1));
            _mm_storel_epi64((__m128i *)(a->y + m * a->ym + c), _mm_packus_epi16(two, two));
        }
    }
    requant_rest(a, r, c);
}

TARGET_AVX2 static void requant_avx2(const Accumulators *a, const Requant *r) {
    if (r->rounding == ROUNDING_SINGLE) requant_each_8(a, r, ROUNDING_SINGLE, 0);
    else if (r->rounding == ROUNDING_FLOAT) requant_each_8(a, r, ROUNDING_FLOAT, r->zero_first);
    else if (r->zero_first) requant_each_8(a, r, ROUNDING_GEMMLOWP, 1);
    else requant_each_8(a, r, ROUNDING_GEMMLOWP, 0);
}

/* -------------------------------------------------------------------------------------- avx512 */

typedef struct {
    __m512i m0, odd, most, left, right, half, n, n_odd, half64, half64_odd;
    __m512 factor, first;
} Lanes16;

TARGET_AVX512 ALWAYS_INLINE void requant_lanes_16(Lanes16 *k, const Requant *r, long o,
                                                  __mmask16 m) {
    const __m512i one = _mm512_set1_epi32(1), one64 = _mm512_set1_epi64(1);
    const __m512i all = _mm512_set1_epi32(31), zero = _mm512_setzero_si512();
    const __m512i n = _mm512_maskz_loadu_epi32(m, r->shift + o);
    k->m0 = _mm512_maskz_loadu_epi32(m, r->m0 + o);
    k->odd = _mm512_srli_epi64(k->m0, 32);
    k->most = _mm512_sub_epi32(_mm512_sllv_epi32(one, _mm512_min_epi32(n, all)), one);
    k->left = _mm512_max_epi32(_mm512_sub_epi32(all, n), zero);
    k->right = _mm512_max_epi32(_mm512_sub_epi32(n, all), zero);
    k->half = _mm512_srli_epi32(_mm512_sllv_epi32(one, k->right), 1);
    k->n = _mm512_and_si512(n, _mm512_set1_epi64(0xffffffff));
    k->n_odd = _mm512_srli_epi64(n, 32);
    k->half64 = _mm512_sllv_epi64(one64, _mm512_sub_epi64(k->n, one64));
    k->half64_odd = _mm512_sllv_epi64(one64, _mm512_sub_epi64(k->n_odd, one64));
    k->factor = _mm512_maskz_loadu_ps(m, r->factor + o);
    k->first = _mm512_set1_ps(r->zero_first ? (float)r->zero_point : 0.0f);
}

TARGET_AVX512 ALWAYS_INLINE __m512i requant_16(__m512i v, const Lanes16 *k, const int rounding,
                                               const int first) {
    if (rounding == ROUNDING_FLOAT) {
        __m512 t = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(v), k->factor), k->first);
        t = _mm512_min_ps(_mm512_max_ps(t, _mm512_set1_ps(-1024)), _mm512_set1_ps(1024));
        return _mm512_cvtps_epi32(t);
    }
    v = _mm512_min_epi32(v, k->most);
    v = _mm512_max_epi32(v, _mm512_xor_si512(k->most, _mm512_set1_epi32(-1)));
    if (rounding == ROUNDING_GEMMLOWP) v = _mm512_sllv_epi32(v, k->left);
    __m512i even = _mm512_mul_epi32(v, k->m0);
    __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(v, 32), k->odd);
    if (rounding == ROUNDING_SINGLE) {
        even = _mm512_srav_epi64(_mm512_add_epi64(even, k->half64), k->n);
        odd = _mm512_srav_epi64(_mm512_add_epi64(odd, k->half64_odd), k->n_odd);
        return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
    }
    const __m512i nudge = _mm512_set1_epi64(1 << 30), one = _mm512_set1_epi32(1);
    even = _mm512_srli_epi64(_mm512_add_epi64(even, nudge), 31);
    odd = _mm512_slli_epi64(_mm512_add_epi64(odd, nudge), 1); /* up by 32 and down by 31 */
    const __m512i h = _mm512_mask_blend_epi32(0xaaaa, even, odd);
    const __m512i a = first ? h : _mm512_abs_epi32(h), last = _mm512_sub_epi32(k->right, one);
    const __m512i up = _mm512_srlv_epi32(_mm512_and_si512(a, k->half), last); /* 0 or 1 */
    if (first) return _mm512_add_epi32(_mm512_srav_epi32(a, k->right), up);
    const __m512i q = _mm512_add_epi32(_mm512_srlv_epi32(a, k->right), up);
    return _mm512_mask_sub_epi32(q, _mm512_movepi32_mask(h), _mm512_setzero_si512(), q);
}

/* What 64 channels need whose n is at least 33. */
typedef struct {
    __m512i m0[4], odd[4], half[4], right[4];
} Lanes64;

/* single, n >= 33: the upper halves of both products are what lies 32 bits up, and what is left of
 * rounding and shift happens to all 16 at once. */
TARGET_AVX512 ALWAYS_INLINE __m512i requant_upper_16(__m512i v, const Lanes64 *k, int i) {
    const __m512i even = _mm512_mul_epi32(v, k->m0[i]);
    const __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(v, 32), k->odd[i]);
    const __m512i h = _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_CDAB);
    return _mm512_srav_epi32(_mm512_add_epi32(h, k->half[i]), k->right[i]);
}

/* Rows of n <= 64 channels from c on, NV vectors of them. Saturating to 16 bits before the zero
 * point is added, and to 8 bits after it, changes nothing that lo and hi do not. */
TARGET_AVX512 ALWAYS_INLINE void requant_rows_64(const Accumulators *a, const Requant *r, long c,
                                                 const int NV, const int rounding, const int first,
                                                 const int upper) {
    const long o = a->o + c, left = a->n - c;
    const __mmask64 mask = left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
    const __m512i z = _mm512_set1_epi16((short)(rounding == ROUNDING_FLOAT && first
                                                ? 0 : r->zero_point));
    const __m512i lo = _mm512_maskz_loadu_epi8(mask, r->lo + o);
    const __m512i hi = _mm512_maskz_loadu_epi8(mask, r->hi + o);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i offset[4], v[4];
    Lanes64 k;
    Lanes16 each[4];
    UNROLL for (int i = 0; i < NV; i++) {
        const __mmask16 m = (__mmask16)(mask >> 16 * i);
        offset[i] = a->offset ? _mm512_maskz_loadu_epi32(m, a->offset + o + 16 * i)
                              : _mm512_setzero_si512();
        if (!upper) {
            requant_lanes_16(&each[i], r, o + 16 * i, m);
            continue;
        }
        const __m512i n = _mm512_maskz_loadu_epi32(m, r->shift + o + 16 * i);
        k.m0[i] = _mm512_maskz_loadu_epi32(m, r->m0 + o + 16 * i);
        k.odd[i] = _mm512_srli_epi64(k.m0[i], 32);
        k.right[i] = _mm512_sub_epi32(n, _mm512_set1_epi32(32));
        k.half[i] = _mm512_sllv_epi32(_mm512_set1_epi32(1),
                                      _mm512_sub_epi32(n, _mm512_set1_epi32(33)));
    }
    for (long row = 0; row < a->rows; row++) {
        const int32_t *acc = a->acc + row * a->am + c;
        UNROLL for (int i = 0; i < 4; i++) {
            if (i >= NV) {
                v[i] = _mm512_setzero_si512();
                continue;
            }
            v[i] = i < NV - 1 ? _mm512_loadu_si512(acc + 16 * i)
                              : _mm512_maskz_loadu_epi32((__mmask16)(mask >> 16 * i), acc + 16 * i);
            v[i] = _mm512_add_epi32(v[i], offset[i]);
            v[i] = upper ? requant_upper_16(v[i], &k, i)
                         : requant_16(v[i], &each[i], rounding, first);
        }
        const __m512i x = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), z);
        const __m512i y = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), z);
        __m512i codes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(x, y));
        codes = _mm512_min_epu8(_mm512_max_epu8(codes, lo), hi);
        if (NV == 4 && left >= 64) _mm512_storeu_si512(a->y + row * a->ym + c, codes);
        else if (NV == 1 && left >= 16)
            _mm_storeu_si128((__m128i *)(a->y + row * a->ym + c), _mm512_castsi512_si128(codes));
        else _mm512_mask_storeu_epi8(a->y + row * a->ym + c, mask, codes);
    }
}

/* Whether the n of 64 channels, or what is left of them, are all at least 33. */
TARGET_AVX512 ALWAYS_INLINE int requant_is_upper(const Requant *r, long o, long left) {
    int is = 1;
    for (long i = 0; i < left && i < 64; i += 16) {
        const __mmask16 m = (__mmask16)(left - i >= 16 ? 0xffff : (1u << (left - i)) - 1);
        is &= _mm512_mask_cmplt_epi32_mask(m, _mm512_maskz_loadu_epi32(m, r->shift + o + i),
                                           _mm512_set1_epi32(33)) == 0;
    }
    return is;
}

TARGET_AVX512 ALWAYS_INLINE void requant_each_64(const Accumulators *a, const Requant *r,
                                                 const int rounding, const int first) {
    for (long c = 0; c < a->n; c += 64) {
        const long left = a->n - c, vectors = left >= 64 ? 4 : (left + 15) / 16;
        if (rounding == ROUNDING_SINGLE && requant_is_upper(r, a->o + c, left)) {
            if (vectors == 4) requant_rows_64(a, r, c, 4, rounding, first, 1);
            else if (vectors == 3) requant_rows_64(a, r, c, 3, rounding, first, 1);
            else if (vectors == 2) requant_rows_64(a, r, c, 2, rounding, first, 1);
            else requant_rows_64(a, r, c, 1, rounding, first, 1);
        } else if (vectors == 4) requant_rows_64(a, r, c, 4, rounding, first, 0);
        else if (vectors == 3) requant_rows_64(a, r, c, 3, rounding, first, 0);
        else if (vectors == 2) requant_rows_64(a, r, c, 2, rounding, first, 0);
        else requant_rows_64(a, r, c, 1, rounding, first, 0);
    }
}

TARGET_AVX512 static void requant_avx512(const Accumulators *a, const Requant *r) {
    if (r->rounding == ROUNDING_SINGLE) requant_each_64(a, r, ROUNDING_SINGLE, 0);
    else if (r->rounding == ROUNDING_FLOAT) requant_each_64(a, r, ROUNDING_FLOAT, r->zero_first);
    else if (r->zero_first) requant_each_64(a, r, ROUNDING_GEMMLOWP, 1);
    else requant_each_64(a, r, ROUNDING_GEMMLOWP, 0);
}

#endif /* MINICOMP_X86 */

static void requantize(const Accumulators *a, const Requant *r, int level) {
#ifdef MINICOMP_X86
    if (level >= ISA_AVX512) requant_avx512(a, r);
    else if (level >= ISA_AVX2) requant_avx2(a, r);
    else
#endif
        requant_rest(a, r, 0);
}

/* m rows of n accumulators, of channels 0..n - 1, to as many codes. */
static void requantize_rows(const Requant *r, const int32_t *acc, long m, long n, uint8_t *y,
                            int level) {
    const Accumulators a = {acc, n, 0, m, n, 0, y, n};
    requantize(&a, r, level);
}

#endif
