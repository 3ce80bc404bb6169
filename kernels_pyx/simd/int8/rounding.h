/* Rounding to fixed point, nearest and stochastic:
 *
 *   t = x 2^fl     down = floor(t)     q = down + up, saturated to lo..hi
 *
 *   nearest        up = t > down + 1/2          a tie goes down
 *   stochastic     up = u < t - down            u uniform in [0, 1), a multiple of 2^-24
 *
 * Random numbers have a counter and no state: entries 2 j and 2 j + 1 share splitmix64's output j,
 * whose state is key + (j + 1) 0x9E3779B97F4A7C15, so that blocks may be rounded in any order.
 *
 *   one output   | low 32 bits: entry 2 j | high 32 bits: entry 2 j + 1 |   of each the upper 24
 *
 * In memory a vector of outputs is then one of twice as many random numbers. Each output takes two
 * products of 64 bits: one instruction with AVX-512 DQ, below it three products of 32 bits with
 * shifts and sums, which the compiler writes.
 *
 *   portable   2 outputs at a time (SSE2), floor by conversion
 *   avx2       4                                   1.7 times portable
 *   avx512     8                                   6.7 times
 *
 * All rungs do the same operations on the same floats and are equal bit for bit. A NaN stays one
 * as a value, has no code, and is reported.
 */
#ifndef MINICOMP_ROUNDING_H
#define MINICOMP_ROUNDING_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include "../isa.h"

enum { ROUND_BLOCK = 256 };
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
enum { ROUND_HIGH_FIRST = 1 }; /* the order of the halves of 64 bits */
#else
enum { ROUND_HIGH_FIRST = 0 };
#endif
enum { ROUND_NEAREST, ROUND_STOCHASTIC }; /* how */
enum { ROUND_CODES, ROUND_VALUES };       /* what */

typedef struct {
    float unit, step, lo, hi; /* 2^fl, 2^-fl, least and largest code */
    uint64_t key;
} Rounding;

/* Random numbers i..i + ROUND_BLOCK, i even, two in each output. */
ALWAYS_INLINE void round_draw(uint64_t key, uint64_t i, uint64_t *RESTRICT out) {
    const uint64_t step = 0x9E3779B97F4A7C15u, state = key + i / 2 * step;
    for (long j = 0; j < ROUND_BLOCK / 2; j++) {
        uint64_t z = state + (uint64_t)(j + 1) * step;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        out[j] = z ^ z >> 31;
    }
}

/* floor(t), |t| < 2^31 or NaN, without the instruction that SSE4.1 brought. */
ALWAYS_INLINE float round_floor(float t) {
    const float whole = (float)(int32_t)(t == t ? t : 0.0f);
    return whole > t ? whole - 1.0f : whole;
}

/* Rounds ROUND_BLOCK entries, the first of which is number i; returns whether one is NaN. */
ALWAYS_INLINE int round_block(const float *RESTRICT x, const Rounding *r, uint64_t i, int how,
                              int what, int sse2, void *RESTRICT out) {
    union { uint64_t two[ROUND_BLOCK / 2]; uint32_t u[ROUND_BLOCK]; } drawn;
    int nan = 0;
    const float unit = r->unit, step = r->step, lo = r->lo, hi = r->hi;
    int32_t *RESTRICT codes = (int32_t *)out;
    float *RESTRICT values = (float *)out;
    if (how == ROUND_STOCHASTIC) round_draw(r->key, i, drawn.two);
    for (long k = 0; k < ROUND_BLOCK; k++) {
        float t = x[k] * unit;
        t = t < lo ? lo : t; /* lo and hi are whole: it is the same to saturate first */
        t = t > hi ? hi : t;
        const float down = sse2 ? round_floor(t) : floorf(t);
        int up = t > down + 0.5f;
        if (how == ROUND_STOCHASTIC)
            up = (float)(int32_t)(drawn.u[k ^ ROUND_HIGH_FIRST] >> 8) * 0x1p-24f < t - down;
        const float q = down + (up ? 1.0f : 0.0f); /* never -0 */
        nan |= t != t;
        if (what == ROUND_CODES) codes[k] = (int32_t)q;
        else values[k] = sse2 && t != t ? t : q * step;
    }
    return nan;
}

#define ROUND_RUNG(name, attribute, sse2)                                                         \
    attribute static int round_##name(const float *x, const Rounding *r, uint64_t i, int how,     \
                                      int what, void *out) {                                      \
        if (how == ROUND_NEAREST)                                                                 \
            return what == ROUND_CODES                                                            \
                       ? round_block(x, r, i, ROUND_NEAREST, ROUND_CODES, sse2, out)              \
                       : round_block(x, r, i, ROUND_NEAREST, ROUND_VALUES, sse2, out);            \
        return what == ROUND_CODES                                                                \
                   ? round_block(x, r, i, ROUND_STOCHASTIC, ROUND_CODES, sse2, out)               \
                   : round_block(x, r, i, ROUND_STOCHASTIC, ROUND_VALUES, sse2, out);             \
    }

ROUND_RUNG(portable, , 1)
#ifdef MINICOMP_X86
ROUND_RUNG(avx2, TARGET_AVX2, 0)
#ifdef __clang__
ROUND_RUNG(avx512, TARGET_AVX512, 0)
#else /* gcc stays at 8 lanes unless told */
ROUND_RUNG(avx512, __attribute__((target(
    "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))), 0)
#endif
#else
#define round_avx2 round_portable
#define round_avx512 round_portable
#endif

/* Rounds n entries, the first of which is number i, even; returns whether one is NaN. */
static int round_fixed(const float *x, long n, const Rounding *r, uint64_t i, int how, int what,
                       void *out, int level) {
    int (*const block)(const float *, const Rounding *, uint64_t, int, int, void *) =
        level >= ISA_AVX512 ? round_avx512 : level >= ISA_AVX2 ? round_avx2 : round_portable;
    char *to = (char *)out; /* codes and values are 4 bytes each */
    int nan = 0;
    long k = 0;
    for (; k + ROUND_BLOCK <= n; k += ROUND_BLOCK)
        nan |= block(x + k, r, i + (uint64_t)k, how, what, to + 4 * k);
    if (k < n) {
        float rest[ROUND_BLOCK] = {0};
        union { float values[ROUND_BLOCK]; int32_t codes[ROUND_BLOCK]; } room;
        memcpy(rest, x + k, (size_t)(n - k) * 4);
        nan |= block(rest, r, i + (uint64_t)k, how, what, &room);
        memcpy(to + 4 * k, &room, (size_t)(n - k) * 4);
    }
    return nan;
}

#endif
